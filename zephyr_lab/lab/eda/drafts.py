"""Targets and drafts as arms of an experiment: a draft is made for a target, adapted to another, asked beside one."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get, get_many, metrics
from zephyr_lab.lab.arms import Arm, Rows, require_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from zephyr_lab.models.draft_files import Draft as DraftModel


@dataclass(frozen=True, kw_only=True, repr=False)
class ScoredRows(Rows):
    """What rows can be selected by, under every seed. data: the rows."""

    data: Rows

    def table(self, seed: int = 0) -> pd.DataFrame:
        """A row each of one seed: id, benchmark (its domain), shift and loss; computed now where missing."""
        folder = get(self.stage(require_seed(seed, self.seeds)))
        return pd.DataFrame(files.read_json(folder / "scores.json"))


@dataclass(frozen=True, kw_only=True, repr=False)
class Target(Arm):
    """A model that decodes with a draft beside it. name: its domain, whose held-out prompts it is asked."""

    name: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Draft(Arm):
    """A draft under every seed. target: the model that it decodes beside; prompts: whose held-out prompts they are
    asked, a target's name; name: its own in the stage that trains it; step: after which it is taken, None for the end.
    """

    target: Arm
    prompts: str
    name: str
    step: int | None = None

    @property
    def label(self) -> str:
        """What it is called where it is measured."""
        return self.name if self.step is None else f"{self.name} after {self.step} steps"

    @property
    def steps(self) -> int:
        """How many steps its training takes."""
        return self.stage(0).recipe.steps

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """After which steps on the way a copy is kept."""
        return self.stage(0).recipe.keep_at

    def beside(self, target: Arm, prompts: str | None = None) -> "Draft":
        """The same draft, unchanged, beside another target; prompts: whose are asked, by default that target's own."""
        return dataclasses.replace(self, target=target, prompts=prompts_of(target, prompts))

    def after_steps(self, step: int) -> "Draft":
        """The draft as it was after some steps. Raises ValueError where no copy of it was kept."""
        if self.step is not None or step not in self.kept_steps:
            kept = ", ".join(map(str, self.kept_steps)) or "none"
            raise ValueError(f"no copy of {self.label!r} after {step} steps; kept: {kept} (keep_at)")

        return dataclasses.replace(self._kept(f"{self.name}/steps/{step}", {"after steps": step}), step=step)

    def model(self, seed: int = 0) -> "DraftModel":
        """The draft of one seed, loaded here, in evaluation mode."""
        from zephyr_lab.models import draft_files

        return draft_files.load(self.folder(seed))

    def tokenizer(self, seed: int = 0) -> "PreTrainedTokenizerBase":
        """The tokenizer of its target."""
        return self.target.tokenizer(seed)

    def log(self) -> pd.DataFrame:
        """The training logs of all seeds, a row a step, the seed in the first column; trained now where missing."""
        logs = [
            pd.DataFrame({"seed": seed, **row} for row in files.read_json(folder / self.name / "log.json"))
            for seed, folder in enumerate(get_many(self.stages()))
        ]
        log = pd.concat(logs, ignore_index=True)
        return log if self.step is None or log.empty else log[log["step"] <= self.step].reset_index(drop=True)

    def numbers(self) -> pd.DataFrame:
        """What the whole training of this draft counted and measured: a row a seed."""
        get_many(self.stages())
        own = f"{self.name}/"
        return pd.DataFrame(
            {"seed": seed}
            | {key.removeprefix(own): value for key, value in metrics(stage).items() if key.startswith(own)}
            for seed, stage in enumerate(self.stages())
        )


def prompts_of(target: Arm, prompts: str | None) -> str:
    """Whose held-out prompts a target is asked: `prompts` where given, else its own.

    Raises ValueError for a model of one's own, which has none.
    """
    if prompts is None and not isinstance(target, Target):
        raise ValueError("a model of your own has no held-out prompts; say whose it is asked, e.g. prompts='math'")
    return target.name if prompts is None else prompts
