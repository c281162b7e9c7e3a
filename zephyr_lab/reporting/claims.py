"""Claims of the papers as data, and the verdict that a measured effect gives one.

papers/<paper>/claims.toml fixes statement, metric, direction, margin and test before anything is measured. A verdict is
computed from an effect and its interval alone; statements that published facts decide are in `statements`.
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

import msgspec

from zephyr_lab.core import paths, session
from zephyr_lab.core.settings import from_table
from zephyr_lab.scoring.intervals import Estimate, Interval

PAPERS = ("zephyr", "kd_dae", "eda", "overview")  # the order of the ledger: Z, K, E, S
KINDS = ("directional", "absolute")
DIRECTIONS = ("higher", "lower", "not lower", "not higher")
PUBLISHED_FACTS = "published facts"

REPRODUCED, DIRECTION_ONLY, NOT_RESOLVED, CONTRADICTED = "reproduced", "direction only", "not resolved", "contradicted"
NOT_TESTABLE, NOT_MEASURED = "not testable here", "not measured yet"
MEASURED_VERDICTS = (CONTRADICTED, NOT_RESOLVED, DIRECTION_ONLY, REPRODUCED)  # weakest first
STATEMENT_VERDICTS = ("right", "wrong", "imprecise", "unsupported")
VERDICTS = (*MEASURED_VERDICTS, NOT_TESTABLE, NOT_MEASURED, *STATEMENT_VERDICTS)


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the n of an effect counts, and how many at profile tiny; no number where the data decide it."""

    kind: str
    number: int | None = None


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A further effect that must hold for the claim to hold.

    arms: the two whose difference it is, first minus second, or four, for the difference of two such; `metric` names
    them in quotes, in that order. measure: of what, as the answers name it (`lab.answers.MEASURES`). Without arms the
    effect is about something else than answers.
    """

    metric: str
    direction: str
    margin: float
    margin_reason: str
    arms: tuple[str, ...] = ()
    measure: str = ""
    questions: Questions | None = None


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An earlier registration of a claim: what of it was changed, as it stood, when, and why."""

    date: date
    reason: str
    statement: str | None = None
    metric: str | None = None
    arms: tuple[str, ...] = ()
    measure: str | None = None
    direction: str | None = None
    margin: float | None = None
    also: tuple[Part, ...] = ()
    test: str | None = None
    not_testable: str | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Claim:
    """One claim. `metric` says what is subtracted from what, `margin` (in its unit) what counts as an effect of note.

    `said` holds the figures of a document's statement, `correct` the short answer, `later` what our own data will add,
    `not_testable` why nothing here can decide it, `not_tested` which half of the statement nothing here tests, and why.
    `one` says what was trained once for all seeds ("one teacher"), `built_in` why the world's knobs or the construction
    decide the verdict, `regime_map` which notebook shows the effect over such a knob, `was` what was registered before.
    """

    id: str
    statement: str
    kind: str
    test: str
    source: str
    published: str | None = None
    metric: str | None = None
    direction: str | None = None
    margin: float | None = None
    margin_reason: str | None = None
    arms: tuple[str, ...] = ()
    measure: str = ""
    one: str = ""
    questions: Questions | None = None
    also: tuple[Part, ...] = ()
    decided_by: str = "measurement"
    not_testable: str | None = None
    not_tested: str | None = None
    built_in: str | None = None
    regime_map: str | None = None
    was: tuple[Registration, ...] = ()
    said: Mapping[str, object] | None = None
    correct: str | None = None
    later: str | None = None
    conflicts: str | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every effect that the claim needs, the first one first; none for a claim that measurement cannot decide."""
        if self.metric is None or self.direction is None or self.margin is None:
            return ()
        about = (self.arms, self.measure, self.questions)
        return (Part(self.metric, self.direction, self.margin, self.margin_reason or "", *about), *self.also)


def load(paper: str) -> tuple[Claim, ...]:
    """The claims of `paper` in file order, registered as an input of the running notebook.

    Raises ValueError naming file and claim for unknown or missing keys, a duplicate id, a direction that
    is not in `DIRECTIONS`, a negative margin, a metric that names other arms than the claim has, or a claim that says
    neither how it is measured nor what decides it.
    """
    path = paths.papers_dir() / paper / "claims.toml"
    if not path.is_file():
        raise ValueError(f"no claims of a paper named {paper!r}; known: {', '.join(PAPERS)}")
    session.read_file(path, name=f"papers/{paper}/claims.toml")
    stat = path.stat()
    return _parse(path, stat.st_mtime_ns, stat.st_size)


def everything() -> dict[str, Claim]:
    """All claims by id, in the order of the ledger."""
    return {claim.id: claim for paper in PAPERS for claim in load(paper)}


def require_measured(effect: Estimate) -> Interval:
    """The interval that a verdict is read off.

    Raises ValueError for an effect that is not finite, an interval that does not hold it, or n or seeds below 1.
    """
    low, high = effect.interval or (math.nan, math.nan)
    if effect.value is None or not all(map(math.isfinite, (effect.value, low, high))):
        raise ValueError(f"effect {effect.value} [{low}, {high}] must be finite (no interval: no verdict)")
    if not low <= effect.value <= high:
        raise ValueError(f"effect {effect.value} lies outside its interval [{low}, {high}]")
    if effect.n is None or effect.n < 1 or (effect.seeds is not None and effect.seeds < 1):
        raise ValueError(f"n and seeds must be at least 1, got n = {effect.n}, seeds = {effect.seeds}")
    return Interval(low, high)


def verdict(effect: Estimate, *, direction: str, margin: float) -> str:
    """The verdict on "the effect is `direction` by more than `margin`".

    reproduced: the whole interval lies beyond the margin; direction only: beyond 0; contradicted: wholly on the other
    side of 0; not resolved: else. "not lower" ("not higher") tolerates a loss (rise) up to the margin: reproduced where
    the whole interval stays within it, contradicted where it lies wholly beyond. Negating effect and interval is the
    same as turning the direction round. Raises ValueError as `require_measured`, and for an unknown direction or a
    negative margin.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}; got {direction!r}")
    if not margin >= 0:
        raise ValueError(f"margin must be 0 or more, got {margin}")
    low, high = require_measured(effect)
    if direction in ("lower", "not higher"):
        low, high = -high, -low
    if direction.startswith("not "):
        low, high, margin = low + margin, high + margin, 0.0
    if low > margin:
        return REPRODUCED
    if low > 0:
        return DIRECTION_ONLY
    return CONTRADICTED if high < 0 else NOT_RESOLVED


