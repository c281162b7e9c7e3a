"""The laboratory of one paper at one size: settings, seeds, and the words in which a notebook states its experiment.

lab = Lab("zephyr", profile, seeds)
sft = lab.sft(lab.base(), lab.dialogues())
dpo = lab.dpo(sft, lab.pairs(), epochs=1)         # a keyword wins over papers/zephyr/settings.toml
answers = lab.ask({"dSFT": sft, "dDPO": dpo})     # trains what is missing, all seeds at once
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pandas as pd

from zephyr_lab.core import session, settings
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.engine.own_code import captured
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.answer_scores import SOURCE
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.arms import Arm, Rows, record
from zephyr_lab.lab.choices import Choices
from zephyr_lab.lab.claims import Claims
from zephyr_lab.lab.zephyr.run_epochs import RunEpochs
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.reporting import tables
from zephyr_lab.world.benchmark import Question, mt_bench
from zephyr_lab.world.facts import WorldSize

Settings = TypeVar("Settings")
TRUTH = {
    "exact_chosen": "chosen, exact score",
    "exact_rejected": "rejected, exact score",
    "agreement": "chosen is better, share",
}


class Laboratory:
    """One paper at one profile, under seeds 0 to `seeds` - 1; nothing is trained before it is asked for.

    The words here are those of every paper, with Zephyr's settings; a paper with methods of its own adds its words
    (`kd_dae.laboratory.KDLab`, ...). A notebook opens one with `Lab(paper, profile, seeds)`. Arms of one laboratory
    can be used in another of the same profile.

    notebook: whose run this is, for its record; a second laboratory of a notebook needs none. own: knobs of the
    notebook's parameters; where one is given (not None), what is saved goes to build/<profile>/own/, beside the
    standard build and never over it. Raises ValueError for an unknown paper or profile, and for a count of seeds
    below 1.
    """

    evaluation = staticmethod(stages.evaluation)  # the chat questions of the paper, asked of one model

    def __init__(
        self,
        paper: str,
        profile: str,
        seeds: int,
        *,
        notebook: str | None = None,
        own: Mapping[str, str | float | bool | None] | None = None,
    ) -> None:
        require_profile(profile)
        changed = [f"{name}={value}" for name, value in (own or {}).items() if value is not None]
        current = session.current()
        if notebook is not None or (current.profile, current.seeds) != (profile, seeds):
            name = notebook or "interactive"
            session.begin(profile, seeds, notebook=name, own="-".join([name, *changed]) if changed else "")
        self.paper, self.profile, self.seeds = paper, profile, seeds
        self.claims = Claims(paper)

    def base(self, number: int | None = None) -> Arm:
        """The base model `number` of the profile, by default 0: one for all seeds, as in the paper."""
        chosen = 0 if number is None else number
        return self._arm("base model", lambda seed: stages.base(self.profile, chosen), given(number=number))

    def dialogues(self, *, filter: Callable[..., Any] | None = None, **changes: Any) -> Rows:
        """The dialogues of dSFT; `changes`: fields of its recipe (`WorldDialogues`), e.g. filters=().

        filter: a function of your own, of one dialogue's messages ({"role", "content"} each), after the named filters:
        True keeps, False drops, a list of messages repairs. It travels as a loss does (see `dpo`).
        """
        changes = given(**changes)
        own = "" if filter is None else captured(filter)

        def of(seed: int) -> Stage:
            drawn = stages.dialogues(self.profile, seed, **changes)
            return stages.own_filter(drawn, own) if own else drawn

        return self._rows("dialogues", of, changes | ({"filter": filter.__name__} if filter else {}))

    def pairs(
        self, *, reject: Callable[..., Any] | None = None, choose: Callable[..., Any] | None = None, **changes: Any
    ) -> Rows:
        """The preference pairs of dDPO; `changes`: fields of its recipe (`WorldPairs`), e.g. rejected="worst", or
        table="close_pairs" for another table of settings, setting= for another published recipe.

        choose: a function of your own, of the scored completions of one prompt (`data.schemas.Completion`), that gives
        the place of the answer to choose. reject: one of (completions, the place of the chosen one) that gives the
        place of the answer to reject, or (chosen, rejected). None: no pair. They travel as a loss does (see `dpo`).
        Raises ValueError where a named rule is given for the same side.
        """
        changes, functions = given(**changes), given(choose=choose, reject=reject)
        for function, name in (("reject", "rejected"), ("choose", "chosen")):
            if function in functions and name in changes:
                raise ValueError(f"{name}={changes[name]!r} and a function for the same answer: give one of them")
        own = {name: captured(function) for name, function in functions.items()}

        def of(seed: int) -> Stage:
            named = stages.pairs(self.profile, seed, **changes)
            return stages.own_pairs(named, **own) if own else named

        return self._rows("pairs", of, changes | {name: one.__name__ for name, one in functions.items()})

    def sft(self, start: Arm, dialogues: Rows, **changes: Any) -> Arm:
        """dSFT of `start` on dialogues, or on the chosen answers of pairs (`pairs.chosen()`).

        `changes`: fields of `SFT`, e.g. epochs=3; a value of None is the setting's. setting=: another published recipe.
        lora=16: an adapter of that rank is trained in place of all weights, and merged.
        """
        return self._trained("dSFT", stages.dsft, start, dialogues, changes)

    def dpo(self, start: Arm, pairs: Rows, *, loss: Callable[..., Any] | None = None, **changes: Any) -> Arm:
        """dDPO of `start`, which is also the reference, on pairs.

        `changes`: fields of `DPO`, e.g. beta=0.3, epochs=1; a value of None is the setting's. loss: a function of your
        own, of (policy, reference), that gives one loss a pair: written in a cell, it travels to the workers by its
        source, and it and the values that it uses are part of the result's key.
        """
        return self._trained("dDPO", stages.ddpo, start, pairs, {**changes, "loss": loss and captured(loss)})

    def ask(
        self,
        arms: Mapping[str, Arm],
        *,
        held_out: Rows | None = None,
        rubric: Callable[..., Any] | None = None,
        **changes: Any,
    ) -> Answers:
        """Ask every arm under every seed the same questions, with the same draws; train what is missing.

        held_out: pairs on whose test split each model's own ranking is measured too. rubric: a function of your own, of
        (turn, text), the question as `world.task.Turn` and the answer's text, in the exact judge's place: a score from
        1 to 10, or {"score": ..., part: ...}; the same answers are judged, none is sampled again. It travels as a loss
        does (see `dpo`). `changes`: fields of `Evaluation`, e.g. questions=80. An answer depends on nothing else asked.
        """
        self._require(*arms.values(), *given(held_out=held_out).values())
        own = "" if rubric is None else captured(rubric)
        changes = given(**changes)

        def evaluation(seed: int, name: str) -> Stage:
            pairs = held_out and held_out.stage(seed)
            asked = stages.evaluation(self.profile, seed, arms[name].of(seed), held_out=pairs, **changes)
            return stages.own_rubric(asked, own) if own else asked

        return self._ask(arms, evaluation)

    def choose(self, arms: Mapping[str, Arm], **changes: Any) -> Choices:
        """Ask every arm the multiple-choice sets that stand for the academic benchmarks; train what is missing.

        `changes`: fields of `MultipleChoice`, e.g. questions=20. An arm that is one model for all seeds is asked once.
        """
        self._require(*arms.values())
        once = [name for name, arm in arms.items() if arm.same_for_all_seeds]
        asked = {
            name: [
                stages.multiple_choice(self.profile, seed, arm.of(seed), **given(**changes))
                for seed in range(1 if name in once else self.seeds)
            ]
            for name, arm in arms.items()
        }
        get_many([stage for of_arm in asked.values() for stage in of_arm])
        record(arms)
        return Choices.of(asked, once)

    def by_epoch(self, run: Arm) -> RunEpochs:
        """A dDPO run before its first epoch and after each: how its implicit reward ranks all training and all
        held-out pairs, and where log-probabilities go. Raises TypeError for an arm that is no dDPO."""
        self._require(run)
        return RunEpochs.of(run)

    def world(self) -> WorldSize:
        """The size of the embedded world that the evaluations of this profile are about."""
        return require_world(stages.evaluation(self.profile, 0, stages.base(self.profile)).recipe.world)

    def questions(self, **changes: Any) -> tuple[Question, ...]:
        """The two-turn questions of the chat benchmark that `ask` asks with these `changes`."""
        recipe = self.evaluation(self.profile, 0, stages.base(self.profile), **given(**changes)).recipe
        return mt_bench(recipe.questions, size=require_world(recipe.world))

    def conclude(self, differences: pd.DataFrame, names: Mapping[str, str] | None = None, *, digits: int = 2) -> None:
        """Print what differences say, a line each; "What we found" says it again. See `Claims.conclude`."""
        self.claims.conclude(differences, names, digits=digits)

    def report(self, numbers: pd.DataFrame, names: Mapping[str, str] | None = None, *, digits: int = 2) -> None:
        """Print numbers with their intervals, a line each; "What we found" says it again. See `Claims.report`."""
        self.claims.report(numbers, names, digits=digits)

    def sizes(self, table: str, kind: type[Settings]) -> Settings:
        """A table of the paper's settings at this profile: which further arms there are, how many of what."""
        return settings.load(self.paper, self.profile, table, kind)

    def with_seeds(self, seeds: int) -> "Laboratory":
        """The same laboratory under another number of seeds, for a question beside the main one."""
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {seeds}")
        other = copy.copy(self)
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

    def _ask(self, arms: Mapping[str, Arm], evaluation: Callable[[int, str], Stage]) -> Answers:
        """What each arm answers under every seed; `evaluation` gives the stage of (seed, name of the arm)."""
        record(arms)
        return self._answers({name: [evaluation(seed, name) for seed in range(self.seeds)] for name in arms})

    def _answers(self, asked: Mapping[str, list[Stage]]) -> Answers:
        """What evaluations say, by arm a stage a seed."""
        get_many([stage for of_arm in asked.values() for stage in of_arm])  # at once, so that no core waits
        return Answers.of(asked)

    def _arm(self, method: str, of: Callable[[int], Model], changes: Mapping[str, Any]) -> Arm:
        arm = Arm(method, self.profile, self.seeds, of, changes)
        arm.stage(0)  # an unknown setting is named here, not when the models are asked
        return arm

    def _rows(self, kind: str, of: Callable[[int], Any], changes: Mapping[str, Any]) -> Rows:
        rows = Rows(kind, self.profile, self.seeds, of, changes)
        rows.stage(0)
        return rows

    def _trained(
        self,
        method: str,
        build: Callable[..., Stage],
        start: Arm,
        rows: Rows,
        changes: Mapping[str, Any],
        **teachers: Arm | None,
    ) -> Arm:
        """What `build`, of (profile, seed), start=, data= and what else is given here, trains of `start` on `rows`."""
        others, changes = given(**teachers), given(**changes)
        self._require(start, rows, *others.values())

        def of(seed: int) -> Model:
            models = {name: arm.of(seed) for name, arm in {"start": start, **others}.items()}
            data = rows.of(seed)  # a sweep asks for a seed beyond those of the laboratory
            return Model(build(self.profile, seed, data=data, **models, **changes))

        return self._arm(method, of, changes)

    def _require(self, *parts: Arm | Rows) -> None:
        """Raises ValueError for what another laboratory made: another profile, or fewer seeds."""
        for part in parts:
            if part.profile != self.profile or part.seeds < self.seeds:
                raise ValueError(
                    f"this lab is {self.profile} with {self.seeds} seeds, the arm {part.profile} with {part.seeds}; "
                    "make it with this lab"
                )


def given(**changes: Any) -> dict[str, Any]:
    """Without those that are None: a notebook's parameter that was left to the settings."""
    return {name: value for name, value in changes.items() if value is not None}
