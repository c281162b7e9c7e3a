"""Knowledge distillation (KD): a student follows a teacher's next-token distributions and attention maps.

Kothari et al. 2024, arXiv 2406.19112, section 2.1 and equations (1) to (5); transformers' Trainer with our losses. All
three losses are logged, whichever of them is trained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, TrainerCallback

from zephyr_lab.data import splits
from zephyr_lab.data.splits import TEST, TRAIN, Messages, Split
from zephyr_lab.losses import kd as losses
from zephyr_lab.losses.attention_kd import attention_kl, attention_map, attention_scores
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.losses.fast.kd_head import LinearHead, mean_of_tokens
from zephyr_lab.methods import distillation
from zephyr_lab.methods.calling import Progress, Run, require_room, settings_by_keyword
from zephyr_lab.methods.distillation import Batch, batch, dataset
from zephyr_lab.methods.examples import Account, DialogueExample, dialogue_examples
from zephyr_lab.methods.lean_kd import Parts, lean_kd_losses, linear_head, spread
from zephyr_lab.methods.recipes.kd import KD
from zephyr_lab.models import pairing
from zephyr_lab.models.attention import LayerAttention, listening
from zephyr_lab.models.pairing import Pairing

ALONE = {
    "prediction": {"prediction_weight": 1.0, "attention_weight": 0.0, "ce_weight": 0.0},
    "attention": {"prediction_weight": 0.0, "attention_weight": 1.0, "ce_weight": 0.0},
}


@settings_by_keyword(KD)
def train_kd(
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    *,
    recipe: KD,
    teacher: nn.Module,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    held_out: Any = None,
    lean: bool = True,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """Distil `teacher` into `student`, in place, on dialogues: equation (5) of arXiv 2406.19112, `recipe`'s weights.

    student: any causal model of transformers, whole or with adapters; teacher: another with the same vocabulary, on the
    same device, never changed. dialogues: rows with messages (`data.splits.dialogues`); bad ones are named and left
    out. teacher_tokenizer: compared with `tokenizer` where it is given. held_out: rows like `dialogues`. lean: take the
    losses from hidden states, queries and keys (`lean_kd`) where both models allow it; they equal the plain ones up to
    rounding. Where not, one line says why, and whole logits and maps are computed.

    Returns the log, a row a log of the trainer: step, loss, prediction_loss, attention_loss, cross_entropy (nats, the
    three trained or not) and grad_norm. attrs has besides: path, "lean" or "plain: <why>"; steps; rows, an account of
    the rows by split; held_out_losses, the three losses on the held-out rows, "start" and "end".

    Raises ValueError, before training, where the two models have different tokenizers, vocabularies or devices, where
    layers or heads do not pair and no map says how, and where no row can be trained on; in training, at the first loss
    that is not finite.

    >>> from zephyr_lab.models.example import example_model
    >>> (student, tokenizer), (teacher, _) = example_model(), example_model(seed=1)
    >>> chats = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}] * 4
    >>> log = train_kd(student, tokenizer, chats, teacher=teacher, epochs=3, batch=4, learning_rate=1e-2)
    train: 0 unusable rows; 4 rows, 4 used
    >>> log.attrs["path"], bool(log["prediction_loss"].iloc[-1] < log["prediction_loss"].iloc[0])
    ('lean', True)
    """
    return distil(
        KDTrainer,
        "train_kd",
        recipe,
        student,
        tokenizer,
        dialogues,
        teacher=teacher,
        teacher_tokenizer=teacher_tokenizer,
        held_out=held_out,
        lean=lean,
        seed=seed,
        run=Run.of("KD", checkpoints, progress, recipe=recipe, seed=seed),
        callbacks=callbacks,
    )


def distil(
    kind: type[distillation.DistillationTrainer],
    method: str,
    recipe: KD,
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    *,
    teacher: nn.Module,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    held_out: Any,
    lean: bool,
    seed: int,
    run: Run,
    callbacks: Sequence[TrainerCallback],
) -> pd.DataFrame:
    """`train_kd` with a trainer of the given kind, in the log as `method`."""
    tokenizers = {} if teacher_tokenizer is None else {"teacher": teacher_tokenizer}
    distillation.require_alike(student, tokenizer, {"teacher": teacher}, tokenizers)
    pairs = pair(recipe, student, teacher)
    examples, accounts = {}, {}
    for split, data in ((TRAIN, dialogues), (TEST, held_out)):
        if data is not None:
            examples[split], accounts[split] = read(recipe, splits.dialogues(data), tokenizer, split)
    require_room(max(len(one.input_ids) for of_split in examples.values() for one in of_split), student, teacher)
    run.trains_on(examples[TRAIN], student)
    rows = {split: rows_of(recipe, of_split) for split, of_split in examples.items()}
    return distillation.train(
        kind,
        method,
        recipe,
        student,
        tokenizer,
        rows,
        teachers=[teacher],
        choose=partial(form_of, recipe, student, teacher, pairs, rows[TRAIN], lean=lean, method=method),
        measure=partial(measure, recipe, student),
        accounts=accounts,
        seed=seed,
        run=run,
        callbacks=callbacks,
    )


def read(
    recipe: KD, dialogues: Split[Messages], tokenizer: PreTrainedTokenizerBase, split: str
) -> tuple[list[DialogueExample], Account]:
    """The examples of some rows, labels on the answers' tokens, and an account of the rows, which is printed."""
    examples, account = dialogue_examples(
        tokenizer,
        dialogues.rows,
        max_length=recipe.max_length,
        answers_only=True,
        system_turn=recipe.system_turn,
        numbers=dialogues.numbers,
    )
    print(f"{split}: {dialogues.line(account.line())}")
    return examples, account


