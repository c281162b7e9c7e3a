"""One look for all figures: sizes, fonts, a colour and marker for each method that never change; and `Picture`, a
figure without window or backend that knows its bytes and shows itself in a notebook.

Shape and line carry every difference, so a figure survives a grey print and any kind of colour vision; colour only
helps. Ours is filled and solid, published is hollow and dashed, in the same hue.
"""

import io
from collections.abc import Iterable
from typing import NamedTuple

import matplotlib
import seaborn
from matplotlib.figure import Figure

from zephyr_lab.reporting import tables

GREY = tables.GREY  # of what is theirs
NARROW, WIDE = 3.4, 7.0  # inches: one column of a paper, two columns

_PALETTE = tuple(seaborn.color_palette("colorblind").as_hex())
_BLUE, _ORANGE, _GREEN, _RED, _PINK, _BROWN, _ROSE, _ASH, _YELLOW, _SKY = _PALETTE


class Look(NamedTuple):
    colour: str
    marker: str


# What an arm or a model looks like in every notebook.
LOOKS: dict[str, Look] = {
    "base": Look(_ASH, "X"),
    "dsft": Look(_BLUE, "o"),
    "dsft-2": Look(_SKY, "P"),
    "ddpo": Look(_ORANGE, "s"),
    "ddpo-dsft": Look(_BROWN, "v"),
    "kd": Look(_GREEN, "^"),
    "dae": Look(_RED, "D"),
    "draft": Look(_SKY, "P"),
    "eda": Look(_PINK, "h"),
    "reward": Look(_YELLOW, "*"),
    "rlhf": Look(_BROWN, "v"),
    "rloo": Look(_PINK, "<"),
    "train": Look(_BLUE, "o"),
    "eval": Look(_ORANGE, "s"),
    "chosen": Look(_GREEN, "^"),
    "rejected": Look(_RED, "v"),
    "GPT-4": Look(_BLUE, "o"),
    "GPT-3.5-turbo": Look(_GREEN, "^"),
    "Claude-v1": Look(_RED, "<"),
    "Claude-instant-v1": Look(_RED, "v"),
    "Llama-2-70b-chat": Look(_ORANGE, "s"),
    "Zephyr": Look("#000000", "*"),
}
COLOURS = {name: look.colour for name, look in LOOKS.items()}
MARKERS = {name: look.marker for name, look in LOOKS.items()}

# The methods that share an exhibit; within each the markers differ (a test holds them to it).
FAMILIES: tuple[tuple[str, ...], ...] = (
    ("base", "dsft", "dsft-2", "ddpo", "ddpo-dsft"),
    ("base", "dsft", "kd", "dae"),
    ("dsft", "ddpo", "kd", "dae", "reward", "rlhf", "rloo"),
    ("base", "draft", "eda"),
    ("train", "eval"),
    ("chosen", "rejected"),
    ("GPT-4", "GPT-3.5-turbo", "Claude-v1", "Claude-instant-v1", "Llama-2-70b-chat", "Zephyr"),
)
# Colour and hatch of each verdict: what holds in blues and greens, what does not in reds, what is open in greys.
VERDICT_FILLS: dict[str, tuple[str, str]] = {
    "reproduced": (_BLUE, ""),
    "direction only": (_SKY, "////"),
    "not resolved": (_YELLOW, "...."),
    "ruled out": (_ROSE, "||||"),
    "contradicted": (_RED, "xxxx"),
    "right": (_GREEN, ""),
    "imprecise": (_ORANGE, "\\\\\\\\"),
    "wrong": (_RED, "++"),
    "unsupported": (_PINK, "oo"),
    "not testable here": (_ASH, "--"),
    "not measured yet": ("#ffffff", ""),
}
_SPARE_MARKERS = "os^vP<X>*hp"


def house_style() -> None:
    """The only style of the lab, for this process: seaborn ticks, colour-blind palette, sizes for a two-column page."""
    seaborn.set_theme(style="ticks", palette="colorblind")
    matplotlib.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
            "font.size": 8,
            "axes.titlesize": 8.5,
            "axes.labelsize": 8,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "legend.fontsize": 7.5,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.8,
            "xtick.major.width": 0.8,
            "ytick.major.width": 0.8,
            "lines.linewidth": 1.4,
            "lines.markersize": 5,
            "svg.hashsalt": "zephyr_lab",
            "svg.fonttype": "path",  # letters as outlines: what is drawn does not depend on the reader's fonts
        }
    )


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name: the fixed one of a known method, else the first marker and colour still free.

    Unknown names get theirs in the order given, so the same list looks the same everywhere. Raises ValueError
    for more unknown names than there are markers that can be distinguished in grey.
    """
    names = list(dict.fromkeys(names))
    fixed = {name: LOOKS[name] for name in names if name in LOOKS}
    taken_markers = {look.marker for look in fixed.values()}
    taken_colours = {look.colour for look in fixed.values()}
    markers = [marker for marker in _SPARE_MARKERS if marker not in taken_markers]
    colours = [colour for colour in _PALETTE if colour not in taken_colours] or list(_PALETTE)
    unknown = [name for name in names if name not in fixed]
    if len(unknown) > len(markers):
        raise ValueError(
            f"{len(unknown)} series without a look of their own; at most {len(markers)} can be distinguished"
        )
    spare = {name: Look(colours[i % len(colours)], markers[i]) for i, name in enumerate(unknown)}
    return {name: fixed.get(name) or spare[name] for name in names}


SALT = "zephyr_lab"
_METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
_SCREEN = 96  # CSS pixels an inch
_DIGITS = 9  # of a place, as a share of the page


class Picture(Figure):
    """A matplotlib Figure that no pyplot knows of, so nothing draws it twice or keeps it in memory."""

    def encode(self, format: str) -> bytes:
        """The figure as "svg" or "png": no date, no program version, fixed salt, letters as outlines.

        The same figure gives the same bytes in any process of one installation, however often it is asked.
        """
        self._settle()
        content = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": SALT, "svg.fonttype": "path"}):
            self.savefig(content, format=format, metadata=_METADATA[format], facecolor="white", dpi=200)
        return content.getvalue()

    def _settle(self) -> None:
        """Lay the page out once and for all: constrained layout moves a little with every further drawing.

        Its solver adds up in an order that memory addresses decide, so places differ in their last bit from one run to
        the next, and with them the names of clip paths. They are rounded to far less than a pixel.
        """
        self.draw_without_rendering()
        self.set_layout_engine("none")
        for ax in self.axes:
            if ax.get_axes_locator() is None:  # else each drawing places it again
                ax.set_position([round(edge, _DIGITS) for edge in ax.get_position(original=True).bounds])

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """What a notebook shows: the PNG, at its size in inches whatever its resolution."""
        width, height = (round(float(inches) * _SCREEN) for inches in self.get_size_inches())
        return self.encode("png"), {"width": width, "height": height}
