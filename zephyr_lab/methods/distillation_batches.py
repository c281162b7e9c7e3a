"""Rows and batches of distillation: ids, which tokens answer, and where packed documents begin.

Packing is TRL's, the masks are our own. Rows are padded on the right, where no token that counts sees the padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl import pack_dataset

from zephyr_lab.core.shapes import TokenIds, TokenMask
from zephyr_lab.losses.kd import predicting
from zephyr_lab.methods.examples import IGNORED, DialogueExample


@dataclass(frozen=True, slots=True)
class Batch:
    """ids, and masks of their shape: `real` is False on padding, `answers` True on tokens of answers.

    places: position of each token in its own document where rows are packed, else None.
    """

    ids: TokenIds
    real: TokenMask
    answers: TokenMask
    places: TokenIds | None

    def rows(self, chosen: Tensor) -> "Batch":
        """The chosen rows (bool), cut to the longest of them."""
        width = int(self.real[chosen].sum(dim=1).max())
        places = None if self.places is None else self.places[chosen, :width]
        return Batch(self.ids[chosen, :width], self.real[chosen, :width], self.answers[chosen, :width], places)

    def texts(self, row: int) -> list[slice]:
        """Where in a row each of its documents lies."""
        length = int(self.real[row].sum())
        starts = [0] if self.places is None else (self.places[row, :length] == 0).nonzero().flatten().tolist()
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], length], strict=True)]

    def inputs(self) -> dict[str, Any]:
        """Arguments of a model's forward. Without an attention mask it reads restarts of `places` as borders."""
        packed = {} if self.places is None else {"position_ids": self.places}
        return {"input_ids": self.ids, "use_cache": False, **packed}

    def followed(self) -> TokenMask:
        """True on tokens that another of their document precedes, so that a model can be asked for them."""
        later = torch.ones_like(self.real)
        later[:, 0] = False
        return self.real & (later if self.places is None else self.places > 0)

    def counted(self, tokens: str) -> TokenMask:
        """The positions that a divergence is taken at; `tokens` as in `recipes.kd.Distillation`."""
        return COUNTED[tokens](self)

    def predicted(self, tokens: str) -> TokenMask:
        """The positions that predict a token of the cross-entropy's: of the answers, or with "all" any."""
        return predicting(self.followed() if tokens == "all" else self.answers & self.followed())


COUNTED = {
    "all": lambda batch: batch.real,
    "answers": lambda batch: predicting(batch.answers & batch.followed()),
    "answers_unshifted": lambda batch: batch.answers,
}


def dataset(groups: Sequence[tuple[Sequence[DialogueExample], dict[str, bool]]], *, packed_to: int | None) -> Dataset:
    """Rows of some groups of examples, each with its own further columns, e.g. {"is_domain": True}.

    packed_to: rows are filled up with several dialogues of one group, at most so many tokens; None: one a row.
    Columns: input_ids, labels, and seq_lengths where packed.
    """
    parts = []
    for examples, columns in groups:
        if not examples:
            continue
        rows = Dataset.from_dict({
            "input_ids": [example.input_ids for example in examples],
            "labels": [example.labels for example in examples],
        })  # fmt: skip
        if packed_to is not None:
            rows = pack_dataset(rows, packed_to, "bfd", {"load_from_cache_file": False})
        for name, value in columns.items():
            rows = rows.add_column(name, [value] * len(rows))
        parts.append(rows)
    return concatenate_datasets(parts)


class Collator:
    """Makes tensors of rows: input_ids (padded), labels (IGNORED where padded), and every further column as flags.

    Packed rows also give position_ids, which start anew with each document. Padding is on the right, where any id
    serves: published tokenizers have no token for it.
    """

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = {
            "input_ids": _padded([row["input_ids"] for row in rows], 0),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
            "real": _padded([[1] * len(row["input_ids"]) for row in rows], 0).bool(),
        }
        if "seq_lengths" in rows[0]:
            places = [[place for length in row["seq_lengths"] for place in range(length)] for row in rows]
            batch["position_ids"] = _padded(places, 0)
        for name in rows[0].keys() - batch.keys() - {"seq_lengths"}:
            batch[name] = torch.tensor([row[name] for row in rows])
        return batch


def batch(inputs: dict[str, Tensor]) -> Batch:
    """What `Collator` gave, as a batch."""
    return Batch(inputs["input_ids"], inputs["real"], inputs["labels"] != IGNORED, inputs.get("position_ids"))


def _padded(rows: list[list[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