def rows_of(recipe: KD, examples: list[DialogueExample]) -> Dataset:
    """The examples as the trainer's rows."""
    return dataset([(examples, {})], packed_to=recipe.max_length if recipe.packed else None)


def pair(recipe: KD, student: nn.Module, teacher: nn.Module) -> Pairing | None:
    """Which layers and heads follow which; None where they do not pair and the attention loss is not trained.

    Raises ValueError where it is trained, or where a map that is given does not fit.
    """
    maps = {"layer_map": recipe.layer_map, "head_map": recipe.head_map}
    try:
        return pairing.pair(student.config, teacher.config, **maps)
    except ValueError:
        if recipe.attention_weight or any(maps.values()):
            raise
        return None


class KDTrainer(distillation.DistillationTrainer):
    """Equation (5) with the recipe's weights."""

    recipe: KD

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        rows = batch(inputs)

        def alone(weights: dict[str, float]) -> Tensor:
            return self.form.parts(replace(self.recipe, **weights), model, rows).loss

        self.note_norms({name: partial(alone, weights) for name, weights in ALONE.items()})
        parts = self.form.parts(self.recipe, model, rows)
        for name, value in named_losses(parts).items():
            self.note(name, value)
        return parts.loss


def named_losses(parts: Parts) -> dict[str, Tensor]:
    """The losses under their names in the log; attention_loss where there is one."""
    attention = {} if parts.attention is None else {"attention_loss": parts.attention}
    return {"prediction_loss": parts.prediction, "cross_entropy": parts.cross_entropy, **attention}


@dataclass(frozen=True, slots=True)
class LeanKD:
    """The losses from hidden states, queries and keys: neither whole logits nor maps."""

    teacher: nn.Module
    pairs: Pairing | None
    heads: tuple[LinearHead, LinearHead]

    @classmethod
    def of(cls, student: nn.Module, teacher: nn.Module, pairs: Pairing | None) -> "LeanKD":
        """Raises ValueError where a head is more than a linear map of hidden states (`lean_kd.linear_head`)."""
        distillation.require_whole_weights()
        return cls(teacher, pairs, (linear_head(student), linear_head(teacher)))

    def parts(self, recipe: KD, student: nn.Module, rows: Batch) -> Parts:
        """The losses of a batch (eq. 1, 2 and 4), their gradient already computed: call backward once."""
        counted, predicted = rows.counted(recipe.tokens), rows.predicted(recipe.tokens)
        either = counted | predicted
        factor = distillation.factor(recipe)
        parts = lean_kd_losses(
            student,
            self.teacher,
            rows.inputs(),
            heads=self.heads,
            counted=either,
            shares=distillation.shares_of(recipe, counted)[either],
            ce_shares=spread(mean_of_tokens(predicted), predicted)[either],
            pairing=self.pairs,
            prediction_weight=factor * recipe.prediction_weight,
            attention_weight=recipe.attention_weight,
            ce_weight=recipe.ce_weight,
            temperature=recipe.temperature,
            divergence=distillation.DIVERGENCES[recipe.divergence].lean,
        )
        return replace(parts, prediction=factor * parts.prediction)


