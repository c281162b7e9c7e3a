"""Distillation as stages, and plain fine-tuning as their control: models and dialogues from folders, a model to one.

Each writes the model with its tokenizer to `out`, log.json (a row a log of the trainer; "eval_" marks held-out rows),
rows.json (an account of the data) and steps/N where the recipe keeps them. All raise ValueError for a step to keep that
the run does not reach, and as the training function that they call.
"""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, dialogue_rows
from zephyr_lab.engine import own_code
from zephyr_lab.methods import distillation, optimizers, process, trl_adapters
from zephyr_lab.methods.calling import log_rows
from zephyr_lab.methods.distillation import KeepSteps
from zephyr_lab.methods.examples import counts
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.on_policy_kd import train_on_policy_kd
from zephyr_lab.methods.own_kd import train_own_kd
from zephyr_lab.methods.recipes.kd import DoseRecipe, KDRecipe, OnPolicyKDRecipe, OwnLossKD
from zephyr_lab.methods.stages import sft
from zephyr_lab.methods.trl_adapters import RandomOrder
from zephyr_lab.models import saved

STEPS = "steps"


def build(recipe: KDRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Distil `inputs["teacher"]` into `inputs["student"]` on the dialogues of `inputs["dialogues"]`.

    log.json: loss, prediction_loss, attention_loss, cross_entropy, grad_norm. Metrics: steps; rows, used, and a count
    for each finding in the training rows; the three losses on held-out rows, held_out_<loss>, and before training,
    held_out_<loss>_start.
    """
    return distilled(train_kd, recipe, seed=seed, inputs=inputs, out=out, context=context)


def build_own_loss(
    recipe: OwnLossKD, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `build`, by the loss of the recipe; log.json has own_loss more."""
    train = partial(train_own_kd, loss=own_code.restored(recipe.own_loss))
    return distilled(train, recipe, seed=seed, inputs=inputs, out=out, context=context)


def build_on_policy(
    recipe: OnPolicyKDRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `build`, on the student's own answers to the dialogues' questions; log.json has sampled_tokens more."""
    return distilled(train_on_policy_kd, recipe, seed=seed, inputs=inputs, out=out, context=context)


def build_dose(
    recipe: DoseRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Fine-tune `inputs["base"]` on the dialogues of `inputs["dialogues"]`, with the models of some steps kept.

    The control beside DAE, and how a mixture is taught: `train_sft`, with Muon for fused expert weights, and with rows
    in random order where the recipe says so (sorted by length, a batch would be all domain rows or none). Writes what
    `stages.sft.build` writes, and steps/N. Metrics as there.
    """
    metrics = sft.trained(
        recipe,
        seed=seed,
        inputs=inputs,
        out=out,
        context=context,
        kind=KINDS[recipe.order],
        make_optimizer=partial(optimizers.muon_for_stacks, recipe),
        callbacks=keeping(recipe.keep_steps, context),
    )
    copy_steps(context, out)
    return metrics


class RandomOrderTrainer(trl_adapters.StageSFTTrainer):
    """SFT on rows in plain random order."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> RandomOrder:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return RandomOrder(len(rows), seed=self.args.seed)


KINDS = {"lengths": trl_adapters.StageSFTTrainer, "random": RandomOrderTrainer}


def distilled(
    train: Callable[..., pd.DataFrame],
    recipe: KDRecipe | OnPolicyKDRecipe,
    *,
    seed: int,
    inputs: dict[str, Path],
    out: Path,
    context: Context,
) -> dict[str, float]:
    """`build` by `train_kd` or another function with its parameters."""
    process.prepare()
    device = process.pick_device(recipe.device)
    start, taught_by = inputs["student"] / recipe.start, inputs["teacher"] / recipe.teacher
    student, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    log = train(
        student,
        tokenizer,
        dialogue_rows(inputs["dialogues"], TRAIN),
        recipe=recipe,
        teacher=distillation.load_teacher(taught_by, device),
        teacher_tokenizer=saved.load_chat_tokenizer(taught_by),
        held_out=dialogue_rows(inputs["dialogues"], TEST),
        seed=seed,
        checkpoints=context.checkpoints,
        progress=context.progress,
        callbacks=keeping(recipe.keep_steps, context),
    )
    save(student, tokenizer, log, context, out)
    return metrics(log)


def keeping(steps: Sequence[int], context: Context) -> list[KeepSteps]:
    """Callbacks that keep the models of some steps."""
    return [KeepSteps(steps, context.checkpoints / STEPS)]


def save(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, log: pd.DataFrame, context: Context, out: Path
) -> None:
    """Write the model, its log, the account of its rows and the kept steps to `out`."""
    saved.save(student, tokenizer, out)
    copy_steps(context, out)
    files.write_json(out / "log.json", log_rows(log))
    files.write_json(out / "rows.json", log.attrs["rows"])


def copy_steps(context: Context, out: Path) -> None:
    """The models of kept steps to out/steps/N."""
    if (context.checkpoints / STEPS).is_dir():
        shutil.copytree(context.checkpoints / STEPS, out / STEPS)


def metrics(log: pd.DataFrame, **more: float) -> dict[str, float]:
    """Steps, the account of the training rows, `more`, and the held-out losses before and after."""
    losses = log.attrs["held_out_losses"]
    return {
        "steps": float(log.attrs["steps"]),
        **counts(log.attrs["rows"][TRAIN]),
        **more,
        **{f"held_out_{name}_start": value for name, value in losses["start"].items()},
        **{f"held_out_{name}": value for name, value in losses["end"].items()},
    }
