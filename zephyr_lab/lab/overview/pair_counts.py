"""Pairs by several rules from the same scored prompts, and what is counted of them where the better answer is known.

Scored prompts are drawn under seeds 0 to N-1 and pooled; one generator a seed draws the rejected answers. A rule is a
`Binarisation`, or a function of one's own of (completions, the place of the chosen one) that gives the place to reject,
as `Lab.pairs(reject=...)` takes it. Intervals are over prompts or pairs; shares are in percent.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core.rows import Row
from zephyr_lab.data.pairs import PUBLISHED, REJECTED, SCORES, Binarisation, NoPair, Pair, binarise
from zephyr_lab.data.pairs_statistics import split_pairs
from zephyr_lab.data.schemas import ASPECTS, Completion, ScoredPrompt, scored_prompt
from zephyr_lab.lab import numbers
from zephyr_lab.lab.numbers import Known
from zephyr_lab.methods.stages.own_functions import OwnFunction, OwnRule
from zephyr_lab.reporting import published, tables
from zephyr_lab.world.completions import Completions

PLACES = range(4)
OwnReject = Callable[[list[Completion], int], Any]
Rule = Binarisation | OwnReject


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


def read(sets: Sequence[Completions]) -> list[Scored]:
    """The drawn completions of each seed as scored prompts."""
    return [
        Scored(
            [scored_prompt(Row(number, row)) for number, row in enumerate(drawn.rows, start=1)],
            [label.exact for label in drawn.labels],
        )
        for drawn in sets
    ]


def outcomes(prompts: Sequence[ScoredPrompt], rule: Rule, *, seed: int) -> list[Pair | NoPair]:
    """One outcome a prompt, in order. Beside a function of one's own the chosen answer is the highest overall score's.

    Raises ValueError naming the function and the prompt where it gives no place of another answer.
    """
    if isinstance(rule, Binarisation):
        return list(binarise(prompts, rule, seed=seed))
    own = OwnRule("overall_score", "random", choose=None, reject=OwnFunction(rule.__name__, rule))
    drawn, why = random.Random(seed), f"no completion that {rule.__name__} could reject"
    pairs = (own.pair(prompt, f"prompt {number}", drawn) for number, prompt in enumerate(prompts, 1))
    return [pair or NoPair(prompt, (), None, why) for prompt, pair in zip(prompts, pairs, strict=True)]


def most_divided(one: Scored, rules: Mapping[str, Rule], *, among: int = 200) -> int:
    """The place of the first prompt, of the first `among`, on which the rules differ most."""
    by_rule = [outcomes(one.prompts[:among], rule, seed=0) for rule in rules.values()]
    picks = [
        {(outcome.chosen, outcome.rejected) for outcome in column if isinstance(outcome, Pair)}
        for column in zip(*by_rule, strict=True)
    ]
    return max(range(len(picks)), key=lambda place: len(picks[place]))


def one_prompt(one: Scored, place: int, rules: Mapping[str, Rule]) -> pd.DataFrame:
    """The four answers of the prompt at a place: their scores, and which rule takes which.

    "+" marks the chosen and "-" the rejected answer; rules that draw do so from seed 0, prompt by prompt up to here.
    """
    prompt = one.prompts[place]
    picked = {name: outcomes(one.prompts[: place + 1], rule, seed=0)[place] for name, rule in rules.items()}
    columns = {
        f"answer {number}": [
            completion.response,
            f"{one.exact[place][number]:g}",
            f"{completion.overall_score:g}",
            f"{completion.mean_rating:.2f}",
            *(_mark(outcome, number) for outcome in picked.values()),
        ]
        for number, completion in enumerate(prompt.completions)
    }
    what = ["text", "exact score", "overall score", "mean rating", *picked]
    return pd.DataFrame({prompt.prompt: what, **columns})


def statistics(sets: Sequence[Scored], rules: Mapping[str, Rule]) -> pd.DataFrame:
    """One row a rule. Of its pairs: mean exact scores of both sides, the share that ties by the score it was chosen by,
    the share whose chosen answer is truly better (of those that differ), and by how many words it is longer."""
    rows = []
    for name, rule in rules.items():
        pairs = _pairs(sets, rule)
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
        equal = sum(len(set(values)) == 1 for values in scores)
        rows.append(numbers.share(name, "tie_at_top", top, len(prompts), of="prompts"))
        rows.append(numbers.share(name, "all_equal", equal, len(prompts), of="prompts"))
    firsts = [_pairs(sets, Binarisation(chosen=name, rejected="second_best", raw_scores=True)) for name in SCORES]
    same = [first.pair.chosen == second.pair.chosen for first, second in zip(*firsts, strict=True)]
    return tables.frame([*rows, numbers.share("mean_rating", "same_choice", sum(same), len(same), of="prompts")])


def positions(sets: Sequence[Scored], rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Shares of the list positions that each rule takes its rejected answer from, and of the first rule's chosen one:
    a tidy frame with a column place, rows "random, 0" and so on, metric "position"."""
    pairs = {name: _pairs(sets, rule) for name, rule in rules.items()}
    taken = {"chosen": [one.pair.chosen for one in next(iter(pairs.values()))]}
    taken |= {name: [one.pair.rejected for one in own] for name, own in pairs.items()}
    return position_frame(taken)


def position_frame(taken: dict[str, list[int]], *, source: str = numbers.WORLD) -> pd.DataFrame:
    rows = [
        numbers.share(f"{name}, {place}", "position", places.count(place), len(places), of="pairs", source=source)
        for name, places in taken.items()
        for place in PLACES
    ]
    return tables.frame(rows).assign(rule=[name for name in taken for _ in PLACES], place=[*PLACES] * len(taken))


def releases() -> pd.DataFrame:
    """Which rule made each published set."""
    return pd.DataFrame(
        {"set": name, "chosen": how.chosen, "rejected": how.rejected} for name, how in PUBLISHED.items()
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
    aspects = sorted(aspect.replace(" ", "_") for aspect in values["aspects"])
    yield Known("aspects that are rated", sorted(ASPECTS), aspects, 0)


def _pairs(sets: Sequence[Scored], rule: Rule) -> list[Judged]:
    return [
        Judged(outcome, exact[outcome.chosen], exact[outcome.rejected])
        for seed, one in enumerate(sets)
        for outcome, exact in zip(outcomes(one.prompts, rule, seed=seed), one.exact, strict=True)
        if isinstance(outcome, Pair)
    ]


def _mark(outcome: object, place: int) -> str:
    if not isinstance(outcome, Pair):
        return "no pair"
    return {outcome.chosen: "+", outcome.rejected: "-"}.get(place, "")
