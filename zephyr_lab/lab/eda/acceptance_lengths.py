"""Acceptance lengths of drafts, and the verbs that make numbers of them: means, differences, curves, claims.

tau of a seed is the sum of committed tokens over the sum of target passes on the held-out prompts of one target, passes
taken as their exact expectation given the target's answers (`scoring.acceptance_length`). Intervals are over seeds and
prompts (`scoring.two_way`), differences paired by both.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from zephyr_lab.lab import answer_scores, seed_means
from zephyr_lab.lab.compared_arms import ComparedArms, Lines, joined
from zephyr_lab.lab.seed_means import SOURCE
from zephyr_lab.methods.recipes.draft_scores import CANDIDATES, DRAWN, GREEDY
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.claims import Part
from zephyr_lab.scoring.acceptance_length import acceptance_estimate, acceptance_length, constant_rate_length

RULES = {0: GREEDY, 1: DRAWN}  # by temperature


@dataclass(frozen=True)
class Tau:
    """Acceptance length at a temperature, 0 or 1. metric: its name in tidy frames; length: drafted tokens of a pass,
    None for the first that was measured; authors: as the authors' script counts it, by passes - 1.
    """

    metric: str
    temperature: int
    length: int | None = None
    authors: bool = False

    def __post_init__(self) -> None:
        if self.temperature not in RULES:
            raise ValueError(f"temperature must be 0 (greedy) or 1, got {self.temperature}")


GREEDY_TAU, SAMPLED_TAU = Tau("tau, T = 0", 0), Tau("tau, T = 1", 1)
AUTHORS_GREEDY = Tau("tau, authors' script, T = 0", 0, authors=True)
AUTHORS_SAMPLED = Tau("tau, authors' script, T = 1", 1, authors=True)
# The measures that claims.toml names.
MEASURES = {"acceptance length, greedy": GREEDY_TAU, "acceptance length, T = 1": SAMPLED_TAU}
IN_THE_LOOP = ("chain", "tree")


@dataclass(frozen=True)
class AcceptanceLengths(ComparedArms):
    """How much of what drafts proposed their targets accepted. frame: a row an arm, seed, set of held-out prompts,
    rule, draft length, prompt and sample; loop: what the decoding loop counted, a row a prompt (may be empty).

    Columns of `frame`: seed, model (the arm's name), prompts (whose held-out ones), and those of
    `methods.stages.draft_scores`. An arm may be asked on several targets' prompts; a mean or a difference is taken on
    each alone. Results of several askings join with `|`.
    """

    frame: pd.DataFrame
    loop: pd.DataFrame = field(default_factory=pd.DataFrame)
    default = GREEDY_TAU

    def __or__(self, other: "AcceptanceLengths") -> "AcceptanceLengths":
        """Both askings. Raises ValueError where both have an arm of one name on the same prompts."""
        twice = [place for place in other._places if place in self._places]
        if twice:
            raise ValueError(f"both have {twice[0][0]!r} on the prompts of {twice[0][1]}; name one of them otherwise")
        return AcceptanceLengths(joined([self.frame, other.frame]), joined([self.loop, other.loop]))

    @property
    def measures(self) -> Mapping[str, Tau]:
        """What claims.toml can name of acceptance lengths."""
        return MEASURES

    @property
    def prompts(self) -> list[str]:
        """Whose held-out prompts were asked."""
        return list(dict.fromkeys(self.frame["prompts"]))

    def on(self, *prompts: str) -> "AcceptanceLengths":
        """The same on these held-out prompts alone. Raises ValueError for prompts that were not asked."""
        lacking = [name for name in prompts if name not in self.prompts]
        if lacking:
            raise ValueError(f"nothing was asked on prompts of {lacking[0]!r}; there are {', '.join(self.prompts)}")
        return AcceptanceLengths(
            *(one[one["prompts"].isin(prompts)] if len(one) else one for one in (self.frame, self.loop))
        )

    def named(self, names: Mapping[str, str | Sequence[str]]) -> "AcceptanceLengths":
        """Some arms under other names: `names` gives each new name its arm, or several on unlike prompts."""
        old = {new: [arms] if isinstance(arms, str) else arms for new, arms in names.items()}
        self.require(*(arm for arms in old.values() for arm in arms))
        measured = [(new, prompts) for new, arms in old.items() for arm, prompts in self._places if arm in arms]
        twice = [one for one in measured if measured.count(one) > 1]
        if twice:
            raise ValueError(f"{twice[0][0]!r} would be two arms on the prompts of {twice[0][1]}")
        return self._with({
            name: joined(frame[frame["model"].isin(arms)].assign(model=new) for new, arms in old.items())
            for name, frame in self._frames().items()
            if len(frame)
        })  # fmt: skip

    def means(self, *measures: Tau, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame: each measure (greedy tau) of each arm, with its interval. Where an arm was asked on several
        prompts there is a line for each, and their name in the metric."""
        lines = [
            self._line(arm, name, measure, row=arm, metric=_metric(measure, name, self._asked(arm), measures))
            for arm in (self.arms if arms is None else arms)
            for measure in measures or (GREEDY_TAU,)
            for name in self._asked(arm)
        ]
        return tables.frame(line for line in lines if line is not None)

    def number(self, arm: str, *, row: str, metric: str, measure: Tau = GREEDY_TAU) -> dict[str, Any]:
        """One line of a tidy frame, under the row and metric of a table of one's own.

        Raises ValueError for an arm on several prompts, and for one seed's number without an interval.
        """
        asked = self._asked(arm)
        if len(asked) > 1:
            raise ValueError(f"{arm!r} was asked on the prompts of {', '.join(asked)}; choose one with .on(...)")
        line = self._line(arm, asked[0], measure, row=row, metric=metric)
        if line is None:
            raise ValueError(f"one seed gives {measure.metric!r} no interval, so it has no line")
        return line

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: Tau) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed: `pairs` names each row. A line for each set of prompts
        that both were asked, its name in the metric where there are several; none for one seed."""
        lines: Lines = []
        for row, arms in pairs.items():
            for measure in measures or (GREEDY_TAU,):
                values = self._difference_by_prompt(*arms, measure)
                sets = _sets(values)
                for name in sets:
                    lines += _lines(row, _metric(measure, name, sets, measures), values[[name]])
        return tables.frame(lines)

    def mean_differences(self, pairs: Mapping[str, tuple[str, str]], *measures: Tau) -> pd.DataFrame:
        """As `differences`, of each seed's mean over all sets of prompts that both were asked."""
        return tables.frame(
            line
            for row, arms in pairs.items()
            for measure in measures or (GREEDY_TAU,)
            for line in _lines(row, measure.metric, _mean_over_sets(self._difference_by_prompt(*arms, measure)))
        )

    def difference(self, ours: str, theirs: str, measure: Tau = GREEDY_TAU) -> pd.DataFrame:
        """The measure of one arm less that of another: a row a seed and a column a set of prompts that both have.

        Raises ValueError where they share none.
        """
        first, second = self.values(ours, measure), self.values(theirs, measure)
        shared = [name for name in first if name in second]
        values = (first[shared] - second[shared]).dropna()
        if values.empty:
            raise ValueError(f"{ours!r} and {theirs!r} have no prompts and seed in common")
        return values

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """One part of a claim: its first arm less its second, the mean over the prompts that both were asked."""
        if len(part.arms) != 2:
            raise ValueError(f"{claim}: acceptance lengths compare two arms, claims.toml names {len(part.arms)}")
        values = _mean_over_sets(self._difference_by_prompt(*part.arms, MEASURES[part.measure]))
        return answer_scores.effect(claim, part.metric, values, of="prompts") | {"source": SOURCE}

    def values(self, arm: str, measure: Tau = GREEDY_TAU) -> pd.DataFrame:
        """The measure of one arm: a row a seed, a column a set of prompts. Raises ValueError for an unknown arm."""
        chosen = self.rows(arm, measure)
        return pd.DataFrame({
            name: {seed: _ratio(of_seed, measure) for seed, of_seed in part.groupby("seed")}
            for name, part in chosen.groupby("prompts", sort=False)
        })  # fmt: skip

    def by_prompt(self, arm: str, measure: Tau = GREEDY_TAU) -> pd.DataFrame:
        """What each prompt says of the measure of one arm: a row a seed, a column a set of prompts and a prompt of it.

        A row's mean over a set is that seed's tau, and prompts vary by it as tau does by them (the delta method).
        """
        columns = ("authors_sum", "authors_kept") if measure.authors else ("tokens", "passes")
        return by_prompt(self.rows(arm, measure), *columns)

    def rows(self, arm: str, measure: Tau = GREEDY_TAU) -> pd.DataFrame:
        """The rows that a measure of one arm is taken over: an answer each. Raises ValueError for an unknown arm."""
        self.require(arm)
        own = self.frame[self.frame["model"] == arm]
        length = own["length"].iloc[0] if measure.length is None else measure.length
        return own[(own["rule"] == RULES[measure.temperature]) & (own["length"] == length)]

    def curve(self, series: str, points: Mapping[float, str], measure: Tau = GREEDY_TAU) -> pd.DataFrame:
        """A line for `figures.curves`: the measure of an arm at each x, over seeds. All were asked the same prompts."""
        return _curve(series, list(points), [self.values(arm, measure).mean(axis=1) for arm in points.values()])

    def by_length(self, arm: str, *measures: Tau) -> pd.DataFrame:
        """Lines for `figures.curves`: the measures of an arm over the draft's length, and beside each what one rate of
        acceptance would give, that of the first drafted token (more exactly, the rate of the shortest draft)."""
        self.require(arm)
        lengths = sorted(set(self.frame[self.frame["model"] == arm]["length"]))
        lines = []
        for measure in measures:
            exact = [self.values(arm, dataclasses.replace(measure, length=length)).mean(axis=1) for length in lengths]
            rates = [rate_of(value, length=lengths[0]) for value in exact[0]]
            constant = [[constant_rate_length(rate, length=length) for rate in rates] for length in lengths]
            at = f"T = {measure.temperature}"
            lines += [_curve(f"exact, {at}", lengths, exact), _curve(f"one rate, {at}", lengths, constant)]
        return pd.concat(lines, ignore_index=True)

    def exact_and_counted(self) -> pd.DataFrame:
        """tau of each arm that the decoding loop ran with: exactly in expectation, and as counted on the same prompts.

        Greedy, both must be equal (see `loop_differences`); sampled, the loop draws answers of its own. A tree is
        counted alone: greedy, or with its likeliest tokens as candidates.
        """
        lines: Lines = []
        for (arm, name), counted in self.loop.groupby(["model", "prompts"], sort=False):
            exact = self.on(name).frame
            asked = AcceptanceLengths(exact[exact["prompt"].isin(counted["prompt"])])
            for temperature, rule in RULES.items():
                at = f"T = {temperature}"
                lines.append(asked.number(arm, row=arm, metric=f"exact, {at}", measure=Tau("", temperature)))
                for method in IN_THE_LOOP:
                    wanted = rule if method == "chain" or temperature == 0 else CANDIDATES
                    ran = counted[(counted["rule"] == wanted) & (counted["method"] == method)]
                    lines += _lines(arm, f"{method}, {at}", by_prompt(ran, "tokens", "passes"))
        return tables.frame(lines)

    def loop_differences(self) -> int:
        """Greedy answers for which the loop's count of passes is not the exact expectation: must be none."""
        different = 0
        for (arm, name), counted in self.loop.groupby(["model", "prompts"], sort=False):
            exact = self.on(name).rows(arm).set_index(["seed", "prompt"])["passes"]
            chain = counted[(counted["rule"] == GREEDY) & (counted["method"] == "chain")].set_index(["seed", "prompt"])
            different += int(((exact.loc[chain.index] - chain["passes"]).abs() > 1e-6).sum())
        return different

    @property
    def _places(self) -> list[tuple[str, str]]:
        """Each arm with each set of prompts that it was asked."""
        return list(dict.fromkeys(zip(self.frame["model"], self.frame["prompts"], strict=True)))

    def _asked(self, arm: str) -> list[str]:
        """The prompts that an arm was asked."""
        self.require(arm)
        return [prompts for name, prompts in self._places if name == arm]

    def _difference_by_prompt(self, ours: str, theirs: str, measure: Tau) -> pd.DataFrame:
        """As `difference`, a column a set of prompts and a prompt of it."""
        shared = self.difference(ours, theirs, measure)
        first, second = self.by_prompt(ours, measure), self.by_prompt(theirs, measure)
        return (first[list(shared)] - second[list(shared)]).loc[shared.index]

    def _line(self, arm: str, name: str, measure: Tau, *, row: str, metric: str) -> dict[str, Any] | None:
        """Over seeds and prompts; for one seed a bootstrap over prompts, and it says so; where all prompts are equal no
        interval, and it says so too. None for one seed of the authors' count, whose terms are no counts."""
        values = list(self.values(arm, measure)[name])
        if len(values) > 1:
            return _lines(row, metric, self.by_prompt(arm, measure)[[name]])[0]
        if measure.authors:
            return None
        n = int(self.rows(arm, measure).query("prompts == @name")["prompt"].nunique())
        (value,) = values
        sums = self.on(name).rows(arm, measure).groupby("prompt")[["tokens", "passes"]].sum()
        estimate = acceptance_estimate(sums["tokens"], sums["passes"], seed=0)
        low, high = estimate.interval or (value, value)
        number = {"row": row, "metric": metric, "kind": "retrained", "value": value}
        ends = {"low": min(low, value), "high": max(high, value), "n": n, "seeds": 1}
        return {**number, **ends, "interval": f"1 seed: {n} prompts, {estimate.method}", "source": SOURCE}


