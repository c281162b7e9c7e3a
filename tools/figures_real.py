"""Figures of a real model on real rows: figures/real/, by `make figures-real` alone, not part of the claims.

    make figures-real ROWS=instructions.jsonl PAIRS=pairs.jsonl          (all, ten minutes)
    .venv/bin/python tools/figures_real.py --rows instructions.jsonl lora
    .venv/bin/python tools/figures_real.py --redraw lora                 (its picture again, from its CSV)

The model is SmolLM2-135M-Instruct, converted once from its package into build/real/, or the folder after --model. No
row is written anywhere: only numbers. Each figure has <name>.csv, .svg, .png and <name>.json, with what made it.
A new figure is a line in `FIGURES`: what measures, of (model folder, file) to a tidy frame, and what draws that frame.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tools")]

import pandas as pd  # noqa: E402

import real_trainings as trainings  # noqa: E402
from zephyr_lab.core import files, provenance  # noqa: E402
from zephyr_lab.lab.own import measures  # noqa: E402
from zephyr_lab.reporting import figures, tables  # noqa: E402
from zephyr_lab.scoring.intervals import Estimate, Interval, t_estimate  # noqa: E402

OUT = ROOT / "figures" / "real"
SOURCE = "tools/figures_real.py"
ONE_RUN = "one run, no spread measured"
TEACHER = "the teacher"
LOSS, CHANGE, TRAINING = "held-out loss", "change by training", "the step's own rows"
TRAINED, PEAK, CPU = "trained numbers, millions", "peak memory, MiB", "CPU seconds"
APART = "weights apart from TRL's, share of their way"


def line(row: str, metric: str, number: Estimate) -> dict[str, Any]:
    return tables.line(row, metric, "retrained", number, source=SOURCE)


def once(value: float) -> Estimate:
    """A number of one run."""
    return Estimate(value, Interval(value, value), 1, ONE_RUN, 1)


def bounded(number: Estimate, of: str) -> Estimate:
    """A held-out measure of one model; where it has no interval, as before the first step, its ends are the value."""
    ends = number.interval or Interval(number.value, number.value)
    return Estimate(number.value, ends, number.n, number.method, 1, of)


def costs(row: str, spent: dict[str, float]) -> list[dict[str, Any]]:
    return [line(row, PEAK, once(spent["peak_mib"])), line(row, CPU, once(spent["cpu_seconds"]))]


def in_gib(table: pd.DataFrame) -> pd.DataFrame:
    """The frame with its peaks of memory in GiB: shorter ticks."""
    numbers = ["value", "low", "high"]
    return table.assign(**table[numbers].where(table["metric"] != PEAK, table[numbers] / 1024))


def lora(folder: Path, rows: Path) -> pd.DataFrame:
    """SFT of all weights, of LoRA at two ranks and of LoRA on a 4-bit base: held-out loss, and what it costs."""
    lines = []
    for name, one in trainings.lora(folder, rows).items():
        changes = [after - before for before, after in zip(one["before"], one["after"], strict=True)]
        for metric, values in ((LOSS, one["after"]), (CHANGE, changes)):
            lines.append(line(name, metric, t_estimate(values, of=f"{len(values)} held-out rows", seeds=1)))
        lines += [line(name, TRAINED, once(one["trained"])), *costs(name, one)]
    return tables.frame(lines)


def draw_lora(table: pd.DataFrame) -> Any:
    labels = {
        CHANGE: "change of held-out\nloss, nats a token", TRAINED: "trained numbers,\nmillions",
        PEAK: "peak memory,\nGiB", CPU: "CPU seconds",
    }  # fmt: skip
    return figures.dot_plots(in_gib(table), labels)


def dpo(folder: Path, pairs: Path) -> pd.DataFrame:
    """Sixty steps of DPO: margin and accuracy of the implicit reward on pairs that were held out, along the way."""
    losses, found = trainings.dpo(folder, pairs)
    shown = (measures.MARGIN, measures.ACCURACY, measures.DPO_LOSS)
    return along(found, shown, of=f"{trainings.DPO_HELD_OUT} held-out pairs", losses=losses)


def draw_dpo(table: pd.DataFrame) -> Any:
    picture, (left, right) = figures.panels(2)
    labels = {measures.MARGIN: "mean reward margin\n(beta times nats)", measures.ACCURACY: "share of pairs won"}
    for ax, (metric, label) in zip((left, right), labels.items(), strict=True):
        figures.curves(curve(table, metric, "held out"), x_label="step, one pair each", y_label=label, ax=ax)
    left.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    right.axhline(0.5, color="0.6", linewidth=0.8, zorder=0)
    return picture


def kd(folder: Path, rows: Path) -> pd.DataFrame:
    """KD into a copy with half the layers: the divergence from the model, trained and held out, and the loss."""
    divergences, found, teacher = trainings.kd(folder, rows)
    of = f"{trainings.KD_HELD_OUT} held-out rows"
    table = along(found, (measures.KL, measures.LOSS), of=of, losses=divergences)
    last = line(TEACHER, measures.LOSS, bounded(teacher[measures.LOSS], of))
    return tables.frame([*table.to_dict("records"), last])


def draw_kd(table: pd.DataFrame) -> Any:
    picture, (left, right) = figures.panels(2)
    x_label = f"step, {trainings.KD_BATCH} rows each"
    both = pd.concat([curve(table, TRAINING, "training rows"), curve(table, measures.KL, "held out")])
    figures.curves(both, x_label=x_label, y_label="KL from the teacher,\nnats a token", ax=left)
    loss = curve(table, measures.LOSS, "half the layers")
    figures.curves(loss, x_label=x_label, y_label="held-out loss,\nnats a token", ax=right)
    last = table[(table["row"] == TEACHER) & (table["metric"] == measures.LOSS)]["value"].item()
    right.axhline(last, color="0.3", linewidth=1.0, linestyle=":")
    right.annotate(TEACHER, (0, last), xytext=(2, 3), textcoords="offset points", fontsize=7.5)
    return picture


def dpo_and_trl(folder: Path, pairs: Path) -> pd.DataFrame:
    """The same steps of DPO by our trainer and by TRL's, on long prompts and on long answers: what each costs."""
    lines = []
    for shape, by_trainer in trainings.dpo_and_trl(folder, pairs).items():
        for name, one in by_trainer.items():
            row = f"{name}, {shape} tokens"
            lines += [
                *costs(row, one),
                *(line(row, metric, once(one[metric])) for metric in ("first loss", "last loss")),
            ]
            if "apart" in one:
                lines.append(line(row, APART, once(one["apart"])))
    return tables.frame(lines)


