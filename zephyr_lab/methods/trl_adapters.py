"""A thin layer on TRL's trainers: stages that show progress, stop at the first NaN and resume to the same bytes.

Every override here answers a measured fault of the installed versions; tests/methods/test_trl_canaries.py holds one
canary for each. Imported by workers alone: the trainers take seconds to load.
"""

import copy
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTTrainer

from zephyr_lab.core.seeds import derive
from zephyr_lab.methods import adapters, loop
from zephyr_lab.methods.loop import Context, require_finite
from zephyr_lab.methods.recipes.training import SCHEDULES, Training
from zephyr_lab.models import saved
from zephyr_lab.models.causal import causal_model

# The rest of the log is wall-clock time, or counts that start anew when a run is resumed.
TIMINGS = ("runtime", "per_second", "total_flos", "num_tokens")
LARGEST_POOL, FEWEST_POOLS = 50, 4
# Settings of a model that trainers write.
WRITTEN = ("use_cache", "pad_token_id", "bos_token_id", "eos_token_id", "output_router_logits", "router_aux_loss_coef")


def shared_arguments(
    *, device: torch.device, seed: int, folder: Path | None, checkpoint_every: int, log_every: int
) -> dict[str, Any]:
    """Arguments that all of TRL's trainers get here. `folder`: for checkpoints, None for none; device: the model's."""
    on_cpu = device.type == "cpu"
    return {
        "output_dir": nowhere() if folder is None else str(folder),
        "seed": trainer_seed(seed),
        "weight_decay": 0.0,
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "gradient_checkpointing": False,
        "use_cache": True,  # what the saved config says; the default would slow down every later generation
        "dataloader_pin_memory": not on_cpu,
        "logging_steps": log_every,
        "logging_nan_inf_filter": False,  # on by default: a NaN is logged as the mean of the losses before it
        "save_strategy": "no" if folder is None else "steps",
        "save_steps": checkpoint_every,
        "report_to": "none",
        "disable_tqdm": True,
    }


def trainer_arguments(
    recipe: Training, *, device: torch.device, seed: int, folder: Path | None, held_out: int, measure_start: bool
) -> dict[str, Any]:
    """Arguments that SFTConfig, DPOConfig and RewardConfig share, see `shared_arguments`.

    held_out: rows of the held-out set, 0 where there is none: ValueError where `evaluate_every` asks for some.
    measure_start: evaluate held-out rows before the first step; a resumed run has done so already.
    """
    if recipe.evaluate_every and not held_out:
        raise ValueError(f"evaluate_every is {recipe.evaluate_every}, and there are no held_out rows; pass some")
    return {
        **shared_arguments(
            device=device,
            seed=seed,
            folder=folder,
            checkpoint_every=recipe.checkpoint_every,
            log_every=recipe.log_every,
        ),
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.micro_batch,
        "per_device_eval_batch_size": even_batch(held_out, most=recipe.micro_batch),
        "gradient_accumulation_steps": recipe.batch // recipe.micro_batch,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": SCHEDULES[recipe.schedule],
        "warmup_steps": recipe.warmup,  # below 1: a share of all steps
        "optim": "rmsprop" if recipe.optimizer == "rmsprop" else "adamw_torch",
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip,
        "eval_on_start": measure_start and (folder is None or loop.newest_complete(folder) is None),
        "eval_strategy": "steps" if recipe.evaluate_every else "no",
        "eval_steps": recipe.evaluate_every or None,
    }


@cache
def _empty_folder() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="zephyr_lab-")


def nowhere() -> str:
    """A folder for trainers that save nothing and make one all the same; gone when the process ends."""
    return _empty_folder().name


def trainer_seed(seed: int) -> int:
    """The seed that a library's trainer gets: NumPy takes no larger ones."""
    return derive(seed, "trainer") % 2**32


def even_batch(rows: int, *, most: int) -> int:
    """The largest batch up to `most` that divides `rows`; `most` where only batches below a quarter of it would.

    Held-out curves are means of batch means: a short last batch would weigh its rows more than the others'.
    """
    dividing = [size for size in range(1, most + 1) if rows % size == 0]
    return dividing[-1] if 4 * dividing[-1] >= min(most, rows) else most


