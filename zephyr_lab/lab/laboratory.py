"""The laboratory of one paper at one size: settings, seeds, and the words in which a notebook states its experiment.

lab = Lab("zephyr", profile, seeds)
sft = lab.sft(lab.base(), lab.dialogues())
dpo = lab.dpo(sft, lab.pairs(), epochs=1)         # a keyword wins over papers/zephyr/settings.toml
answers = lab.ask({"dSFT": sft, "dDPO": dpo})     # trains what is missing, all seeds at once
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pandas as pd

from zephyr_lab.core import session, settings
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.engine.own_code import captured
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.lab import seed_means
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.answer_scores import SOURCE
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.arms import Arm, Rows, record
from zephyr_lab.lab.claims import Claims
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.reporting import tables

# Where the words of a paper stand that are not those of every laboratory.
LABORATORIES = {
    "zephyr": "laboratory:Lab",
    "kd_dae": "kd_lab:KDLab",
    "eda": "eda_lab:EDALab",
    "teaching": "teaching_lab:TeachingLab",
}
Settings = TypeVar("Settings")
TRUTH = {
    "exact_chosen": "chosen, exact score",
    "exact_rejected": "rejected, exact score",
    "agreement": "chosen is better, share",
}


class Lab:
    """One paper at one profile, under seeds 0 to `seeds` - 1; nothing is trained before it is asked for.

    The words here are those of every paper, with Zephyr's settings; a paper with methods of its own adds its words:
    `Lab("kd_dae", ...)` is a `KDLab`. Arms of one laboratory serve in another of the same profile.

    notebook: whose run this is, for its record. own: knobs of the notebook's parameters; where one is given (not None),
    what is saved goes to build/<profile>/own/, beside the standard build and never over it. Raises ValueError for an
    unknown paper or profile, and for a count of seeds below 1.
    """

    def __new__(cls, paper: str, *args: Any, **options: Any) -> "Lab":
        if paper not in LABORATORIES:
            raise ValueError(f"paper must be one of {', '.join(LABORATORIES)}, got {paper!r}")
        module, _, name = LABORATORIES[paper].partition(":")
        return object.__new__(getattr(importlib.import_module(f"zephyr_lab.lab.{module}"), name))

    def __init__(
        self,
        paper: str,
        profile: str,
        seeds: int,
        *,
        notebook: str = "interactive",
        own: Mapping[str, str | float | bool | None] | None = None,
    ) -> None:
        require_profile(profile)
        changed = [f"{name}={value}" for name, value in (own or {}).items() if value is not None]
        session.begin(profile, seeds, notebook=notebook, own="-".join([notebook, *changed]) if changed else "")
        self.paper, self.profile, self.seeds = paper, profile, seeds
        self.claims = Claims(paper)

    def base(self, number: int | None = None) -> Arm:
        """The base model `number` of the profile, by default 0: one for all seeds, as in the paper."""
        chosen = 0 if number is None else number
        return self._arm("base model", lambda seed: stages.base(self.profile, chosen), _given(number=number))

    def dialogues(self, **changes: Any) -> Rows:
        """The dialogues of dSFT; `changes`: fields of its recipe (`WorldDialogues`), e.g. filters=()."""
        changes = _given(**changes)
        return self._rows("dialogues", lambda seed: stages.dialogues(self.profile, seed, **changes), changes)

    def pairs(self, **changes: Any) -> Rows:
        """The preference pairs of dDPO; `changes`: fields of its recipe (`WorldPairs`), e.g. rejected="worst", or
        table="close_pairs" for another table of settings, setting= for another published recipe."""
        changes = _given(**changes)
        return self._rows("pairs", lambda seed: stages.pairs(self.profile, seed, **changes), changes)

    def sft(self, start: Arm, dialogues: Rows, **changes: Any) -> Arm:
        """dSFT of `start` on dialogues, or on the chosen answers of pairs (`pairs.chosen()`).

        `changes`: fields of `SFT`, e.g. epochs=3; a value of None is the setting's. setting=: another published recipe.
        """
        self._require(start, dialogues)
        changes = _given(**changes)

        def of(seed: int) -> Model:
            data = dialogues.stage(seed)
            return Model(stages.dsft(self.profile, seed, start=start.of(seed), data=data, **changes))

        return self._arm("dSFT", of, changes)

    def dpo(self, start: Arm, pairs: Rows, *, loss: Callable[..., Any] | None = None, **changes: Any) -> Arm:
        """dDPO of `start`, which is also the reference, on pairs.

        `changes`: fields of `DPO`, e.g. beta=0.3, epochs=1; a value of None is the setting's. loss: a function of your
        own, of (policy, reference), that gives one loss a pair: written in a cell, it travels to the workers by its
        source, and it and the values that it uses are part of the result's key.
        """
        self._require(start, pairs)
        own = {} if loss is None else {"loss": captured(loss)}
        changes = _given(**changes)

        def of(seed: int) -> Model:
            data = pairs.stage(seed)
            return Model(stages.ddpo(self.profile, seed, start=start.of(seed), data=data, **own, **changes))

        return self._arm("dDPO", of, {**changes, **own})

    def ask(self, arms: Mapping[str, Arm], *, held_out: Rows | None = None, **changes: Any) -> Answers:
        """Ask every arm under every seed the same questions, with the same draws; train what is missing.

        held_out: pairs on whose test split each model's own ranking is measured too. `changes`: fields of `Evaluation`,
        e.g. questions=80. An answer depends on nothing else that is asked.
        """
        self._require(*arms.values(), *([] if held_out is None else [held_out]))
        asked = {
            name: [
                stages.evaluation_of(
                    self.profile,
                    seed,
                    arm.of(seed),
                    held_out=None if held_out is None else held_out.stage(seed),
                    **_given(**changes),
                )
                for seed in range(self.seeds)
            ]
            for name, arm in arms.items()
        }
        get_many([stage for of_arm in asked.values() for stage in of_arm])
        record(arms)
        return Answers.of(asked)

    def conclude(self, differences: pd.DataFrame, names: Mapping[str, str] | None = None, *, digits: int = 2) -> None:
        """Print what differences say, a line each; "What we found" says it again. See `Claims.conclude`."""
        self.claims.conclude(differences, names, digits=digits)

    def sizes(self, table: str, kind: type[Settings]) -> Settings:
        """A table of the paper's settings at this profile: which further arms there are, how many of what."""
        return settings.load(self.paper, self.profile, table, kind)

    def with_seeds(self, seeds: int) -> "Lab":
        """The same laboratory under another number of seeds, for a question beside the main one."""
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {seeds}")
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.seeds = seeds
        return other

    def truth(self, pairs: Mapping[str, Rows]) -> pd.DataFrame:
        """Tidy frame of how good the answers of pairs are in truth, by set; nothing where no truth is known."""
        rows = []
        for name, one in pairs.items():
            counted = one.numbers()
            for column, metric in TRUTH.items():
                if column in counted:
                    n = int(counted["pairs"].iloc[0])
                    rows += seed_means.number(name, metric, list(counted[column]), n=n, source=SOURCE)
        return tables.frame(rows)

    def trained(self, arms: Mapping[str, Arm], metric: str, *, name: str, n: str) -> pd.DataFrame:
        """Tidy frame of a number that each arm's training measured, over seeds; `n`: the recipe's field that it is a
        mean over. No row for one seed, which has no interval."""
        get_many([arm.stage(seed) for arm in arms.values() for seed in range(self.seeds)])
        rows = []
        for row, arm in arms.items():
            values = [metrics(arm.stage(seed))[metric] for seed in range(self.seeds)]
            rows += seed_means.number(row, name, values, n=getattr(arm.stage(0).recipe, n), source=SOURCE)
        return tables.frame(rows)

    def _arm(self, method: str, of: Callable[[int], Model], changes: Mapping[str, Any]) -> Arm:
        arm = Arm(method, self.profile, self.seeds, of, changes)
        arm.stage(0)  # an unknown setting is named here, not when the models are asked
        return arm

    def _rows(self, kind: str, of: Callable[[int], Any], changes: Mapping[str, Any]) -> Rows:
        rows = Rows(kind, self.profile, self.seeds, of, changes)
        rows.stage(0)
        return rows

    def _require(self, *parts: Arm | Rows) -> None:
        """Raises ValueError for what another laboratory made: another profile, or fewer seeds."""
        for part in parts:
            if part.profile != self.profile or part.seeds < self.seeds:
                raise ValueError(
                    f"this lab is {self.profile} with {self.seeds} seeds, the arm {part.profile} with {part.seeds}; "
                    "make it with this lab"
                )


def _given(**changes: Any) -> dict[str, Any]:
    """Without those that are None: a notebook's parameter that was left to the settings."""
    return {name: value for name, value in changes.items() if value is not None}
