"""One prompt with five answers, to play with: what beta, wrong labels and the number of preferences do to DPO.

Sliders move it: live in JupyterLab, and in a twin for an exported page, without kernel or network, which holds the
numbers of every setting. A run by the lab's runner shows the twin, since the state of a widget dies with its kernel.
The preferences of every setting come from one fixed stream of random numbers, so that a moved slider shows its own
effect and not a fresh draw. DPO is run to its end with a penalty of 1 on rewards, which without one would have none.
"""

import html
import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zephyr_lab.core import files, session
from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import Picture
from zephyr_lab.teaching import toy
from zephyr_lab.teaching.few_preferences import best_for, fit_rewards
from zephyr_lab.teaching.toy import PairTable, Toy

NAMES = ("A", "B", "C", "D", "E")
REWARDS = (1.0, 0.6, 0.0, -0.5, -1.0)
REFERENCE = (0.1, 0.15, 0.4, 0.25, 0.1)
SEED, PENALTY = 8, 1.0  # of the first twelve streams the one nearest to their median
POLICIES = ("reference", "optimum", "DPO")
PAGE = Path(__file__).with_name("sliders.html")
_LOOKS = {"reference": ("0.75", ""), "optimum": ("black", ""), "DPO": (figures.COLOURS["ddpo"], "////")}


@dataclass(frozen=True)
class Control:
    """A slider: the argument it sets, its label, its positions, and the one it starts at."""

    name: str
    label: str
    values: tuple[float | int, ...]
    start: float | int

    def __post_init__(self) -> None:
        if self.start not in self.values:
            raise ValueError(f"{self.name} starts at {self.start}, which is none of {self.values}")


CONTROLS = (
    Control("beta", "beta", (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0), 0.5),
    Control("noise", "share of wrong labels", (0.0, 0.1, 0.2, 0.3, 0.4), 0.0),
    Control("count", "preferences", (10, 30, 100, 300, 1000, 3000), 100),
)


@dataclass(frozen=True)
class Outcome:
    """Probabilities of the five answers under `POLICIES`, and what DPO's policy is worth."""

    probabilities: dict[str, tuple[float, ...]]
    reward: float
    kl_to_optimum: float
    lost: float

    @property
    def caption(self) -> str:
        """One line: "reward 0.52, KL to the optimum 0.034 nats, 7 % of the achievable gain lost"."""
        return (
            f"reward {self.reward:.2f}, KL to the optimum {self.kl_to_optimum:.3f} nats, "
            f"{100 * self.lost:.0f} % of the achievable gain lost"
        )


@dataclass(frozen=True)
class Twin:
    """The static twin: a page in a page, of a few kB, as HTML; plain text says what it is."""

    html: str
    settings: int

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"sliders for {', '.join(control.label for control in CONTROLS)}: {self.settings} settings"


def play() -> Any:
    """Sliders over `explore`: live widgets in an interactive kernel, their twin where the runner executes."""
    return twin() if os.environ.get("ZEPHYR_LAB_RECORD") else live()


def explore(beta: float, noise: float, count: int) -> Outcome:
    """What DPO learns from `count` preferences, of which the share `noise` is labelled the wrong way round.

    Raises ValueError for a beta that is not positive, a noise outside [0, 0.5), or a count from below 1 to above the
    stream's length.
    """
    one = Toy(_table(REWARDS), _table(REFERENCE).log(), beta)
    policy = best_for(one, fit_rewards(_counts(noise, count), penalty=PENALTY))
    tables = {"reference": one.reference, "optimum": toy.optimum(one), "DPO": policy}
    return Outcome(
        probabilities={name: tuple(table.exp().flatten().tolist()) for name, table in tables.items()},
        reward=float(toy.expected_reward(one, policy)),
        kl_to_optimum=float(toy.kl(policy, toy.optimum(one))),
        lost=float(toy.lost_share(one, policy)),
    )


