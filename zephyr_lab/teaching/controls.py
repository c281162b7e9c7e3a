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
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.teaching import explorer


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
    Control("beta", "beta", explorer.BETAS, 0.5),
    Control("noise", "share of wrong labels", explorer.NOISES, 0.0),
    Control("count", "preferences", explorer.COUNTS, 100),
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
    """Sliders over `explorer.explore`: live widgets in an interactive kernel, their twin where the runner executes."""
    return twin() if executed_by_the_runner() else live()


def executed_by_the_runner() -> bool:
    """Whether this kernel belongs to a recorded run, whose widgets nobody would ever move."""
    return bool(os.environ.get("ZEPHYR_LAB_RECORD"))


def live(
    controls: Sequence[Control] = CONTROLS,
    outcome: Callable[..., explorer.Outcome] = explorer.explore,
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
        shown.value = explorer.picture(found).encode("png")

    for slider in sliders.values():
        slider.observe(follow, names="value")
    follow()
    return ipywidgets.VBox([*sliders.values(), printed, shown])


def twin(
    controls: Sequence[Control] = CONTROLS,
    outcome: Callable[..., explorer.Outcome] = explorer.explore,
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
        "answers": [f"{name} (r = {r:g})" for name, r in zip(explorer.NAMES, explorer.REWARDS, strict=True)],
        "policies": list(explorer.POLICIES),
        "outcomes": [
            [[round(p, 4) for p in one.probabilities[name]] for name in explorer.POLICIES] + [one.caption]
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
