"""What notebook 12's arms decide: endings of answers, effects for the claims and beside the overview documents.

Metrics are those of claims.toml, word for word; directions and margins stand there.
"""

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.zephyr_steps import BASE, DDPO, DSFT, SECOND, TABLE_3, WITHOUT, Steps, cell, rejecting, with_beta
from zephyr_lab.scoring.intervals import PERCENT

ENDED = scores.Measure("ended, no role tag", "ended_clean")
CHANCE = 50.0  # accuracy in % where policy and reference are equal


def endings(done: Steps) -> pd.DataFrame:
    """Shares of near-greedy answers in %: ended by the model without a role tag; with a role tag; never ended; of more
    than one line, which no right answer has: models of raw text write the next question and answer there."""
    wanted = [
        scores.Measure("ended, no role tag, %", "ended_clean", scale=100.0, within=PERCENT),
        scores.Measure("role tag, %", "tagged", scale=100.0, within=PERCENT),
        scores.Measure("no end token, %", "endless", scale=100.0, within=PERCENT),
        scores.Measure("goes on after a line break, %", "several_lines", scale=100.0, within=PERCENT),
    ]
    return scores.scores(_with_endings(done.answers), wanted, models=(BASE, *TABLE_3))


def measured(done: Steps) -> pd.DataFrame:
    """What `check.claims` takes: a row for each part of each claim that the arms of this profile decide."""
    rows = [
        _effect(done, "Z1", "chat score (1-10): dDPO, 1 epoch - dSFT", DDPO, DSFT),
        _effect(done, "Z2", "chat score (1-10): dDPO from the base - dDPO after dSFT", WITHOUT, DDPO),
        scores.effect(
            "Z2",
            "share of answers with an end token and no role tag: without dSFT - with dSFT",
            _difference(_with_endings(done.answers), WITHOUT, DDPO, ENDED),
        ),
        _effect(done, "Z3", "chat score (1-10): dDPO, 1 epoch - dSFT-2 (SFT on chosen answers)", DDPO, SECOND),
        _sampled_tokens(done),
    ]
    if 3 in done.arms.sft_epochs:
        metric = "chat score (1-10): 1 SFT + 3 DPO epochs - 1 SFT + 1 DPO epoch"
        rows.append(_effect(done, "Z5", metric, cell(1, 3), cell(1, 1)))
        metric = "chat score (1-10) after 3 SFT epochs: 3 DPO epochs - 1 DPO epoch"
        rows.append(_effect(done, "Z5", metric, cell(3, 3), cell(3, 1)))
    if "worst" in done.arms.rejected:
        metric = "chat score (1-10): rejected at random - rejected the worst"
        rows.append(_effect(done, "Z10", metric, DDPO, rejecting("worst")))
    if 0.01 in done.arms.betas:
        metric = "chat score (1-10): beta 0.01, 1 epoch - beta 0.1, 3 epochs"
        rows.append(_effect(done, "Z14", metric, with_beta(0.01, 1), with_beta(0.1, 3)))
    return scores.effects(rows)


def beside_statements(done: Steps) -> pd.DataFrame:
    """What `check.claims` records beside S0-2, S0-3 and S1-33, whose verdicts published facts give.

    The overview documents' figures have no counterpart in print; each is taken as the nearest thing that can be
    measured, which claims.toml names (`later`).
    """
    table = done.held_out.pivot(index="seed", columns="model", values="mean")
    drop = 100 * (1 - (1 - table[DDPO]) / (1 - table[DSFT]))
    folders = get_many(done.ddpo[DDPO])
    above = [100 * files.read_json(folder / "held_out.json")[-1]["accuracy"] - CHANCE for folder in folders]
    pairs = _pairs(done)
    return scores.effects([
        seed_means.effect("S0-2", "drop of the error on held-out pairs, %", list(drop), n=pairs),
        seed_means.effect("S0-3", "implicit-reward accuracy above chance, points", above, n=pairs),
        _effect(done, "S1-33", "chat score (1-10): dDPO from the base - dDPO after dSFT", WITHOUT, DDPO),
    ])  # fmt: skip


def _pairs(done: Steps) -> int:
    return int(done.held_out["pairs"].iloc[0])


def _effect(done: Steps, claim: str, metric: str, ours: str, theirs: str) -> dict[str, object]:
    return scores.effect(claim, metric, _difference(done.answers, ours, theirs, scores.SCORE))


def _difference(answered: pd.DataFrame, ours: str, theirs: str, measure: scores.Measure) -> pd.DataFrame:
    return scores.grid(answered, ours, measure) - scores.grid(answered, theirs, measure)


def _with_endings(answered: pd.DataFrame) -> pd.DataFrame:
    tagged = answered["role_tags"] > 0
    return answered.assign(
        ended_clean=answered["finished"] & ~tagged,
        tagged=tagged,
        endless=~answered["finished"],
        several_lines=answered["text"].str.strip().str.contains("\n", regex=False),
    )


def _sampled_tokens(done: Steps) -> dict[str, object]:
    """Z8: forward passes that continued a text while dDPO trained, over all runs; a token needs one."""
    runs = [stage for made in done.ddpo.values() for stage in made]
    calls = sum(metrics(stage)["generation_calls"] for stage in runs)
    metric = "tokens sampled from the policy during DPO training"
    return seed_means.count("Z8", metric, calls, n=len(runs), seeds=len(done.ddpo[DDPO]))
