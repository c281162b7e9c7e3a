"""What KD and DAE share in training: transformers' Trainer with a loss of ours, its parts in the log, models kept.

Progress, checkpoints, the halt at the first NaN and equal bytes after a kill are `trl_adapters`'.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from datasets import Dataset
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from zephyr_lab.core.shapes import TokenMask
from zephyr_lab.losses import kd as plain
from zephyr_lab.losses.fast import fused_head, kd_head
from zephyr_lab.methods import optimizers, trl_adapters
from zephyr_lab.methods.calling import device_of, require_fit, require_trainable
from zephyr_lab.methods.distillation_batches import Batch, Collator, batch
from zephyr_lab.methods.lean_kd import spread
from zephyr_lab.methods.recipes.kd import Distillation
from zephyr_lab.models import pairing, saved
from zephyr_lab.models.modes import own_random_numbers
from zephyr_lab.models.packed_attention import require_apart
from zephyr_lab.models.wrapped import share_weights

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, slots=True)
class Twins:
    """A function on whole tensors, and the one that does the same on the lean path."""

    plain: Callable[..., Tensor]
    lean: Callable[..., Any]


# What the words of a recipe stand for: the one place where they are read.
DIVERGENCES = {
    "forward": Twins(plain.forward_kl, kd_head.forward_kl),
    "reverse": Twins(plain.reverse_kl, kd_head.reverse_kl),
}
MEANS = {
    "sequences": Twins(plain.mean_of_sequences, fused_head.mean_of_sequences),
    "tokens": Twins(plain.mean_of_tokens, fused_head.mean_of_tokens),
}


class KeepSteps(TrainerCallback):
    """Saves the model after some steps in folder/N, before the checkpoint of the same step, so no kill loses one.

    Raises ValueError at the start of a training that ends before one of them.
    """

    def __init__(self, steps: Iterable[int], folder: Path) -> None:
        self._steps = frozenset(steps)
        self._folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        if self._steps and max(self._steps) > state.max_steps:
            raise ValueError(f"keep_steps names step {max(self._steps)}, but training ends at step {state.max_steps}")

    def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        if state.global_step in self._steps:
            saved.save(objects["model"], objects["processing_class"], self._folder / str(state.global_step))


class DistillationTrainer(trl_adapters.StageTrainer):
    """A trainer whose loss is made by `losses`; a subclass says how.

    `losses` notes the parts of the loss by name; each log row has their means since the last one.
    """

    recipe: Distillation

    def __init__(self, recipe: Distillation, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recipe = recipe
        self.model_accepts_loss_kwargs = False  # our losses are means: the trainer divides by the accumulation steps
        self._noted: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of one micro-batch, its parts noted."""
        raise NotImplementedError

    def note(self, name: str, value: Tensor, *, weight: float = 1.0) -> None:
        """Count `value` in the mean that the next log row has under `name`."""
        noted = self._noted[name]
        noted[0] += weight * value.item()
        noted[1] += weight

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], **_: Any) -> Tensor:
        return self.losses(model, inputs)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Tensor], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, None, None]:
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.losses(model, self._prepare_inputs(inputs)), None, None

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        prefix = "" if self.model.training else "eval_"
        means = {f"{prefix}{name}": total / weight for name, (total, weight) in self._noted.items() if weight}
        self._noted.clear()
        super().log({**logs, **means}, *arguments, **named)

    def wants_norms(self) -> bool:
        """Whether this step's log is to have the gradient norm of each part of the loss."""
        every = self.recipe.gradient_norms_every
        return self.model.training and every > 0 and self.state.global_step % every == 0

    def note_norms(self, parts: Mapping[str, Callable[[], Tensor]]) -> None:
        """Note the gradient norm of each part, over all weights, as <name>_grad_norm.

        Each part is computed for itself, with the random numbers that the step itself will draw.
        """
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        for name, part in parts.items():
            with own_random_numbers(self.model.device):
                loss = part()
            if loss.requires_grad:
                found = torch.autograd.grad(loss, weights, allow_unused=True)
                squares = [gradient.double().square().sum() for gradient in found if gradient is not None]
                self.note(f"{name}_grad_norm", torch.stack(squares).sum().sqrt())


def trainer(
    kind: type[DistillationTrainer],
    recipe: Distillation,
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: dict[str, Dataset],
    *,
    seed: int,
    folder: Path | None,
    callbacks: Sequence[TrainerCallback] = (),
) -> DistillationTrainer:
    """A trainer of the kind, with checkpoints in `folder` (None: none). `rows`: "train", and "test" where held out.

    Raises ValueError where a curve on held-out rows is asked for and there are none.
    """
    if recipe.packed:
        require_apart(student, recipe.max_length)
    held_out = rows.get(TEST)
    arguments = trl_adapters.trainer_arguments(
        recipe,
        device=student.device,
        seed=seed,
        folder=folder,
        held_out=0 if held_out is None else len(held_out),
        measure_start=recipe.evaluate_every > 0,
    )
    return kind(
        recipe,
        model=student,
        args=TrainingArguments(**arguments, remove_unused_columns=False),
        data_collator=Collator(),
        train_dataset=rows[TRAIN],
        eval_dataset=held_out,
        processing_class=tokenizer,
        optimizers=(optimizers.muon_for_stacks(recipe, student), None),
        callbacks=list(callbacks),
    )


