"""The log of a training on rollouts, and the policies it keeps on the way: both survive a kill.

A row a rollout, written as it is made, so that a resumed run finds the rows of the steps it does not take again.
"""

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.methods.rollouts import Work
from zephyr_lab.models import saved

LOG, KEPT = "rollouts.json", "steps"


class PolicyLog:
    """Rows by rollout, 0, 1, ...; each holds means over its answers, and the tokens spent on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / LOG
        self._rows: dict[str, dict[str, float]] = files.read_json(path) if path.is_file() else {}

    def add(self, rollout: int, work: Work, **numbers: float) -> None:
        """Write the row of `rollout`, in place of an older one of the same number."""
        self._rows[str(rollout)] = {**numbers, **work.metrics()}
        files.write_json(self._folder / LOG, self._rows)

    def rows(self) -> list[dict[str, float]]:
        """All rows in order, each with its "step" (rollouts taken before it)."""
        ordered = sorted(self._rows.items(), key=lambda item: int(item[0]))
        return [{"step": float(rollout), **row} for rollout, row in ordered]

    def work(self) -> dict[str, float]:
        """Tokens of all rows."""
        names = Work().metrics()
        return {name: sum(row[name] for row in self._rows.values()) for name in names}

    def keep(self, step: int, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Keep the policy as it stands after `step` rollouts."""
        saved.save(policy, tokenizer, self._folder / KEPT / str(step))

    def finish(self, out: Path) -> None:
        """Write log.json and the kept policies (steps/N) to `out`."""
        files.write_json(out / "log.json", self.rows())
        if (self._folder / KEPT).is_dir():
            shutil.copytree(self._folder / KEPT, out / KEPT)
