"""Real rows: pairs made of released answers that GPT-4 scored, and the figures that must come out.

Two files, four answers a prompt each: MT-Bench's first turns (one score, 1 to 10), and 40 prompts of Vicuna's set with
three scores a completion (1 to 5), of which the mean counts. Neither has aspect ratings, so only the rules on the
overall score apply.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

import pandas as pd

from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import BadRow
from zephyr_lab.data import released
from zephyr_lab.data.pairs import REJECTED, Binarisation, Pair, binarise
from zephyr_lab.data.pairs_statistics import pair_statistics
from zephyr_lab.data.schemas import ScoredPrompt, scored_prompts
from zephyr_lab.lab import numbers
from zephyr_lab.lab.numbers import Known
from zephyr_lab.lab.overview.pair_counts import position_frame
from zephyr_lab.reporting import tables

# Figures of each file, counted by separate code and stated with it; means to six places. The rest: answers not chosen,
# of which a uniform draw takes one.
EXPECTED = {
    "mt_bench_completions": {
        "prompts": 240,
        "prompts with a tie at the top": 123,
        "prompts with all scores equal": 21,
        "mean score of the chosen": 8.395833,
        "mean score of the rest": 5.716667,
        "share of the rest that scores as high": 0.276389,
        "mean score of the worst": 4.214583,
        "mean score rejected by the first release": 5.7,
        "equal pairs of the first release": 57,
        "positions of the chosen": [126, 58, 27, 29],
        "positions rejected by the first release": [114, 0, 126, 0],
    },
    "prometheus_completions": {
        "prompts": 40,
        "prompts with a tie at the top": 24,
        "prompts with all scores equal": 4,
        "mean score of the chosen": 4.533333,
        "mean score of the rest": 3.991667,
        "share of the rest that scores as high": 0.325,
        "mean score of the worst": 3.641667,
        "mean score rejected by the first release": 3.791667,
        "equal pairs of the first release": 6,
        "positions of the chosen": [13, 10, 12, 5],
        "positions rejected by the first release": [27, 0, 13, 0],
    },
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
        first, worst = (
            pair_statistics(binarise(prompts, Binarisation(chosen="overall_score", rejected=rejected), seed=0))
            for rejected in ("first_release", "worst")
        )
        rest, equal = zip(*(_uniform(pair) for pair in _pairs(prompts, "random")), strict=True)
        figures = {
            "prompts": first.prompts,
            "prompts with a tie at the top": first.ties_at_top,
            "prompts with all scores equal": first.all_equal,
            "mean score of the chosen": first.mean_chosen,
            "mean score of the rest": fmean(rest),
            "share of the rest that scores as high": fmean(equal),
            "mean score of the worst": worst.mean_rejected,
            "mean score rejected by the first release": first.mean_rejected,
            "equal pairs of the first release": first.equal_pairs,
            "positions of the chosen": first.chosen_positions,
            "positions rejected by the first release": first.rejected_positions,
        }
        for what, wanted in EXPECTED[name].items():
            yield Known(f"{name}: {what}", figures[what], wanted, 5e-7 if isinstance(wanted, float) else 0)


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
