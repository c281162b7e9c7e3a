"""Sliders for a picture: live in JupyterLab, and a twin that moves in an exported page, without kernel or network.

The twin holds the numbers of every setting and draws them itself. A run by the lab's runner shows the twin, since the
state of a widget dies with its kernel; an interactive kernel shows the live sliders.
"""

import html
import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from zephyr_lab.core import files
from zephyr_lab.reporting import figures
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.teaching import controls, toy
from zephyr_lab.teaching.few_preferences import best_for, fit_rewards
from zephyr_lab.teaching.toy import PairTable, Toy


@dataclass(frozen=True)
class Control:
    """A slider: the argument it sets, how it is called, and the places it can stand at; `start` is one of them."""

    name: str
    label: str
    values: tuple[float | int, ...]
    start: float | int

    def __post_init__(self) -> None:
        if self.start not in self.values:
            raise ValueError(f"{self.name} starts at {self.start}, which is none of {self.values}")


CONTROLS = (
    Control("beta", "beta", controls.BETAS, 0.5),
    Control("noise", "share of wrong labels", controls.NOISES, 0.0),
    Control("count", "preferences", controls.COUNTS, 100),
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
    """Sliders over `controls.explore`: live widgets in an interactive kernel, their twin where the runner executes."""
    return twin() if executed_by_the_runner() else live()


def executed_by_the_runner() -> bool:
    """Whether this kernel belongs to a recorded run, whose widgets nobody would ever move."""
    return bool(os.environ.get("ZEPHYR_LAB_RECORD"))


def live(
    controls: Sequence[Control] = CONTROLS,
    outcome: Callable[..., controls.Outcome] = controls.explore,
) -> Any:
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
        found = outcome(**{name: slider.value for name, slider in sliders.items()})
        printed.value = f'<span class="zl-value">{html.escape(found.caption)}</span>'
        shown.value = controls.picture(found).encode("png")

    for slider in sliders.values():
        slider.observe(follow, names="value")
    follow()
    return ipywidgets.VBox([*sliders.values(), printed, shown])


def twin(
    controls: Sequence[Control] = CONTROLS,
    outcome: Callable[..., controls.Outcome] = controls.explore,
) -> Twin:
    """The same sliders with the outcome of every setting inside."""
    outcomes = [
        outcome(**{control.name: value for control, value in zip(controls, values, strict=True)})
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
        "answers": [f"{name} (r = {r:g})" for name, r in zip(controls.NAMES, controls.REWARDS, strict=True)],
        "policies": list(controls.POLICIES),
        "outcomes": [
            [[round(p, 4) for p in one.probabilities[name]] for name in controls.POLICIES] + [one.caption]
            for one in outcomes
        ],
    }
    # "<" would let a text end the script
    inside = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    name = f"zl-twin-{files.sha256_bytes(inside.encode())[:8]}"
    page = _PAGE.replace("NAME", name).replace("DATA", inside)
    return Twin(page, len(outcomes))


_PAGE = """<div id="NAME" style="font:13px sans-serif;max-width:560px">
<div class="sliders"></div>
<p class="value" role="status" style="min-height:1.3em"></p>
<div class="plot"></div>
<script>
(function () {
  const data = DATA;
  const root = document.getElementById("NAME");
  const colours = ["#bfbfbf", "#000000", "#de8f05"];
  const places = data.controls.map(control => control.start);

  function bars(outcome) {
    const width = 540, height = 230, floor = 190, top = 20, group = width / data.answers.length;
    let drawn = "";
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const y = floor - share * (floor - top);
      drawn += `<line x1="30" x2="${width}" y1="${y}" y2="${y}" stroke="#ddd"/>` +
               `<text x="26" y="${y + 4}" font-size="10" text-anchor="end">${share}</text>`;
    }
    data.answers.forEach((answer, place) => {
      data.policies.forEach((policy, which) => {
        const share = outcome[which][place], tall = share * (floor - top);
        const x = 34 + place * (group - 6) + which * 26;
        drawn += `<rect class="bar" x="${x}" y="${floor - tall}" width="23" height="${tall}" ` +
                 `fill="${colours[which]}" stroke="#333"><title>${policy}: ${share}</title></rect>`;
      });
      drawn += `<text x="${34 + place * (group - 6) + 38}" y="${floor + 16}" font-size="11" ` +
               `text-anchor="middle">${answer}</text>`;
    });
    data.policies.forEach((policy, which) => {
      drawn += `<rect x="${150 + which * 110}" y="0" width="11" height="11" fill="${colours[which]}" stroke="#333"/>` +
               `<text x="${166 + which * 110}" y="10" font-size="11">${policy}</text>`;
    });
    return `<svg viewBox="0 0 ${width} ${height}" width="100%" role="img" ` +
           `aria-label="probability of each answer">${drawn}</svg>`;
  }

  function follow() {
    const index = data.controls.reduce((sum, control, at) => sum * control.values.length + places[at], 0);
    const outcome = data.outcomes[index];
    root.querySelector(".value").textContent = outcome[data.policies.length];
    root.querySelector(".plot").innerHTML = bars(outcome);
  }

  data.controls.forEach((control, at) => {
    const line = document.createElement("label");
    line.style.cssText = "display:flex;gap:.8em;align-items:center;margin:.3em 0";
    const text = document.createElement("span"), now = document.createElement("output");
    text.textContent = control.label;
    text.style.width = "11em";
    now.textContent = control.values[places[at]];
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: control.values.length - 1, step: 1, value: places[at] });
    slider.setAttribute("aria-label", control.label);
    slider.style.width = "16em";
    slider.addEventListener("input", () => {
      places[at] = Number(slider.value);
      now.textContent = control.values[places[at]];
      follow();
    });
    line.append(text, slider, now);
    root.querySelector(".sliders").append(line);
  });
  follow();
})();
</script>
</div>"""


NAMES = ("A", "B", "C", "D", "E")
REWARDS = (1.0, 0.6, 0.0, -0.5, -1.0)
REFERENCE = (0.1, 0.15, 0.4, 0.25, 0.1)
BETAS = (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0)
NOISES = (0.0, 0.1, 0.2, 0.3, 0.4)
COUNTS = (10, 30, 100, 300, 1000, 3000)
SEED, PENALTY = 8, 1.0  # of the first twelve streams the one nearest to their median
POLICIES = ("reference", "optimum", "DPO")
_LOOKS = {"reference": ("0.75", ""), "optimum": ("black", ""), "DPO": (figures.COLOURS["ddpo"], "////")}


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


def explore(beta: float, noise: float, count: int) -> Outcome:
    """What DPO learns from `count` preferences, of which the share `noise` is labelled the wrong way round.

    Raises ValueError for a beta that is not positive, a noise outside [0, 0.5), or a count from below 1 to above the
    stream's length.
    """
    given = Toy(_table(REWARDS), _table(REFERENCE).log(), beta)
    policy = best_for(given, fit_rewards(_counts(noise, count), penalty=PENALTY))
    tables = {"reference": given.reference, "optimum": toy.optimum(given), "DPO": policy}
    return Outcome(
        probabilities={name: tuple(table.exp().flatten().tolist()) for name, table in tables.items()},
        reward=float(toy.expected_reward(given, policy)),
        kl_to_optimum=float(toy.kl(policy, toy.optimum(given))),
        lost=float(toy.lost_share(given, policy)),
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


def _table(numbers: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).view(1, 1, -1)


def _counts(noise: float, count: int) -> PairTable:
    """The first `count` preferences of the stream as a table of counts."""
    first, second, better, wrong = _stream()
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise must be in [0, 0.5), got {noise} (a share of labels turned round)")
    if not 1 <= count <= len(first):
        raise ValueError(f"count must be from 1 to {len(first):,}, got {count}")
    rewards = np.array(REWARDS)
    first_wins = better < 1 / (1 + np.exp(rewards[second] - rewards[first]))
    said = np.where(wrong < noise, ~first_wins, first_wins)[:count]
    chosen, rejected = np.where(said, first[:count], second[:count]), np.where(said, second[:count], first[:count])
    table = np.zeros((len(NAMES), len(NAMES)))
    np.add.at(table, (chosen, rejected), 1.0)
    return torch.from_numpy(table)[None, None]


@cache
def _stream() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of different answers drawn from the reference, and the random numbers that label them."""
    generator = np.random.default_rng(SEED)
    drawn = generator.choice(len(NAMES), size=(4 * max(COUNTS), 2), p=REFERENCE)
    first, second = drawn[drawn[:, 0] != drawn[:, 1]].T
    return first, second, generator.random(len(first)), generator.random(len(first))
