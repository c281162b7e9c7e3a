"""A filter from a notebook as a stage: dialogues of another stage in, those that it keeps or repairs out."""

import copy
from pathlib import Path
from typing import Any

import numpy as np

from zephyr_lab.core import files
from zephyr_lab.core.rows import BadColumn, Row
from zephyr_lab.data import schemas
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.schemas import message_list
from zephyr_lab.data.splits import TEST, TRAIN, Messages, dialogue_rows
from zephyr_lab.methods.own_functions import OwnFunction
from zephyr_lab.methods.recipes.own_functions import OwnFilter

ALLOWED = "True (keep), False (drop), or the repaired messages"


def build(recipe: OwnFilter, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write what the filter leaves of both splits of `inputs["dialogues"]`, and filters.json with the counts.

    Metrics, of the training split: rows (dialogues that came), kept, dropped, repaired. Raises ValueError naming the
    function and the dialogue where it raises or gives something else than `ALLOWED`, and where it keeps none.
    """
    del seed, context
    filter_ = OwnFunction.of(recipe.own_filter)
    counts = {}
    for split in (TRAIN, TEST):
        rows = dialogue_rows(inputs["dialogues"], split).rows
        left = [filtered(filter_, messages, f"{split} dialogue {number}") for number, messages in enumerate(rows, 1)]
        kept = [messages for messages in left if messages is not None]
        if not kept:
            raise ValueError(f"{filter_.name} keeps none of {len(rows)} {split} dialogues")
        write_rows(out / f"{split}.jsonl", ({"messages": messages} for messages in kept))
        repaired = sum(before != after for before, after in zip(rows, left, strict=True) if after is not None)
        counts[split] = {"rows": len(rows), "kept": len(kept), "dropped": len(rows) - len(kept), "repaired": repaired}
    files.write_json(out / "filters.json", counts)
    return {name: float(count) for name, count in counts[TRAIN].items()}


def filtered(filter_: OwnFunction, messages: Messages, row: str) -> Messages | None:
    """The messages as the filter leaves them, None where it drops them."""
    handed_over = copy.deepcopy(messages)
    said = filter_.call(row, handed_over)
    if isinstance(said, bool | np.bool_):
        if handed_over != messages:
            raise ValueError(f"{filter_.name} changed the messages of {row} in place; return the repaired ones")
        return messages if said else None
    if not isinstance(said, list):
        raise filter_.wrong(row, said, ALLOWED)
    return _repaired(filter_, said, row)


def _repaired(filter_: OwnFunction, said: list[Any], row: str) -> Messages:
    try:
        return message_list(schemas.dialogue(Row(1, {"messages": said})).messages)
    except BadColumn as error:
        raise ValueError(f"{filter_.name} gave no dialogue for {row}: {error}") from error
