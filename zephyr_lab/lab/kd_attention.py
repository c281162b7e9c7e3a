"""Figure 2: attention maps of base, distilled student and teacher on one held-out dialogue, and how far apart they are.

The layer and head that are shown are chosen by a rule: where the base is farthest from the teacher.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zephyr_lab.core import files, session
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import kd_stages, zephyr_stages
from zephyr_lab.lab.kd_ablation import ATTENTION, BASE, KD, PREDICTION, Ablation
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.methods.recipes.attention_maps import AttentionMaps

TEACHER = "same-size teacher"
SHOWN = (BASE, KD, TEACHER)


@dataclass(frozen=True)
class Maps:
    """maps: model -> array [layer, head, row, column] of seed 0; tokens: the dialogue; layer, head: from 0, shown."""

    maps: dict[str, np.ndarray]
    tokens: list[str]
    layer: int
    head: int

    def shown(self) -> dict[str, np.ndarray]:
        """The map of the chosen layer and head, of base, student and teacher."""
        return {name: self.maps[name][self.layer, self.head] for name in SHOWN}


def maps(profile: str, done: Ablation) -> Maps:
    """The maps of seed 0's students, of their base and of their teacher, on the first held-out dialogue that fits."""
    found = files.read_json(get_many([stage(profile, done)])[0] / "maps.json")
    arrays = {name: np.array(values) for name, values in found["maps"].items()}
    far = row_divergence(arrays[TEACHER], arrays[BASE]).mean(axis=-1)
    layer, head = np.unravel_index(int(far.argmax()), far.shape)
    return Maps(arrays, found["tokens"], int(layer), int(head))


def stage(profile: str, done: Ablation) -> Stage:
    """The stage that reads the dialogue with each model."""
    models = {
        BASE: zephyr_stages.base(profile),
        **{arm: Model(done.stages[arm][0]) for arm in (ATTENTION, PREDICTION, KD)},
        TEACHER: Model(kd_stages.same_size_teacher(profile)),
    }
    recipe = AttentionMaps(
        models=tuple(models),
        folders=tuple(model.folder for model in models.values()),
        longest=done.arms.longest,
        device=done.stages[KD][0].recipe.device,
    )
    inputs = {name: model.stage for name, model in models.items()}
    inputs["dialogues"] = kd_stages.random_dialogues(profile, 0)
    return Stage("attention_maps", "zephyr_lab.methods.stages.attention_maps:build", recipe, inputs=inputs)


def row_divergence(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """KL(teacher, student) of each attention row in nats, as eq. (4): sum over i <= t of a_T log(a_T / a_S).

    Arrays [..., row, column]; cells where the teacher has no weight add nothing.
    """
    counted = teacher > 0
    ratio = np.log(np.where(counted, teacher, 1.0)) - np.log(np.where(counted, np.maximum(student, 1e-30), 1.0))
    return (teacher * ratio).sum(axis=-1)


def distances(found: Maps) -> pd.DataFrame:
    """How far each model's rows are from the teacher's, nats a row on this one dialogue: all layers, then each."""
    rows = []
    for name, own in found.maps.items():
        if name != TEACHER:
            by_head = row_divergence(found.maps[TEACHER], own).mean(axis=-1)
            layers = {f"layer {layer + 1}": float(one.mean()) for layer, one in enumerate(by_head)}
            rows.append({"model": name, "all layers": float(by_head.mean()), **layers})
    return pd.DataFrame(rows)


def row_sums(found: Maps) -> float:
    """The largest distance from 1 of the sum of any row, over all models, layers and heads."""
    return max(float(np.abs(one.sum(axis=-1) - 1).max()) for one in found.maps.values())


def save(found: Maps) -> Path:
    """Write the shown maps, a line a cell on or below the diagonal, to build/<profile>/tables/kd_dae/fig2.csv."""
    lines = [
        {"model": name, "row": row, "column": column, "token": found.tokens[row], "looks_at": found.tokens[column],
         "weight": weights[row, column]}
        for name, weights in found.shown().items()
        for row in range(len(found.tokens))
        for column in range(row + 1)
    ]  # fmt: skip
    path = session.current().build / "tables" / "kd_dae" / "fig2.csv"
    files.write_text(path, pd.DataFrame(lines).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    session.add_product(path)
    return path
