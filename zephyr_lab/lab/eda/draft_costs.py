"""What adapting a draft costs and what it saves: trained parameters, seconds, time to equal tau, speed of decoding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.lab import seed_means
from zephyr_lab.lab.eda.acceptance_lengths import RULES, AcceptanceLengths
from zephyr_lab.lab.eda.drafts import Draft
from zephyr_lab.reporting import tables

SHARES = {
    "share_of_draft": "of the draft",
    "share_with_embedding": "with the embedding",
    "share_of_full_width": "of a draft with full-width private experts",
}
CHAIN = "chain"


@dataclass(frozen=True)
class Speed:
    """Decoding with drafts and without, timed on an enlarged target. timings, costs: columns as
    `methods.stages.draft_scores` writes them, with seed and model (the arm's name); clock: the column of timings that
    time is read from: the process's own on a CPU, where neighbours on a shared machine disturb it least, else the
    wall's.
    """

    timings: pd.DataFrame
    costs: pd.DataFrame
    clock: str

    def speed_ups(self, metric: str, temperature: int) -> pd.DataFrame:
        """Tidy frame: tokens a second with each draft over without, both orders of prompts together."""
        timed = self.timings[(self.timings["rule"] == RULES[temperature]) & (self.timings["method"] == CHAIN)]
        lines: list[dict[str, Any]] = []
        for arm, own in timed.groupby("model", sort=False):
            values = [self._speed_up(part) for _, part in own.groupby("seed")]
            lines += seed_means.number(str(arm), metric, values, n=int(timed["order"].nunique()))
        return tables.frame(lines)

    def step_costs(self) -> pd.DataFrame:
        """Tidy frame: what a pass of the enlarged target and a step of the draft cost in milliseconds, their ratio, and
        how many layers the target was given."""
        lines: list[dict[str, Any]] = []
        for arm, own in self.costs[self.costs["method"] == CHAIN].groupby("model", sort=False):
            columns = {
                "target pass, ms": 1000 * own["target_pass"],
                "draft step, ms": 1000 * own["draft_step"],
                "draft steps a pass": own["target_pass"] / own["draft_step"],
                "layers added": own["extra_layers"],
            }
            for metric, values in columns.items():
                lines += seed_means.number(str(arm), metric, [float(value) for value in values], n=1)
        return tables.frame(lines)

    def _speed_up(self, timings: pd.DataFrame) -> float:
        sums = timings.groupby("arm")[["tokens", self.clock]].sum()
        rates = sums["tokens"] / sums[self.clock]
        return float(rates["drafted"] / rates["plain"])


def training(drafts: Mapping[str, Draft]) -> pd.DataFrame:
    """Tidy frame of what training each draft took, `drafts` by row: trained parameters, three ways to count their
    share, and CPU seconds of the steps alone."""
    lines: list[dict[str, Any]] = []
    for row, draft in drafts.items():
        counted = draft.numbers()
        lines.append(_count(row, "trained parameters, thousands", counted["parameters"][0] / 1000, draft.seeds))
        lines += [
            _count(row, f"share, {words}, %", 100 * counted[key][0], draft.seeds) for key, words in SHARES.items()
        ]
        lines += seed_means.number(row, "CPU seconds", list(counted["seconds"]), n=draft.steps)
    return tables.frame(lines)


@dataclass(frozen=True)
class Progress:
    """tau of a draft on its way. steps: 0, the kept ones, all; arms: names of those drafts; values: tau at each of
    them, one list a seed; seconds: CPU seconds of all steps, one a seed."""

    steps: list[float]
    arms: list[str]
    values: list[list[float]]
    seconds: list[float]

    @classmethod
    def of(cls, answers: AcceptanceLengths, draft: Draft, *, start: str) -> "Progress":
        """That of `draft` (greedy, mean over the prompts asked); `start`: the arm that it was before its first step."""
        steps = [0, *draft.kept_steps, draft.steps]
        arms = [start, *(draft.after_steps(step).label for step in draft.kept_steps), draft.label]
        by_step = [answers.values(arm).mean(axis=1) for arm in arms]
        values = [[float(value) for value in one] for one in zip(*by_step, strict=True)]
        return cls([float(step) for step in steps], arms, values, [float(one) for one in draft.numbers()["seconds"]])

    def over_seconds(self) -> dict[float, str]:
        """Mean CPU seconds at each of the steps, and the arm there."""
        mean = float(np.mean(self.seconds))
        return {mean * step / self.steps[-1]: arm for step, arm in zip(self.steps, self.arms, strict=True)}


def time_to_equal(ours: Progress, theirs: Progress) -> list[float]:
    """Time of `ours` to the tau that both reach, over that of `theirs`, less 1; one value a seed.

    That tau is the lower of the two at the end; between measured steps tau is taken as straight.
    """
    ratios = []
    for first, second, *seconds in zip(ours.values, theirs.values, ours.seconds, theirs.seconds, strict=True):
        wanted = min(first[-1], second[-1])
        times = (
            crossing(one.steps, values, wanted) * spent
            for one, values, spent in zip((ours, theirs), (first, second), seconds, strict=True)
        )
        ratios.append(next(times) / next(times) - 1)
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


def _count(row: str, metric: str, value: float, seeds: int) -> dict[str, Any]:
    """A count as a line of the tidy frame: no chance is in it, so its interval is itself."""
    counted = seed_means.count(row, metric, value, n=1, seeds=seeds)
    return {**counted, "kind": "retrained", "interval": "a count", "source": seed_means.SOURCE}
