"""Figure 2 of KD + DAE from real maps: triangles of attention weights, one a model, on one scale."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from numpy.typing import ArrayLike

from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import WIDE

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
