"""Claims of the papers as data, and the verdict that a measured effect gives one.

papers/<paper>/claims.toml fixes statement, metric, direction, margin and test before anything is measured. A verdict is
computed from an effect and its interval alone; statements that published facts decide are in `statements`.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zephyr_lab.core import paths, session
from zephyr_lab.core.settings import from_table

PAPERS = ("zephyr", "kd_dae", "eda", "overview")  # the order of the ledger: Z, K, E, S
KINDS = ("directional", "absolute")
DIRECTIONS = ("higher", "lower", "not lower", "not higher")
PUBLISHED_FACTS = "published facts"

REPRODUCED, DIRECTION_ONLY, NOT_RESOLVED, CONTRADICTED = "reproduced", "direction only", "not resolved", "contradicted"
NOT_TESTABLE, NOT_MEASURED = "not testable here", "not measured yet"
MEASURED_VERDICTS = (CONTRADICTED, NOT_RESOLVED, DIRECTION_ONLY, REPRODUCED)  # weakest first
STATEMENT_VERDICTS = ("right", "wrong", "imprecise", "unsupported")
VERDICTS = (*MEASURED_VERDICTS, NOT_TESTABLE, NOT_MEASURED, *STATEMENT_VERDICTS)


@dataclass(frozen=True)
class Part:
    """A further effect that must hold for the claim to hold.

    arms: the two whose difference it is, first minus second, or four, for the difference of two such; measure: of what,
    as the answers name it (`lab.answers.MEASURES`). Without them the effect is about something else than answers.
    """

    metric: str
    direction: str
    margin: float
    margin_reason: str
    arms: tuple[str, ...] = ()
    measure: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim. `metric` says what is subtracted from what, `margin` (in its unit) what counts as an effect of note.

    `said` holds the figures of a document's statement, `correct` the short answer, `later` what our own data will add,
    `not_testable` why nothing here can decide it.
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
    also: tuple[Part, ...] = ()
    decided_by: str = "measurement"
    not_testable: str | None = None
    said: Mapping[str, object] | None = None
    correct: str | None = None
    later: str | None = None
    conflicts: str | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every effect that the claim needs, the first one first; none for a claim that measurement cannot decide."""
        if self.metric is None or self.direction is None or self.margin is None:
            return ()
        first = Part(self.metric, self.direction, self.margin, self.margin_reason or "", self.arms, self.measure)
        return (first, *self.also)


@dataclass(frozen=True)
class Measured:
    """An effect with its interval (95 %) and the number of observations; `seeds` only where models were trained.

    Raises ValueError for an effect that is not finite, an interval that does not hold it, or n below 1.
    """

    effect: float
    low: float
    high: float
    n: int
    seeds: int | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.effect, self.low, self.high)):
            raise ValueError(f"effect {self.effect} [{self.low}, {self.high}] must be finite (no interval: no verdict)")
        if not self.low <= self.effect <= self.high:
            raise ValueError(f"effect {self.effect} lies outside its interval [{self.low}, {self.high}]")
        if self.n < 1 or (self.seeds is not None and self.seeds < 1):
            raise ValueError(f"n and seeds must be at least 1, got n = {self.n}, seeds = {self.seeds}")


def load(paper: str) -> tuple[Claim, ...]:
    """The claims of `paper` in file order, registered as an input of the running notebook.

    Raises ValueError naming file and claim for unknown or missing keys, an id that stands there twice, a direction that
    is not in `DIRECTIONS`, a negative margin, or a claim that says neither how it is measured nor what decides it.
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


def verdict(measured: Measured, *, direction: str, margin: float) -> str:
    """The verdict on "the effect is `direction` by more than `margin`".

    reproduced: the whole interval lies beyond the margin; direction only: beyond 0; contradicted: wholly on the other
    side of 0; not resolved: else. "not lower" ("not higher") tolerates a loss (rise) up to the margin: reproduced where
    the whole interval stays within it, contradicted where it lies wholly beyond. Negating effect and interval is the
    same as turning the direction round. Raises ValueError for an unknown direction or a negative margin.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}; got {direction!r}")
    if not margin >= 0:
        raise ValueError(f"margin must be 0 or more, got {margin}")
    upwards = direction in ("higher", "not lower")
    low, high = (measured.low, measured.high) if upwards else (-measured.high, -measured.low)
    if direction.startswith("not "):
        low, high, margin = low + margin, high + margin, 0.0
    if low > margin:
        return REPRODUCED
    if low > 0:
        return DIRECTION_ONLY
    return CONTRADICTED if high < 0 else NOT_RESOLVED


def judge(claim: Claim, measured: Sequence[Measured]) -> tuple[str, Measured]:
    """The verdict on `claim` from one measurement for each of its parts, and the measurement that decided it.

    All parts must hold, so the weakest verdict counts (of equals the first). Raises ValueError where the number of
    measurements is not that of the parts.
    """
    parts = claim.parts
    if not parts:
        raise ValueError(f"{claim.id} is not decided by measurement ({claim.not_testable or claim.decided_by})")
    if len(measured) != len(parts):
        raise ValueError(f"{claim.id} has {len(parts)} part(s), got {len(measured)} measurement(s)")
    verdicts = [
        verdict(one, direction=part.direction, margin=part.margin) for part, one in zip(parts, measured, strict=True)
    ]
    weakest = min(range(len(parts)), key=lambda place: MEASURED_VERDICTS.index(verdicts[place]))
    return verdicts[weakest], measured[weakest]


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
    parsed = tuple(
        _claim(table, f"{where} {table.get('id', f'claim {n}')}") for n, table in enumerate(raw["claims"], 1)
    )
    ids = [claim.id for claim in parsed]
    for claim in ids:
        if ids.count(claim) > 1:
            raise ValueError(f"{where}: {claim} stands there twice")
    return parsed


def _claim(table: Mapping[str, object], where: str) -> Claim:
    also = table.get("also", [])
    rest = {name: value for name, value in table.items() if name != "also"}
    parts = tuple(from_table(part, Part, f"{where} also") for part in also)  # type: ignore[attr-defined]
    claim = from_table(rest, Claim, where)
    claim = Claim(**{**vars(claim), "also": parts})
    if claim.kind not in KINDS:
        raise ValueError(f"{where}: kind {claim.kind!r}; known: {', '.join(KINDS)}")
    ways = [bool(claim.parts), claim.not_testable is not None, claim.decided_by == PUBLISHED_FACTS]
    if sum(ways) != 1:
        raise ValueError(
            f"{where}: needs exactly one of metric with direction and margin, not_testable, "
            f'or decided_by = "{PUBLISHED_FACTS}"'
        )
    for part in claim.parts:
        if part.direction not in DIRECTIONS or not part.margin >= 0:
            raise ValueError(f"{where}: direction {part.direction!r}, margin {part.margin}")
    return claim
