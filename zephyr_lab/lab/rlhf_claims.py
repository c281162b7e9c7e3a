"""What the comparison says of the overview's statements: an effect of ours beside each, with what it is an effect of.

The papers decide the statements themselves; these effects are redefinitions and measurements of our own at small scale,
announced by `later` in papers/overview/claims.toml. What the statements say of Zephyr's own steps (S0-2, S0-3, S1-33)
is measured on the arms of Table 3, in notebook 12.
"""

from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.engine.scheduler import metrics
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import rlhf_costs, seed_means
from zephyr_lab.lab.rlhf import (
    DPO,
    PPO,
    RLHF,
    RLOO,
    RLOO_TRUE,
    START,
    Comparison,
    deviations,
    equal_kl,
    last,
    ratio,
)
from zephyr_lab.reporting import claims, tables

# What each effect is, in the words of the table.
EFFECTS = {
    "S0-4": "CPU seconds a token trained: DPO below RLOO on the true reward, %",
    "S0-5": "FLOPs of the training: DPO below reward model + RLOO, %",
    "S0-6": "chat score: relative gain of DPO over dSFT, %",
    "S1-24": "FLOPs: (reward model + PPO) / DPO",
    "S1-28": "knobs that a recipe sets: (reward model + PPO) - DPO",
    "S1-29": "peak memory, MiB: (reward model + PPO) - DPO",
    "S1-30": "spread of the chat score over seeds: (reward model + PPO) - DPO",
    "S1-31": "true reward at equal KL, points: DPO - RLHF (mean of PPO and RLOO)",
    "S1-32": "FLOPs a point of true reward gained: (reward model + PPO) / DPO",
}
# What the documents say, as numbers where they give any.
SAID = {
    "S0-4": "30 % less time",
    "S0-5": "25 % less compute",
    "S0-6": "10 to 18 % better",
    "S1-24": "DPO 50-100, RLHF 200-500 GPU hours: a ratio of 2 to 10",
    "S1-28": "RLHF 15-20, DPO 5-8: a difference of 7 to 15",
    "S1-29": "RLHF needs more",
    "S1-30": "RLHF unstable, DPO stable",
    "S1-31": "DPO as good or better",
    "S1-32": "5 to 10 times cheaper",
}


def measured(done: Comparison) -> pd.DataFrame:
    """What `check.claims` takes: a row a claim, the effect's mean over seeds with its t interval.

    A claim whose effect is not a number (a gain of 0 in a denominator) is left out.
    """
    rows = []
    for claim, (values, n) in _values(done).items():
        if np.isfinite(values).all():
            rows.append(seed_means.effect(claim, EFFECTS[claim], list(values), n=n))
    return scores.effects([*rows, _knobs(done)])


def beside(done: Comparison) -> tables.Shown:
    """The overview's statements, what they say, and what was measured here: a table of words for the notebook."""
    known = {claim.id: claim for claim in claims.load("overview")}
    found = measured(done).set_index("row")
    rows = []
    for claim in EFFECTS:
        told = {"claim": claim, "statement": known[claim].statement, "says": SAID[claim], "measured": EFFECTS[claim]}
        rows.append(told | {"ours": _shown(found.loc[claim]) if claim in found.index else "not a number here"})
    return tables.words(pd.DataFrame(rows))


def _shown(row: pd.Series) -> str:
    if pd.isna(row["low"]):
        return f"{row['value']:.2f} (1 seed: no interval)"
    if row["low"] == row["high"]:
        return f"{row['value']:g} (the same under every seed)"
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def _knobs(done: Comparison) -> dict[str, Any]:
    """S1-28: a count of fields, the same under every seed."""
    counts = [len(rlhf_costs.all_knobs(done.stages[0][arm])) for arm in (PPO, DPO)]
    more = float(counts[0] - counts[1])
    return seed_means.count("S1-28", EFFECTS["S1-28"], more, n=sum(counts), seeds=done.seeds)


def _values(done: Comparison) -> dict[str, tuple[np.ndarray, int]]:
    """Each effect's value under each seed, and what it is a mean over."""
    chat = {arm: scores.grid(done.answers, arm).mean(axis=1).to_numpy() for arm in (START, DPO, PPO)}
    questions = scores.grid(done.answers, DPO).shape[1]
    by_arm = done.costs.pivot(index="seed", columns="arm", values="peak_mib")
    gains = {arm: (last(done, arm)["quality"].to_numpy() - last(done, START)["quality"].to_numpy()) for arm in RLHF}
    gains[DPO] = last(done, DPO)["quality"].to_numpy() - last(done, START)["quality"].to_numpy()
    against = [equal_kl(done, DPO, arm) for arm in RLHF]
    with np.errstate(divide="ignore", invalid="ignore"):
        each_point = np.array(ratio(done, PPO, DPO, "tflop")) * gains[DPO] / gains[PPO]
    return {
        "S0-4": (100 * (1 - np.divide(_token_seconds(done, DPO), _token_seconds(done, RLOO_TRUE))), done.questions),
        "S0-5": (100 * (1 - np.array(ratio(done, DPO, RLOO, "tflop"))), done.questions),
        "S0-6": (100 * (chat[DPO] / chat[START] - 1), questions),
        "S1-24": (np.array(ratio(done, PPO, DPO, "tflop")), done.questions),
        "S1-29": ((by_arm[PPO] - by_arm[DPO]).to_numpy(), done.seeds),
        "S1-30": (np.subtract(deviations(list(chat[PPO])), deviations(list(chat[DPO]))), questions),
        "S1-31": (np.mean(against, axis=0), done.questions),
        "S1-32": (each_point, done.questions),
    }


def _token_seconds(done: Comparison, arm: str) -> list[float]:
    """CPU seconds a token read with a gradient, a seed; sampling, rewards and the reference are part of them."""
    return [
        sum(metrics(stage)["cpu_seconds"] for stage in made[arm])
        / sum(metrics(stage)["tokens_trained"] for stage in made[arm])
        for made in done.stages
    ]
