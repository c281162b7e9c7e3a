"""What a stage on rollouts has of the world: the prompts of the preference pairs, the exact judge, and kept policies.

A prompt keeps its task, which the judge needs and the policy never sees.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.splits import TRAIN, Messages, Split
from zephyr_lab.methods import policy_log, process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.recipes.rollouts import LEARNED, Rollouts
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.methods.rollouts import Answered, Reward, answer_texts, learned_reward
from zephyr_lab.methods.stages.plain_settings import settings_of
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved
from zephyr_lab.world import completions
from zephyr_lab.world.completions import Prompt
from zephyr_lab.world.judge import grade, value

KEPT = "steps"


@dataclass(frozen=True)
class WorldQuestions:
    """Prompts of the world, with their ids: place in the list names a question."""

    prompts: list[Prompt]
    ids: list[list[int]]

    @classmethod
    def of_pairs(cls, tokenizer: PreTrainedTokenizerBase, *, world: str, prompts: int, seed: int) -> "WorldQuestions":
        """The prompts that `world_data.build_pairs` draws for training under the same world, count and seed."""
        drawn = completions.prompts(derive(seed, "pairs", TRAIN), prompts, size=require_world(world))
        return cls.of(tokenizer, drawn)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> "WorldQuestions":
        """These prompts, encoded."""
        return cls(list(prompts), encode_prompts(tokenizer, [prompt.messages for prompt in prompts]))

    @property
    def rows(self) -> Split[Messages]:
        """The prompts' messages, as training functions take them."""
        return Split([prompt.messages for prompt in self.prompts], list(range(1, len(self.prompts) + 1)), [])


@dataclass(frozen=True)
class JudgeReward:
    """The exact judge's objective, in points. `questions`: those that the answers are to."""

    questions: WorldQuestions
    tokenizer: PreTrainedTokenizerBase
    objective: str

    def __call__(self, answered: Answered) -> list[float]:
        texts = answer_texts(self.tokenizer, answered)
        return [
            value(grade(self.questions.prompts[place].turn, text, ended=ended), self.objective)
            for place, text, ended in zip(answered.places, texts, answered.finished, strict=True)
        ]


def reward_for(
    recipe: Rollouts,
    questions: WorldQuestions,
    tokenizer: PreTrainedTokenizerBase,
    inputs: dict[str, Path],
    device: torch.device,
) -> Reward:
    """The reward that `recipe` names. Raises ValueError where it is a reward model's and there is no input "reward"."""
    if recipe.reward != LEARNED:
        return Reward(JudgeReward(questions, tokenizer, recipe.reward))
    if "reward" not in inputs:
        raise ValueError("a learned reward needs an input 'reward'; the judge's objectives need none")
    return learned_reward(reward_models.load(inputs["reward"]).to(device))


@dataclass(frozen=True)
class KeptPolicies:
    """Keeps the policy after the recipe's steps in `folder`, which survives a kill; a `rollouts.Watch`."""

    steps: Sequence[int]
    tokenizer: PreTrainedTokenizerBase
    folder: Path

    def __call__(self, step: int, policy: PreTrainedModel) -> None:
        if step in self.steps:
            saved.save(policy, self.tokenizer, self.folder / KEPT / str(step))


def trained(
    train: Callable[..., pd.DataFrame],
    kind: type,
    recipe: Rollouts,
    *,
    seed: int,
    inputs: dict[str, Path],
    out: Path,
    context: Context,
    **how: Any,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The log of `train` on the recipe's policy and prompts, written to `out` with the policies, and its metrics.

    kind: the settings that `train` takes; how: more of its arguments. Metrics: tokens spent, CPU seconds and memory,
    from loading the policy to the last step.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    with metered() as cost:
        policy = saved.load_model(start).to(device)
        questions = WorldQuestions.of_pairs(tokenizer, world=recipe.world, prompts=recipe.prompts, seed=seed)
        kept = KeptPolicies(recipe.keep, tokenizer, context.checkpoints)
        log = train(
            policy,
            tokenizer,
            questions.rows,
            recipe=settings_of(recipe, kind),
            reward=reward_for(recipe, questions, tokenizer, inputs, device),
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
            watch=kept,
            **how,
        )
    finish(log, policy, kept, out)
    return log, {**policy_log.work(log), **cost.metrics()}


def finish(log: pd.DataFrame, policy: PreTrainedModel, kept: KeptPolicies, out: Path) -> None:
    """Write the policy with its tokenizer, log.json and the kept policies (steps/N) to `out`."""
    saved.save(policy, kept.tokenizer, out)
    files.write_json(out / "log.json", policy_log.rows(log))
    if (kept.folder / KEPT).is_dir():
        shutil.copytree(kept.folder / KEPT, out / KEPT)
