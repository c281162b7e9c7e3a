"""Notebook 30: acceptance length, its two definitions, what it says before any adaptation, and that no answer changes.

One draft, made for the chat target, is held against the chat target itself, against specialists fine-tuned from it, and
against the dDPO model. tau is exact in expectation and counted by the decoding loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import draft_stages as stages
from zephyr_lab.lab import draft_tau as tau
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.draft_stages import DPO, MATH, PAPER, SPECIALTIES, STAGE_1
from zephyr_lab.methods.recipes.draft_data import CHAT
from zephyr_lab.methods.recipes.draft_lossless import DraftLossless
from zephyr_lab.methods.recipes.draft_scores import PROMPTS, TARGET
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.acceptance_length import constant_rate_length
from zephyr_lab.scoring.intervals import EXACT, clopper_pearson

OWN = "chat target, chat prompts"  # what the draft was made for
TAU, AUTHORS = "tau", "tau, authors' script"
COMPARED = (CHAT, MATH)  # targets that answer with and without the draft
TEMPERATURES = {0: "T = 0", 1: "T = 1"}
E1 = "acceptance length on domain prompts: tuned target - base target, draft unchanged"
E9 = "share of greedy answers that differ with and without the draft"
E9_SAMPLED = "total variation of sampled tokens with and without the draft, less that of two runs without"


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Where the draft is looked at closely. lengths: drafted tokens of a pass, the main one first. loop_prompts: how
    many prompts the decoding loop answers; tree_...: the widths of a dynamic tree beside the chain."""

    lengths: tuple[int, ...]
    loop_prompts: int
    tree_top: int
    tree_depth: int
    tree_nodes: int


@dataclass(frozen=True)
class Definitions:
    """scored: frames of `draft_tau` by row; loops: what the decoding loop counted, by row; lossless: stages by target,
    one a seed; loop_prompts: how many prompts the loop answered; length: drafted tokens of a pass."""

    scored: dict[str, pd.DataFrame]
    loops: dict[str, pd.DataFrame]
    lossless: dict[str, list[Stage]]
    loop_prompts: int
    length: int
    seeds: int


def same_prompts(name: str) -> str:
    """Row of the chat target on the prompts of a specialty."""
    return f"chat target, {name} prompts"


def tuned(name: str) -> str:
    """Row of a target on its own prompts."""
    return f"{name} target, {'chat' if name == DPO else name} prompts"


def definitions(profile: str, seeds: int) -> Definitions:
    """Train the draft and score it under seeds 0 to `seeds` - 1."""
    loop = settings.load(PAPER, profile, "loop", LoopSettings)
    looped = {OWN: (CHAT, CHAT), tuned(MATH): (MATH, MATH)}
    plain = {
        **{same_prompts(name): (CHAT, name) for name in SPECIALTIES},
        **{tuned(name): (name, name) for name in stages.targets(profile) if name != MATH},
    }
    made = {row: [_scores(profile, seed, *which, loop) for seed in range(seeds)] for row, which in looped.items()}
    made |= {row: [_scores(profile, seed, *which) for seed in range(seeds)] for row, which in plain.items()}
    lossless = {name: [_lossless(profile, seed, name) for seed in range(seeds)] for name in COMPARED}
    get_many([stage for one in (*made.values(), *lossless.values()) for stage in one])  # at once: no core waits
    return Definitions(
        scored={row: tau.read(one) for row, one in made.items()},
        loops={row: tau.read(made[row], "loop") for row in looped},
        lossless=lossless,
        loop_prompts=loop.loop_prompts,
        length=made[same_prompts(MATH)][0].recipe.lengths[0],
        seeds=seeds,
    )


