"""The words for losses of the DPO family: preference learning without a reward model.

lab = Lab("teaching", profile, seeds)
start, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
arms = {"dSFT": start, "DPO": lab.family_dpo(start, pairs), "IPO": lab.ipo(start, pairs, tau=0.1)}
lab.sampled(arms, against="dSFT").differences({"IPO - DPO": ("IPO", "DPO")})

One loop trains every loss on the same pairs, in the same order, so that a difference is the loss's. Learning rate and
strength of each are those that its sweep found (papers/teaching/settings.toml, [family_tuned]); a keyword wins.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import rlhf_stages, sweeps
from zephyr_lab.lab.arms import Arm, Rows, record
from zephyr_lab.lab.laboratory import Laboratory, given
from zephyr_lab.lab.rlhf_stages import PAPER, Model
from zephyr_lab.lab.sampled_answers import SampledAnswers
from zephyr_lab.lab.zephyr_stages import changed
from zephyr_lab.methods.recipes.pairs import FamilyRecipe

SWEEP = "family"  # of papers/teaching/sweep.json
BY_VERB = ("start", "loss", "strength", "second")  # fields that a verb sets, by its own keywords


@dataclass(frozen=True, kw_only=True)
class FamilyTerms:
    """What single arms add. sft_weight: of the SFT term, where one is added; smoothing: cDPO's; gamma: SimPO's."""

    sft_weight: float
    smoothing: float
    gamma: float


@dataclass(frozen=True, kw_only=True)
class FamilyTuned:
    """(learning rate, strength) of each loss, as its sweep found them (papers/teaching/sweep.json)."""

    dpo: tuple[float, float]
    ipo: tuple[float, float]
    cdpo: tuple[float, float]
    kto: tuple[float, float]
    orpo: tuple[float, float]
    simpo: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class FamilyGrids:
    """Learning rates that all losses are tried at, and the strengths of each (equally many)."""

    rates: tuple[float, ...]
    dpo: tuple[float, ...]
    ipo: tuple[float, ...]
    cdpo: tuple[float, ...]
    kto: tuple[float, ...]
    orpo: tuple[float, ...]
    simpo: tuple[float, ...]

    def __post_init__(self) -> None:
        sweeps.require_equal_counts(self.trials)

    @property
    def trials(self) -> dict[str, list[tuple[float, ...]]]:
        """(rate, strength) of each trial, by loss."""
        losses = [field.name for field in dataclasses.fields(self) if field.name != "rates"]
        return {loss: [(rate, strength) for rate in self.rates for strength in getattr(self, loss)] for loss in losses}


class FamilyArm(Arm):
    """A model that the family's loop trained, under every seed."""

    def log(self) -> pd.DataFrame:
        """The loss of every step of all seeds, each before its update: columns seed, step, loss."""
        folders = get_many([self.stage(seed) for seed in range(self.seeds)])
        return pd.DataFrame(
            {"seed": seed, "step": step, "loss": loss}
            for seed, folder in enumerate(folders)
            for step, loss in enumerate(files.read_json(folder / "losses.json"), start=1)
        )


