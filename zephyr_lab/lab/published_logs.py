"""What published DPO logs say when they are read as data.

In DPO the reward of an answer is beta (log pi - log pi_ref). Over a fixed evaluation set the mean of log pi_ref is a
constant, so mean reward against mean log-probability is a straight line and its slope is beta: a check of any log,
ours too, against the beta that its card or paper names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import linregress, t

from zephyr_lab.reporting import published, tables

# Both models whose authors published their whole log, with its name among the published exhibits.
LOGS = {"zephyr-7b-beta": "beta_log", "zephyr-7b-alpha": "alpha_log"}
FIT = "slope over the rows of the log, t 95 %"


@dataclass(frozen=True)
class Line:
    """A fitted line: reward = `reference` + `beta` x log-probability, from `n` rows; `residual` is the largest, in
    the reward's unit, so a log that no single beta explains shows."""

    beta: float
    low: float
    high: float
    reference: float
    residual: float
    n: int


def recover_beta(log: pd.DataFrame, *, answers: str = "chosen") -> Line:
    """Beta as the slope of mean reward against mean log-probability (nats) of the `answers`, with its t interval.

    `log` has the columns rewards_<answers> and logps_<answers>, one row an evaluation. Raises ValueError for fewer
    than three rows.
    """
    if len(log) < 3:
        raise ValueError(f"a line with an interval needs at least 3 rows of a log, got {len(log)}")
    log_probs, rewards = log[f"logps_{answers}"].to_numpy(float), log[f"rewards_{answers}"].to_numpy(float)
    fit = linregress(log_probs, rewards)
    half = t.ppf(0.975, len(log) - 2) * fit.stderr
    residual = np.abs(rewards - fit.intercept - fit.slope * log_probs).max()
    return Line(
        float(fit.slope),
        float(fit.slope - half),
        float(fit.slope + half),
        float(fit.intercept),
        float(residual),
        len(log),
    )


def betas(logs: Mapping[str, str] = LOGS) -> pd.DataFrame:
    """Beta of each published log (model -> exhibit), by chosen and by rejected answers, beside the paper's value."""
    rows = []
    for model, name in logs.items():
        log = published.wide("zephyr", name)
        for answers in ("chosen", "rejected"):
            line = recover_beta(log, answers=answers)
            rows.append(
                {
                    "row": model,
                    "metric": f"from {answers}",
                    "kind": "recomputed",
                    "value": line.beta,
                    "low": line.low,
                    "high": line.high,
                    "n": line.n,
                    "interval": FIT,
                    "source": published.exhibit("zephyr", name).printed,
                }
            )
    said = float(published.recipe("zephyr", "paper_ddpo").settings["beta"])
    theirs = [
        {"row": model, "metric": "from chosen", "kind": "quoted", "value": said, "source": "paper, for all models"}
        for model in logs
    ]
    return tables.side_by_side(tables.frame(rows), tables.frame(theirs))


def losses(log: pd.DataFrame) -> pd.DataFrame:
    """Training and held-out loss of a published log over epochs, as `figures.curves` draws it."""
    parts = [
        pd.DataFrame({"series": series, "kind": "quoted", "x": log["epoch"], "y": log[f"{series}_loss"]})
        for series in ("train", "eval")
    ]
    return pd.concat(parts, ignore_index=True)


def epoch_means(log: pd.DataFrame) -> pd.DataFrame:
    """Means of the log's rows within each epoch: train_loss, eval_loss, rewards_accuracy, and the rows behind them."""
    epochs = log.groupby(np.ceil(log["epoch"]).astype(int))
    means = epochs[["train_loss", "eval_loss", "rewards_accuracy"]].mean()
    return means.assign(rows=epochs.size())


def reward_lines(logs: Mapping[str, str] = LOGS) -> tuple[pd.DataFrame, dict[str, tuple[float, float]]]:
    """Points (mean log-probability and reward of chosen answers) and fitted lines, as `figures.fits` draws them."""
    points, lines = [], {}
    for model, name in logs.items():
        log = published.wide("zephyr", name)
        points.append(pd.DataFrame({"series": model, "x": log["logps_chosen"], "y": log["rewards_chosen"]}))
        line = recover_beta(log)
        lines[model] = (line.reference, line.beta)
    return pd.concat(points, ignore_index=True), lines
