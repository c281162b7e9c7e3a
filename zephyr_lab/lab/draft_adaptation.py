"""Notebook 31's tables and curves: tau of a draft adapted to fine-tuned targets, in the published arms and in controls.

The controls are those that the published tables lack; `draft_runs` has the arms, `draft_costs` what they cost.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from zephyr_lab.lab import draft_arms as arms
from zephyr_lab.lab import draft_stages as stages
from zephyr_lab.lab import draft_tau as tau
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.draft_arms import EDA, EDA_BASE, EDA_OURS, FULL, MATCHED, PUBLISHED, TRAINING_FREE
from zephyr_lab.lab.draft_costs import SPEEDUP, speedups
from zephyr_lab.lab.draft_runs import CONTROL, Adaptation, tau_over_steps, trained_parameters, training_seconds
from zephyr_lab.lab.draft_stages import CLINIC, CODE, DPO, MATH, ORIGINAL, PAPER, REGENERATED
from zephyr_lab.reporting import published, tables

TABLES = {MATH: "math", CODE: "code"}  # target -> its published tables, "math_t0" and "math_t1"
TAU = "avg_tau"
ALL_ROWS = arms.name(EDA, REGENERATED)


def published_table(done: Adaptation, name: str, temperature: int) -> pd.DataFrame:
    """A published table beside ours: the published rows first, then ours alone, full retraining on EDA's data last.

    Published averages are over five benchmarks, ours over the target's held-out prompts. Speed-ups of ours are for
    math's timed arms, on the enlarged target.
    """
    scored = done.scored[name]
    rows = [*PUBLISHED, arms.name(MATCHED, ORIGINAL), ALL_ROWS, arms.name(FULL, REGENERATED), CONTROL]
    ours = [tau.number(row, TAU, scored, row, temperature=temperature) for row in rows]
    if name == MATH:
        ours += speedups(done, temperature)
    theirs = published.table(PAPER, f"{TABLES[name]}_t{temperature}")
    averages = theirs[theirs["metric"].isin([TAU, SPEEDUP])]
    return tables.side_by_side(tables.frame(ours), averages)


def medical(done: Adaptation) -> pd.DataFrame:
    """The quoted cells of the medical table, means over their benchmarks at temperature 0, beside the clinic's arms."""
    printed = published.wide(PAPER, "medical")
    greedy = printed[printed["temperature"] == 0]
    theirs = tables.frame(
        {
            "row": row, "metric": "tau, T = 0", "kind": "quoted", "value": float(greedy[column].mean()),
            "source": f"{len(greedy)} quoted cells, mean",
        }
        for row, column in ((FULL, "full_ft_tau"), (EDA_OURS, "eda_tau"))
    )  # fmt: skip
    rows = [*PUBLISHED, arms.name(FULL, REGENERATED), CONTROL]
    ours = [
        tau.number(row, f"tau, T = {temperature}", done.scored[CLINIC], row, temperature=temperature)
        for row in rows
        for temperature in tau.RULES
    ]
    return tables.side_by_side(tables.frame(ours), theirs)


def grid(done: Adaptation, temperature: int) -> pd.DataFrame:
    """tau on math by what is trained (rows) and on which data (metrics)."""
    return tables.frame(
        tau.number(part, arms.DATA_NAMES[data], done.scored[MATH], arms.name(part, data), temperature=temperature)
        for part in arms.PARTS
        for data in arms.DATA_NAMES
    )


def causes(done: Adaptation) -> pd.DataFrame:
    """What architecture and data give, greedy, paired by seed: a row a difference, a metric a target.

    Full retraining on EDA's own data is the control that tells the two apart.
    """
    pairs = {
        "EDA (Base) - Full-FT: same data": (EDA_BASE, FULL),
        "EDA (Ours) - EDA (Base): same parameters": (EDA_OURS, EDA_BASE),
        "EDA (Ours) - Full-FT: the paper's comparison": (EDA_OURS, FULL),
        "EDA (Ours) - Full-FT on the same data: the control": (EDA_OURS, CONTROL),
        "Full-FT: regenerated - data-set answers": (arms.name(FULL, REGENERATED), FULL),
        "EDA: regenerated - data-set answers": (ALL_ROWS, EDA_BASE),
        "EDA: selected half - all regenerated": (EDA_OURS, ALL_ROWS),
    }
    return tables.frame(
        line
        for row, (ours, theirs) in pairs.items()
        for name in stages.SPECIALTIES
        for line in seed_means.number(row, name, _paired(done, name, ours, theirs, 0), n=tau.prompts(done.scored[name]))
    )


