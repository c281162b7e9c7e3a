"""Figures of the papers drawn by code from a run: Zephyr's Figure 2 (its three steps, each with a row in it), and of
KD + DAE Figure 2 (attention maps as triangles) and Figure 3 (which teacher each row of a batch follows).

Everything that is shown comes from the caller; nothing here knows a number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike

from zephyr_lab.reporting.style import COLOURS, GREY, WIDE, Picture

HEIGHT = 3.5  # inches
_LETTERS = 36  # of a line in a box
_LINE = 0.047  # height of a line, in parts of the panel
_PAD = 0.022
_GAP = 0.075  # between two boxes, room for an arrow
_CLOSE = 0.01  # between boxes that belong together


@dataclass(frozen=True)
class Answer:
    """An answer of a preference pair with the score it was rated."""

    text: str
    score: float


@dataclass(frozen=True)
class Moved:
    """Mean log-probability in nats of one side of the held-out pairs, before dDPO and after."""

    before: float
    after: float


@dataclass(frozen=True)
class PipelineRows:
    """What the figure shows of a run: `dialogue` as (role, text), `dialogues` and `pairs` how many were trained on."""

    dialogue: Sequence[tuple[str, str]]
    dialogues: int
    prompt: str
    chosen: Answer
    rejected: Answer
    writers: int
    pairs: int
    moved_chosen: Moved
    moved_rejected: Moved
    beta: float
    epochs: int


def pipeline(rows: PipelineRows) -> Picture:
    """The three steps side by side: dialogues and dSFT, rated answers made pairs, dDPO of the dSFT model."""
    figure = Picture(figsize=(WIDE, HEIGHT), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    _column(first, "1 · distilled SFT (dSFT)", [
        _Box(f"one of {rows.dialogues:,} dialogues", GREY),
        *(_Box(text, COLOURS["dsft"] if role == "assistant" else "0.3", role) for role, text in rows.dialogue),
        _Box("base model  →  dSFT model", COLOURS["dsft"], filled=True),
    ])  # fmt: skip
    _column(second, "2 · AI feedback (AIF)", [
        _Box(rows.prompt, "0.3", "prompt"),
        _Box(f"{rows.writers} writers answer, a judge rates", GREY),
        _Box(rows.chosen.text, COLOURS["chosen"], f"chosen, rated {rows.chosen.score:.3g}"),
        _Box(rows.rejected.text, COLOURS["rejected"], f"rejected, rated {rows.rejected.score:.3g}", beside=True),
        _Box(f"{rows.pairs:,} preference pairs", COLOURS["ddpo"], filled=True),
    ])  # fmt: skip
    _column(third, "3 · distilled DPO (dDPO)", [
        _Box(f"beta {rows.beta:g}, {rows.epochs} epochs, reference: dSFT model", GREY),
        _Box(_moved(rows.moved_chosen), COLOURS["chosen"], "log-prob of held-out chosen"),
        _Box(_moved(rows.moved_rejected), COLOURS["rejected"], "log-prob of held-out rejected", beside=True),
        _Box("dSFT model  →  dDPO model", COLOURS["ddpo"], filled=True),
    ])  # fmt: skip
    return figure


@dataclass(frozen=True)
class _Box:
    """A box of a column: `name` is written small above its text; `filled` marks what a step gives, `beside` what
    belongs to the box above and does not follow from it."""

    text: str
    colour: str
    name: str = ""
    filled: bool = False
    beside: bool = False

    @property
    def lines(self) -> list[str]:
        return wrap(self.text, _LETTERS) or [""]

    @property
    def height(self) -> float:
        return _LINE * (len(self.lines) + bool(self.name)) + 2 * _PAD


def _column(ax: Axes, title: str, boxes: Sequence[_Box]) -> None:
    """Boxes from top to bottom with arrows between them; the last one is at the bottom of every column."""
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_title(title, fontweight="bold")
    *upper, last = boxes
    beside = sum(box.beside for box in upper)
    free = 1 - sum(box.height for box in boxes) - _CLOSE * beside
    gap = min(_GAP, free / (len(upper) - beside))
    top = 1.0
    for box, following in pairwise(boxes):
        _draw(ax, box, top)
        top -= box.height
        if not following.beside:
            _arrow(ax, top, last.height if following is last else top - gap)
        top -= _CLOSE if following.beside else gap
    _draw(ax, last, last.height)


def _draw(ax: Axes, box: _Box, top: float) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (0.01, top - box.height + 0.008),
            0.98,
            box.height - 0.016,
            boxstyle="round,pad=0,rounding_size=0.02",
            edgecolor=box.colour,
            facecolor=(box.colour, 0.18) if box.filled else "white",
            linewidth=1.2,
        )
    )
    y = top - _PAD
    if box.name:
        ax.text(0.05, y, box.name, fontsize=6.3, color=box.colour, va="top", fontweight="bold")
        y -= _LINE
    weight = "bold" if box.filled else "normal"
    ax.text(0.05, y, "\n".join(box.lines), fontsize=6.8, va="top", linespacing=1.25, fontweight=weight)


def _arrow(ax: Axes, start: float, end: float) -> None:
    ax.annotate("", (0.5, end), (0.5, start), arrowprops={"arrowstyle": "-|>", "color": "0.4", "linewidth": 1.0})


def _moved(side: Moved) -> str:
    return f"{side.before:.2f}  →  {side.after:.2f} nats"


_MAP = "Greys"  # from white to black, so that a grey print loses nothing
_LINE_BREAK = "⏎"
_PANEL = 1.75  # inches that a triangle is wide, about


def attention_triangles(maps: Mapping[str, ArrayLike], tokens: Sequence[str], *, title: str) -> Picture:
    """One triangle a model: row j holds the weights that token j gives to tokens i <= j, darker for more.

    maps: name -> square array, rows that sum to 1. Weights are shown by their square root, so that small ones are seen.
    Raises ValueError for a map whose size is not the number of tokens.
    """
    for name, weights in maps.items():
        if np.shape(weights) != (len(tokens), len(tokens)):
            raise ValueError(f"the map of {name!r} is {np.shape(weights)}, for {len(tokens)} tokens")
    figure = Picture(figsize=(WIDE, 2.75), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(maps), sharey=True))
    names = [token.replace("\n", _LINE_BREAK).strip(" ") or "␣" for token in tokens]
    size = min(5.0, _PANEL * 72 / (1.15 * len(tokens)))  # points: the names of neighbours must not touch
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    above = np.triu(np.ones((len(tokens), len(tokens)), dtype=bool), k=1)
    for ax, (name, weights) in zip(axes, maps.items(), strict=True):
        shown = np.ma.masked_array(np.asarray(weights, dtype=float), mask=above)
        image = ax.pcolormesh(shown, cmap=_MAP, norm=norm, edgecolors="0.88", linewidth=0.2, rasterized=True)
        ax.set_aspect("equal")
        ax.invert_yaxis()
        ax.set_title(name)
        ax.set_xticks(np.arange(len(tokens)) + 0.5, names, rotation=90, fontsize=size)
        ax.tick_params(length=0)
        ax.set_xlabel("looked at")
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
    axes[0].set_yticks(np.arange(len(tokens)) + 0.5, names, fontsize=size)
    axes[0].set_ylabel("token that looks")
    figure.suptitle(title, fontsize=8)
    figure.colorbar(image, ax=list(axes), label="weight", ticks=[0, 0.1, 0.25, 0.5, 1], shrink=0.7, aspect=24)
    return figure


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
