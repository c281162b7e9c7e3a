"""Real rows: pairs made of released answers that GPT-4 scored, and the figures that must come out.

Two files, four answers a prompt each: MT-Bench's first turns (one score, 1 to 10), and 40 prompts of Vicuna's set with
three scores a completion (1 to 5), of which the mean counts. Neither has aspect ratings, so only the rules on the
overall score apply.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

import pandas as pd

from zephyr_lab.core.row_types import BadRow
from zephyr_lab.core.rows import iter_rows
from zephyr_lab.data import released
from zephyr_lab.data.long_tables import scored_prompts
from zephyr_lab.data.pairs import REJECTED, Binarisation, Pair, binarise
from zephyr_lab.data.pairs_statistics import pair_statistics
from zephyr_lab.data.schemas import ScoredPrompt
from zephyr_lab.lab import numbers
from zephyr_lab.lab.numbers import Known
from zephyr_lab.lab.overview.pair_counts import position_frame
from zephyr_lab.reporting import tables


@dataclass(frozen=True)
class Expected:
    """Figures of a file, counted by separate code and stated with it. `rest`: mean score of the answers not chosen, and
    `equal`: how many of them score as high, both of a uniform draw on average; positions and means to six places."""

    prompts: int
    ties_at_top: int
    all_equal: int
    chosen: float
    rest: float
    equal: float
    worst: float
    first_release: float
    first_release_equal: int
    chosen_positions: list[int]
    first_release_positions: list[int]


EXPECTED = {
    "mt_bench_completions": Expected(
        prompts=240,
        ties_at_top=123,
        all_equal=21,
        chosen=8.395833,
        rest=5.716667,
        equal=0.276389,
        worst=4.214583,
        first_release=5.7,
        first_release_equal=57,
        chosen_positions=[126, 58, 27, 29],
        first_release_positions=[114, 0, 126, 0],
    ),
    "prometheus_completions": Expected(
        prompts=40,
        ties_at_top=24,
        all_equal=4,
        chosen=4.533333,
        rest=3.991667,
        equal=0.325,
        worst=3.641667,
        first_release=3.791667,
        first_release_equal=6,
        chosen_positions=[13, 10, 12, 5],
        first_release_positions=[27, 0, 13, 0],
    ),
}


def absent() -> dict[str, str]:
    """How to get each released file that is not at hand."""
    return {name: released.how_to_get(name) for name in EXPECTED if released.path(name) is None}


def statistics() -> pd.DataFrame:
    """One row a file and rule: mean scores of both sides, and the share of pairs of equal score."""
    rows = []
    for name, prompts in _at_hand().items():
        for rejected in REJECTED:
            row, pairs = f"{name}, {rejected}", _pairs(prompts, rejected)
            equal = sum(pair.score_chosen == pair.score_rejected for pair in pairs)
            chosen, other = [pair.score_chosen for pair in pairs], [pair.score_rejected for pair in pairs]
            rows += [
                numbers.share(row, "pairs", len(pairs), len(prompts), of="prompts", source=name),
                numbers.mean(row, "score_chosen", chosen, of="pairs", source=name),
                numbers.mean(row, "score_rejected", other, of="pairs", source=name),
                numbers.share(row, "equal", equal, len(pairs), of="pairs", source=name),
            ]
    return tables.frame(rows)


def positions(name: str = "mt_bench_completions") -> pd.DataFrame:
    """Shares of list positions as `pair_counts.positions` gives them; empty where the file is not at hand."""
    prompts = _at_hand().get(name)
    if prompts is None:
        return position_frame({})
    taken = {"chosen": [pair.chosen for pair in _pairs(prompts, "random")]}
    taken |= {rejected: [pair.rejected for pair in _pairs(prompts, rejected)] for rejected in REJECTED}
    return position_frame(taken, source=name)


def known_figures() -> Iterator[Known]:
    """Every expected figure of the files at hand."""
    for name, prompts in _at_hand().items():
        expected = EXPECTED[name]
        first, worst = (
            pair_statistics(binarise(prompts, Binarisation(chosen="overall_score", rejected=rejected), seed=0))
            for rejected in ("first_release", "worst")
        )
        rest, equal = zip(*(_uniform(pair) for pair in _pairs(prompts, "random")), strict=True)
        for what, got, wanted, tolerance in (
            ("prompts", first.prompts, expected.prompts, 0),
            ("prompts with a tie at the top", first.ties_at_top, expected.ties_at_top, 0),
            ("prompts with all scores equal", first.all_equal, expected.all_equal, 0),
            ("mean score of the chosen", first.mean_chosen, expected.chosen, 5e-7),
            ("mean score of the rest", fmean(rest), expected.rest, 5e-7),
            ("share of the rest that scores as high", fmean(equal), expected.equal, 5e-7),
            ("mean score of the worst", worst.mean_rejected, expected.worst, 5e-7),
            ("mean score rejected by the first release", first.mean_rejected, expected.first_release, 5e-7),
            ("equal pairs of the first release", first.equal_pairs, expected.first_release_equal, 0),
            ("positions of the chosen", first.chosen_positions, expected.chosen_positions, 0),
            ("positions rejected by the first release", first.rejected_positions, expected.first_release_positions, 0),
        ):
            yield Known(f"{name}: {what}", got, wanted, tolerance)


def _at_hand() -> dict[str, list[ScoredPrompt]]:
    paths = {name: released.path(name) for name in EXPECTED}
    return {name: _read(path) for name, path in paths.items() if path is not None}


@cache
def _read(path: Path) -> list[ScoredPrompt]:
    return [one for one in scored_prompts(iter_rows(path)) if not isinstance(one, BadRow)]


def _pairs(prompts: Sequence[ScoredPrompt], rejected: str) -> list[Pair]:
    outcomes = binarise(prompts, Binarisation(chosen="overall_score", rejected=rejected), seed=0)
    return [outcome for outcome in outcomes if isinstance(outcome, Pair)]


def _uniform(pair: Pair) -> tuple[float, float]:
    """Mean score of the answers that were not chosen, and which share of them scores as high."""
    rest = [score for place, score in enumerate(pair.scores) if place != pair.chosen]
    return fmean(rest), fmean(score == pair.score_chosen for score in rest)
