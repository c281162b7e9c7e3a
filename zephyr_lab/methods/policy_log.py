"""The log of a training on rollouts: a row a rollout, which survives a kill where there is a folder for it.

A row is written as it is made, so that a resumed run finds the rows of the steps it does not take again.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.data.splits import TRAIN
from zephyr_lab.methods import calling, checkpoints
from zephyr_lab.methods.examples import Account
from zephyr_lab.methods.loop import require_finite
from zephyr_lab.methods.rollouts import Work

LOG = "rollouts.json"
PATH = "plain: log-probabilities of the answers' tokens alone"
OF_THE_FRAME = ("step", "loss")  # columns that the rows of `rows` have otherwise, or not


class PolicyLog:
    """Rows by rollout, 0, 1, ...; each holds means over its answers, and the tokens spent on it."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / LOG
        self._rows: dict[str, dict[str, float]] = {}
        if self._path is not None and self._path.is_file() and checkpoints.has_any(folder):
            self._rows = files.read_json(self._path)

    def add(self, rollout: int, work: Work, **numbers: float) -> None:
        """Write the row of `rollout`, in place of an older one of the same number.

        Raises ValueError for a number that is not finite.
        """
        for name, value in numbers.items():
            require_finite(name, value, rollout)
        self._rows[str(rollout)] = {**numbers, **work.metrics()}
        if self._path is not None:
            files.write_json(self._path, self._rows)

    def frame(
        self, losses: Sequence[float], *, method: str, recipe: Any, seed: int, account: Account, **notes: Any
    ) -> pd.DataFrame:
        """`calling.log_frame` of the rows in order, `losses` beside them, one a rollout; attrs["rows"]: `account`."""
        ordered = sorted(self._rows.items(), key=lambda item: int(item[0]))
        rows = [
            {"step": int(rollout) + 1, **row, "loss": loss}
            for (rollout, row), loss in zip(ordered, losses, strict=True)
        ]
        accounts = {TRAIN: asdict(account)}
        return calling.log_frame(rows, method=method, recipe=recipe, seed=seed, path=PATH, rows=accounts, **notes)


def rows(log: pd.DataFrame) -> list[dict[str, float]]:
    """The rows of a log of rollouts as a stage keeps them: "step" counts the rollouts taken before."""
    return [
        {
            "step": float(row["step"] - 1),
            **{name: float(value) for name, value in row.items() if name not in OF_THE_FRAME},
        }
        for row in log.to_dict("records")
    ]


def work(log: pd.DataFrame) -> dict[str, float]:
    """Tokens of all rows of a log of rollouts."""
    return {name: float(sum(log[name])) for name in Work().metrics()}