def require_alike(
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    teachers: dict[str, nn.Module],
    tokenizers: dict[str, PreTrainedTokenizerBase],
) -> None:
    """Raises ValueError where a teacher, by name, has another vocabulary or device, or a tokenizer other ids.

    The student's own tokenizer and device are looked at too; a teacher that is the student itself would move with it.
    """
    device = require_trainable(student)
    for one in teachers.values():
        device_of(one)
    require_fit(student, tokenizer)
    pairing.require_same_tokenizer(student=tokenizer, **tokenizers)
    pairing.require_same_turns(student=tokenizer, **tokenizers)
    pairing.require_same_vocabulary(student=student.config, **{name: one.config for name, one in teachers.items()})
    for name, one in teachers.items():
        if share_weights(student, one):
            raise ValueError(f"{name} is the student itself, and would move with it; load it a second time")
        if device_of(one) != device:
            raise ValueError(
                f"student and {name} are on {device} and {device_of(one)}; move one: {name}.to('{device}')"
            )


def load_teacher(folder: Path, device: torch.device) -> PreTrainedModel:
    """A frozen model, in bfloat16 on a GPU."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return saved.load_model(folder, dtype=dtype).to(device).requires_grad_(False)


def require_input(inputs: dict[str, Path], role: str, why: str) -> Path:
    """The folder of an input. Raises ValueError where it is missing."""
    if role not in inputs:
        raise ValueError(f"no input {role!r}: {why}; there are {', '.join(sorted(inputs))}")
    return inputs[role]


def divergence(recipe: Distillation, student: Tensor, teacher: Tensor) -> Tensor:
    """The recipe's divergence of each position (eq. 2), shape (row, position)."""
    return DIVERGENCES[recipe.divergence].plain(student, teacher, temperature=recipe.temperature)


def reduced(recipe: Distillation, scores: Tensor, counted: Tensor) -> Tensor:
    """The recipe's mean of `scores`."""
    return MEANS[recipe.reduction].plain(scores, counted)


def shares_of(recipe: Distillation, counted: TokenMask) -> Float[Tensor, "row position"]:
    """Each position's share in the recipe's mean, 0 where it does not count."""
    return spread(MEANS[recipe.reduction].lean(counted), counted)


def factor(recipe: Distillation) -> float:
    """What a divergence is multiplied by: 1, or as in the code the temperature's square (Hinton et al. 2015), by which
    gradients keep their size."""
    return recipe.temperature**2 if recipe.temperature_squared else 1.0


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """Next-token logits of a batch, (row, position, entry)."""
    return model(**batch.inputs()).logits


@torch.no_grad()
def teacher_logits(teacher: nn.Module, batch: Batch) -> Tensor:
    """Next-token logits of a frozen model. Raises ValueError where it would read on from one packed text to another."""
    if batch.places is not None:
        require_apart(teacher, int(batch.places.max()) + 1)
    return logits(teacher, batch)


TRIED = 32  # tokens of the first row that a path is tried on
Form = TypeVar("Form")


def first_that_works(
    ways: Mapping[str, Callable[[], tuple[Form, Callable[[Batch], Any]]]],
    student: nn.Module,
    rows: Dataset,
    *,
    method: str,
) -> tuple[Form, str]:
    """The first of some ways, by name, to compute a loss that takes both models, and the log's word for it.

    A way gives what it is and how it computes the loss of a batch, on which all but the last are tried: in training
    mode, without gradients, on the beginning of the first row. ValueError is its refusal. Where the first refuses, one
    line says why, and which way is taken.
    """
    inputs = Collator()([rows[0]])
    sample = batch(
        {name: value[:, :TRIED].to(student.device) if value.ndim == 2 else value for name, value in inputs.items()}
    )
    training, refusals, last = student.training, [], [*ways][-1]
    student.train()
    try:
        for name, make in ways.items():
            try:
                form, loss = make()
                if name != last:
                    with torch.no_grad(), own_random_numbers(student.device):
                        loss(sample)
                break
            except ValueError as refusal:
                if name == last:
                    raise
                refusals.append(str(refusal))
    finally:
        student.train(training)
    if not refusals:
        return form, name
    print(f"{method}: {name}, because {refusals[0]}")
    return form, f"{name}: {refusals[0]}"


def require_whole_weights() -> None:
    """Raises ValueError where accelerate is to split weights over processes: a fused head reads its own as a whole."""
    split = [name for name in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{name}", "false") == "true"]
    if split:
        raise ValueError(f"{split[0]} splits weights over processes, and a fused head reads its own as a whole")


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """No gradients, and evaluation mode inside."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
