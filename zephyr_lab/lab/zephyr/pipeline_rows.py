"""Rows of our own run for Figure 2: the first that fit into its boxes, never picked for what they say."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

from zephyr_lab.core import files
from zephyr_lab.data.splits import TRAIN, Messages
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.lab.arms import Arm, Rows
from zephyr_lab.reporting.paper_figures import Answer, Moved, PipelineRows
from zephyr_lab.world.completions import PER_PROMPT

Row = TypeVar("Row")
SEED = 0
LONGEST_DIALOGUE, LONGEST_PAIR = 210, 190  # characters; texts of longer ones are cut
LONGEST_TEXT, MESSAGES = 70, 4


def rows(dialogues: Rows, pairs: Rows, sft: Arm, dpo: Arm) -> PipelineRows:
    """What the figure shows of the run with seed 0: one dialogue, one pair, and what dDPO did to held-out pairs."""
    pair_folder, _, dpo_folder = get_many([pairs.stage(SEED), sft.stage(SEED), dpo.stage(SEED)])
    dialogue, pair = first_short(dialogues.rows(SEED)), first_pair(pair_folder)
    before, *_, after = files.read_json(dpo_folder / "held_out.json")
    recipe = dpo.stage(SEED).recipe
    return PipelineRows(
        dialogue=[(message["role"], _cut(message["content"])) for message in dialogue[:MESSAGES]],
        dialogues=int(metrics(sft.stage(SEED))["used"]),
        prompt=_cut(pair["prompt"]),
        chosen=Answer(_cut(pair["chosen"][-1]["content"]), pair["score_chosen"]),
        rejected=Answer(_cut(pair["rejected"][-1]["content"]), pair["score_rejected"]),
        writers=PER_PROMPT,
        pairs=int(metrics(dpo.stage(SEED))["used"]),
        moved_chosen=Moved(before["log_prob_chosen"], after["log_prob_chosen"]),
        moved_rejected=Moved(before["log_prob_rejected"], after["log_prob_rejected"]),
        beta=recipe.beta,
        epochs=recipe.epochs,
    )


def first_short(dialogues: Sequence[Messages]) -> Messages:
    """The first dialogue of at most `LONGEST_DIALOGUE` characters, else the shortest."""
    return _first_short(dialogues, LONGEST_DIALOGUE, lambda dialogue: sum(len(turn["content"]) for turn in dialogue))


def first_pair(folder: Path) -> dict[str, Any]:
    """The first training pair of at most `LONGEST_PAIR` characters, else the shortest.

    Of pairs on an opening prompt with unlike answers and scores; raises ValueError where there is none.
    """
    lines = (folder / f"{TRAIN}.jsonl").read_text(encoding="utf-8").splitlines()
    shown = [pair for pair in map(json.loads, lines) if _shows_something(pair)]
    if not shown:
        raise ValueError(f"{folder.name} has no pair on an opening prompt with unlike answers and scores")
    return _first_short(shown, LONGEST_PAIR, lambda pair: len(pair["prompt"]) + sum(map(len, _answers(pair))))


def _first_short(rows: Sequence[Row], limit: int, length: Callable[[Row], int]) -> Row:
    return next((row for row in rows if length(row) <= limit), None) or min(rows, key=length)


def _shows_something(pair: dict[str, Any]) -> bool:
    chosen, rejected = _answers(pair)
    return len(pair["chosen"]) == 2 and chosen != rejected and pair["score_chosen"] > pair["score_rejected"]


def _answers(pair: dict[str, Any]) -> tuple[str, str]:
    return pair["chosen"][-1]["content"], pair["rejected"][-1]["content"]


def _cut(text: str) -> str:
    return shorten(text, LONGEST_TEXT, placeholder=" …")