def two_definitions(done: Definitions) -> pd.DataFrame:
    """tau and the authors' variant of the same answers, which divides by passes - 1: metrics by temperature."""
    lines: list[dict[str, Any]] = []
    for row in (OWN, *map(tuned, SPECIALTIES)):
        for temperature, words in TEMPERATURES.items():
            chosen = tau.rows(done.scored[row], STAGE_1, temperature=temperature)
            lines.append(tau.number(row, f"{TAU}, {words}", done.scored[row], STAGE_1, temperature=temperature))
            values = [authors_tau(part) for _, part in chosen.groupby("seed")]
            lines += seed_means.number(row, f"{AUTHORS}, {words}", values, n=chosen["prompt"].nunique())
    return tables.frame(lines)


def authors_tau(scored: pd.DataFrame) -> float:
    """The authors' tau of one seed's rows: the expected mean of tokens / (passes - 1) over answers of two passes and
    more."""
    return float(scored["authors_sum"].sum() / scored["authors_kept"].sum())


def exact_and_counted(done: Definitions) -> pd.DataFrame:
    """tau as the exact expectation has it and as the decoding loop counted it, on the same prompts.

    Greedy, both must be equal (see `loop_differences`); sampled, the loop draws answers of its own. The tree is counted
    alone.
    """
    lines: list[dict[str, Any]] = []
    for row, loops in done.loops.items():
        asked = done.scored[row][done.scored[row]["prompt"] < done.loop_prompts]
        for temperature, words in TEMPERATURES.items():
            lines.append(tau.number(row, f"exact, {words}", asked, STAGE_1, temperature=temperature))
            for method in ("chain", "tree"):
                rule = tau.RULES[temperature] if method == "chain" or temperature == 0 else "candidates"
                counted = loops[(loops["rule"] == rule) & (loops["method"] == method)]
                values = [float(part["tokens"].sum() / part["passes"].sum()) for _, part in counted.groupby("seed")]
                lines += seed_means.number(row, f"{method}, {words}", values, n=done.loop_prompts)
    return tables.frame(lines)


def loop_differences(done: Definitions) -> int:
    """Greedy answers for which the loop's count of passes is not the exact expectation: must be none."""
    different = 0
    for row, loops in done.loops.items():
        exact = tau.rows(done.scored[row], STAGE_1, temperature=0).set_index(["seed", "prompt"])["passes"]
        counted = loops[(loops["rule"] == "greedy") & (loops["method"] == "chain")].set_index(["seed", "prompt"])
        different += int(((exact.loc[counted.index] - counted["passes"]).abs() > 1e-6).sum())
    return different


def targets(done: Definitions) -> pd.DataFrame:
    """tau of the unchanged draft on each target (rows) at both temperatures (metrics)."""
    rows = [OWN, *(row for name in SPECIALTIES for row in (same_prompts(name), tuned(name)))]
    rows += [tuned(DPO)] if tuned(DPO) in done.scored else []
    return tables.frame(
        tau.number(row, f"{TAU}, {words}", done.scored[row], STAGE_1, temperature=temperature)
        for row in rows
        for temperature, words in TEMPERATURES.items()
    )


def by_length(done: Definitions) -> pd.DataFrame:
    """tau over the draft's length on the chat target, and what one rate of acceptance would give, that of the first
    drafted token (more exactly, the rate of the shortest draft)."""
    scored = done.scored[OWN]
    lengths = sorted(set(scored["length"]))
    lines = []
    for temperature, words in TEMPERATURES.items():
        values = [tau.by_seed(scored, STAGE_1, temperature=temperature, length=length) for length in lengths]
        rates = [rate_of(value, length=lengths[0]) for value in values[0]]
        constant = [[constant_rate_length(rate, length=length) for rate in rates] for length in lengths]
        for series, numbers in ((f"exact, {words}", values), (f"one rate, {words}", constant)):
            by_seed = [list(one) for one in zip(*numbers, strict=True)]
            line = seed_means.curve(series, lengths, by_seed, kind="retrained")
            lines.append(line.assign(interval=f"{done.seeds} seeds, t 95 %" if done.seeds > 1 else None))
    return pd.concat(lines, ignore_index=True)


