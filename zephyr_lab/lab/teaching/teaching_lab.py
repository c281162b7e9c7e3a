"""The words for RLHF and the DPO family: reward models, policy gradients, losses, what an arm reaches at what distance.

lab = Lab("teaching", profile, seeds)
start, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
reward = lab.reward_model(start, pairs)
ppo = lab.ppo(start, pairs, reward=reward)         # answers the prompts of the pairs, climbs the learned reward
rloo = lab.rloo(start, pairs, reward="quality")    # climbs the judge's points themselves
reached = lab.frontier({"dSFT": start, "PPO": ppo, "RLOO": rloo}, against="dSFT")
arms = {"dSFT": start, "DPO": lab.family_dpo(start, pairs), "IPO": lab.ipo(start, pairs, tau=0.1)}
lab.sampled(arms, against="dSFT").differences({"IPO - DPO": ("IPO", "DPO")})

Learning rate and beta of each method are those that its sweep found ([tuned] and [family_tuned] of
papers/teaching/settings.toml); a keyword wins over them. RLHF's trainings meter their tokens, seconds and memory, and
keep some policies on the way. One loop trains every loss of the family on the same pairs, in the same order, so that a
difference is the loss's.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.own_code import captured
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.arms import Arm, Rows, record
from zephyr_lab.lab.laboratory import Laboratory, given
from zephyr_lab.lab.teaching import rlhf_stages, sweeps
from zephyr_lab.lab.teaching.policies import Points, Pool
from zephyr_lab.lab.teaching.rlhf_stages import PAPER, Model, Scene
from zephyr_lab.lab.teaching.training_costs import Costs
from zephyr_lab.lab.zephyr_stages import changed
from zephyr_lab.methods.recipes.data import WorldPairs
from zephyr_lab.methods.recipes.pairs import FamilyRecipe, RewardRecipe
from zephyr_lab.world.judge import OBJECTIVES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BY_VERB = ("start", "loss", "strength", "second")  # fields of FamilyRecipe that a verb sets, by its own keywords
JUDGES = f"{', '.join(map(repr, OBJECTIVES))} or a function of (prompt, answer)"
Kind = TypeVar("Kind", bound=Arm)
Reward = Arm | str | Callable[..., float]


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


class RewardModel(Arm):
    """A reward model under every seed."""

    def model(self, seed: int = 0) -> "PreTrainedModel":
        """The reward model of one seed, loaded here, in evaluation mode: its head is one number."""
        from zephyr_lab.models import reward

        return reward.load(self.folder(seed))


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


class TeachingLab(Laboratory):
    """A laboratory with these words beside those of `Lab`.

    start: the policy's start, which is also the reference where the method has one. `changes`: fields of the method's
    recipe, e.g. learning_rate=1e-4; a value of None is the setting's.
    """

    def pairs(self, *, table: str = "pairs", **changes: Any) -> Rows:
        """Preference pairs of the world, in every profile: only there is the true reward known.

        table: "pairs", or "poor_pairs", whose answers are no better than the start's own. `changes`: fields of
        `WorldPairs`.
        """
        changes = given(**changes)

        def of(seed: int) -> Stage:
            return rlhf_stages.pairs(self.profile, seed, table=table, **changes)

        return self._rows("pairs", of, {**({} if table == "pairs" else {"table": table}), **changes})

    def judged_pairs(self, pairs: Rows, objective: str, **changes: Any) -> Rows:
        """The prompts and answers of `pairs`, labelled anew by one objective of the exact judge, with noise.

        objective: "quality", or "brief", which takes half a point off for each word. `changes`: fields of
        `JudgedPairs`, e.g. judge_sd=0.0.
        """
        self._require(pairs)
        changes = given(**changes)

        def of(seed: int) -> Stage:
            data = _of_world(pairs.of(seed))
            return rlhf_stages.judged_pairs(self.profile, seed, objective=objective, data=data, **changes)

        return self._rows("pairs", of, {"objective": objective, **changes})

    def part_of_dialogues(self) -> Rows:
        """Dialogues like those of dSFT, only a part of as many ([sft] longer_part of the settings)."""
        return self._rows("dialogues", lambda seed: rlhf_stages.part_of_dialogues(self.profile, seed), {})

    def tuned_dpo(self, start: Arm, pairs: Rows, **changes: Any) -> Arm:
        """dDPO of `start` at the sweep's learning rate and beta; each epoch is kept. `dpo` is Zephyr's recipe instead.

        `changes`: fields of `DDPORecipe`, e.g. beta=0.3, keep_epochs=False.
        """
        return self._on_rows("tuned dDPO", rlhf_stages.dpo, start, pairs, changes)

    def longer_sft(self, start: Arm, dialogues: Rows, **changes: Any) -> Arm:
        """dSFT of `start` continued on dialogues (`part_of_dialogues`) for about DPO's compute, at the sweep's rate;
        each epoch is kept. `changes`: fields of `DSFTRecipe`."""
        return self._on_rows("longer dSFT", rlhf_stages.longer_sft, start, dialogues, changes)

    def sft_on_chosen(self, start: Arm, pairs: Rows, **changes: Any) -> Arm:
        """As `longer_sft`, on the chosen answers of `pairs`."""
        return self._on_rows("SFT on chosen", rlhf_stages.sft_on_chosen, start, pairs, changes)

    def reward_model(self, start: Arm, pairs: Rows, /, **changes: Any) -> RewardModel:
        """A reward model (Bradley-Terry) on `pairs`: `start` with its output head replaced by one number.

        `changes`: fields of `RewardRecipe`, e.g. pairs=64 for the first 64 of them, epochs=1.
        """
        return _as(RewardModel, self._on_rows("reward model", rlhf_stages.reward, start, pairs, changes))

    def rloo(self, start: Arm, prompts: Rows, *, reward: Reward, **changes: Any) -> Arm:
        """RLOO: `start` answers the prompts of pairs, several times each, and learns from what beats the others' mean.

        reward: a reward model; "quality" or "brief", the exact judge's points; or a function of your own, of (prompt,
        answer), that gives one number: the prompt as messages, the answer as text. Written in a cell, it travels to the
        workers by its source and is part of the result's key, as a loss is. `changes`: fields of
        `PolicyGradientRecipe`, e.g. beta=0.1, steps=24, keep=().
        """
        return self._on_answers("RLOO", rlhf_stages.policy_gradient, start, prompts, reward, changes)

    def grpo(self, start: Arm, prompts: Rows, *, reward: Reward, **changes: Any) -> Arm:
        """GRPO at RLOO's settings: advantages are divided by their group's deviation. Arguments as `rloo`."""
        changes = {"algorithm": "grpo", **changes}
        return self._on_answers("GRPO", rlhf_stages.policy_gradient, start, prompts, reward, changes)

    def ppo(self, start: Arm, prompts: Rows, *, reward: Reward, **changes: Any) -> Arm:
        """PPO with a value head, one answer a prompt, as many answers a step as RLOO.

        Arguments as `rloo`; `changes`: fields of `PPORecipe`, e.g. clip_ratio=0.1.
        """
        return self._on_answers("PPO", rlhf_stages.ppo, start, prompts, reward, changes)

    def online_dpo(self, start: Arm, prompts: Rows, *, reward: Reward, **changes: Any) -> Arm:
        """DPO on pairs of the policy's own answers, labelled in each step by a judge.

        reward: "quality", "brief" or a function of your own, as for `rloo`. `changes`: fields of `OnlineDPORecipe`,
        e.g. judge_sd=0.0.
        """
        if isinstance(reward, Arm):
            raise ValueError(f"online DPO asks a judge: reward must be {JUDGES}, got {reward!r}")
        return self._on_answers("online DPO", rlhf_stages.online_dpo, start, prompts, reward, changes)

    def family_dpo(self, start: Arm, pairs: Rows, *, beta: float | None = None, **changes: Any) -> FamilyArm:
        """DPO on the loop of the family, beside which its other losses stand. `dpo` is Zephyr's own recipe.

        `changes`, here and for the other losses: fields of `FamilyRecipe`, e.g. learning_rate=1e-4, epochs=1,
        sft_weight=0.2 for an added term of fine-tuning on the chosen answers.
        """
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
        """cDPO: DPO that takes a share `label_smoothing` of the labels to be wrong."""
        own = {"beta": beta, "label_smoothing": label_smoothing}
        smoothing = self._terms.smoothing if label_smoothing is None else label_smoothing
        return self._family("cDPO", "cdpo", start, pairs, own, changes, second=smoothing)

    def kto(self, start: Arm, pairs: Rows, *, beta: float | None = None, **changes: Any) -> FamilyArm:
        """KTO: single answers, the chosen ones desirable and the rejected ones not."""
        return self._family("KTO", "kto", start, pairs, {"beta": beta}, changes)

    def orpo(self, start: Arm, pairs: Rows, *, weight: float | None = None, **changes: Any) -> FamilyArm:
        """ORPO: fine-tuning on the chosen answers and, with `weight`, the odds ratio; it has no reference."""
        return self._family("ORPO", "orpo", start, pairs, {"weight": weight}, changes)

    def simpo(
        self, start: Arm, pairs: Rows, *, beta: float | None = None, gamma: float | None = None, **changes: Any
    ) -> FamilyArm:
        """SimPO: means over tokens and a margin `gamma` that is asked for; it has no reference."""
        own = {"beta": beta, "gamma": gamma}
        margin = self._terms.gamma if gamma is None else gamma
        return self._family("SimPO", "simpo", start, pairs, own, changes, second=margin)

    def frontier(self, arms: Mapping[str, Arm], *, against: str, reward: Arm | None = None) -> Points:
        """Measure every policy that the arms' trainings left: true reward and KL to the start at temperature 1.

        against: the name of the start among `arms`, to which KL is measured and against which answers win. reward: a
        reward model whose reward is measured too. Trains and asks what is missing; a measure depends on nothing else
        that is asked.
        """
        _require_start(arms, against)
        self._require(*arms.values(), *([] if reward is None else [_reward_model(reward)]))
        return self._measured(arms, against, [against], None if reward is None else reward.stage)

    def sampled(self, arms: Mapping[str, Arm], *, against: str) -> Points:
        """As `frontier`, of the arms' final policies alone, with what their trainings measured on held-out pairs.

        Raises ValueError where the start is none of the arms, or a model from on the way of a training.
        """
        _require_start(arms, against)
        if arms[against].of(0).folder:
            raise ValueError(f"KL is measured to the final model of a training, got {arms[against]!r}")
        self._require(*arms.values())
        return self._measured(arms, against, list(arms), None)

    def best_of_n(self, start: Arm, *, reward: Arm, **changes: Any) -> Pool:
        """Many answers of `start` to each held-out question, with true and learned reward: the best of n without any
        training. `changes`: fields of `BestOfN`, e.g. samples=32."""
        self._require(start, _reward_model(reward))
        changes = given(**changes)
        stages = [
            rlhf_stages.best_of_n(
                self.profile, seed, begun=start.of(seed), reward_model=reward.stage(seed), **changes
            )
            for seed in range(self.seeds)
        ]  # fmt: skip
        return Pool.of(get_many(stages))

    def costs(self, arms: Mapping[str, Arm], *, parameters: float) -> Costs:
        """What the trainings of each arm cost, its reward model's among them. parameters: `Points.parameters`."""
        self._require(*arms.values())
        return Costs.of(arms, seeds=self.seeds, parameters=parameters)

    @property
    def tuned(self) -> dict[str, tuple[float, ...]]:
        """(learning rate, beta), or (learning rate,), of each method, by its name in [tuned] of the settings."""
        return dataclasses.asdict(rlhf_stages.tuned(self.profile))

    def sweep(self, methods: Mapping[str, Callable[..., Arm]], *, again: bool) -> pd.DataFrame:
        """The committed sweep behind the settings, or, `again`, one that is run now over the grids of [sweep].

        methods: by the name in [tuned], how an arm is made with learning_rate= and, where the method has one, beta=.
        See `sweeps.committed` for the columns. Raises ValueError where `methods` are not those of the grids.
        """

        def arm(method: str, values: tuple[float, ...]) -> Arm:
            return methods[method](**dict(zip(("learning_rate", "beta"), values, strict=False)))

        return self._sweep(sweeps.COMPARISON, self.sizes("sweep", sweeps.Grids).trials, arm, methods, again)

    def family_sweep(self, losses: Mapping[str, Callable[[float, float], Arm]], *, again: bool) -> pd.DataFrame:
        """As `sweep`, behind [family_tuned] and over the grids of [family_sweep].

        losses: by the name in the grids, how an arm is made of a learning rate and a strength (the column beta).
        """
        trials = self.sizes("family_sweep", sweeps.FamilyGrids).trials
        return self._sweep(sweeps.FAMILY, trials, lambda loss, values: losses[loss](*values), losses, again)

    @property
    def _terms(self) -> FamilyTerms:
        return self.sizes("family_terms", FamilyTerms)

    def _sweep(
        self,
        name: str,
        trials: Mapping[str, list[tuple[float, ...]]],
        arm: Callable[[str, tuple[float, ...]], Arm],
        methods: Mapping[str, Any],
        again: bool,
    ) -> pd.DataFrame:
        if set(methods) != set(trials):
            raise ValueError(f"a sweep tries {', '.join(trials)}; got {', '.join(methods)}")
        if not again:
            return sweeps.committed(self.profile, name)
        return sweeps.run(self.profile, name, [
            sweeps.Trial(method, values, arm(method, values).of(sweeps.SEED).stage)
            for method, tried in trials.items()
            for values in tried
        ])  # fmt: skip

    def _measured(
        self, arms: Mapping[str, Arm], against: str, final: Sequence[str], reward: Callable[[int], Stage] | None
    ) -> Points:
        """final: the arms of which the final policy alone is measured. reward: the reward model of a seed."""

        def asked(name: str, seed: int) -> tuple[Model, Stage]:
            model = arms[name].of(seed)
            left = {rlhf_stages.FINAL: model} if name in final else rlhf_stages.kept(model)
            start, learned = arms[against].of(seed), None if reward is None else reward(seed)
            return model, rlhf_stages.frontier(self.profile, seed, left, reference=start, reward_model=learned)

        measured = {name: [asked(name, seed) for seed in range(self.seeds)] for name in arms}
        get_many([stage for of_arm in measured.values() for _, stage in of_arm])
        record(arms)
        return Points.of(measured, against)

    def _on_rows(
        self, method: str, build: Callable[..., Stage], start: Arm, rows: Rows, changes: Mapping[str, Any]
    ) -> Arm:
        self._require(start, rows)
        changes = given(**changes)

        def of(seed: int) -> Model:
            return Model(build(self.profile, seed, begun=start.of(seed), data=rows.of(seed), **changes))

        return self._arm(method, of, changes)

    def _on_answers(
        self,
        method: str,
        build: Callable[..., Stage],
        start: Arm,
        prompts: Rows,
        reward: Reward,
        changes: Mapping[str, Any],
    ) -> Arm:
        self._require(start, prompts)
        own, shown = None, given(**changes)
        changes = dict(shown)
        climbed = "a reward model" if isinstance(reward, Arm) else getattr(reward, "__name__", reward)
        if isinstance(reward, Arm):
            self._require(_reward_model(reward))
        elif callable(reward):
            own = captured(_of_prompt_and_answer(reward))
        elif reward in OBJECTIVES:
            changes["reward"] = reward
        else:
            raise ValueError(f"reward must be a reward model, {JUDGES}, got {reward!r}")

        def of(seed: int) -> Model:
            learned = reward.of(seed).stage if isinstance(reward, Arm) else None
            asked = _of_world(prompts.of(seed))
            scene = Scene(begun=start.of(seed), prompts=asked, reward_model=learned, own_reward=own)
            return Model(build(self.profile, seed, scene, **changes))

        return self._arm(method, of, {"on": climbed, **shown})

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

        return _as(FamilyArm, self._arm(method, of, {**given(**own), **changes}))