class FamilyLab(Laboratory):
    """A laboratory with these words beside those of `Lab`.

    start: the policy's start, which is also the reference where the loss has one. `changes`: fields of `FamilyRecipe`,
    e.g. learning_rate=1e-4, epochs=1, sft_weight=0.2 for an added term of fine-tuning on the chosen answers.
    """

    def family_dpo(self, start: Arm, pairs: Rows, *, beta: float | None = None, **changes: Any) -> FamilyArm:
        """DPO on the loop of the family, beside which its other losses stand. `dpo` is Zephyr's own recipe."""
        return self._family("DPO", "dpo", start, pairs, {"beta": beta}, changes)

    def ipo(self, start: Arm, pairs: Rows, *, tau: float | None = None, **changes: Any) -> FamilyArm:
        """IPO: a squared distance of the margin from 1 / (2 tau)."""
        return self._family("IPO", "ipo", start, pairs, {"tau": tau}, changes)

    def cdpo(
        self,
        start: Arm,
        pairs: Rows,
        *,
        beta: float | None = None,
        label_smoothing: float | None = None,
        **changes: Any,
    ) -> FamilyArm:
        """cDPO: DPO that thinks a share `label_smoothing` of the labels wrong."""
        own = {"beta": beta, "label_smoothing": label_smoothing}
        smoothing = self._terms.smoothing if label_smoothing is None else label_smoothing
        return self._family("cDPO", "cdpo", start, pairs, own, changes, second=smoothing)

    def kto(self, start: Arm, pairs: Rows, *, beta: float | None = None, **changes: Any) -> FamilyArm:
        """KTO: single answers, the chosen ones desirable and the rejected ones not."""
        return self._family("KTO", "kto", start, pairs, {"beta": beta}, changes)

    def orpo(self, start: Arm, pairs: Rows, *, weight: float | None = None, **changes: Any) -> FamilyArm:
        """ORPO: fine-tuning on the chosen answers and, with `weight`, the odds ratio; it knows no reference."""
        return self._family("ORPO", "orpo", start, pairs, {"weight": weight}, changes)

    def simpo(
        self, start: Arm, pairs: Rows, *, beta: float | None = None, gamma: float | None = None, **changes: Any
    ) -> FamilyArm:
        """SimPO: means over tokens and a margin `gamma` that is asked for; it knows no reference."""
        own = {"beta": beta, "gamma": gamma}
        margin = self._terms.gamma if gamma is None else gamma
        return self._family("SimPO", "simpo", start, pairs, own, changes, second=margin)

    def sampled(self, arms: Mapping[str, Arm], *, against: str) -> SampledAnswers:
        """Let every arm answer the same held-out questions once, at temperature 1; train what is missing.

        against: the name of the start among `arms`, to which KL is measured. Raises ValueError where it is none of
        them, or a model from on the way of a training.
        """
        if against not in arms:
            raise ValueError(f"against must be the start's name, one of {', '.join(arms)}; got {against!r}")
        if arms[against].of(0).folder:
            raise ValueError(f"KL is measured to the final model of a training, got {arms[against]!r}")
        self._require(*arms.values())
        asked = {
            name: [
                (arm.of(seed), self._answered(seed, arm.of(seed), arms[against].of(seed))) for seed in range(self.seeds)
            ]
            for name, arm in arms.items()
        }
        get_many([stage for of_arm in asked.values() for _, stage in of_arm])
        record(arms)
        return SampledAnswers.of(asked)

    def family_sweep(self, losses: Mapping[str, Callable[[float, float], Arm]], *, again: bool) -> pd.DataFrame:
        """The committed sweep behind [family_tuned], or, `again`, one that is run now over the grids of [family_sweep].

        losses: by the name in the grids, how an arm is made of a learning rate and a strength. Columns as
        `sweeps.committed` (beta: the strength). Raises ValueError where `losses` are not those of the grids.
        """
        grids = self.sizes("family_sweep", FamilyGrids)
        if set(losses) != set(grids.trials):
            raise ValueError(f"a sweep tries {', '.join(grids.trials)}; got {', '.join(losses)}")
        if not again:
            return sweeps.committed(self.profile, SWEEP)
        trials = [
            sweeps.Trial(loss, values, losses[loss](*values).of(sweeps.SEED).stage)
            for loss, tried in grids.trials.items()
            for values in tried
        ]
        return sweeps.run(self.profile, SWEEP, trials)

    @property
    def _terms(self) -> FamilyTerms:
        return self.sizes("family_terms", FamilyTerms)

    def _family(
        self,
        method: str,
        loss: str,
        start: Arm,
        pairs: Rows,
        own: Mapping[str, float | None],
        changes: Mapping[str, Any],
        *,
        second: float = 0.0,
    ) -> FamilyArm:
        """own: the verb's keywords, the strength first; None is the setting's. second: as in `FamilyRecipe`."""
        self._require(start, pairs)
        refused = [name for name in changes if name in BY_VERB]
        if refused:
            raise ValueError(f"{method} has no keyword {refused[0]!r}; its own are {', '.join(own)}, see FamilyRecipe")
        rate, tuned = getattr(self.sizes("family_tuned", FamilyTuned), loss)
        strength = next(iter(own.values()))
        changes = given(**changes)

        def of(seed: int) -> Model:
            begun = start.of(seed)
            recipe = settings.load(
                PAPER, self.profile, "family_world", FamilyRecipe,
                start=begun.folder, loss=loss, strength=tuned if strength is None else strength,
                second=second, sft_weight=0.0, learning_rate=rate,
            )  # fmt: skip
            inputs = {"policy": begun.stage, "pairs": pairs.of(seed)}
            build = "zephyr_lab.methods.stages.preference:build"
            return Model(Stage("family", build, changed(recipe, changes), seed=seed, inputs=inputs))

        arm = self._arm(method, of, {**given(**own), **changes})
        return FamilyArm(**{field.name: getattr(arm, field.name) for field in dataclasses.fields(Arm)})

    def _answered(self, seed: int, policy: Model, start: Model) -> Stage:
        stage = rlhf_stages.frontier(self.profile, seed, {"final": policy})
        return dataclasses.replace(stage, inputs={**stage.inputs, "reference": start.stage})
