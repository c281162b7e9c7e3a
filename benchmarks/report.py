"""What a benchmark says: a row a contender, gates with their bounds, as a table, as Markdown and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gate:
    """A figure that must be at least (or at most) `bound`, and where it should get to (`aim`, None: nowhere)."""

    name: str
    value: float
    bound: float
    is_least: bool
    aim: float | None

    @classmethod
    def at_least(cls, name: str, value: float, bound: float, *, aim: float | None = None) -> "Gate":
        return cls(name, value, bound, True, aim)

    @classmethod
    def at_most(cls, name: str, value: float, bound: float, *, aim: float | None = None) -> "Gate":
        return cls(name, value, bound, False, aim)

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.is_least else self.value <= self.bound

    @property
    def met(self) -> str:
        """The furthest that is reached: "aim", "gate" or "no"."""
        if not self.holds:
            return "no"  # nan too: it compares to nothing
        if self.aim is None:
            return "gate"
        return "aim" if (self.value >= self.aim if self.is_least else self.value <= self.aim) else "gate"

    def cells(self) -> list[str]:
        sign = ">=" if self.is_least else "<="
        aim = "" if self.aim is None else f"{sign} {self.aim:.3g}"
        return [self.name, f"{self.value:.3g}", f"{sign} {self.bound:.3g}", aim, self.met]


@dataclass(frozen=True, slots=True)
class Row:
    """A contender in a case. seconds: CPU, one a round; peak: bytes; error: of gradients; floor: share of GEMM time."""

    case: str
    contender: str
    seconds: tuple[float, ...]
    peak: int | None = None
    error: float | None = None
    floor: float | None = None

    @property
    def least(self) -> float:
        return min(self.seconds)


@dataclass(frozen=True, slots=True)
class Report:
    """Rows and gates of a benchmark. `ours` is the contender that the others are divided by, within each case."""

    name: str
    about: str
    ours: str
    rows: tuple[Row, ...]
    gates: tuple[Gate, ...]
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return all(gate.holds for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"ratio": self.ratio(row)} for row in self.rows]
        gates = [asdict(gate) | {"holds": gate.holds, "met": gate.met} for gate in self.gates]
        return {
            "name": self.name, "about": self.about, "ours": self.ours, "holds": self.holds, "rows": rows,
            "gates": gates, "notes": list(self.notes),
        }  # fmt: skip

    def ratio(self, row: Row) -> tuple[float, float, float] | None:
        """Seconds of `row` over ours of the same case: of the least, then lowest and highest over the rounds.

        None where ours is not in the case.
        """
        ours = next((one for one in self.rows if one.case == row.case and one.contender == self.ours), None)
        if ours is None:
            return None
        pairs = [theirs / own for theirs, own in zip(row.seconds, ours.seconds, strict=True)]
        return row.least / ours.least, min(pairs), max(pairs)


def seconds_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times faster: the least seconds of one over the least of the other."""
    return min(slower) / min(faster)


def table(report: Report) -> str:
    """The report as text, gates last."""
    parts = [f"{report.name}: {report.about}", "", *_aligned(_rows(report)), "", *_aligned(_gates(report.gates))]
    return "\n".join([*parts, *(f"note: {note}" for note in report.notes)])


def markdown(report: Report) -> str:
    """The report as a section of a Markdown page."""
    lines = [f"## {report.name}", "", report.about, "", *_piped(_rows(report)), "", *_piped(_gates(report.gates))]
    for note in report.notes:
        lines += ["", note]
    return "\n".join([*lines, ""])


def from_json(told: dict[str, Any]) -> Report:
    """The report that `Report.to_json` wrote."""
    rows = tuple(
        Row(**{name: value for name, value in row.items() if name != "ratio"} | {"seconds": tuple(row["seconds"])})
        for row in told["rows"]
    )
    gates = tuple(
        Gate(**{name: value for name, value in gate.items() if name not in ("holds", "met")}) for gate in told["gates"]
    )
    return Report(told["name"], told["about"], told["ours"], rows, gates, tuple(told["notes"]))


def _rows(report: Report) -> list[list[str]]:
    head = [
        "case",
        "contender",
        "CPU s (least .. most)",
        f"x / {report.ours} (rounds)",
        "peak MiB",
        "grad. error",
        "GEMM share",
    ]
    return [head, *(_row(report, row) for row in report.rows)]


def _row(report: Report, row: Row) -> list[str]:
    ratio = report.ratio(row)
    return [
        row.case,
        row.contender,
        f"{row.least:.4g} .. {max(row.seconds):.4g}",
        "" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f} .. {ratio[2]:.2f})",
        "" if row.peak is None else f"{row.peak / MIB:.1f}",
        "" if row.error is None else f"{row.error:.1e}",
        "" if row.floor is None else f"{row.floor:.0%}",
    ]


def _gates(gates: Sequence[Gate]) -> list[list[str]]:
    return [["gate", "measured", "bound", "aim", "reached"], *(gate.cells() for gate in gates)]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _piped(rows: list[list[str]]) -> list[str]:
    head, *rest = rows
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rest]]
