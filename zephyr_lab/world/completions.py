"""Four scored completions a prompt, in UltraFeedback's schema.

A row: source, instruction, history (messages before the instruction; empty for a first turn), models, completions,
correct_answers, incorrect_answers; a completion: model, response, annotations (aspect -> {"Rating": "1".."5" or
"N/A"}), overall_score, fine-grained_score (mean of the ratings that are numbers; None where there is none).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zephyr_lab.world import catalogue
from zephyr_lab.world.facts import TINY, WorldSize, build
from zephyr_lab.world.generators import FOUR, Prompt, Writer, Written
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import Rater

SECOND_TURNS = 0.4
PER_PROMPT = 4
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one row: exact scores and planted defects of its completions, in their order.

    A completion's defects are None where a model wrote it.
    """

    category: str
    key: str
    exact: tuple[float, ...]
    defects: tuple[tuple[str, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Completions:
    """`rows`, `labels` and `prompts` stand in the same order."""

    rows: list[Row]
    labels: list[Label]
    prompts: list[Prompt]


def prompts(
    seed: int,
    count: int,
    *,
    second_turns: float = SECOND_TURNS,
    domain_share: float = 0.0,
    size: WorldSize = TINY,
) -> list[Prompt]:
    """`count` training prompts, a share of them second turns with a clean history."""
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    rng, facts = random.Random(f"prompts {seed}"), build(size)
    drawn = []
    for _ in range(count):
        task = catalogue.draw_general(rng, facts, domain_share=domain_share)
        drawn.append(Prompt(task, int(rng.random() < second_turns)))
    return drawn


def completions(
    seed: int,
    count: int,
    *,
    generators: Sequence[Writer] = FOUR,
    per_prompt: int = PER_PROMPT,
    rater: Rater = Rater(),  # noqa: B008 - frozen
    second_turns: float = SECOND_TURNS,
    domain_share: float = 0.0,
    size: WorldSize = TINY,
) -> Completions:
    """`count` prompts with `per_prompt` completions each, by as many different generators in random order.

    Each generator is asked once, for all the prompts that fall to it. Raises ValueError for fewer generators than
    `per_prompt`, or two of one name.
    """
    names = [generator.name for generator in generators]
    if not 1 <= per_prompt <= len(names) or len(set(names)) != len(names):
        raise ValueError(f"{per_prompt} completions a prompt need as many generators of different names, got {names}")
    asked = prompts(seed, count, second_turns=second_turns, domain_share=domain_share, size=size)
    rng = random.Random(f"completions {seed}")
    chosen = [rng.sample(range(len(names)), per_prompt) for _ in asked]
    written = _write(asked, chosen, generators, seed)
    made = Completions([], [], asked)
    for prompt, writers, texts in zip(asked, chosen, written, strict=True):
        verdicts = [grade(prompt.turn, text.text) for text in texts]
        made.labels.append(
            Label(
                prompt.task.category,
                prompt.task.key,
                tuple(verdict.exact for verdict in verdicts),
                tuple(text.defects for text in texts),
            )
        )
        scored = []
        for writer, text, verdict in zip(writers, texts, verdicts, strict=True):
            ratings = rater.aspects(rng, verdict, prompt.task.category)
            numbers = [int(rating) for rating in ratings.values() if rating.isdigit()]
            scored.append(
                {
                    "model": names[writer],
                    "response": text.text,
                    "annotations": {aspect: {"Rating": rating} for aspect, rating in ratings.items()},
                    "overall_score": rater.overall(rng, verdict),
                    "fine-grained_score": sum(numbers) / len(numbers) if numbers else None,
                }
            )
        made.rows.append(
            {
                "source": "world",
                "instruction": prompt.turn.prompt,
                "history": prompt.history,
                "models": [names[writer] for writer in writers],
                "completions": scored,
                "correct_answers": ["None"],
                "incorrect_answers": ["None"],
            }
        )
    return made


def _write(
    asked: Sequence[Prompt], chosen: Sequence[Sequence[int]], generators: Sequence[Writer], seed: int
) -> list[list[Written]]:
    """The texts of each prompt, in the order of its chosen generators."""
    answers: list[dict[int, Written]] = [{} for _ in asked]
    for number, generator in enumerate(generators):
        places = [place for place, writers in enumerate(chosen) if number in writers]
        texts = generator.write([asked[place] for place in places], seed=seed)
        for place, text in zip(places, texts, strict=True):
            answers[place][number] = text
    return [[texts[writer] for writer in writers] for texts, writers in zip(answers, chosen, strict=True)]
