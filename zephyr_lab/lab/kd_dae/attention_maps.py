"""Attention maps of several models on one held-out dialogue, and how far apart they are (Figure 2)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.reporting import tables


@dataclass(frozen=True)
class Maps:
    """maps: model -> array [layer, head, row, column]; tokens: of the dialogue, as text."""

    maps: dict[str, np.ndarray]
    tokens: list[str]

    @classmethod
    def read(cls, path: Path) -> "Maps":
        """Those that a stage wrote (`methods.stages.attention_maps`)."""
        written = files.read_json(path)
        return cls({name: np.array(values) for name, values in written["maps"].items()}, written["tokens"])

    def farthest(self, model: str, teacher: str) -> tuple[int, int]:
        """Layer and head, from 0, in which the rows of `model` are farthest from the teacher's."""
        far = row_divergence(self.maps[teacher], self.maps[model]).mean(axis=-1)
        layer, head = np.unravel_index(int(far.argmax()), far.shape)
        return int(layer), int(head)

    def of(self, names: Iterable[str], *, layer: int, head: int) -> dict[str, np.ndarray]:
        """The map of one layer and head of each model."""
        return {name: self.maps[name][layer, head] for name in names}

    def distances(self, teacher: str) -> pd.DataFrame:
        """How far each model's rows are from the teacher's, nats a row on this one dialogue: all layers, then each."""
        rows = []
        for name, own in self.maps.items():
            if name != teacher:
                by_head = row_divergence(self.maps[teacher], own).mean(axis=-1)
                layers = {f"layer {layer + 1}": float(one.mean()) for layer, one in enumerate(by_head)}
                rows.append({"model": name, "all layers": float(by_head.mean()), **layers})
        return pd.DataFrame(rows)

    def row_sums(self) -> float:
        """The largest distance from 1 of the sum of any row, over all models, layers and heads."""
        return max(float(np.abs(one.sum(axis=-1) - 1).max()) for one in self.maps.values())


def row_divergence(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """KL(teacher, student) of each attention row in nats, as eq. (4): sum over i <= t of a_T log(a_T / a_S).

    Arrays [..., row, column]; cells where the teacher has no weight add nothing.
    """
    counted = teacher > 0
    ratio = np.log(np.where(counted, teacher, 1.0)) - np.log(np.where(counted, np.maximum(student, 1e-30), 1.0))
    return (teacher * ratio).sum(axis=-1)


def save(shown: Mapping[str, np.ndarray], tokens: list[str], id: str) -> Path:
    """Write one map a model, a line a cell on or below the diagonal, to build/<profile>/tables/<id>.csv."""
    lines = [
        {"model": name, "row": row, "column": column, "token": tokens[row], "looks_at": tokens[column],
         "weight": f"{weights[row, column]:.6g}"}
        for name, weights in shown.items()
        for row in range(len(tokens))
        for column in range(row + 1)
    ]  # fmt: skip
    return tables.save_words(pd.DataFrame(lines), id)
