"""Arms of an experiment: a model, or a set of rows, under every seed, computed when it is asked for.

Two arms of equal recipes share their stages, whatever the notebook that named them. An arm opens in the kernel:
its log, its model of one seed, the rows that it learned from.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from zephyr_lab.core import files, session
from zephyr_lab.data.splits import TRAIN, Messages, Preference, Split, dialogue_rows, pair_rows
from zephyr_lab.engine import stages, store
from zephyr_lab.engine.own_code import name_of
from zephyr_lab.engine.scheduler import get, get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.zephyr_stages import Model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rows:
    """Dialogues or preference pairs under every seed. `of` gives the stage of a seed."""

    kind: str
    profile: str
    seeds: int
    of: Callable[[int], Stage]
    changes: Mapping[str, Any] = field(default_factory=dict)

    def stage(self, seed: int) -> Stage:
        """What makes the rows of one seed."""
        return self.of(require_seed(seed, self.seeds))

    def folder(self, seed: int = 0) -> Path:
        """Folder of the rows of one seed; computed now where they are missing."""
        return get(self.stage(seed))

    def rows(self, seed: int = 0, split: str = TRAIN) -> list[Preference] | list[Messages]:
        """The rows of one seed, read as a training reads them; computed now where they are missing."""
        return self.read(seed, split).rows

    def read(self, seed: int = 0, split: str = TRAIN) -> Split[Preference] | Split[Messages]:
        """As `rows`, with their numbers in the file, and which could not be used."""
        read = pair_rows if self.kind == "pairs" else dialogue_rows
        return read(self.folder(seed), split)

    def chosen(self) -> "Rows":
        """The pairs' chosen answers as dialogues, for supervised fine-tuning on them."""
        return dataclasses.replace(self, kind="dialogues")

    def numbers(self) -> pd.DataFrame:
        """What making them counted: a row a seed."""
        return pd.DataFrame({"seed": seed, **metrics(self.stage(seed))} for seed in range(self.seeds))

    def __repr__(self) -> str:
        return f"{self.kind} under {_seeds(self.seeds)}{_shown(self.changes)}"


