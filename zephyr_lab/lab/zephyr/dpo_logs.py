"""Logs of DPO runs, the published ones and ours, read as data and set beside one another.

In DPO the reward of an answer is beta (log pi - log pi_ref). Over a fixed evaluation set the mean of log pi_ref is a
constant, so mean reward against mean log-probability is a straight line and its slope is beta: a check of any log
against the beta that its card or paper names. A nat of ours is not a nat of theirs; which way a curve goes compares.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import linregress, t

from zephyr_lab.lab import seed_means
from zephyr_lab.lab.arms import Arm
from zephyr_lab.reporting import published, tables

# Both models whose authors published their whole log, with its name among the published exhibits.
LOGS = {"zephyr-7b-beta": "beta_log", "zephyr-7b-alpha": "alpha_log"}
SIDES = ("chosen", "rejected")
# TRL's names -> those of the published logs.
COLUMNS = {
    "eval_loss": "eval_loss",
    "eval_rewards/chosen": "rewards_chosen",
    "eval_rewards/rejected": "rewards_rejected",
    "eval_rewards/accuracies": "rewards_accuracy",
    "eval_rewards/margins": "rewards_margin",
    "eval_logps/chosen": "logps_chosen",
    "eval_logps/rejected": "logps_rejected",
}


class Line(NamedTuple):
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
    numbers = (fit.slope, fit.slope - half, fit.slope + half, fit.intercept, residual)
    return Line(*map(float, numbers), len(log))


def held_out(run: Arm) -> list[pd.DataFrame]:
    """The log on held-out pairs of each seed, with the published logs' column names."""
    return [part[["step", "epoch", *COLUMNS]].rename(columns=COLUMNS) for part in _by_seed(run, "eval_loss")]


def betas(runs: Mapping[str, Arm]) -> pd.DataFrame:
    """Tidy frame: beta of the published logs and of ours, from chosen and from rejected answers, beside what is said
    of each. `runs` names our rows."""
    rows = []
    for row, run in runs.items():
        for answers in SIDES:
            lines = [recover_beta(log, answers=answers) for log in held_out(run)]
            n = min(line.n for line in lines)
            rows += seed_means.number(row, f"from {answers}", [line.beta for line in lines], n=n)
    theirs = published_betas()
    recomputed, quoted = (theirs[theirs["kind"] == kind] for kind in ("recomputed", "quoted"))
    return tables.side_by_side(pd.concat([recomputed, tables.frame(rows)], ignore_index=True), quoted)


def epoch_means(run: Arm, name: str) -> pd.DataFrame:
    """Tidy frame: means of each epoch's log rows, ours beside the published log `name`.

    Metrics: training loss, held-out loss, held-out accuracy, and how far the log-probabilities of chosen and rejected
    answers have moved from the reference, in nats. The published shifts are reward / beta.
    """
    logs, log = held_out(run), published.wide("zephyr", name)
    ours = [
        _epochs(with_shifts(own), batches["epoch"], batches["loss"])
        for own, batches in zip(logs, _by_seed(run, "loss"), strict=True)
    ]
    theirs = _epochs(with_shifts(log), log["epoch"], log["train_loss"])
    rows = [
        line
        for epoch, metric in product(ours[0].index, ours[0].columns)
        for line in seed_means.number(
            f"epoch {epoch}", metric, [float(means.loc[epoch, metric]) for means in ours], n=len(logs[0])
        )
    ]
    printed = f"{published.exhibit('zephyr', name).printed}, means"
    quoted = [
        {"row": f"epoch {epoch}", "metric": metric, "kind": "quoted", "value": value, "source": printed}
        for epoch, means in theirs.iterrows()
        for metric, value in means.items()
    ]
    return tables.side_by_side(tables.frame(rows), tables.frame(quoted))


def with_shifts(log: pd.DataFrame) -> pd.DataFrame:
    """A log with the columns shift_chosen and shift_rejected: log-probability minus the reference's, in nats.

    That is reward / beta, with beta as the log's own slope has it; nats compare across betas, rewards do not.
    """
    beta = recover_beta(log).beta
    return log.assign(**{f"shift_{side}": log[f"rewards_{side}"] / beta for side in SIDES})


def losses(run: Arm, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out loss over epochs as `figures.curves` draws them: ours, and those of the published log."""
    ours = [run.curve("loss", series="train"), run.curve("eval_loss", series="eval")]
    return pd.concat(ours, ignore_index=True), published_losses(published.wide("zephyr", name))


def shifts(run: Arm, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How far chosen and rejected answers have moved from the reference, in nats, as `losses`."""
    ours, theirs = [with_shifts(log) for log in held_out(run)], with_shifts(published.wide("zephyr", name))
    columns = {side: f"shift_{side}" for side in SIDES}
    lines = [
        seed_means.curve(side, ours[0]["epoch"], [log[column] for log in ours], kind="retrained")
        for side, column in columns.items()
    ]
    return pd.concat(lines, ignore_index=True), _quoted(theirs, columns)


def _by_seed(run: Arm, column: str) -> Iterable[pd.DataFrame]:
    """The rows of a run's log that have `column`, a frame a seed."""
    log = run.log().dropna(subset=[column])
    return [part.reset_index(drop=True) for _, part in log.groupby("seed")]


def _quoted(log: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Columns of a published log over epochs, as `figures.curves` draws them; by name of the line."""
    lines = [
        pd.DataFrame({"series": series, "kind": "quoted", "x": log["epoch"], "y": log[column]})
        for series, column in columns.items()
    ]
    return pd.concat(lines, ignore_index=True)


def _epochs(log: pd.DataFrame, batch_epochs: pd.Series, batch_losses: pd.Series) -> pd.DataFrame:
    """Means of a log's rows within each epoch, a row an epoch (1, 2, ...); what was logged before the first step
    belongs to none."""
    shown = {
        "eval_loss": "held-out loss",
        "rewards_accuracy": "held-out accuracy",
        "shift_chosen": "chosen, nats moved",
        "shift_rejected": "rejected, nats moved",
    }
    after = log[log["epoch"] > 0]
    means = after[list(shown)].rename(columns=shown).groupby(np.ceil(after["epoch"]).astype(int)).mean()
    means.insert(0, "training loss", batch_losses.groupby(np.ceil(batch_epochs).astype(int)).mean())
    return means


def published_betas(logs: Mapping[str, str] = LOGS) -> pd.DataFrame:
    """Beta of each published log (model -> exhibit), by chosen and by rejected answers, beside the paper's value."""
    rows = []
    for (model, name), answers in product(logs.items(), SIDES):
        line = recover_beta(published.wide("zephyr", name), answers=answers)
        number = {"row": model, "metric": f"from {answers}", "kind": "recomputed", "value": line.beta}
        ends = {"low": line.low, "high": line.high, "n": line.n, "interval": "slope over the rows of the log, t 95 %"}
        rows.append(number | ends | {"source": published.exhibit("zephyr", name).printed})
    beta = float(published.recipe("zephyr", "paper_ddpo").settings["beta"])
    theirs = [
        {"row": model, "metric": "from chosen", "kind": "quoted", "value": beta, "source": "paper, for all models"}
        for model in logs
    ]
    return tables.side_by_side(tables.frame(rows), tables.frame(theirs))


def published_losses(log: pd.DataFrame) -> pd.DataFrame:
    """Training and held-out loss of a published log over epochs, as `figures.curves` draws it."""
    return _quoted(log, {series: f"{series}_loss" for series in ("train", "eval")})


def published_epoch_means(log: pd.DataFrame) -> pd.DataFrame:
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
