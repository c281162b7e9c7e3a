"""Figure 3 of KD + DAE from a real batch: which teacher each row follows, and the targets stacked in their order.

Everything shown comes from the caller: a row's kind, the teacher it ran through, its tokens, its divergences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import COLOURS, WIDE

_EXPERT, _GENERAL = "expert", "general"
_NAMES = {_EXPERT: "domain\nexpert", _GENERAL: "frozen\nreference"}
_LOOKS = {_EXPERT: (COLOURS["dae"], "////"), _GENERAL: (COLOURS["kd"], "")}
_BATCH, _TEACHERS, _TARGETS = (0.0, 0.27), (0.44, 0.56), (0.73, 0.9)  # x from, to of the three columns
_BAR = 0.7  # of a row's height


@dataclass(frozen=True)
class RoutedRow:
    """A row of a batch. teacher: "expert", "general" or "" where none is asked; losses: its divergence from that
    teacher in nats a token, before the first update and after the last."""

    is_domain: bool
    teacher: str
    tokens: int
    loss_before: float
    loss_after: float


def routing(rows: Sequence[RoutedRow], *, title: str) -> Picture:
    """The batch on the left (bar: tokens), a line to each row's teacher, and on the right the rows as the target stacks
    them, the expert's first (outline: divergence before training, bar: after it). `title` names the batch.

    Raises ValueError for a batch without rows.
    """
    if not rows:
        raise ValueError("a batch has at least one row")
    figure = Picture(figsize=(WIDE, 0.9 + 0.125 * max(len(rows), 12)), layout="constrained")
    ax = figure.subplots()
    ax.set_axis_off()
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(len(rows) + 0.3, -1.6)
    counts = {name: sum(row.teacher == name for row in rows) for name in _NAMES}
    heights = _teacher_places(len(rows))
    for name, (top, bottom) in heights.items():
        _box(ax, name, top, bottom, counts[name])
    stacked = sorted(range(len(rows)), key=lambda place: (rows[place].teacher != _EXPERT, rows[place].teacher == ""))
    most_tokens = max(row.tokens for row in rows)
    most_loss = max(max(row.loss_before, row.loss_after) for row in rows) or 1.0
    for place, row in enumerate(rows):
        colour, hatch = _LOOKS[_EXPERT if row.is_domain else _GENERAL]
        start, width = _BATCH[0], (_BATCH[1] - _BATCH[0]) * row.tokens / most_tokens
        ax.barh(place, width, left=start, height=_BAR, color=colour, hatch=hatch, edgecolor="white", linewidth=0.3)
        if row.teacher:
            y = _within(heights[row.teacher], place, len(rows))
            _line(ax, (start + width, float(place)), (_TEACHERS[0], y), _LOOKS[row.teacher][0])
    for place, number in enumerate(stacked):
        row = rows[number]
        if not row.teacher:
            continue
        start = (_TEACHERS[1], _within(heights[row.teacher], place, len(rows)))
        _line(ax, start, (_TARGETS[0], float(place)), _LOOKS[row.teacher][0])
        _target(ax, row, place, (_TARGETS[1] - _TARGETS[0]) / most_loss)
    for x, words in (
        (_BATCH[0], f"{title}, {len(rows)} rows\n(bar: tokens; hatched: domain)"),
        (sum(_TEACHERS) / 2, "each row runs through\nits own teacher alone"),
        (_TARGETS[0], "stacked targets of the student (KL in nats\na token: outline before training, bar after)"),
    ):
        ax.text(x, -0.8, words, fontsize=7, va="bottom", ha="center" if x == sum(_TEACHERS) / 2 else "left")
    return figure


def _target(ax: Axes, row: RoutedRow, place: int, scale: float) -> None:
    """A row's divergences: an outline before training, a bar after it, and both as numbers."""
    colour, hatch = _LOOKS[row.teacher]
    before, after = scale * row.loss_before, scale * row.loss_after
    left = _TARGETS[0]
    ax.barh(place, after, left=left, height=_BAR, color=colour, hatch=hatch, edgecolor="white", linewidth=0.3)
    ax.barh(place, before, left=left, height=_BAR, facecolor="none", edgecolor="0.25", linewidth=0.7)
    ax.plot([left] * 2, [place - _BAR / 2, place + _BAR / 2], color=colour, linewidth=1.2)
    words = f"{row.loss_before:.2g} → {row.loss_after:.2g}"
    ax.text(left + max(before, after) + 0.008, place, words, fontsize=5.5, va="center")


def _teacher_places(rows: int) -> dict[str, tuple[float, float]]:
    """Top and bottom of each teacher's box, the expert above."""
    middle = rows * 0.36
    return {_EXPERT: (rows * 0.08, middle - rows * 0.06), _GENERAL: (middle + rows * 0.06, rows * 0.92)}


def _within(box: tuple[float, float], place: int, rows: int) -> float:
    """A height inside a box for the line of row `place`, so that lines keep their order."""
    top, bottom = box
    margin = 0.15 * (bottom - top)
    return top + margin + (bottom - top - 2 * margin) * place / max(rows - 1, 1)


def _box(ax: Axes, name: str, top: float, bottom: float, count: int) -> None:
    colour, _ = _LOOKS[name]
    ax.add_patch(FancyBboxPatch(
        (_TEACHERS[0], top), _TEACHERS[1] - _TEACHERS[0], bottom - top, boxstyle="round,pad=0,rounding_size=0.02",
        mutation_aspect=40, edgecolor=colour, facecolor=(colour, 0.15), linewidth=1.3,
    ))  # fmt: skip
    words = f"{_NAMES[name]}\n{count} row{'' if count == 1 else 's'}"
    ax.text(sum(_TEACHERS) / 2, (top + bottom) / 2, words, fontsize=7.5, ha="center", va="center", color="0.15")


def _line(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    ax.plot(*zip(start, end, strict=True), color=colour, linewidth=0.6, alpha=0.7, solid_capstyle="butt")
