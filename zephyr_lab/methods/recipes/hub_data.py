"""Recipes of real data: dialogues and preference pairs from sets of the hub."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HubDialogues:
    """Dialogues of a set by id ("owner/name") and revision; `train`, `test`: its splits.

    rows, held_out: how many are drawn of each split, all where it has fewer; filters: names of `data.filters` rules.
    """

    id: str
    revision: str
    train: str
    test: str
    rows: int
    held_out: int
    filters: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_rows(self.rows, self.held_out)


@dataclass(frozen=True, kw_only=True)
class HubPairs:
    """Scored completions of a set, `split`, binarised here: `rows` prompts drawn, `held_out` more for the test.

    chosen, rejected: rules of `data.pairs`. most_chosen: pairs whose chosen answer scores above it are left out, which
    brings the chosen answers nearer to the dSFT data; infinity leaves none out.
    """

    id: str
    revision: str
    split: str
    rows: int
    held_out: int
    chosen: str
    rejected: str
    most_chosen: float

    def __post_init__(self) -> None:
        _require_rows(self.rows, self.held_out)


def _require_rows(rows: int, held_out: int) -> None:
    if rows < 1 or held_out < 1:
        raise ValueError(f"rows and held_out must be at least 1, got {rows} and {held_out}")
