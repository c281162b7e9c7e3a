"""What notebook 20's arms decide: effects for the claims on distillation, and what so few runs can resolve of K2.

Metrics are those of claims.toml, word for word; directions and margins stand there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import kd_scores, seed_means
from zephyr_lab.lab.kd_ablation import (
    ALIGNED,
    ATTENTION,
    KD,
    KD_QUALITY,
    LARGER,
    PREDICTION,
    QUALITY,
    RANDOM,
    REPEATED,
    Ablation,
    relative_change,
)
from zephyr_lab.reporting import published
from zephyr_lab.scoring import spread

CLAIMS = ("K1", "K2", "K3", "K4", "K5", "K10", "K12", "K14")
LOSSES_MOVE = {
    "relative change of the prediction loss when only attention is trained": (ATTENTION, "prediction_loss"),
    "relative change of the attention loss when only prediction is trained": (PREDICTION, "attention_loss"),
}


def measured(done: Ablation) -> pd.DataFrame:
    """What `check.claims` takes: a row for each part of each claim of `CLAIMS`."""

    def chat(claim: str, metric: str, ours: str, theirs: str) -> dict[str, Any]:
        return kd_scores.effect(claim, f"chat score (1-10): {metric}", done.answers, ours, theirs)

    return scores.effects([
        chat("K1", "KD, same-size teacher - SFT, same samples", KD, RANDOM),
        variance_ratio(done),
        chat("K3", "both losses - prediction only", KD, PREDICTION),
        chat("K3", "prediction only - attention only", PREDICTION, ATTENTION),
        chat("K3", "attention only - SFT", ATTENTION, RANDOM),
        chat("K4", "KD, mixture teacher - KD, same-size teacher", LARGER, KD),
        chat("K5", "SFT on quality-assured - on random samples", QUALITY, RANDOM),
        *losses_move(done),
        chat("K12", "KD - (dSFT + dDPO)", KD, ALIGNED),
        scores.effect(
            "K14",
            "chat score (1-10): (SFT quality-assured - SFT random) - (KD quality-assured - KD random)",
            kd_scores.difference(done.answers, QUALITY, RANDOM) - kd_scores.difference(done.answers, KD_QUALITY, KD),
        ),
    ])  # fmt: skip


def variance_ratio(done: Ablation) -> dict[str, Any]:
    """K2: ln of the ratio of variances of the scores over seeds, KD / SFT; open where an arm has one seed."""
    sft, kd = (_by_seed(done, arm) for arm in REPEATED)
    found = spread.log_variance_ratio(kd, sft)
    row = {
        "row": "K2", "metric": "log of the variance ratio of chat scores over seeds: KD / SFT",
        "n": len(kd) + len(sft), "seeds": len(kd),
    }  # fmt: skip
    if found is None:
        return {**row, "value": 0.0, "low": None, "high": None}
    return {**row, "value": found.value, "low": found.interval.low, "high": found.interval.high}


def resolving_power(done: Ablation) -> pd.DataFrame:
    """How likely runs are to resolve K2, by number of runs an arm: the printed number, ours, and twice ours.

    For the ratio of standard deviations in print, for one half and for one third.
    """
    printed = published.wide("kd_dae", "tab2").set_index("experiment")["mt_bench_sd"]
    same_size = published.wide("kd_dae", "tab2").query("teacher == 'Mistral-7B-Instruct-v0.2' and experiment == 'KD'")
    ratios = {
        "as printed": float(same_size["mt_bench_sd"].iloc[0]) / float(printed["SFT random"]),
        "one third": 1 / 3,
        "one half": 1 / 2,
    }
    ours = len(_by_seed(done, KD))
    return pd.DataFrame([
        {"ratio of standard deviations": name, "value": ratio}
        | {f"power, {runs} runs an arm": spread.power(ratio**2, runs, runs) for runs in sorted({5, ours, 2 * ours})}
        for name, ratio in ratios.items()
    ])  # fmt: skip


def losses_move(done: Ablation) -> list[dict[str, Any]]:
    """K10: what the loss that is not trained does; n counts the logs of a run."""
    rows = []
    for metric, (arm, column) in LOSSES_MOVE.items():
        logs = kd_scores.logs(done.stages[arm])
        change = relative_change(logs, column)
        rows.append({**seed_means.effect("K10", metric, change, n=len(logs[0]))})
    return rows


def _by_seed(done: Ablation, model: str) -> Sequence[float]:
    return list(np.asarray(scores.grid(done.repeated, model).mean(axis=1), dtype=float))
