"""`zephyr-lab train sft|dpo|kd`: the methods on a model and a file of one's own."""

import contextlib
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zephyr_lab.cli.printing import Json, RejectedRows, print_json, print_rows, warn

if TYPE_CHECKING:
    from zephyr_lab.lab.own.training import Plan

SHOWN = 3  # rejected rows named


def train(
    method: Annotated[str, typer.Argument(help="sft (dialogues), dpo (pairs) or kd (dialogues and a teacher)")],
    model: Annotated[str, typer.Option(help="folder of a causal model in safetensors, or its id on the hub")],
    data: Annotated[
        str, typer.Option(help="rows: .jsonl, .json, .csv, .parquet (messages, ShareGPT, Alpaca, pairs), or a hub id")
    ],
    out: Annotated[Path, typer.Option(help="folder of what is made; checkpoints in it while it trains")],
    teacher: Annotated[str | None, typer.Option(help="kd: folder of the teacher, of the same tokenizer")] = None,
    epochs: Annotated[int, typer.Option(help="times over all rows")] = 1,
    batch: Annotated[int, typer.Option(help="rows of an optimiser step")] = 8,
    micro_batch: Annotated[int, typer.Option(help="rows of it at once: memory against speed")] = 1,
    learning_rate: Annotated[
        float | None, typer.Option(help="peak; not given: 2e-5, dpo 5e-6, and ten times that with --lora")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="dpo: how close to its start the model is held (0.1)")] = None,
    max_length: Annotated[int, typer.Option(help="tokens of a row")] = 1024,
    lora: Annotated[int, typer.Option(help="rank of a LoRA adapter that trains alone; 0: all weights train")] = 0,
    seed: Annotated[int, typer.Option(help="of the order of rows and of what is held out")] = 0,
    held_out: Annotated[float, typer.Option(help="share of the prompts that is measured on; 0: none")] = 0.1,
    checkpoint_every: Annotated[int, typer.Option(help="steps")] = 50,
    judge: Annotated[str | None, typer.Option(help="FILE.py:FUNCTION of (question, a, b) for a win rate")] = None,
    resume: Annotated[bool, typer.Option(help="go on from a killed run's checkpoints, or start anew")] = True,
    trl_yaml: Annotated[
        Path | None, typer.Option("--trl-yaml", help="train nothing: write the same settings for `trl METHOD --config`")
    ] = None,
    rejected_rows: RejectedRows = None,
    json: Json = False,
) -> None:
    """Train a model of your own on rows of your own: checks first, then training, then measures and a card."""
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        from zephyr_lab.lab.own import training

        _quieten()
        request = training.Request(
            method=method, model=model, data=data, teacher=teacher, epochs=epochs, batch=batch, micro_batch=micro_batch,
            learning_rate=learning_rate, beta=beta, max_length=max_length, lora=lora, seed=seed, held_out=held_out,
            checkpoint_every=checkpoint_every,
        )  # fmt: skip
        recipe = request.recipe()
        if trl_yaml is not None:
            import torch

            from zephyr_lab.methods.recipes import trl_files

            device = "cuda" if torch.cuda.is_available() else "cpu"
            told = trl_files.trl_file(recipe, device=device, seed=seed, lora=lora, model=model, data=data, out=str(out))
            trl_files.write(told, trl_yaml)
        elif training.finished(request, out):
            print(f"{out} holds the model of this call already")
            results = None
        else:
            plan = training.plan(request)
            _print_plan(plan, training.set_rejected_aside(plan.rows, rejected_rows))
            plan.require_memory()
            if not resume and (out / training.CHECKPOINTS).is_dir():
                shutil.rmtree(out / training.CHECKPOINTS)
            results = training.run(plan, out, judge=judge)
            print_rows([_short(row) for row in results.to_dict("records")])
            print(f"model, tokenizer, {training.LOG}, {training.COUNTS}, README.md, {training.DONE} in {out}")
    if json and trl_yaml is not None:
        print_json({"trl_yaml": str(trl_yaml), "command": told.command, "left_out": dict(told.left_out)})
    elif json:
        from zephyr_lab.core import files

        measured = [] if results is None else [_plain(row) for row in results.to_dict("records")]
        print_json({"out": str(out), **files.read_json(out / training.COUNTS), "results": measured})


def _print_plan(plan: "Plan", aside: Path | None) -> None:
    """How the rows were read, what is odd about them, and what memory the training takes."""
    for number, reason in plan.rows.rejected[:SHOWN]:
        warn(f"row {number}: {reason}")
    if aside:
        warn(f"{len(plan.rows.bad)} rows refused, all of them in {aside}")
    print(f"{plan.rows.source}: {plan.rows.layout}")
    if plan.rows.ignored:
        print(f"columns that nothing reads: {', '.join(plan.rows.ignored)}")
    print_rows(plan.checks.to_dict("records"))
    held = 0 if plan.held_out is None else len(plan.held_out.rows)
    print(f"{len(plan.train.rows)} rows to train on, {held} held out by prompt")
    print(f"{plan.model.parameters / 1e6:.4g} M parameters; training takes {plan.memory.line()}")


def _quieten() -> None:
    """No bars for a second of saving, and none of a library's notes on its own names of settings."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _short(row: dict) -> dict:
    """A row with numbers of four digits behind the point."""
    return {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in _plain(row).items()}


def _plain(row: dict) -> dict:
    """A row of a frame with None for NaN."""
    return {name: None if value != value else value for name, value in row.items()}