@dataclass(frozen=True)
class Arm:
    """A model under every seed. `of` gives the model of a seed, `changes` what it has beside the settings."""

    method: str
    profile: str
    seeds: int
    of: Callable[[int], Model]
    changes: Mapping[str, Any] = field(default_factory=dict)

    def stage(self, seed: int) -> Stage:
        """What trains the model of one seed."""
        return self.of(require_seed(seed, self.seeds)).stage

    def stages(self) -> list[Stage]:
        """What trains the models, one a seed."""
        return [self.stage(seed) for seed in range(self.seeds)]

    def folder(self, seed: int = 0) -> Path:
        """Where the model of one seed lies; trained now where it is missing."""
        one = self.of(require_seed(seed, self.seeds))
        return get(one.stage) / one.folder

    def model(self, seed: int = 0) -> "PreTrainedModel":
        """The model of one seed, loaded here, in evaluation mode."""
        from zephyr_lab.models import saved

        return saved.load_model(self.folder(seed))

    def tokenizer(self, seed: int = 0) -> "PreTrainedTokenizerBase":
        """The tokenizer of one seed's model."""
        from zephyr_lab.models import saved

        return saved.load_chat_tokenizer(self.folder(seed))

    def log(self) -> pd.DataFrame:
        """The training logs of all seeds, a row a log, the seed in the first column; trained now where missing."""
        folders = enumerate(get_many(self.stages()))
        logs = [pd.DataFrame(files.read_json(folder / "log.json")).assign(seed=seed) for seed, folder in folders]
        log = pd.concat(logs, ignore_index=True)
        return log[["seed", *(name for name in log.columns if name != "seed")]]

    def curve(self, column: str, *, series: str) -> pd.DataFrame:
        """A line for `figures.curves`: a column of the log over epochs, the mean over seeds, with its t interval where
        there are several. Points are the steps that all seeds have, at the epochs of the first seed."""
        log = self.log().dropna(subset=[column])
        by_seed = [part.set_index("step") for _, part in log.groupby("seed")]
        steps = [step for step in by_seed[0].index if all(step in part.index for part in by_seed)]
        values = [part.loc[steps, column] for part in by_seed]
        return seed_means.curve(series, by_seed[0].loc[steps, "epoch"], values, kind="retrained")

    def part_means(self, column: str, *, first: float = 0.0, last: float = 1.0) -> list[float]:
        """Mean of a logged column over the share of the run from `first` to `last`, one a seed."""
        return [seed_means.part_mean(rows, column, first=first, last=last) for _, rows in self.log().groupby("seed")]

    def numbers(self) -> pd.DataFrame:
        """What the training counted and measured: a row a seed."""
        get_many(self.stages())
        return pd.DataFrame({"seed": seed, **metrics(stage)} for seed, stage in enumerate(self.stages()))

    def after_epoch(self, epoch: int) -> "Arm":
        """The same run as it stood after some epoch. Raises ValueError where the run keeps no epochs."""
        recipe = self.stage(0).recipe
        keeps, epochs = getattr(recipe, "keep_epochs", False), getattr(recipe, "epochs", 0)
        if not keeps or not 1 <= epoch < epochs:
            why = "" if keeps else " and keep_epochs is false"
            raise ValueError(f"no model after epoch {epoch}: the run has {epochs} epochs{why}")
        return self._kept(f"epochs/{epoch}", {"after epoch": epoch})

    def after_step(self, step: int) -> "Arm":
        """The same run as it stood after some step. Raises ValueError for a step that `keep_steps` does not name."""
        kept = getattr(self.stage(0).recipe, "keep_steps", ())
        if step not in kept:
            raise ValueError(f"no model after step {step}: keep_steps is {kept}; name it where the arm is made")
        return self._kept(f"steps/{step}", {"after step": step})

    def _kept(self, folder: str, changes: Mapping[str, Any]) -> "Arm":
        def of(seed: int) -> Model:
            return Model(self.of(seed).stage, folder)

        return dataclasses.replace(self, of=of, changes={**self.changes, **changes})

    @property
    def same_for_all_seeds(self) -> bool:
        """Whether several seeds share one model: a base, a teacher."""
        return self.seeds > 1 and self.of(0) == self.of(1)

    def trained(self) -> int:
        """For how many seeds the model is finished."""
        slots = [store.Slot(self.profile, stage.name, stages.key(stage)) for stage in self.stages()]
        return sum(store.end_record(slot.final) is not None for slot in slots)

    @property
    def what(self) -> str:
        """Its method, and what it has beside the settings."""
        return f"{self.method}{_shown(self.changes)}"

    def __repr__(self) -> str:
        return f"{self.method} under {_seeds(self.seeds)}{_shown(self.changes)}, {self.trained()} trained"


def record(arms: Mapping[str, Arm]) -> None:
    """Note for the run's record what the arms are, so that a table can be traced back to them by name."""
    for name, arm in arms.items():
        stage = arm.stage(0)
        code = dict.fromkeys(one.code for one in _with_inputs(stage))
        session.add_arm(name, arm.what, made_by=_expression(stage), code=[list(one) for one in code])


def _with_inputs(stage: Stage) -> Iterator[Stage]:
    yield stage
    for one in stage.inputs.values():
        yield from _with_inputs(one)


def _expression(stage: Stage) -> str:
    """The stage and what it was made of: "ddpo(dsft(base, dialogues), pairs)"."""
    inputs = ", ".join(_expression(one) for one in stage.inputs.values())
    return f"{stage.name}({inputs})" if inputs else stage.name


def require_seed(seed: int, seeds: int) -> int:
    """`seed`, or ValueError naming those there are."""
    if not 0 <= seed < seeds:
        raise ValueError(f"seed must be from 0 to {seeds - 1}, got {seed}")
    return seed


def _seeds(count: int) -> str:
    return "seed 0" if count == 1 else f"seeds 0 to {count - 1}"


def _shown(changes: Mapping[str, Any]) -> str:
    parts = [f"{name} {name_of(value) if name == 'loss' else value}" for name, value in changes.items()]
    return f": {', '.join(parts)}" if parts else ""
