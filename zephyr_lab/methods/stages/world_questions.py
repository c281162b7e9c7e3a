"""Questions of the world that policies are asked one turn at a time, and the exact judge as their reward.

A prompt keeps its task, which the judge needs and the policy never sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.splits import TRAIN, Messages, Split
from zephyr_lab.methods.recipes.evaluate import BestOfN, Frontier
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.methods.rollouts import Answered, answer_texts
from zephyr_lab.world import benchmark, completions
from zephyr_lab.world.completions import Prompt
from zephyr_lab.world.judge import Verdict, grade, value
from zephyr_lab.world.task import Task


@dataclass(frozen=True)
class WorldQuestions:
    """Prompts of the world, with their ids: the place in the list names a question."""

    prompts: list[Prompt]
    ids: list[list[int]]

    @classmethod
    def of_pairs(cls, tokenizer: PreTrainedTokenizerBase, *, world: str, prompts: int, seed: int) -> "WorldQuestions":
        """The prompts that `world_data.build_pairs` draws for training under the same world, count and seed."""
        return cls.of(tokenizer, completions.prompts(derive(seed, "pairs", TRAIN), prompts, size=require_world(world)))

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> "WorldQuestions":
        return cls(list(prompts), encode_prompts(tokenizer, [prompt.messages for prompt in prompts]))

    def verdicts(self, tokenizer: PreTrainedTokenizerBase, answered: Answered) -> list[Verdict]:
        """What the exact judge says of each answer."""
        return [
            grade(self.prompts[place].turn, text, ended=ended)
            for place, text, ended in zip(
                answered.places, answer_texts(tokenizer, answered), answered.finished, strict=True
            )
        ]

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
        return [value(verdict, self.objective) for verdict in self.questions.verdicts(self.tokenizer, answered)]


def held_out_prompts(recipe: Frontier | BestOfN) -> list[Prompt]:
    """The turns of the recipe's benchmark as prompts: two of each question of "mt_bench", one of "single_turn"."""
    ask = benchmark.mt_bench if recipe.benchmark == "mt_bench" else benchmark.single_turn
    asked = ask(recipe.questions, size=require_world(recipe.world))
    # a single turn is in its task twice; the second is never asked
    tasks = [Task(one.category, one.key, (one.turns[0], one.turns[-1])) for one in asked]
    return [Prompt(task, place) for task, one in zip(tasks, asked, strict=True) for place in range(len(one.turns))]
