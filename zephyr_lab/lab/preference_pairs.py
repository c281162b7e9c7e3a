"""Notebook 03: what each way of making pairs does to a set, on the embedded world, where the better answer is known.

Scored prompts are drawn under seeds 0 to N-1 and pooled; one generator a seed draws the rejected answers. Rules are
named "chosen, rejected" as in `data.pairs`. Intervals are over prompts or pairs; shares are in percent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.core.row_types import Row
from zephyr_lab.data.pairs import PUBLISHED, REJECTED, SCORES, Binarisation, Pair, binarise
from zephyr_lab.data.pairs_splits import split_pairs
from zephyr_lab.data.schemas import ASPECTS, ScoredPrompt, scored_prompt
from zephyr_lab.lab import numbers
from zephyr_lab.lab.numbers import Known
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.reporting import published, tables
from zephyr_lab.world.completions import completions

PLACES = range(4)
# The world's annotator mistypes no score, so none is repaired.
RULES = tuple(
    Binarisation(chosen=chosen, rejected=rejected, raw_scores=True) for chosen in SCORES for rejected in REJECTED
)


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """`prompts` a seed, each with four answers."""

    world: str
    prompts: int

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.prompts < 2:
            raise ValueError(f"prompts must be at least 2, got {self.prompts}")


@dataclass(frozen=True)
class Scored:
    """Scored prompts drawn together, and the exact score of each completion, in the same order."""

    prompts: list[ScoredPrompt]
    exact: list[tuple[float, ...]]


@dataclass(frozen=True)
class Judged:
    """A pair with the exact scores of both answers."""

    pair: Pair
    chosen: float
    rejected: float

    @property
    def longer(self) -> int:
        """Words of the chosen answer, less those of the rejected one."""
        texts = [self.pair.prompt.completions[place].response for place in (self.pair.chosen, self.pair.rejected)]
        return len(texts[0].split()) - len(texts[1].split())


def name_of(how: Binarisation) -> str:
    return f"{how.chosen}, {how.rejected}"


def drawn(profile: str, seeds: int) -> list[Scored]:
    chosen = settings.load("overview", profile, "preference_pairs", PreferencePairs)
    sets = [completions(seed, chosen.prompts, size=require_world(chosen.world)) for seed in range(seeds)]
    return [
        Scored(
            [scored_prompt(Row(number, row)) for number, row in enumerate(made.rows, start=1)],
            [label.exact for label in made.labels],
        )
        for made in sets
    ]


def one_prompt(sets: Sequence[Scored]) -> pd.DataFrame:
    """The four answers of the first prompt on which the rules differ most: their scores, and which rule takes which.

    "+" marks the chosen and "-" the rejected answer; rules that draw do so from seed 0.
    """
    prompts = sets[0].prompts[:200]
    outcomes = {name_of(how): list(binarise(prompts, how, seed=0)) for how in RULES}
    picks = [
        [(one.chosen, one.rejected) for one in column if isinstance(one, Pair)]
        for column in zip(*outcomes.values(), strict=True)
    ]
    best = max(range(len(prompts)), key=lambda place: len(set(picks[place])))
    columns = {
        f"answer {place}": [
            completion.response,
            f"{sets[0].exact[best][place]:g}",
            f"{completion.overall_score:g}",
            f"{completion.mean_rating:.2f}",
            *(_mark(column[best], place) for column in outcomes.values()),
        ]
        for place, completion in enumerate(prompts[best].completions)
    }
    what = ["text", "exact score", "overall score", "mean rating", *outcomes]
    return pd.DataFrame({prompts[best].prompt: what, **columns})


def statistics(sets: Sequence[Scored]) -> pd.DataFrame:
    """One row a rule. Of its pairs: mean exact scores of both sides, the share that ties by the score it was chosen by,
    the share whose chosen answer is truly better (of those that differ), and by how many words it is longer."""
    rows = []
    for how in RULES:
        name, pairs = name_of(how), _pairs(sets, how)
        differing = [one for one in pairs if one.chosen != one.rejected]
        asked = sum(len(one.prompts) for one in sets)
        equal = sum(one.pair.score_chosen == one.pair.score_rejected for one in pairs)
        better = sum(one.chosen > one.rejected for one in differing)
        rows += [
            numbers.share(name, "pairs", len(pairs), asked, of="prompts"),
            numbers.mean(name, "exact_chosen", [one.chosen for one in pairs], of="pairs"),
            numbers.mean(name, "exact_rejected", [one.rejected for one in pairs], of="pairs"),
            numbers.share(name, "equal", equal, len(pairs), of="pairs"),
            numbers.share(name, "better", better, len(differing), of="pairs that differ"),
            numbers.mean(name, "longer", [one.longer for one in pairs], of="pairs"),
        ]
    return tables.frame(rows)


def ties(sets: Sequence[Scored]) -> pd.DataFrame:
    """By each score: the share of prompts with a tie at the top, and with all scores equal; and how often both scores
    choose the same answer (in the row of mean_rating)."""
    prompts = [prompt for one in sets for prompt in one.prompts]
    rows = []
    for name, score in SCORES.items():
        scores = [[value for one in prompt.completions if (value := score(one)) is not None] for prompt in prompts]
        top = sum(values.count(max(values)) > 1 for values in scores)
        rows.append(numbers.share(name, "tie_at_top", top, len(prompts), of="prompts"))
        rows.append(
            numbers.share(
                name, "all_equal", sum(len(set(values)) == 1 for values in scores), len(prompts), of="prompts"
            )
        )
    firsts = [_pairs(sets, Binarisation(chosen=name, rejected="second_best", raw_scores=True)) for name in SCORES]
    both = [(a.pair.chosen, b.pair.chosen) for a, b in zip(*firsts, strict=True)]
    same = sum(ours == theirs for ours, theirs in both)
    rows.append(numbers.share("mean_rating", "same_choice", same, len(both), of="prompts"))
    return tables.frame(rows)


def positions(sets: Sequence[Scored], chosen: str = "overall_score") -> pd.DataFrame:
    """Shares of the list positions that each rule takes its rejected answer from, and the chosen one, which is the same
    for all: a tidy frame with a column place, rows "random, 0" and so on, metric "position"."""
    rules = {how.rejected: _pairs(sets, how) for how in RULES if how.chosen == chosen}
    taken = {"chosen": [one.pair.chosen for one in rules["random"]]}
    taken |= {rejected: [one.pair.rejected for one in pairs] for rejected, pairs in rules.items()}
    return position_frame(taken)


def position_frame(taken: dict[str, list[int]], *, source: str = numbers.WORLD) -> pd.DataFrame:
    rows = [
        numbers.share(f"{name}, {place}", "position", places.count(place), len(places), of="pairs", source=source)
        for name, places in taken.items()
        for place in PLACES
    ]
    return tables.frame(rows).assign(rule=[name for name in taken for _ in PLACES], place=[*PLACES] * len(taken))


def releases() -> pd.DataFrame:
    """Which rule stands behind each published set."""
    return pd.DataFrame(
        [{"set": name, "chosen": how.chosen, "rejected": how.rejected} for name, how in PUBLISHED.items()]
    )


def known_figures(sets: Sequence[Scored]) -> Iterator[Known]:
    """What the rules must do on any rows, and how the published sets were split."""
    first = _pairs(sets, PUBLISHED["first_release"])
    fixed = sum(one.pair.rejected != (2 if one.pair.chosen == 0 else 0) for one in first)
    yield Known("pairs of the first release rejected elsewhere than at place 0, or 2 where 0 is chosen", fixed, 0, 0)
    for score in SCORES:
        upside_down = sum(
            one.pair.score_chosen < one.pair.score_rejected
            for rejected in REJECTED
            for one in _pairs(sets, Binarisation(chosen=score, rejected=rejected, raw_scores=True))
        )
        yield Known(f"pairs whose rejected answer has the higher {score}", upside_down, 0, 0)
    values = published.load("zephyr").entries["ultrafeedback"].values or {}
    for name in ("first_release", "repaired_release"):
        counts = values[name]
        split = split_pairs(counts["train_prefs"] + counts["test_prefs"])
        for part in ("train_prefs", "test_prefs", "test_sft"):
            yield Known(f"our split of {name}, {part}", len(getattr(split, part)), counts[part], 0)
    yield Known(
        "aspects that are rated", sorted(ASPECTS), sorted(aspect.replace(" ", "_") for aspect in values["aspects"]), 0
    )


def _pairs(sets: Sequence[Scored], how: Binarisation) -> list[Judged]:
    return [
        Judged(outcome, exact[outcome.chosen], exact[outcome.rejected])
        for seed, one in enumerate(sets)
        for outcome, exact in zip(binarise(one.prompts, how, seed=seed), one.exact, strict=True)
        if isinstance(outcome, Pair)
    ]


def _mark(outcome: object, place: int) -> str:
    if not isinstance(outcome, Pair):
        return "no pair"
    return {outcome.chosen: "+", outcome.rejected: "-"}.get(place, "")
