"""One look for all figures: sizes, fonts, and a colour and marker for each method that never change.

Shape and line carry every difference, so a figure survives a grey print and any kind of colour vision; colour only
helps. Ours is filled and solid, published is hollow and dashed, in the same hue.
"""

from collections.abc import Iterable
from typing import NamedTuple

import matplotlib
import seaborn

NARROW, WIDE = 3.4, 7.0  # inches: one column of a paper, two columns

GREY = "#6b6b6b"  # for what is theirs: 5.3 to 1 on white, readable and clearly set back
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
    for more unknown names than there are markers that can be told apart in grey.
    """
    names = list(dict.fromkeys(names))
    fixed = {name: LOOKS[name] for name in names if name in LOOKS}
    taken_markers = {look.marker for look in fixed.values()}
    taken_colours = {look.colour for look in fixed.values()}
    markers = [marker for marker in _SPARE_MARKERS if marker not in taken_markers]
    colours = [colour for colour in _PALETTE if colour not in taken_colours] or list(_PALETTE)
    unknown = [name for name in names if name not in fixed]
    if len(unknown) > len(markers):
        raise ValueError(f"{len(unknown)} series without a look of their own; at most {len(markers)} can be told apart")
    spare = {name: Look(colours[i % len(colours)], markers[i]) for i, name in enumerate(unknown)}
    return {name: fixed.get(name) or spare[name] for name in names}
