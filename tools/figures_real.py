"""Figures of a real model on real rows: figures/real/, by `make figures-real` alone, not part of the claims.

    make figures-real ROWS=instructions.jsonl          (all, about four minutes on two cores)
    .venv/bin/python tools/figures_real.py --rows instructions.jsonl lora

The model is SmolLM2-135M-Instruct, converted once from its package into build/real/, or the folder after --model. No
row is written anywhere: only numbers. Each figure has <name>.csv, .svg, .png and <name>.json, with what made it.
A new figure is a function in `FIGURES`: of (model folder, rows file), it returns a tidy frame and its picture.
"""

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import pandas as pd  # noqa: E402

import zephyr_lab  # noqa: E402, F401
from zephyr_lab.core import files, provenance  # noqa: E402
from zephyr_lab.core.seeds import derive  # noqa: E402
from zephyr_lab.methods import adapters  # noqa: E402
from zephyr_lab.methods.examples import DialogueExample, read_dialogues  # noqa: E402
from zephyr_lab.methods.process import metered, prepare  # noqa: E402
from zephyr_lab.methods.recipes.training import SFT  # noqa: E402
from zephyr_lab.methods.sft import held_out_loss, train_sft  # noqa: E402
from zephyr_lab.models import saved  # noqa: E402
from zephyr_lab.reporting import figures, tables  # noqa: E402
from zephyr_lab.scoring.intervals import Estimate, Interval, t_estimate  # noqa: E402

OUT = ROOT / "figures" / "real"
LORA_STEPS, LORA_BATCH, HELD_OUT = 20, 2, 24
LORA_RECIPE = SFT(batch=LORA_BATCH, micro_batch=LORA_BATCH, learning_rate=2e-5, max_length=96)
LOSS, CHANGE = "held-out loss", "change by training"
COSTS = {"trained": "trained numbers, millions", "peak_mib": "peak memory, MiB", "cpu_seconds": "CPU seconds"}


def instructions(path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` rows with an answer, in Alpaca's columns, as messages."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["output"].strip()]
    if len(rows) < count:
        raise ValueError(f"{path.name} has {len(rows)} rows with an answer, {count} are needed; take a longer file")
    asked = [f"{row['instruction']}\n\n{row['input']}".strip() for row in rows]
    return [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": row["output"]}]}
        for text, row in list(zip(asked, rows, strict=True))[:count]
    ]


def row_losses(model: Any, held_out: list[DialogueExample]) -> list[float]:
    """The loss of each held-out row, nats a token."""
    return [held_out_loss(model, [one], rows_at_once=1) for one in held_out]


def lora_arm(folder: Path, rows: Path, *, rank: int, low_bit: bool, rate: float) -> dict[str, Any]:
    """One arm in a process of its own: losses before and after, and what it cost with loading; rank 0: all weights."""
    prepare()
    with metered() as cost:
        model = (adapters.load_4bit if low_bit else saved.load_model)(folder)
        tokenizer = saved.load_chat_tokenizer(folder)
        read = instructions(rows, HELD_OUT + LORA_STEPS * LORA_BATCH)
        held_out, _ = read_dialogues(LORA_RECIPE, tokenizer, read[:HELD_OUT])
        before = row_losses(model, held_out)
        if rank:
            model = adapters.lora(model, rank)
        train_sft(model, tokenizer, read[HELD_OUT:], recipe=LORA_RECIPE, learning_rate=rate, seed=derive(0, "real"))
        after = row_losses(model, held_out)
    return {"before": before, "after": after, "trained": adapters.parameters(model).trained / 1e6, **cost.metrics()}


# The adapters' rate is ten times that of all weights, as is usual; one rate each, none tuned.
LORA_ARMS = {
    "all weights": {"rank": 0, "low_bit": False, "rate": 2e-5},
    "LoRA, rank 4": {"rank": 4, "low_bit": False, "rate": 2e-4},
    "LoRA, rank 16": {"rank": 16, "low_bit": False, "rate": 2e-4},
    "QLoRA (nf4), rank 16": {"rank": 16, "low_bit": True, "rate": 2e-4},
}


def lora(folder: Path, rows: Path) -> tuple[pd.DataFrame, Any]:
    """SFT of all weights, of LoRA at two ranks and of LoRA on a 4-bit base: held-out loss, and what it costs."""
    lines, source = [], "tools/figures_real.py"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as own_processes:
        running = {
            name: own_processes.submit(partial(lora_arm, folder, rows, **arm)) for name, arm in LORA_ARMS.items()
        }
        arms = {name: one.result() for name, one in running.items()}
    for name, one in arms.items():
        changes = [after - before for before, after in zip(one["before"], one["after"], strict=True)]
        for metric, values in ((LOSS, one["after"]), (CHANGE, changes)):
            number = t_estimate(values, of=f"{len(values)} held-out rows", seeds=1)
            lines.append(tables.line(name, metric, "retrained", number, source=source))
        for key, metric in COSTS.items():
            value = float(one[key])
            number = Estimate(value, Interval(value, value), 1, "one run, no spread measured", 1)
            lines.append(tables.line(name, metric, "retrained", number, source=source))
    table = tables.frame(lines)
    labels = {CHANGE: "change of held-out loss, nats", **{metric: metric for metric in COSTS.values()}}
    return table, figures.dot_plots(table, labels)


FIGURES: dict[str, Callable[[Path, Path], tuple[pd.DataFrame, Any]]] = {"lora": lora}


def model_folder(given: str | None) -> Path:
    """The folder after --model, or SmolLM2 converted from its package into build/real/."""
    if given:
        return Path(given)
    import smollm2

    folder = ROOT / "build" / "real" / "smollm2"
    if not (folder / "config.json").is_file():
        smollm2.save_to(folder)
    return folder


def write(name: str, folder: Path, rows: Path) -> None:
    """Make one figure, and note what it was made of and with."""
    began = time.monotonic()
    table, picture = FIGURES[name](folder, rows)
    OUT.mkdir(parents=True, exist_ok=True)
    table.to_csv(OUT / f"{name}.csv", index=False, lineterminator="\n")
    for ending in ("svg", "png"):
        files.write_bytes(OUT / f"{name}.{ending}", picture.encode(ending))
    made = provenance.describe()
    files.write_json(
        OUT / f"{name}.json",
        {
            "made_by": "make figures-real",
            "seconds": round(time.monotonic() - began),
            "seeds": 1,
            "model": files.sha256(folder / "model.safetensors"),
            "rows": {"file": rows.name, "sha256": files.sha256(rows)},
            "git": made["git"],
            "packages": {**made["packages"], **{one: version(one) for one in ("bitsandbytes", "gguf")}},
        },
    )
    print(f"{name}: {OUT.relative_to(ROOT)}/{name}.csv in {time.monotonic() - began:.0f} s")
    print(table[["row", "metric", "value", "low", "high"]].to_string(index=False))


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
    options = parser.parse_args()
    if unknown := set(options.names) - set(FIGURES):
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    if not options.rows or not Path(options.rows).is_file():
        parser.error(f"--rows names no file ({options.rows}); give a JSONL of instruction, input, output: ROWS=FILE")
    for name in options.names or FIGURES:
        write(name, model_folder(options.model), Path(options.rows))


if __name__ == "__main__":
    main()
