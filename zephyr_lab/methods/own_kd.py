"""Distillation by a loss of your own in the place of equation (2); all else as in `methods.kd`.

A loss compares the next-token logits of student and teacher. Masks, means and weights are the recipe's; equations (2)
and (4) are logged beside it, trained or not, so that runs can be compared.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, TrainerCallback

from zephyr_lab.core.shapes import TokenMask, at_least_float32
from zephyr_lab.losses import kd as losses
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.losses.fast.pair_losses import name_of
from zephyr_lab.methods import distillation
from zephyr_lab.methods.calling import Progress, Run, settings_by_keyword
from zephyr_lab.methods.distillation import batch
from zephyr_lab.methods.kd import KDTrainer, distil, named_losses
from zephyr_lab.methods.lean_kd import Parts
from zephyr_lab.methods.recipes.kd import KD

OwnLoss = Callable[[Tensor, Tensor], Tensor]
FORM = "write (student, teacher): logits of the positions that count, (position, entry) each"


@settings_by_keyword(KD)
def train_own_kd(
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    *,
    recipe: KD,
    teacher: nn.Module,
    loss: OwnLoss,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    held_out: Any = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """As `kd.train_kd`, with `loss` in the place of the divergence of eq. (2); the log has own_loss more, its mean.

    loss: a function of (student, teacher), logits of the positions that count, (position, entry) each, divided by the
    recipe's temperature; no gradient reaches the teacher's. It gives one loss a position, shape (position,). Its mean
    is the recipe's, its weight `prediction_weight`; prediction_loss in the log is still eq. (2), on held-out rows too.

    Raises as `train_kd`, TypeError for a function of other arguments, ValueError for settings that have no meaning with
    such a loss, and, naming the loss, at the first value that is not finite or of another shape.

    >>> from zephyr_lab.models.example import example_model
    >>> (student, tokenizer), (teacher, _) = example_model(), example_model(seed=1)
    >>> chats = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}] * 4
    >>> def distance(student, teacher):
    ...     return (student.softmax(dim=-1) - teacher.softmax(dim=-1)).abs().sum(dim=-1)
    >>> log = train_own_kd(student, tokenizer, chats, teacher=teacher, loss=distance, epochs=3, batch=4)
    train: 0 unusable rows; 4 rows, 4 used
    >>> log.attrs["path"], bool(log["own_loss"].iloc[-1] < log["own_loss"].iloc[0])
    ('plain: the loss is distance', True)
    """
    require_own(recipe, loss)
    log = distil(
        trainer_of(loss),
        "train_own_kd",
        recipe,
        student,
        tokenizer,
        dialogues,
        teacher=teacher,
        teacher_tokenizer=teacher_tokenizer,
        held_out=held_out,
        lean=False,
        seed=seed,
        run=Run.of(f"KD, loss {name_of(loss)}", checkpoints, progress, recipe=recipe, seed=seed),
        callbacks=callbacks,
    )
    log.attrs["path"] = f"plain: the loss is {name_of(loss)}"
    return log


def require_own(recipe: KD, loss: OwnLoss) -> None:
    """Raises TypeError for a loss of other arguments, ValueError for settings that have no meaning with it."""
    if not callable(loss):
        raise TypeError(f"loss must be a function of logits, got {loss!r}; {FORM}")
    try:
        inspect.signature(loss).bind(None, None)
    except TypeError as error:
        raise TypeError(f"loss {name_of(loss)}{inspect.signature(loss)} cannot be called on logits; {FORM}") from error
    if recipe.divergence != "forward":
        raise ValueError(f"loss {name_of(loss)} replaces divergence={recipe.divergence!r}; leave that out")
    if not recipe.prediction_weight:
        raise ValueError(f"prediction_weight is 0: loss {name_of(loss)}, whose weight it is, would not be trained")
    if recipe.gradient_norms_every:
        raise ValueError(f"gradient_norms_every must be 0 with loss {name_of(loss)}, got {recipe.gradient_norms_every}")


def trainer_of(loss: OwnLoss) -> type[KDTrainer]:
    """A trainer of equation (5) with `loss` in the place of equation (2)."""

    class OwnLossTrainer(KDTrainer):
        def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
            rows, recipe = batch(inputs), self.recipe
            counted, known = rows.counted(recipe.tokens), rows.predicted(recipe.tokens)[:, :-1]
            student, teacher, attention = self.form.outputs(recipe, model, rows)
            scores = own_scores(loss, student, teacher, counted, temperature=recipe.temperature)
            own, printed = (
                distillation.factor(recipe) * distillation.reduced(recipe, each, counted)
                for each in (scores, distillation.divergence(recipe, student.detach(), teacher))
            )
            entropy = losses.mean_of_tokens(next_token_losses(student, rows.ids), known)
            self.note("own_loss", own)
            for name, value in named_losses(Parts(own, printed, attention, entropy)).items():
                self.note(name, value)
            return losses.kd_loss(
                own,
                own.new_zeros(()) if attention is None else attention,
                entropy,
                prediction_weight=recipe.prediction_weight,
                attention_weight=recipe.attention_weight,
                ce_weight=recipe.ce_weight,
            )

    return OwnLossTrainer


def own_scores(loss: OwnLoss, student: Tensor, teacher: Tensor, counted: TokenMask, *, temperature: float) -> Tensor:
    """The values of `loss` at the counted positions, 0 elsewhere, shape (row, position).

    Raises ValueError, naming the loss, for another shape, a value that is not finite, and a lost gradient.
    """
    ours, theirs = (at_least_float32(one[counted]) / temperature for one in (student, teacher.detach()))
    values, name, shape = loss(ours, theirs), name_of(loss), (len(ours),)
    if not isinstance(values, Tensor) or tuple(values.shape) != shape:
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"loss {name} must give one loss a position, shape {shape}, got {got}; do not average")
    if not values.isfinite().all():
        position = int((~values.isfinite()).nonzero()[0])
        raise ValueError(f"loss {name} is {values[position].item()} at position {position + 1} of {len(ours)}: halted")
    if student.requires_grad and not values.requires_grad:
        raise ValueError(f"loss {name} has no gradient to the student: write it in torch, without item() or detach()")
    return values.new_zeros(counted.shape).masked_scatter(counted, values)
