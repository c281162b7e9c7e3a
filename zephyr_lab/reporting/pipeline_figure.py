"""Figure 2 of Zephyr drawn by code: its three steps, each with a row of a run in it.

Everything that is written into the boxes comes from the caller; nothing here knows a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import COLOURS, GREY, WIDE

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
    """A box of a column: `name` stands small above its text; `filled` marks what a step gives, `beside` what belongs to
    the box above and does not follow from it."""

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
    """Boxes from top to bottom with arrows between them; the last one stands at the bottom in every column."""
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