class EpochOrder(Sampler[int]):
    """Numbers 0 to rows - 1 in an order that seed and epoch alone decide: a resumed epoch goes on where it stopped."""

    def __init__(self, rows: int, *, seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows

    def shuffled(self) -> tuple[list[int], random.Random]:
        """All numbers in random order, and the generator that drew it."""
        rng = random.Random(derive(self._seed, "order", self._epoch))
        rows = list(range(self._rows))
        rng.shuffle(rows)
        return rows, rng


class RandomOrder(EpochOrder):
    """Row numbers in plain random order.

    For data of two kinds: batches of like lengths (`LengthBuckets`) would be all of one kind.
    """

    def __iter__(self) -> Iterator[int]:
        return iter(self.shuffled()[0])


class LengthBuckets(EpochOrder):
    """Row numbers in random order, rows of like length side by side, so that a batch needs little padding.

    Rows are shuffled, cut into four pools or more, of fifty batches at most, sorted by length within a pool and dealt
    out as batches, which come in random order.
    """

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int) -> None:
        super().__init__(len(lengths), seed=seed)
        self._lengths = lengths
        self._batch = batch

    def __iter__(self) -> Iterator[int]:
        rows, rng = self.shuffled()
        batches: list[list[int]] = []
        pool = self._batch * min(max(len(rows) // (self._batch * FEWEST_POOLS), 1), LARGEST_POOL)
        for start in range(0, len(rows), pool):
            by_length = sorted(rows[start : start + pool], key=self._lengths.__getitem__)
            batches += [by_length[place : place + self._batch] for place in range(0, len(by_length), self._batch)]
        short = [batch for batch in batches if len(batch) < self._batch]
        full = [batch for batch in batches if len(batch) == self._batch]
        rng.shuffle(full)
        # Rows left over come last: amid the others they would shift the borders of all batches after them.
        return (row for batch in (*full, *short) for row in batch)


class StageCallback(TrainerCallback):
    """Progress, finite gradients, and of adapters a gradient at all. losses: of the micro-batches of this step, each
    divided by their number, so that they add up to the step's."""

    def __init__(self, context: Context) -> None:
        self.losses: list[float] = []
        self._context = context
        self._has_learned = False

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if not self._has_learned and any(self.losses) and hasattr(objects["model"], "peft_config"):
            adapters.require_gradient(objects["model"])
            self._has_learned = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._context.progress(state.global_step, state.max_steps, loss=sum(self.losses))
        self.losses.clear()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if "grad_norm" in logs:
            require_finite("gradient norm", logs["grad_norm"], state.global_step - 1)


class KeepEpochs(TrainerCallback):
    """Saves the model after each epoch in folder/N.

    At the end of the epoch's last step and not at the epoch's own, so that it comes before the checkpoint of that step:
    a run resumed from there would not pass here again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if float(state.epoch).is_integer():
            saved.save(objects["model"], objects["processing_class"], self._folder / str(round(state.epoch)))


class StageTrainer(Trainer):
    """What both trainers do in a stage. `stage_callback` is set by `run`."""

    stage_callback: StageCallback

    def __init__(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        with adapters.precision_kept(model):
            super().__init__(*args, model=model, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthBuckets:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return LengthBuckets(row_lengths(rows), batch=self.args.train_batch_size, seed=self.args.seed)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self.stage_callback.losses.append(require_finite("loss", loss.item(), self.state.global_step))
        return loss

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir)
        newest = folder / f"checkpoint-{self.state.global_step}"
        loop.mark_complete(newest, self.state.global_step)
        remove_others(folder, newest)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the end record says more, and the card costs a tenth of a second a checkpoint."""

    def _send_telemetry(self) -> None:
        """None is sent, whatever the environment says."""


class StageSFTTrainer(StageTrainer, SFTTrainer):
    """TRL's SFTTrainer in a stage."""


def run(
    trainer: StageTrainer, context: Context, *, callbacks: Sequence[TrainerCallback] = ()
) -> list[dict[str, float | int]]:
    """Train to the end, from the newest complete checkpoint if there is one; returns the log.

    One row a log, {"step", "epoch", "loss", ...}; rows on held-out data have the prefix "eval_". Afterwards the model's
    forward is its own again. Raises ValueError at a NaN.
    """
    trainer.stage_callback = StageCallback(context)
    for callback in (trainer.stage_callback, *callbacks):
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)
    newest = None
    if context.checkpoints is not None:
        folder = Path(trainer.args.output_dir)
        newest = loop.newest_complete(folder)
        remove_others(folder, newest)
    if newest is not None and 0 < trainer.args.max_steps <= loop.step_of(newest):
        trainer._load_from_checkpoint(str(newest))  # TRL would take one step more
        trainer.state = TrainerState.load_from_json(str(newest / TRAINER_STATE_NAME))
    else:
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    own_forward(trainer.model)
    return [_timeless(row) for row in trainer.state.log_history if "train_runtime" not in row]


def require_all_tokens(rows: Dataset, trainer: Trainer) -> None:
    """Raises ValueError where the trainer's own preparation dropped rows or cut them: it would do so without a word."""
    before, after = _tokens(rows), _tokens(trainer.train_dataset)
    if after != before:
        raise ValueError(f"the trainer dropped {before - after} of {before} tokens while preparing the rows")


def row_lengths(rows: Dataset) -> list[int]:
    """Tokens of each row: of the dialogue, or of the prompt with the longer answer."""
    if "input_ids" in rows.column_names:
        return [len(ids) for ids in rows["input_ids"]]
    columns = zip(rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"], strict=True)
    return [len(prompt) + max(len(chosen), len(rejected)) for prompt, chosen, rejected in columns]


def _tokens(rows: Dataset) -> int:
    """Ids in all columns of ids."""
    return sum(len(ids) for name in rows.column_names if name.endswith("_ids") for ids in rows[name])


def score_labelled_positions_only() -> None:
    """Let TRL's fused output head leave out positions without a label on the CPU too, as it does on GPUs.

    It scores all of them elsewhere to spare one kind of accelerator recompilation. On the tiny model that is a quarter
    of a step; values and gradients are the same (a canary holds them side by side).
    """
    if not hasattr(trl_utils, "_use_triton"):
        raise AttributeError("trl.trainer.utils lacks _use_triton: see score_labelled_positions_only")
    trl_utils._use_triton = lambda device: True


def own_forward(model: nn.Module) -> None:
    """Take TRL's fused forward off the instance: it is bound to this model, and a deep copy would keep running it."""
    model.__dict__.pop("forward", None)


@contextmanager
def own_forwards(*models: nn.Module | None) -> Iterator[None]:
    """Within, trainers may replace what models run; afterwards each runs what it ran before."""
    modules = [module for model in models if model is not None for module in model.modules()]
    before = [vars(module).get("forward") for module in modules]
    try:
        yield
    finally:
        for module, forward in zip(modules, before, strict=True):
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward


@contextmanager
def settings_kept(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Iterator[PreTrainedTokenizerBase]:
    """Within, a tokenizer that trainers may change as they like; afterwards `model` has the settings that it had.

    They switch its cache on, and write the tokenizer's special tokens into both of its configurations.
    """
    inner = causal_model(model)
    configs = [inner.config, inner.config.get_text_config()]
    if getattr(inner, "generation_config", None) is not None:
        configs.append(inner.generation_config)
    before = [{name: getattr(config, name, None) for name in WRITTEN} for config in configs]
    try:
        yield tokenizer if tokenizer.pad_token is not None else copy.deepcopy(tokenizer)
    finally:
        for config, values in zip(configs, before, strict=True):
            for name, value in values.items():
                if getattr(config, name, None) != value:
                    setattr(config, name, value)


def remove_others(folder: Path, keep: Path | None) -> None:
    """Remove all checkpoints in `folder` but `keep`: older ones, and those that a kill left half-saved."""
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint != keep:
            shutil.rmtree(checkpoint)


def _timeless(row: dict[str, float | int]) -> dict[str, float | int]:
    """A row of the log without what differs between two equal runs, in one order: checkpoints sort the names."""
    names = sorted(name for name in row if name != "step" and not any(mark in name for mark in TIMINGS))
    return {"step": int(row["step"]), **{name: float(row[name]) for name in names}}