def rate_of(value: float, *, length: int) -> float:
    """The constant acceptance rate whose chain of `length` drafted tokens has acceptance length `value` (bisection)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if constant_rate_length(middle, length=length) < value:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def lossless(done: Definitions) -> pd.DataFrame:
    """Greedy answers that differ in %, and total variation of sampled tokens with the draft and without it twice."""
    lines: list[dict[str, Any]] = []
    for name, made in done.lossless.items():
        row = f"{name} target"
        answers = int(sum(metrics(stage)["prompts"] for stage in made))
        differing = int(sum(metrics(stage)["differing"] for stage in made))
        low, high = clopper_pearson(differing, answers)
        lines.append({
            "row": row, "metric": "greedy answers that differ, %", "kind": "retrained",
            "value": 100 * differing / answers, "low": 100 * low, "high": 100 * high, "n": answers,
            "seeds": len(made), "interval": f"answers, {EXACT}", "source": seed_means.SOURCE,
        })  # fmt: skip
        sampled = _sampled(made)
        for metric, column in (("with and without", "variation"), ("without, twice", "variation_plain")):
            values = [float(part[column].mean()) for _, part in sampled.groupby("seed")]
            lines += seed_means.number(row, f"total variation, {metric}", values, n=len(sampled))
        rejected = [float((part["p"] < 0.05).mean()) for _, part in sampled.groupby("seed")]
        lines += seed_means.number(row, "share of chi-square tests below 0.05", rejected, n=len(sampled))
    return tables.frame(lines)


def measured(done: Definitions) -> pd.DataFrame:
    """E1 and E9 for `check.claims`, metrics word for word as in claims.toml.

    E1 is the mean over the three specialists of each seed.
    """
    losses = tau.mean_over(
        tau.difference(_greedy(done, tuned(name)), _greedy(done, same_prompts(name))) for name in SPECIALTIES
    )
    prompts = sum(tau.prompts(done.scored[tuned(name)]) for name in SPECIALTIES)
    made = [stage for one in done.lossless.values() for stage in one]
    answers = int(sum(metrics(stage)["prompts"] for stage in made))
    differing = int(sum(metrics(stage)["differing"] for stage in made))
    low, high = clopper_pearson(differing, answers)
    identity = {"row": "E9", "metric": E9, "value": differing / answers, "low": low, "high": high, "n": answers,
                "seeds": done.seeds}  # fmt: skip
    variation = tau.mean_over(
        [float((part["variation"] - part["variation_plain"]).mean()) for _, part in _sampled(one).groupby("seed")]
        for one in done.lossless.values()
    )
    sampled = seed_means.effect(
        "E9", E9_SAMPLED, variation, n=sum(len(_sampled(one)) for one in done.lossless.values())
    )
    return pd.DataFrame([seed_means.effect("E1", E1, losses, n=prompts), identity, sampled])


def _greedy(done: Definitions, row: str) -> list[float]:
    return tau.by_seed(done.scored[row], STAGE_1, temperature=0)


def _sampled(made: Sequence[Stage]) -> pd.DataFrame:
    found = [files.read_json(folder / "sampled.json") for folder in get_many(made)]
    return pd.concat([pd.DataFrame({"seed": seed, **one}) for seed, one in enumerate(found)], ignore_index=True)


def _scores(profile: str, seed: int, name: str, prompts: str, loop: LoopSettings | None = None) -> Stage:
    changes = {} if loop is None else vars(loop)
    draft = {STAGE_1: stages.stage_1(profile, seed)}
    return stages.scores(profile, seed, name, draft, prompts_of=prompts, **changes)


def _lossless(profile: str, seed: int, name: str) -> Stage:
    model, draft = stages.target(profile, seed, name), stages.stage_1(profile, seed)
    folders = {"target_folder": model.folder, "draft_folder": draft.folder}
    recipe = settings.load(PAPER, profile, "lossless", DraftLossless, **folders)
    inputs = {TARGET: model.stage, "draft": draft.stage, PROMPTS: stages.pool(profile, seed, name)}
    return Stage("lossless", "zephyr_lab.methods.stages.draft_lossless:build", recipe, seed=seed, inputs=inputs)