@dataclass(frozen=True, slots=True)
class PlainKD:
    """The losses from whole logits, and one layer's maps at a time: the reference of `LeanKD`, and the way for models
    that it does not know."""

    teacher: nn.Module
    pairs: Pairing | None

    def parts(self, recipe: KD, student: nn.Module, rows: Batch) -> Parts:
        """The losses of a batch (eq. 1, 2 and 4). One that is not trained carries no gradient."""
        counted = rows.counted(recipe.tokens)
        student_logits, teacher_logits, attention = self.outputs(recipe, student, rows)
        prediction_of = student_logits if recipe.prediction_weight else student_logits.detach()
        scores = distillation.divergence(recipe, prediction_of, teacher_logits)
        prediction = distillation.factor(recipe) * distillation.reduced(recipe, scores, counted)
        entropy_of = student_logits if recipe.ce_weight else student_logits.detach()
        known = rows.predicted(recipe.tokens)[:, :-1]
        cross_entropy = losses.mean_of_tokens(next_token_losses(entropy_of, rows.ids), known)
        loss = losses.kd_loss(
            prediction,
            prediction.new_zeros(()) if attention is None else attention,
            cross_entropy,
            prediction_weight=recipe.prediction_weight,
            attention_weight=recipe.attention_weight,
            ce_weight=recipe.ce_weight,
        )
        logged = None if attention is None else attention.detach()
        return Parts(loss, prediction.detach(), logged, cross_entropy.detach())

    def outputs(self, recipe: KD, student: nn.Module, rows: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Whole logits of student and teacher, and the attention loss if layers pair."""
        if self.pairs is None:
            return distillation.logits(student, rows), distillation.teacher_logits(self.teacher, rows), None
        ours, theirs, layers = followed_maps(
            student, self.teacher, rows, self.pairs, trained=bool(recipe.attention_weight)
        )
        return ours, theirs, distillation.reduced(recipe, attention_scores(layers), rows.counted(recipe.tokens))


def form_of(
    recipe: KD, student: nn.Module, teacher: nn.Module, pairs: Pairing | None, rows: Dataset, *, lean: bool, method: str
) -> tuple[LeanKD | PlainKD, str]:
    """How the losses of these models are computed, and the log's word for it.

    Without `lean`, from whole logits and maps. A model whose attention cannot be followed loses the attention loss
    where that would only be logged.
    """
    followed = {"": pairs}
    if pairs is not None and not recipe.attention_weight:
        followed[" without the attention loss"] = None
    kinds = {"lean": partial(LeanKD.of, student), "plain": PlainKD}
    ways = {
        name + left_out: partial(kind, teacher, paired)
        for left_out, paired in followed.items()
        for name, kind in kinds.items()
        if lean or name == "plain"
    }
    form, path = distillation.first_that_works(
        ways, lambda form, rows: form.parts(recipe, student, rows), student, rows, method=method
    )
    return form, path if lean or ":" in path else f"{path}: asked for"


def followed_maps(
    student: nn.Module, teacher: nn.Module, rows: Batch, pairs: Pairing, *, trained: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Logits of both models, and each student layer's divergence of attention rows, (row, head, position) each."""
    seen: dict[int, LayerAttention] = {}
    heads = torch.tensor(pairs.heads, device=rows.ids.device)

    def keep(layer: LayerAttention) -> None:
        if layer.layer in pairs.layers:
            seen[layer.layer] = layer

    divergences: list[Tensor] = []

    def follow(layer: LayerAttention) -> None:
        theirs = seen[pairs.layers[layer.layer]]
        allowed = layer.allowed & theirs.allowed
        own = (layer.queries, layer.keys) if trained else (layer.queries.detach(), layer.keys.detach())
        for_each_head = theirs.keys.repeat_interleave(theirs.queries.shape[1] // theirs.keys.shape[1], dim=1)
        taught = attention_map(theirs.queries[:, heads], for_each_head[:, heads], allowed, scale=theirs.scale)
        divergences.append(attention_kl(attention_map(*own, allowed, scale=layer.scale), taught, allowed))

    with listening(teacher, keep):
        teacher_logits = distillation.teacher_logits(teacher, rows)
    with listening(getattr(student, "module", student), follow):
        student_logits = distillation.logits(student, rows)
    return student_logits, teacher_logits, divergences


def measure(
    recipe: KD, student: nn.Module, form: LeanKD | PlainKD, held_out: Iterator[dict[str, Tensor]]
) -> dict[str, float]:
    """Means of the losses over held-out rows: prediction_loss, attention_loss where there is one, cross_entropy."""
    sums: dict[str, float] = {}
    rows = 0
    for inputs in held_out:
        parts = form.parts(recipe, student, batch(inputs))
        rows += len(inputs["input_ids"])
        for name, value in named_losses(parts).items():
            sums[name] = sums.get(name, 0.0) + len(inputs["input_ids"]) * value.item()
    return {name: total / rows for name, total in sums.items()}
