"""Domain alignment as a stage: student, teachers and flagged dialogues from folders, the aligned model to one."""

from pathlib import Path

import torch

from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods import distillation, process
from zephyr_lab.methods.dae import EXPERT, GENERAL, Teachers, train_dae
from zephyr_lab.methods.flagged import flagged_rows
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.dae import DAERecipe
from zephyr_lab.methods.stages import kd
from zephyr_lab.models import saved


def build(recipe: DAERecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Align `inputs["student"]` with `inputs["expert"]` on the flagged dialogues of `inputs["dialogues"]`.

    General rows follow `inputs["general"]`, by default the student as it starts, frozen. Writes the model with its
    tokenizer to `out`, log.json (a row a log: loss, domain_loss and general_loss, each the mean over rows of its kind,
    grad_norm; "eval_" marks held-out rows), rows.json and steps/N where the recipe keeps them. Metrics: steps; rows,
    used and findings of the training rows; domain_rows; held_out_domain_loss and held_out_general_loss, also "_start",
    before training.

    Raises ValueError for a missing expert and for a step to keep that the run does not reach, and as
    `methods.dae.train_dae`.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["student"] / recipe.start
    folders = teacher_folders(recipe, inputs)
    student, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    log = train_dae(
        student, tokenizer, flagged_rows(inputs["dialogues"], TRAIN), recipe=recipe,
        **load_teachers(recipe, inputs, device),
        tokenizers={name: saved.load_chat_tokenizer(folder) for name, folder in folders.items()},
        held_out=flagged_rows(inputs["dialogues"], TEST), seed=seed, checkpoints=context.checkpoints,
        progress=context.progress, callbacks=kd.keeping(recipe.keep_steps, context),
    )  # fmt: skip
    kd.save(student, tokenizer, log, context, out)
    return kd.metrics(log, domain_rows=float(log.attrs["domain_rows"]))


def teacher_folders(recipe: DAERecipe, inputs: dict[str, Path]) -> dict[str, Path]:
    """Where each teacher lies: the general one is the student's start where no other is given.

    Raises ValueError for a missing expert.
    """
    expert = distillation.require_input(inputs, EXPERT, "domain rows follow an expert") / recipe.expert
    general = inputs[GENERAL] / recipe.general if GENERAL in inputs else inputs["student"] / recipe.start
    return {EXPERT: expert, GENERAL: general}


def load_teachers(recipe: DAERecipe, inputs: dict[str, Path], device: torch.device) -> Teachers:
    """Both teachers, frozen."""
    folders = teacher_folders(recipe, inputs)
    return {name: distillation.load_teacher(folder, device) for name, folder in folders.items()}
