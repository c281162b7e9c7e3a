"""What a raw base model can do: greedy answers to questions in the layout of its text, graded by category.

Which skills a small base has depends on its seed even at equal loss, so the probe is published with each base.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.methods.recipes.probe import Probe
from zephyr_lab.models import saved
from zephyr_lab.models.tokenizer import content_ids, decode
from zephyr_lab.world import catalogue, facts, judge
from zephyr_lab.world.task import Task

QUESTION = "Question: {}\nAnswer:"  # one of the four layouts of the corpus
NEW_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Skill:
    """Mean share of the right core in the answers to `tasks` first turns, and to as many second turns."""

    first_turn: float
    second_turn: float
    tasks: int

    @property
    def core(self) -> float:
        return (self.first_turn + self.second_turn) / 2


def build(recipe: Probe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Probe the model of input "base" and write `skills.json`, the Skill of each category.

    Metrics: the mean share of right cores over all categories ("all") and in each.
    """
    del seed  # the questions are the same for every model
    process.prepare()
    model, tokenizer = saved.load_model(inputs["base"]), saved.load_tokenizer(inputs["base"])
    skills = probe(model, tokenizer, tasks=recipe.tasks, size=require_world(recipe.world))
    context.progress(1, 1)
    files.write_json(out / "skills.json", {name: asdict(skill) for name, skill in skills.items()})
    cores = {name: skill.core for name, skill in skills.items()}
    return {"all": _mean(list(cores.values())), **cores}


def probe(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, tasks: int, size: facts.WorldSize
) -> dict[str, Skill]:
    """Skill by category on `tasks` benchmark-side tasks each, the same for every model.

    Second turns are asked after the right answer to the first, so that its errors are not counted twice.
    """
    drawn = {category: draw_tasks(category, tasks, size) for category in catalogue.MAKERS}
    asked = [(task, turn) for chosen in drawn.values() for task in chosen for turn in range(2)]
    answers = answer(model, tokenizer, [raw_prompt(task, turn) for task, turn in asked])
    cores = [judge.grade(task.turns[turn], text).core for (task, turn), text in zip(asked, answers, strict=True)]
    skills = {}
    for place, category in enumerate(drawn):
        own = cores[2 * tasks * place : 2 * tasks * (place + 1)]
        skills[category] = Skill(_mean(own[0::2]), _mean(own[1::2]), tasks)
    return skills


def draw_tasks(category: str, count: int, size: facts.WorldSize) -> list[Task]:
    """Tasks that no training text holds."""
    rng = random.Random(derive(0, "probe", category))
    return [catalogue.draw(rng, facts.build(size), category, held_out=True) for _ in range(count)]


def raw_prompt(task: Task, turn: int) -> str:
    """The question of turn 0 or 1 as raw text; turn 1 comes after turn 0 and its right core."""
    texts = [QUESTION.format(question.prompt) for question in task.turns]
    return texts[0] if turn == 0 else f"{texts[0]} {task.turns[0].core}\n{texts[1]}"


def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[str]:
    """The most likely continuation of each prompt, up to the end of its line."""
    completions = sample(
        model, content_ids(tokenizer, list(prompts)), max_new_tokens=NEW_TOKENS, temperatures=0.0, generator=None
    )
    return [decode(tokenizer, list(completion.ids)).partition("\n")[0] for completion in completions]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