def judge(claim: Claim, effects: Sequence[Estimate]) -> tuple[str, Estimate]:
    """The verdict on `claim` from one effect for each of its parts, and the effect that decided it.

    All parts must hold, so the weakest verdict counts (of equals the first). Raises ValueError where the number of
    effects is not that of the parts.
    """
    parts = claim.parts
    if not parts:
        raise ValueError(f"{claim.id} is not decided by measurement ({claim.not_testable or claim.decided_by})")
    if len(effects) != len(parts):
        raise ValueError(f"{claim.id} has {len(parts)} part(s), got {len(effects)} measurement(s)")
    verdicts = [
        verdict(one, direction=part.direction, margin=part.margin) for part, one in zip(parts, effects, strict=True)
    ]
    weakest = min(range(len(parts)), key=lambda place: MEASURED_VERDICTS.index(verdicts[place]))
    return verdicts[weakest], effects[weakest]


@lru_cache
def _parse(path: Path, changed_ns: int, size: int) -> tuple[Claim, ...]:
    """The claims of one file, kept as long as its time and size are the same."""
    where = f"papers/{path.parent.name}/claims.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where} is not TOML: {error}") from error
    if set(raw) != {"claims"}:
        raise ValueError(f"{where} must hold [[claims]] tables only, got {', '.join(sorted(raw)) or 'nothing'}")
    claims = {}
    for number, table in enumerate(raw["claims"], 1):
        claim = from_table(table, Claim, f"{where} {table.get('id', f'claim {number}')}")
        _require_decidable(claim, f"{where} {claim.id}")
        if claim.id in claims:
            raise ValueError(f"{where}: duplicate claim {claim.id!r}")
        claims[claim.id] = claim
    return tuple(claims.values())


def _require_decidable(claim: Claim, where: str) -> None:
    if claim.kind not in KINDS:
        raise ValueError(f"{where}: kind {claim.kind!r}; known: {', '.join(KINDS)}")
    if [bool(claim.parts), claim.not_testable is not None, claim.decided_by == PUBLISHED_FACTS].count(True) != 1:
        raise ValueError(
            f"{where}: needs exactly one of metric with direction and margin, not_testable, "
            f'or decided_by = "{PUBLISHED_FACTS}"'
        )
    for part in claim.parts:
        if part.direction not in DIRECTIONS or not part.margin >= 0:
            raise ValueError(
                f"{where}: direction {part.direction!r}, margin {part.margin}; "
                f"directions: {', '.join(DIRECTIONS)}, margin 0 or more"
            )
        named = tuple(re.findall('"([^"]+)"', part.metric))
        if named != part.arms:
            raise ValueError(
                f"{where}: the metric {part.metric!r} names {', '.join(named) or 'no arms'} in quotes, "
                f"arms are {', '.join(part.arms) or 'none'}; both must be the same, in the same order"
            )
