"""The facts that decide a statement, read by name so that a verdict can say which ones it rests on.

A rule asks `Facts` for what a document says and for what was published; every answer is written down, and a test can
change one answer at a time to see that the verdict follows it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from zephyr_lab.reporting import published
from zephyr_lab.reporting.claims import Claim


class Decision(NamedTuple):
    """What a rule returns: a verdict of `claims.STATEMENT_VERDICTS` and one line with the figures behind it."""

    verdict: str
    why: str


Rule = Callable[["Facts"], Decision]
Number = float | int


class Facts:
    """What rules read for one claim. `used` holds the answers by address; `changed` overrides them by address."""

    def __init__(self, claim: Claim, changed: Mapping[str, Any] | None = None) -> None:
        self.used: dict[str, Any] = {}
        self._claim = claim
        self._changed = changed or {}

    def said(self, name: str) -> Any:
        """A figure of the statement itself. Raises ValueError where claims.toml does not give it."""
        said = self._claim.said or {}
        if name not in said:
            raise ValueError(f"{self._claim.id} does not say {name!r}; known: {', '.join(said) or 'nothing'}")
        return self._take(f"{self._claim.id} says {name}", said[name])

    def fact(self, key: str) -> Any:
        """A value of overview's facts; None: looked for in the source and not there."""
        return self._take(f"overview/{key}", published.fact("overview", key).value)

    def cell(self, paper: str, table: str, row: str, column: str) -> Any:
        return self._take(f"{paper}/{table}, {row}, {column}", published.cell(paper, table, row, column))

    def column(self, paper: str, table: str, column: str) -> dict[str, Any]:
        """row name -> value of one column, for the rows that print it."""
        shown = published.exhibit(paper, table)
        place = shown.place(column)
        values = {name: row[place] for name, row in zip(shown.labels(), shown.rows, strict=True)}
        return self._take(f"{paper}/{table}, {column}", {k: v for k, v in values.items() if v is not None})

    def summary(self, paper: str, table: str, group: str, name: str) -> Any:
        """A number printed with a log: `group` is run, final_eval or derived."""
        values: Any = (published.exhibit(paper, table).summary or {})[group]
        return self._take(f"{paper}/{table}, {group}, {name}", values[name])

    def setting(self, paper: str, recipe: str, name: str) -> Any:
        settings = published.recipe(paper, recipe).settings
        return self._take(f"{paper}/{recipe}, {name}", settings.get(name))

    def settings(self, paper: str, recipe: str, names: Sequence[str]) -> dict[str, Any]:
        """Several settings of a recipe as one fact, None for those that it does not give."""
        settings = published.recipe(paper, recipe).settings
        return self._take(f"{paper}/{recipe}, settings", {name: settings.get(name) for name in names})

    def value(self, paper: str, entry: str, name: str) -> Any:
        """A named value of a data or implementation entry."""
        values: Any = published.load(paper).entries[entry].values or {}
        return self._take(f"{paper}/{entry}, {name}", values[name])

    def authors(self, paper: str) -> list[str]:
        return self._take(f"{paper}, authors", list(published.load(paper).paper.authors))

    def axes(self, paper: str, figure: str) -> list[str]:
        return self._take(f"{paper}/{figure}, axes", list(published.exhibit(paper, figure).axes))

    def _take(self, address: str, answer: Any) -> Any:
        self.used[address] = self._changed.get(address, answer)
        return self.used[address]


# --- the few ways in which statements are decided -------------------------------------------------------------------


def all_must_hold(parts: Mapping[str, bool], why: str) -> Decision:
    """A list of assertions: right where each holds; one that fails makes the statement wrong."""
    failing = [name for name, holds in parts.items() if not holds]
    return Decision("wrong", f"wrong for {', '.join(failing)}: {why}") if failing else Decision("right", why)


def share_that_holds(parts: Mapping[str, bool], why: str) -> Decision:
    """A description: right where every part holds, wrong where none does, imprecise between."""
    held = sum(parts.values())
    if held == len(parts):
        return Decision("right", why)
    return Decision("imprecise", why) if held else Decision("wrong", why)


def first_that_holds(verdicts: Mapping[str, bool], why: str) -> Decision:
    """The first verdict whose condition holds."""
    return Decision(next(verdict for verdict, holds in verdicts.items() if holds), why)


def of_two_versions(here: bool, elsewhere: bool, why: str) -> Decision:
    """A document that contradicts itself: imprecise where one of its versions is right, wrong where none is."""
    if here and elsewhere:
        return Decision("right", why)
    if here or elsewhere:
        return Decision("imprecise", f"contradicts itself, one of its two versions is right: {why}")
    return Decision("wrong", f"neither of its two versions is right: {why}")


def claimed_figure(
    metric: str, low: Number, high: Number, reported: list[str], near: Mapping[str, list[Number]]
) -> Decision:
    """A figure under the name of a metric. `near` holds what could be meant: name -> values that must all lie in it.

    The metric is reported: right or wrong by the values. It is not: imprecise where another published quantity has the
    figure, unsupported where none has. Whole percents are taken as rounded.
    """
    hits = [name for name, values in near.items() if values and all(low - 0.5 <= v <= high + 0.5 for v in values)]
    shown = "; ".join(f"{name} {', '.join(f'{value:.1f}' for value in values)}" for name, values in near.items())
    figure = f"{low:g}" if low == high else f"{low:g}-{high:g}"
    if metric in reported:
        return Decision("right" if hits else "wrong", f"{metric} is reported; published: {shown}")
    if hits:
        return Decision("imprecise", f"no {metric!r} is reported; {figure} % belongs to {', '.join(hits)}")
    return Decision("unsupported", f"no {metric!r} is reported, and none of these is {figure} %: {shown}")


def within(value: Number, bounds: list[Number]) -> bool:
    return bounds[0] <= value <= bounds[1]
