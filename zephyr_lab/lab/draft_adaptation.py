"""Notebook 31: a draft adapted to fine-tuned targets, in the published arms and with the controls that they lack.

Every seed has its own targets, drafts and data; all start from one base. Math has the whole grid of parts and data,
selection, curves and wall time; code and clinic have the published rows and the controls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.core.stages import Stage
from zephyr_lab.lab import draft_arms as arms
from zephyr_lab.lab import draft_stages as stages
from zephyr_lab.lab import draft_tau as tau
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.draft_arms import EDA, EDA_BASE, EDA_OURS, FULL, MATCHED, PUBLISHED, SELECTED, TRAINING_FREE
from zephyr_lab.lab.draft_stages import CLINIC, CODE, DPO, MATH, ORIGINAL, PAPER, REGENERATED, Draft, DraftSettings
from zephyr_lab.lab.scheduler import get_many, metrics
from zephyr_lab.reporting import published, tables

TABLES = {MATH: "math", CODE: "code"}  # target -> its published tables, "math_t0" and "math_t1"
TAU, SPEEDUP = "avg_tau", "avg_speedup"
TIMED = (TRAINING_FREE, FULL, EDA_OURS)
CONTROL = arms.name(FULL, SELECTED)  # what the paper's tables lack
ALL_ROWS = arms.name(EDA, REGENERATED)


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """How wall time is measured: prompts, drafted tokens of a pass, layers added to the target that change nothing."""

    loop_prompts: int
    loop_length: int
    extra_layers: int


@dataclass(frozen=True)
class Adaptation:
    """All arms, trained and scored. scored: frames of `draft_tau` by target; speed: timings of math's arms; trained:
    stages by target, one list a seed; clock: the column of speed that time is read from."""

    of: arms.ArmSettings
    scored: dict[str, pd.DataFrame]
    speed: pd.DataFrame
    costs: pd.DataFrame
    trained: dict[str, list[list[Stage]]]
    seeds: int
    steps: int
    kept_steps: tuple[int, ...]
    clock: str


def adaptation(profile: str, seeds: int) -> Adaptation:
    """Train and score every arm under seeds 0 to `seeds` - 1."""
    of = arms.load(profile)
    stage_2 = settings.load(PAPER, profile, "stage_2", DraftSettings)
    drafts = {
        name: [drafts_of(profile, seed, name, of, stage_2.keep_at) for seed in range(seeds)]
        for name in stages.targets(profile)
    }
    scores = {
        name: [stages.scores(profile, seed, name, one) for seed, one in enumerate(found)]
        for name, found in drafts.items()
    }
    timed = [_timed(profile, seed, one) for seed, one in enumerate(drafts[MATH])]
    get_many([stage for one in scores.values() for stage in one])  # at once, so that no core waits
    timings, costs = _speed(timed)
    return Adaptation(
        of=of,
        scored={name: tau.read(one) for name, one in scores.items()},
        speed=timings,
        costs=costs,
        trained={
            name: [list({id(draft.stage): draft.stage for draft in one.values()}.values()) for one in found]
            for name, found in drafts.items()
        },
        seeds=seeds,
        steps=stage_2.steps,
        kept_steps=stage_2.keep_at,
        clock="cpu_seconds" if stage_2.device == "cpu" else "seconds",
    )


def drafts_of(profile: str, seed: int, name: str, of: arms.ArmSettings, kept_steps: Sequence[int]) -> dict[str, Draft]:
    """Every draft of a target on one seed, by row."""
    if name == DPO:
        wanted = [arms.training_free(), *(arms.arm(part, REGENERATED, of) for part in (FULL, EDA))]
        return stages.adapted(profile, seed, name, wanted, keep_at=())
    if name != MATH:
        return stages.adapted(profile, seed, name, arms.table_arms(of), keep_at=())
    main = stages.adapted(profile, seed, name, arms.grid(of))
    curve = {
        at_step(row, step): Draft(main[row].stage, f"{row}/steps/{step}") for row in (FULL, EDA_OURS, CONTROL)
        for step in kept_steps
    }  # fmt: skip
    further = [*arms.selection_arms(of), *arms.size_arms(of), arms.from_nothing()]
    return {**main, **curve, **stages.adapted(profile, seed, name, further, keep_at=())}


def at_step(row: str, step: int) -> str:
    """The name of an arm's draft after `step` of its steps."""
    return f"{row} after {step} steps"


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
        lines.append(_curve(row, [mean * step / done.steps for step in steps], _over_steps(done, row)))
    return pd.concat(lines, ignore_index=True)


