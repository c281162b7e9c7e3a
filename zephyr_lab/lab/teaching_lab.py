"""The words for RLHF beside DPO: reward models, policy gradients, what an arm reaches at what distance.

lab = Lab("teaching", profile, seeds)
start, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
reward = lab.reward_model(start, pairs)
ppo = lab.ppo(start, pairs, reward=reward)         # answers the prompts of the pairs, climbs the learned reward
rloo = lab.rloo(start, pairs, reward="quality")    # climbs the judge's points themselves
reached = lab.frontier({"dSFT": start, "PPO": ppo, "RLOO": rloo}, against="dSFT")

Learning rate and beta of each method are those that the sweep found (papers/teaching/settings.toml, [tuned]); a keyword
wins over them. All trainings meter their tokens, seconds and memory, and keep some policies on the way.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.engine.own_code import captured
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import policy_points, rlhf_stages, sweeps
from zephyr_lab.lab.arms import Arm, Rows, record
from zephyr_lab.lab.family_lab import FamilyLab
from zephyr_lab.lab.laboratory import given
from zephyr_lab.lab.policy_points import Points, Pool
from zephyr_lab.lab.rlhf_stages import PAPER, Model, Scene
from zephyr_lab.lab.teaching.training_costs import Costs
from zephyr_lab.methods.recipes.reward import RewardRecipe
from zephyr_lab.methods.recipes.world_data import WorldPairs
from zephyr_lab.world.objectives import OBJECTIVES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SWEEP = "comparison"  # of papers/teaching/sweep.json
Reward = Arm | str | Callable[..., float]


class RewardModel(Arm):
    """A reward model under every seed."""

    def model(self, seed: int = 0) -> "PreTrainedModel":
        """The reward model of one seed, loaded here, in evaluation mode: its head is one number."""
        from zephyr_lab.models import reward

        return reward.load(self.folder(seed))


class TeachingLab(FamilyLab):
    """A laboratory with these words beside those of `Lab`."""

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
            return rlhf_stages.judged_pairs(
                self.profile, seed, objective=objective, data=_world(pairs.of(seed)), **changes
            )

        return self._rows("pairs", of, {"objective": objective, **changes})

    def part_of_dialogues(self) -> Rows:
        """Dialogues like those of dSFT, only a part of as many ([sft] longer_part of the settings)."""
        return self._rows("dialogues", lambda seed: rlhf_stages.part_of_dialogues(self.profile, seed), {})

    def tuned_dpo(self, start: Arm, pairs: Rows, **changes: Any) -> Arm:
        """dDPO of `start`, which is also the reference, at the sweep's learning rate and beta; each epoch is kept.

        Not `dpo`, which is Zephyr's recipe. `changes`: fields of `DDPORecipe`, e.g. beta=0.3, keep_epochs=False.
        """
        return self._on_rows("tuned dDPO", rlhf_stages.dpo, start, pairs, changes)

    def longer_sft(self, start: Arm, dialogues: Rows, **changes: Any) -> Arm:
        """dSFT of `start` continued on dialogues (`part_of_dialogues`) for about DPO's compute, at the sweep's rate;
        each epoch is kept. `changes`: fields of `DSFTRecipe`."""
        return self._on_rows("longer dSFT", rlhf_stages.longer_sft, start, dialogues, changes)

    def sft_on_chosen(self, start: Arm, pairs: Rows, **changes: Any) -> Arm:
        """dSFT of `start` continued on the chosen answers of `pairs` for about DPO's compute, at the sweep's rate; each
        epoch is kept. `changes`: fields of `DSFTRecipe`."""
        return self._on_rows("SFT on chosen", rlhf_stages.sft_on_chosen, start, pairs, changes)

    def reward_model(self, start: Arm, pairs: Rows, /, **changes: Any) -> RewardModel:
        """A reward model (Bradley-Terry) on `pairs`: `start` with its output head replaced by one number.

        `changes`: fields of `RewardRecipe`, e.g. pairs=64 for the first 64 of them, epochs=1.
        """
        arm = self._on_rows("reward model", rlhf_stages.reward, start, pairs, changes)
        return RewardModel(**{field.name: getattr(arm, field.name) for field in dataclasses.fields(Arm)})

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
        return self._on_answers(
            "GRPO", rlhf_stages.policy_gradient, start, prompts, reward, {"algorithm": "grpo", **changes}
        )

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
            raise ValueError(f"online DPO asks a judge: reward must be {_judges()}, got {reward!r}")
        return self._on_answers("online DPO", rlhf_stages.online_dpo, start, prompts, reward, changes)

    def frontier(self, arms: Mapping[str, Arm], *, against: str, reward: Arm | None = None) -> Points:
        """Measure every policy that the arms' trainings left: true reward and KL to the start at temperature 1.

        against: the name of the start among `arms`, to which KL is measured and against which answers win. reward: a
        reward model whose reward is measured too. Trains and asks what is missing; a measure depends on nothing else
        that is asked.
        """
        if against not in arms:
            raise ValueError(f"against must be the start's name, one of {', '.join(arms)}; got {against!r}")
        self._require(*arms.values(), *([] if reward is None else [_reward_model(reward)]))
        measured: dict[str, list[Stage]] = {}
        taken: dict[str, dict[str, int]] = {}
        for name, arm in arms.items():
            of_seed = [self._kept(arm.of(seed), final_only=name == against) for seed in range(self.seeds)]
            measured[name] = [
                rlhf_stages.frontier(
                    self.profile,
                    seed,
                    models,
                    reference=arms[against].of(seed),
                    reward_model=None if reward is None else reward.stage(seed),
                )
                for seed, models in enumerate(of_seed)
            ]
            taken[name] = {point: policy_points.steps_taken(one.stage, point) for point, one in of_seed[0].items()}
        get_many([stage for stages in measured.values() for stage in stages])
        record(arms)
        return Points.of(measured, taken, against)

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
        grids = settings.load(PAPER, self.profile, "sweep", sweeps.Grids)
        if set(methods) != set(grids.trials):
            raise ValueError(f"a sweep tries {', '.join(grids.trials)}; got {', '.join(methods)}")
        if not again:
            return sweeps.committed(self.profile, SWEEP)
        trials = [
            sweeps.Trial(method, values, methods[method](**knobs).of(sweeps.SEED).stage)
            for method, tried in grids.trials.items()
            for values in tried
            for knobs in [dict(zip(("learning_rate", "beta"), values, strict=False))]
        ]
        return sweeps.run(self.profile, SWEEP, trials)

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
            raise ValueError(f"reward must be a reward model, {_judges()}, got {reward!r}")

        def of(seed: int) -> Model:
            learned = reward.of(seed).stage if isinstance(reward, Arm) else None
            asked = _world(prompts.of(seed))
            scene = Scene(begun=start.of(seed), prompts=asked, reward_model=learned, own_reward=own)
            return Model(build(self.profile, seed, scene, **changes))

        return self._arm(method, of, {"on": climbed, **shown})

    @staticmethod
    def _kept(model: Model, *, final_only: bool) -> dict[str, Model]:
        return {rlhf_stages.FINAL: model} if final_only else rlhf_stages.kept(model)


def _judges() -> str:
    return f"{', '.join(map(repr, OBJECTIVES))} or a function of (prompt, answer)"


def _reward_model(arm: Arm) -> Arm:
    """`arm`, or ValueError where it is another kind of model."""
    if not isinstance(arm.stage(0).recipe, RewardRecipe):
        raise ValueError(f"reward must be a reward model (lab.reward_model), got {arm!r}")
    return arm


def _world(stage: Stage) -> Stage:
    """`stage`, or ValueError where it makes no pairs of the world."""
    if not isinstance(stage.recipe, WorldPairs):
        raise ValueError(
            f"prompts are those of the world's preference pairs (lab.pairs()), got {type(stage.recipe).__name__}"
        )
    return stage


def _of_prompt_and_answer(function: Callable[..., float]) -> Callable[..., float]:
    """`function`, or ValueError where it cannot be called on a prompt and an answer."""
    try:
        inspect.signature(function).bind("prompt", "answer")
    except TypeError as error:
        raise ValueError(
            f"a reward is a function of (prompt, answer) that gives one number, got "
            f"{getattr(function, '__name__', function)}{inspect.signature(function)}"
        ) from error
    return function
