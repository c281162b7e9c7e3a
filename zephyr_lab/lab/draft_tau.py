"""Acceptance lengths of drafts as tidy numbers: tau by seed, its interval, differences paired by seed.

tau of a seed is the sum of committed tokens over the sum of target passes on the held-out prompts, passes taken as
their exact expectation given the target's answers (`scoring.acceptance_length`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.seed_means import SOURCE
from zephyr_lab.methods.recipes.draft_scores import DRAWN, GREEDY
from zephyr_lab.scoring.acceptance_length import acceptance_estimate, acceptance_length

RULES = {0: GREEDY, 1: DRAWN}  # by temperature


def read(scored: Sequence[Stage], file: str = "scores") -> pd.DataFrame:
    """What the scoring stages wrote, one stage a seed: columns seed, draft, rule, prompt, tokens, passes, ...

    Missing stages are built now. `file`: "scores", the exact expectations, or "loop", what the decoding loop counted.
    """
    found = [
        pd.DataFrame({"seed": seed, **files.read_json(folder / f"{file}.json")})
        for seed, folder in enumerate(get_many(scored))
    ]
    return pd.concat(found, ignore_index=True)


def rows(scored: pd.DataFrame, draft: str, *, temperature: int, length: int | None = None) -> pd.DataFrame:
    """Rows of one draft; `length` None: the first that was measured. Raises ValueError for an unknown draft."""
    known = list(dict.fromkeys(scored["draft"]))
    if draft not in known:
        raise ValueError(f"no scores of a draft named {draft!r}; there are {', '.join(known)}")
    wanted = scored["length"].iloc[0] if length is None else length
    return scored[(scored["draft"] == draft) & (scored["rule"] == RULES[temperature]) & (scored["length"] == wanted)]


def by_seed(scored: pd.DataFrame, draft: str, *, temperature: int, length: int | None = None) -> list[float]:
    """tau of each seed."""
    chosen = rows(scored, draft, temperature=temperature, length=length)
    return [acceptance_length(part["tokens"], part["passes"]) for _, part in chosen.groupby("seed")]


def number(
    row: str, metric: str, scored: pd.DataFrame, draft: str, *, temperature: int, length: int | None = None
) -> dict[str, Any]:
    """tau as a row of the tidy frame: t over seeds; for one seed a bootstrap over prompts, and it says so.

    Where all prompts are equal there is no interval, which it says too.
    """
    chosen = rows(scored, draft, temperature=temperature, length=length)
    values, prompts = by_seed(scored, draft, temperature=temperature, length=length), chosen["prompt"].nunique()
    if len(values) > 1:
        return seed_means.number(row, metric, values, n=prompts)[0]
    sums = chosen.groupby("prompt")[["tokens", "passes"]].sum()
    estimate = acceptance_estimate(sums["tokens"], sums["passes"], seed=0)
    low, high = estimate.interval or (values[0], values[0])
    counts = {"n": prompts, "seeds": 1, "interval": f"1 seed: {prompts} prompts, {estimate.method}"}
    ends = {"low": min(low, values[0]), "high": max(high, values[0])}
    return {"row": row, "metric": metric, "kind": "retrained", "value": values[0], **ends, **counts, "source": SOURCE}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """ours - theirs, seed by seed."""
    return [float(value) for value in np.subtract(ours, theirs)]


def mean_over(groups: Iterable[Sequence[float]]) -> list[float]:
    """The mean over several groups (targets) of each seed's value."""
    return [float(value) for value in np.mean(list(groups), axis=0)]


def prompts(scored: pd.DataFrame) -> int:
    """How many prompts a seed's tau is taken over."""
    return int(scored["prompt"].nunique())