def picture(outcome: Outcome) -> Picture:
    """Bars: the probability of each answer under reference, optimum and DPO's policy."""
    drawn, (ax,) = figures.panels(1, height=2.5, width=5.2)
    places = np.arange(len(NAMES))
    for shift, name in zip((-0.27, 0.0, 0.27), POLICIES, strict=True):
        colour, hatch = _LOOKS[name]
        ax.bar(places + shift, outcome.probabilities[name], width=0.25, color=colour, hatch=hatch, edgecolor="0.2",
               linewidth=0.5, label=name)  # fmt: skip
    ax.set_xticks(places, [f"{name}\nr = {reward:g}" for name, reward in zip(NAMES, REWARDS, strict=True)])
    ax.set_ylim(0, 1)
    ax.set_ylabel("probability")
    ax.legend(loc="upper right")
    return drawn


def live(controls: Sequence[Control] = CONTROLS, outcome: Callable[..., Outcome] = explore) -> Any:
    """A box of ipywidgets: one slider a control, the printed value and the picture, which follow every move."""
    import ipywidgets

    sliders = {
        control.name: ipywidgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in control.values],
            value=control.start,
            description=control.label,
            style={"description_width": "11em"},
            layout={"width": "28em"},
        )
        for control in controls
    }
    printed, shown = ipywidgets.HTML(), ipywidgets.Image(format="png", width=520)

    def follow(_: Any = None) -> None:
        now = outcome(**{name: slider.value for name, slider in sliders.items()})
        printed.value = f'<span class="zl-value">{html.escape(now.caption)}</span>'
        shown.value = picture(now).encode("png")

    for slider in sliders.values():
        slider.observe(follow, names="value")
    follow()
    return ipywidgets.VBox([*sliders.values(), printed, shown])


def twin(controls: Sequence[Control] = CONTROLS, outcome: Callable[..., Outcome] = explore) -> Twin:
    """The same sliders with the outcome of every setting inside."""
    names = [control.name for control in controls]
    outcomes = [
        outcome(**dict(zip(names, values, strict=True)))
        for values in itertools.product(*(control.values for control in controls))
    ]
    data = {
        "controls": [
            {
                "label": control.label,
                "values": [f"{value:g}" for value in control.values],
                "start": control.values.index(control.start),
            }
            for control in controls
        ],
        "answers": [f"{name} (r = {r:g})" for name, r in zip(NAMES, REWARDS, strict=True)],
        "policies": list(POLICIES),
        "outcomes": [
            [[round(p, 4) for p in one.probabilities[name]] for name in POLICIES] + [one.caption] for one in outcomes
        ],
    }
    # "<" would let a text end the script
    inside = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    session.read_file(PAGE, name="zephyr_lab/teaching/sliders.html")  # a changed page makes the run stale
    page = PAGE.read_text(encoding="utf-8").rstrip("\n")
    page = page.replace("NAME", f"zl-twin-{files.sha256_bytes(inside.encode())[:8]}").replace("DATA", inside)
    return Twin(page, len(outcomes))


def _table(numbers: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).view(1, 1, -1)


def _counts(noise: float, count: int) -> PairTable:
    """The first `count` preferences of the stream as a table of counts."""
    first, second, better, wrong = _stream()
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise must be in [0, 0.5), got {noise} (a share of swapped labels)")
    if not 1 <= count <= len(first):
        raise ValueError(f"count must be from 1 to {len(first):,}, got {count}")
    rewards = np.array(REWARDS)
    first_wins = better < 1 / (1 + np.exp(rewards[second] - rewards[first]))
    label = np.where(wrong < noise, ~first_wins, first_wins)[:count]
    chosen, rejected = np.where(label, first[:count], second[:count]), np.where(label, second[:count], first[:count])
    table = np.zeros((len(NAMES), len(NAMES)))
    np.add.at(table, (chosen, rejected), 1.0)
    return torch.from_numpy(table)[None, None]


@cache
def _stream() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of different answers drawn from the reference, and the random numbers that label them."""
    generator = np.random.default_rng(SEED)
    drawn = generator.choice(len(NAMES), size=(4 * max(CONTROLS[2].values), 2), p=REFERENCE)
    first, second = drawn[drawn[:, 0] != drawn[:, 1]].T
    return first, second, generator.random(len(first)), generator.random(len(first))