def cost(done: Adaptation) -> pd.DataFrame:
    """Cost of adapting: trained parameters, three ways to count their share, CPU seconds, and time to equal tau.

    The published sizes are in millions of parameters (their sources print MB), the times in hours on four GPUs.
    """
    counts, seconds = trained_parameters(done), training_seconds(done)
    rows = {"Full-FT": FULL, "EDA": EDA_OURS, "LoRA": arms.LORA}
    lines: list[dict[str, Any]] = []
    for row, arm in rows.items():
        lines.append(_exact(row, "trained parameters, thousands", counts[arm] / 1000, done))
        lines += [
            _exact(row, f"share, {words}, %", 100 * shares_of(done, arm)[key], done) for key, words in SHARES.items()
        ]
        lines += seed_means.number(row, "CPU seconds", seconds[arm], n=done.steps)
    printed = published.wide(PAPER, "cost").set_index("method")
    theirs = tables.frame(
        {"row": row, "metric": metric, "kind": "quoted", "value": float(printed.loc[row, column]), "source": "quoted"}
        for row in printed.index
        for metric, column in (("hours", "hours"), ("trained size, millions", "trained_size"))
    )
    return tables.side_by_side(tables.frame(lines), theirs)


SHARES = {
    "share_of_draft": "of the draft",
    "share_with_embedding": "with the embedding",
    "share_of_full_width": "of a draft with full-width private experts",
}


def time_to_equal(done: Adaptation, row: str = EDA_OURS, than: str = FULL) -> list[float]:
    """Time of `row` to the tau that both reach, over that of `than`, less 1; one value a seed.

    That tau is the lower of the two at the end; between measured steps tau is taken as straight.
    """
    ratios = []
    seconds = training_seconds(done)
    steps = [float(step) for step in (0, *done.kept_steps, done.steps)]
    ours, theirs = _over_steps(done, row), _over_steps(done, than)
    for seed in range(done.seeds):
        curves = [[values[seed] for values in one] for one in (ours, theirs)]
        wanted = min(curve[-1] for curve in curves)
        first, second = (
            crossing(steps, curve, wanted) * seconds[arm][seed] for curve, arm in zip(curves, (row, than), strict=True)
        )
        ratios.append(first / second - 1)
    return ratios


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """The first place where the broken line through (x, y) reaches `level`. Raises ValueError where it never does."""
    for place in range(len(x)):
        if y[place] >= level:
            if place == 0:
                return float(x[0])
            share = (level - y[place - 1]) / (y[place] - y[place - 1])
            return float(x[place - 1] + share * (x[place] - x[place - 1]))
    raise ValueError(f"the line never reaches {level}, its highest point is {max(y)}")


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


def speedups(done: Adaptation, temperature: int) -> list[dict[str, Any]]:
    """Speed-up of the timed arms: tokens a second with the draft over without, both orders of prompts together.

    By the process's time on the CPU, where the models run there: neighbours on a shared machine disturb it least; else
    by wall time.
    """
    timed = done.speed[(done.speed["rule"] == tau.RULES[temperature]) & (done.speed["method"] == "chain")]
    lines = []
    for row in TIMED:
        values = [_speedup(part, done.clock) for _, part in timed[timed["draft"] == row].groupby("seed")]
        lines += seed_means.number(row, SPEEDUP, values, n=int(timed["order"].nunique()))
    return lines