def by_prompt(rows: pd.DataFrame, top: str, bottom: str) -> pd.DataFrame:
    """The ratio of the sums of two columns, of each seed and set of prompts, split over prompts (`by_prompt`)."""
    sums = rows.groupby(["seed", "prompts", "prompt"], sort=False)[[top, bottom]].sum()
    of_set = sums.groupby(["seed", "prompts"], sort=False)
    ratio = of_set[top].transform("sum") / of_set[bottom].transform("sum")
    values = ratio + (sums[top] - ratio * sums[bottom]) / of_set[bottom].transform("mean")
    return values.unstack(["prompts", "prompt"])


def _sets(values: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(values.columns.get_level_values(0)))


def _mean_over_sets(values: pd.DataFrame) -> pd.DataFrame:
    """The values weighted so that each set of prompts counts the same in a row's mean, however many it has."""
    of_column = values.columns.get_level_values(0)
    sizes = of_column.value_counts()
    return values * [len(of_column) / (len(sizes) * sizes[name]) for name in of_column]


def _lines(row: str, metric: str, values: pd.DataFrame) -> Lines:
    """The mean of values by prompt as a line; none for one seed, which has no interval over seeds."""
    if len(values) < 2:
        return []
    return [answer_scores.number(row, metric, values, of="prompts") | {"source": SOURCE}]


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


def _curve(series: str, x: Sequence[float | int], by_x: Sequence[Iterable[float]]) -> pd.DataFrame:
    """A line through the values of all seeds at each x."""
    return seed_means.curve(series, x, [list(values) for values in zip(*by_x, strict=True)], kind="retrained")


def _ratio(rows: pd.DataFrame, measure: Tau) -> float:
    """tau of one seed's rows; the authors': the expected mean of tokens / (passes - 1) over answers of two passes and
    more."""
    if measure.authors:
        return float(rows["authors_sum"].sum() / rows["authors_kept"].sum())
    return acceptance_length(rows["tokens"], rows["passes"])


def _metric(measure: Tau, prompts: str, asked: Sequence[str], measures: Sequence[Tau]) -> str:
    """The measure's name; that of the prompts where several were asked; both where there are several measures too."""
    if len(asked) < 2:
        return measure.metric
    return prompts if len(measures) < 2 else f"{measure.metric}, {prompts}"
