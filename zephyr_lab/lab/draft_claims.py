"""What notebook 31's arms decide: effects for the claims E2 to E8, and what is nearest to the overview's statements.

Metrics are those of claims.toml, word for word. Effects are means over the three specialists of each seed, where all
three have the arms; selection and time are measured on math.
"""

from typing import Any

import pandas as pd

from zephyr_lab.lab import draft_arms as arms
from zephyr_lab.lab import draft_tau as tau
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.draft_adaptation import ALL_ROWS
from zephyr_lab.lab.draft_arms import EDA_BASE, EDA_OURS, FULL, MATCHED
from zephyr_lab.lab.draft_costs import speedups, time_to_equal
from zephyr_lab.lab.draft_runs import CONTROL, TIMED, Adaptation, trained_parameters
from zephyr_lab.lab.draft_stages import MATH, ORIGINAL, SPECIALTIES
from zephyr_lab.methods.recipes.draft_data import RANDOM, SHIFT_TOP
from zephyr_lab.reporting import check, tables
from zephyr_lab.reporting.check_shown import Finding
from zephyr_lab.scoring.intervals import t_interval

MATCHED_LORA = arms.name(MATCHED, ORIGINAL)
NOT_PRINTED = "nothing of the kind is printed; measured here"


def measured(done: Adaptation) -> pd.DataFrame:
    """What `check.claims` takes: a row for each part of each claim."""
    greedy = "acceptance length, greedy: "
    hot = "acceptance length at temperature 1: "
    regenerated = "private part on regenerated data - full retraining on data-set answers"
    counts = trained_parameters(done)
    saved = counts[EDA_OURS] / counts[FULL] - 1
    size = {"row": "E7", "metric": "trained parameters: adaptation / retraining - 1", "value": saved, "low": saved,
            "high": saved, "n": 1, "seeds": done.seeds}  # fmt: skip
    half, any_half = (arms.selection_name(rule, done.of.share, done.of) for rule in (SHIFT_TOP, RANDOM))
    time = time_to_equal(done)
    rows = [
        # the published 5.19 and 5.18 are EDA (Ours), which learns from a selection of the regenerated rows
        _effect(done, "E2", f"{greedy}{regenerated}", EDA_OURS, FULL),
        _effect(done, "E3", f"{greedy}private part - full retraining, same data", EDA_BASE, FULL),
        _effect(done, "E4", f"{greedy}private part - LoRA at matched trainable parameters", EDA_BASE, MATCHED_LORA),
        _effect(done, "E5", f"{greedy}regenerated - data-set answers, private part", ALL_ROWS, EDA_BASE),
        _on_math(done, "E6", f"{greedy}half selected by shift - all samples", half, ALL_ROWS),
        _on_math(done, "E6", f"{greedy}half selected by shift - random half", half, any_half),
        seed_means.effect("E7", "time to the same acceptance length: adaptation / retraining - 1", time, n=done.seeds),
        size,
        _effect(done, "E8", f"{hot}{regenerated}", EDA_OURS, FULL, temperature=1),
    ]
    return pd.DataFrame(rows)


def control(done: Adaptation) -> pd.DataFrame:
    """E2 and E8 with full retraining on the same selected rows in the place of the data-set answers: what is left of
    the gain is the architecture's. A finding, no claim of the paper's."""
    rows = {"greedy": 0, "temperature 1": 1}
    return tables.frame(
        line
        for words, temperature in rows.items()
        for line in seed_means.number(
            "EDA (Ours) - Full-FT on the same data",
            words,
            tau.mean_over(_difference(done, name, EDA_OURS, CONTROL, temperature) for name in SPECIALTIES),
            n=_prompts(done),
        )
    )


def nearest_to_statements(done: Adaptation) -> list[Finding]:
    """What we measure nearest to the overview's statements on this paper; none for one seed, which has no interval."""
    gain = tau.mean_over(_difference(done, name, EDA_OURS, arms.TRAINING_FREE, 0) for name in SPECIALTIES)
    lora = tau.mean_over(_difference(done, name, arms.LORA, EDA_BASE, 0) for name in SPECIALTIES)
    time = [100 * value for value in time_to_equal(done)]
    wanted = {
        "S3-2, acceptance length gained by adapting, tokens a pass": gain,
        "S3-3, LoRA - private part on data-set answers, tokens a pass": lora,
        "S3-5, time to equal acceptance length: EDA - full retraining, %": time,
    }
    findings = [_finding(words, values) for words, values in wanted.items()]
    faster = [line for line in speedups(done, 0) if line["row"] == TIMED[-1]]
    findings += [
        check.finding(
            "S3-2, speed-up of EDA (Ours) over plain decoding, greedy", line["value"], None, source=NOT_PRINTED,
            interval=(line["low"], line["high"]),
        )
        for line in faster
    ]  # fmt: skip
    return [finding for finding in findings if finding is not None]


def _finding(words: str, values: list[float]) -> Finding | None:
    interval = t_interval(values)
    if interval is None:
        return None
    return check.finding(words, sum(values) / len(values), None, source=NOT_PRINTED, interval=interval)


def _effect(
    done: Adaptation, claim: str, metric: str, ours: str, theirs: str, *, temperature: int = 0
) -> dict[str, Any]:
    """The mean over the specialists of ours - theirs, by seed."""
    values = tau.mean_over(_difference(done, name, ours, theirs, temperature) for name in SPECIALTIES)
    return seed_means.effect(claim, metric, values, n=_prompts(done))


def _on_math(done: Adaptation, claim: str, metric: str, ours: str, theirs: str) -> dict[str, Any]:
    values = _difference(done, MATH, ours, theirs, 0)
    return seed_means.effect(claim, metric, values, n=tau.prompts(done.scored[MATH]))


def _difference(done: Adaptation, name: str, ours: str, theirs: str, temperature: int) -> list[float]:
    scored = done.scored[name]
    return tau.difference(
        tau.by_seed(scored, ours, temperature=temperature), tau.by_seed(scored, theirs, temperature=temperature)
    )


def _prompts(done: Adaptation) -> int:
    return sum(tau.prompts(done.scored[name]) for name in SPECIALTIES)