def selection(done: Adaptation) -> pd.DataFrame:
    """tau on math, greedy, of EDA's part by selection rule (rows) and share (metrics), beside all rows."""
    scored = done.scored[MATH]
    lines = [
        tau.number(words, f"{100 * share:g} %", scored, arms.selection_name(rule, share, done.of), temperature=0)
        for rule, words in arms.RULE_NAMES.items()
        for share in done.of.shares
    ]
    return tables.frame([*lines, tau.number("all rows", "100 %", scored, ALL_ROWS, temperature=0)])


def data_curve(done: Adaptation) -> pd.DataFrame:
    """tau over the share of rows, a line a rule, and that of all rows as a level, as `figures.curves` draws it."""
    scored, shares = done.scored[MATH], done.of.shares
    percent = [100 * share for share in shares]
    lines = []
    for rule, words in arms.RULE_NAMES.items():
        rows = [arms.selection_name(rule, share, done.of) for share in shares]
        lines.append(_curve(words, percent, [tau.by_seed(scored, row, temperature=0) for row in rows]))
    level = tau.by_seed(scored, ALL_ROWS, temperature=0)
    return pd.concat([*lines, _curve("all rows", [percent[0], percent[-1]], [level, level])], ignore_index=True)


def size_curve(done: Adaptation) -> pd.DataFrame:
    """tau over trained parameters in thousands, on the regenerated rows: LoRA by rank, and parts of the draft."""
    scored, counts = done.scored[MATH], trained_parameters(done)
    families = {
        "LoRA": [
            *(arms.size_name(rank) for rank in done.of.ranks),
            *(arms.name(part, REGENERATED) for part in (arms.LORA, MATCHED)),
        ],
        "parts": [arms.name(part, REGENERATED) for part in (arms.FC, arms.PRIVATE_1, EDA, FULL)],
    }
    lines = []
    for family, rows in families.items():
        ordered = sorted(rows, key=lambda row: counts[row])
        values = [tau.by_seed(scored, row, temperature=0) for row in ordered]
        lines.append(_curve(family, [counts[row] / 1000 for row in ordered], values))
    return pd.concat(lines, ignore_index=True)


def step_curve(done: Adaptation) -> pd.DataFrame:
    """tau over CPU seconds of training: full retraining, EDA (Ours), and full retraining on EDA's data."""
    seconds = training_seconds(done)
    steps = [float(step) for step in (0, *done.kept_steps, done.steps)]
    lines = []
    for row in (FULL, EDA_OURS, CONTROL):
        mean = float(np.mean(seconds[row]))
        lines.append(_curve(row, [mean * step / done.steps for step in steps], tau_over_steps(done, row)))
    return pd.concat(lines, ignore_index=True)


def alignment(done: Adaptation) -> pd.DataFrame:
    """Two alignments seen apart: the dDPO model, aligned with preferences, with the old draft and with adapted ones.

    Preference training changes what the target says; adapting the draft changes how fast it says so, and no answer.
    Empty where no draft fits the dDPO model (`draft_stages.targets`).
    """
    rows = (TRAINING_FREE, arms.name(FULL, REGENERATED), ALL_ROWS) if DPO in done.scored else ()
    return tables.frame(
        tau.number(row, f"tau, T = {temperature}", done.scored[DPO], row, temperature=temperature)
        for row in rows
        for temperature in tau.RULES
    )


def _paired(done: Adaptation, name: str, ours: str, theirs: str, temperature: int) -> list[float]:
    scored = done.scored[name]
    return tau.difference(
        tau.by_seed(scored, ours, temperature=temperature), tau.by_seed(scored, theirs, temperature=temperature)
    )


def _curve(series: str, x: Sequence[float], values: Sequence[Sequence[float]]) -> pd.DataFrame:
    """A line for `figures.curves`; `values`: for each x the values by seed."""
    by_seed = [list(one) for one in zip(*values, strict=True)]
    line = seed_means.curve(series, x, by_seed, kind="retrained")
    return line.assign(interval=f"{len(by_seed)} seeds, t 95 %" if len(by_seed) > 1 else None)