def _as(kind: type[Kind], arm: Arm) -> Kind:
    return kind(arm.method, arm.profile, arm.seeds, arm.of, arm.changes)


def _require_start(arms: Mapping[str, Arm], against: str) -> None:
    if against not in arms:
        raise ValueError(f"against must be the start's name, one of {', '.join(arms)}; got {against!r}")


def _reward_model(arm: Arm) -> Arm:
    """`arm`, or ValueError where it is another kind of model."""
    if not isinstance(arm.stage(0).recipe, RewardRecipe):
        raise ValueError(f"reward must be a reward model (lab.reward_model), got {arm!r}")
    return arm


def _of_world(stage: Stage) -> Stage:
    """`stage`, or ValueError where it makes no pairs of the world."""
    if not isinstance(stage.recipe, WorldPairs):
        kind = type(stage.recipe).__name__
        raise ValueError(f"prompts are those of the world's preference pairs (lab.pairs()), got {kind}")
    return stage


def _of_prompt_and_answer(function: Callable[..., float]) -> Callable[..., float]:
    """`function`, or ValueError where it cannot be called on a prompt and an answer."""
    try:
        inspect.signature(function).bind("prompt", "answer")
    except TypeError as error:
        name = f"{getattr(function, '__name__', function)}{inspect.signature(function)}"
        raise ValueError(f"a reward is a function of (prompt, answer) that gives one number, got {name}") from error
    return function
