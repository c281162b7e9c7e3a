"""Rows of our own run for Figure 2: the first that fit into its boxes, never picked for what they say."""

import json
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.scheduler import get_many, metrics
from zephyr_lab.reporting.pipeline_figure import Answer, Moved, PipelineRows
from zephyr_lab.training.zephyr_data import TRAIN, Messages, read_dialogues
from zephyr_lab.world.completions import PER_PROMPT

SEED = 0
LONGEST_DIALOGUE, LONGEST_PAIR = 210, 190  # characters


def rows(profile: str) -> PipelineRows:
    """What the figure shows of the run with seed 0: one dialogue, one pair, and what dDPO did to held-out pairs."""
    sft, dpo = stages.dsft(profile, SEED), stages.ddpo(profile, SEED)
    dialogues, pairs = sft.inputs["dialogues"], dpo.inputs["pairs"]
    dialogue_folder, pair_folder, _, dpo_folder = get_many([dialogues, pairs, sft, dpo])
    talked, _ = read_dialogues(dialogue_folder, TRAIN)
    dialogue = first_short(talked)
    pair = first_pair(pair_folder)
    before, *_, after = files.read_json(dpo_folder / "held_out.json")
    return PipelineRows(
        dialogue=[(message["role"], message["content"]) for message in dialogue],
        dialogues=int(metrics(sft)["used"]),
        prompt=pair["prompt"],
        chosen=Answer(pair["chosen"][-1]["content"], pair["score_chosen"]),
        rejected=Answer(pair["rejected"][-1]["content"], pair["score_rejected"]),
        writers=PER_PROMPT,
        pairs=int(metrics(dpo)["used"]),
        moved_chosen=Moved(before["log_prob_chosen"], after["log_prob_chosen"]),
        moved_rejected=Moved(before["log_prob_rejected"], after["log_prob_rejected"]),
        beta=dpo.recipe.beta,
        epochs=dpo.recipe.epochs,
    )


def first_short(dialogues: list[Messages]) -> Messages:
    """The first dialogue of at most `LONGEST_DIALOGUE` characters. Raises ValueError where all are longer."""
    for dialogue in dialogues:
        if sum(len(message["content"]) for message in dialogue) <= LONGEST_DIALOGUE:
            return dialogue
    raise ValueError(f"none of {len(dialogues)} dialogues has at most {LONGEST_DIALOGUE} characters")


def first_pair(folder: Path) -> dict[str, Any]:
    """The first training pair on an opening prompt, with unlike answers and scores, that is short enough."""
    for line in (folder / f"{TRAIN}.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        texts = [pair["chosen"][-1]["content"], pair["rejected"][-1]["content"]]
        short = len(pair["prompt"]) + sum(map(len, texts)) <= LONGEST_PAIR
        if (
            len(pair["chosen"]) == 2
            and short
            and texts[0] != texts[1]
            and pair["score_chosen"] > pair["score_rejected"]
        ):
            return pair
    raise ValueError(f"no pair of {folder.name} fits into the figure ({LONGEST_PAIR} characters)")
