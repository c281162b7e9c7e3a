"""How hard each pairwise loss pulls on a pair, by how far apart the pair is already: derivatives of the losses."""

from collections.abc import Callable, Mapping

import pandas as pd
import torch

from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import Picture, looks

MARGINS = (-4.0, 16.0)  # nats: from a pair that is lost to one that is far apart
POINTS = 101


PairLoss = Callable[[PairLogProbs, PairLogProbs], torch.Tensor]


def slopes(losses: Mapping[str, PairLoss]) -> pd.DataFrame:
    """-d loss / d margin over the margin h, a line a loss, each divided by its own pull at h = 0: columns series, x, y.

    losses: by name a function of (policy, reference) of which the margin h alone decides. Above 0 the pair is pulled
    further apart, below 0 together again.
    """
    grid = torch.linspace(*MARGINS, POINTS, dtype=torch.float64)
    parts = []
    for series, loss in losses.items():
        pull, at_start = _pull(loss, grid), _pull(loss, torch.zeros(1, dtype=torch.float64))
        parts.append(pd.DataFrame({"series": series, "x": grid.numpy(), "y": (pull / at_start).numpy()}))
    return pd.concat(parts, ignore_index=True)


def picture(lines: pd.DataFrame) -> Picture:
    """`slopes` as lines, with a line where nothing pulls."""
    drawn, (ax,) = figures.panels(1, height=2.6, width=5.2)
    styles = looks(lines["series"])
    for series, part in lines.groupby("series", sort=False):
        look = styles[str(series)]
        ax.plot(part["x"], part["y"], color=look.colour, marker=look.marker, markevery=10, markersize=4, label=series)
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_xlabel("margin h, nats")
    ax.set_ylabel("pull, relative to h = 0")
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend()
    return drawn


def _pull(loss: PairLoss, margins: torch.Tensor) -> torch.Tensor:
    """-d loss / d margin, the margin given to the chosen response alone."""
    chosen = margins.clone().requires_grad_(True)
    nothing = torch.zeros_like(margins)
    losses = loss(PairLogProbs(chosen, nothing), PairLogProbs(nothing, nothing))
    return -torch.autograd.grad(losses.sum(), chosen)[0]