def draw_dpo_and_trl(table: pd.DataFrame) -> Any:
    steps = f"CPU seconds of {trainings.TRL_STEPS} steps of\n{trainings.TRL_BATCH} pairs and the reference's pass"
    return figures.dot_plots(in_gib(table), {CPU: steps, PEAK: "memory beside the model,\nGiB at the peak"})


@dataclass(frozen=True)
class Shown:
    """One figure: which file it reads, what measures and what draws."""

    reads: str
    measure: Callable[[Path, Path], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Any]


FIGURES = {
    "lora": Shown("rows", lora, draw_lora),
    "kd": Shown("rows", kd, draw_kd),
    "dpo": Shown("pairs", dpo, draw_dpo),
    "dpo_and_trl": Shown("pairs", dpo_and_trl, draw_dpo_and_trl),
}


def along(
    found: dict[int, trainings.Measured], metrics: Iterable[str], *, of: str, losses: Iterable[float]
) -> pd.DataFrame:
    """Held-out measures by step, and what training went down on, of the weights before each step."""
    held_out = [line(f"step {step}", one, bounded(by[one], of)) for step, by in found.items() for one in metrics]
    trained = [line(f"step {step}", TRAINING, once(loss)) for step, loss in enumerate(losses)]
    return tables.frame([*held_out, *trained])


def curve(table: pd.DataFrame, metric: str, series: str) -> pd.DataFrame:
    """The rows "step N" of one metric as a line of `figures.curves`."""
    part = table[(table["metric"] == metric) & table["row"].str.startswith("step ")]
    steps = part["row"].str.removeprefix("step ").astype(int)
    named = part["interval"].where(part["low"] < part["high"])
    return pd.DataFrame(
        {"series": series, "kind": part["kind"], "x": steps, "y": part["value"], "low": part["low"],
         "high": part["high"], "interval": named}
    )  # fmt: skip


def model_folder(given: str | None) -> Path:
    """The folder after --model, or SmolLM2 converted from its package into build/real/."""
    if given:
        return Path(given)
    import smollm2

    folder = ROOT / "build" / "real" / "smollm2"
    if not (folder / "config.json").is_file():
        smollm2.save_to(folder)
    return folder


def write(name: str, folder: Path, given: Path) -> None:
    """Make one figure, and note what it was made of and with."""
    began = time.monotonic()
    table = FIGURES[name].measure(folder, given)
    OUT.mkdir(parents=True, exist_ok=True)
    table.to_csv(OUT / f"{name}.csv", index=False, lineterminator="\n", float_format="%.8g")
    redraw(name)
    made = provenance.describe()
    files.write_json(
        OUT / f"{name}.json",
        {
            "made_by": "make figures-real",
            "seconds": round(time.monotonic() - began),
            "seeds": 1,
            "model": files.sha256(folder / "model.safetensors"),
            "rows": {"file": given.name, "sha256": files.sha256(given)},
            "git": made["git"],
            "packages": {**made["packages"], **{one: version(one) for one in ("bitsandbytes", "gguf")}},
        },
    )
    print(f"{name}: {OUT.relative_to(ROOT)}/{name}.csv in {time.monotonic() - began:.0f} s")
    print(table[["row", "metric", "value", "low", "high"]].to_string(index=False))


def redraw(name: str) -> None:
    """The picture of a figure from its CSV."""
    picture = FIGURES[name].draw(pd.read_csv(OUT / f"{name}.csv"))
    for ending in ("svg", "png"):
        files.write_bytes(OUT / f"{name}.{ending}", picture.encode(ending))


def version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; all for none")
    parser.add_argument("--model", help="a model's folder, by default SmolLM2 from its package")
    parser.add_argument("--rows", default=os.environ.get("ROWS"), help="JSONL, Alpaca's columns; .gz too")
    parser.add_argument("--pairs", default=os.environ.get("PAIRS"), help="pairs as `zephyr-lab train dpo` reads them")
    parser.add_argument("--redraw", action="store_true", help="draw again from the CSV, and train nothing")
    options = parser.parse_args()
    figures.house_style()
    if unknown := set(options.names) - set(FIGURES):
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    names = options.names or [*FIGURES]
    if options.redraw:
        for name in names:
            redraw(name)
        return
    for kind in sorted({FIGURES[name].reads for name in names}):
        given = getattr(options, kind)
        if not given or not Path(given).is_file():
            parser.error(f"--{kind} names no file ({given}); give one: {kind.upper()}=FILE")
    for name in names:
        write(name, model_folder(options.model), Path(getattr(options, FIGURES[name].reads)))


if __name__ == "__main__":
    main()