def step_costs(done: Adaptation) -> pd.DataFrame:
    """What a pass of the enlarged target and a step of the draft cost, in milliseconds, and their ratio."""
    chain = done.costs[done.costs["method"] == "chain"]
    lines = []
    for row in TIMED:
        own = chain[chain["draft"] == row]
        columns = {
            "target pass, ms": 1000 * own["target_pass"],
            "draft step, ms": 1000 * own["draft_step"],
            "draft steps a pass": own["target_pass"] / own["draft_step"],
            "layers added": own["extra_layers"],
        }
        for metric, values in columns.items():
            lines += seed_means.number(row, metric, [float(value) for value in values], n=1)
    return tables.frame(lines)


def trained_parameters(done: Adaptation, name: str = MATH) -> dict[str, float]:
    """Trained parameters by arm; the same under every seed."""
    return _metric(done, name, "parameters")[0]


def shares_of(done: Adaptation, row: str) -> dict[str, float]:
    """The trained share of an arm in three ways."""
    return {key: _metric(done, MATH, key)[0][row] for key in SHARES}


def training_seconds(done: Adaptation, name: str = MATH) -> dict[str, list[float]]:
    """CPU seconds of training by arm, one value a seed."""
    found = _metric(done, name, "seconds")
    return {row: [one[row] for one in found] for row in found[0]}


def _metric(done: Adaptation, name: str, metric: str) -> list[dict[str, float]]:
    """What each arm's training reported, a dict a seed."""
    found = []
    for made in done.trained[name]:
        reported = {key: value for stage in made for key, value in metrics(stage).items()}
        ending = f"/{metric}"
        found.append({key.removesuffix(ending): value for key, value in reported.items() if key.endswith(ending)})
    return found


def _paired(done: Adaptation, name: str, ours: str, theirs: str, temperature: int) -> list[float]:
    scored = done.scored[name]
    return tau.difference(
        tau.by_seed(scored, ours, temperature=temperature), tau.by_seed(scored, theirs, temperature=temperature)
    )


def _over_steps(done: Adaptation, row: str) -> list[list[float]]:
    """tau of an arm before its first step, after each kept number of steps, and at the end; values by seed."""
    scored = done.scored[MATH]
    names = [TRAINING_FREE, *(at_step(row, step) for step in done.kept_steps), row]
    return [tau.by_seed(scored, name, temperature=0) for name in names]


def _curve(series: str, x: Sequence[float], values: Sequence[Sequence[float]]) -> pd.DataFrame:
    """A line for `figures.curves`; `values`: for each x the values by seed."""
    by_seed = [list(one) for one in zip(*values, strict=True)]
    line = seed_means.curve(series, x, by_seed, kind="retrained")
    return line.assign(interval=f"{len(by_seed)} seeds, t 95 %" if len(by_seed) > 1 else None)


def _exact(row: str, metric: str, value: float, done: Adaptation) -> dict[str, Any]:
    """A count: no chance is in it, so its interval is itself."""
    counts = {"n": 1, "seeds": done.seeds, "interval": "a count"}
    return {"row": row, "metric": metric, "kind": "retrained", "value": value, "low": value, "high": value, **counts,
            "source": seed_means.SOURCE}  # fmt: skip


def _timed(profile: str, seed: int, drafts: Mapping[str, Draft]) -> Stage:
    table = settings.load(PAPER, profile, "speed", SpeedSettings)
    wanted = {row: drafts[row] for row in TIMED}
    return stages.scores(
        profile, seed, MATH, wanted, timed=True, samples=0, prompts=table.loop_prompts, tree_top=0, tree_depth=0,
        tree_nodes=0, rows_at_once=1, loop_prompts=table.loop_prompts, loop_length=table.loop_length,
        extra_layers=table.extra_layers,
    )  # fmt: skip


def _speed(timed: Sequence[Stage]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Timings and costs of the timed stages, one stage a seed."""
    found = [files.read_json(folder / "speed.json") for folder in get_many(timed)]
    timings, costs = (
        pd.concat([pd.DataFrame({"seed": seed, **one[key]}) for seed, one in enumerate(found)], ignore_index=True)
        for key in ("timings", "costs")
    )
    return timings, costs


def _speedup(timings: pd.DataFrame, clock: str) -> float:
    sums = timings.groupby("arm")[["tokens", clock]].sum()
    rates = sums["tokens"] / sums[clock]
    return float(rates["drafted"] / rates["plain"])
