"""Knowledge distillation (KD): a student follows a teacher's next-token distributions and attention maps.

Kothari et al. 2024, arXiv 2406.19112, section 2.1 and equations (1) to (5); transformers' Trainer with our losses. All
three losses are logged, whichever of them is trained.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, TrainerCallback

from zephyr_lab.data import splits
from zephyr_lab.data.splits import TEST, TRAIN, Messages, Split
from zephyr_lab.losses import kd as losses
from zephyr_lab.losses.attention_kd import attention_scores
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.losses.fast.attention_kd import attention_kl
from zephyr_lab.methods import distillation, trl_adapters
from zephyr_lab.methods.calling import Progress, Run, log_frame, settings_by_keyword
from zephyr_lab.methods.distillation_batches import Batch, Collator, batch, dataset
from zephyr_lab.methods.examples import Account, DialogueExample, dialogue_examples
from zephyr_lab.methods.recipes.kd import KD
from zephyr_lab.models import pairing
from zephyr_lab.models.attention_maps import LayerAttention, listening
from zephyr_lab.models.attention_trial import require_maps
from zephyr_lab.models.pairing import Pairing
from zephyr_lab.models.wrapped import evaluating


@dataclass(frozen=True, slots=True)
class Parts:
    """The three losses of a batch, scalars. attention is None where the models' layers or heads do not pair."""

    prediction: Tensor
    attention: Tensor | None
    cross_entropy: Tensor


@settings_by_keyword(KD)
def train_kd(
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Split[Messages] | Iterable[Mapping[str, Any]],
    *,
    recipe: KD,
    teacher: nn.Module,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    held_out: Split[Messages] | Iterable[Mapping[str, Any]] | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """Distil `teacher` into `student`, in place, on dialogues: equation (5) of arXiv 2406.19112, `recipe`'s weights.

    student: any causal model of transformers, whole or with adapters; teacher: another with the same vocabulary, on the
    same device, read and never changed. dialogues: rows with messages (`data.splits.dialogues`); bad ones are named and
    left out. teacher_tokenizer: compared with `tokenizer` where it is given. held_out: rows like `dialogues`.

    Returns the log, a row a log of the trainer: step, loss, prediction_loss, attention_loss, cross_entropy (nats, the
    three trained or not) and grad_norm. attrs has besides: steps; rows, the account of the training rows, and
    held_out_rows; held_out_losses, the three losses on the held-out rows, "start" and "end".

    Raises ValueError, before training, where the two models have different tokenizers, vocabularies or devices, where
    layers or heads do not pair and no map says how, and where no row can be trained on; at the first loss that is not
    finite, in training.

        log = train_kd(student, tokenizer, dialogues, teacher=teacher, epochs=1, learning_rate=1e-5)
    """
    return distil(
        KDTrainer, "train_kd", recipe, student, tokenizer, dialogues, teacher=teacher,
        teacher_tokenizer=teacher_tokenizer, held_out=held_out, seed=seed, run=Run.of("KD", checkpoints, progress),
        callbacks=callbacks,
    )  # fmt: skip


def distil(
    kind: type["KDTrainer"],
    method: str,
    recipe: KD,
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Split[Messages] | Iterable[Mapping[str, Any]],
    *,
    teacher: nn.Module,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    held_out: Split[Messages] | Iterable[Mapping[str, Any]] | None,
    seed: int,
    run: Run,
    callbacks: Sequence[TrainerCallback],
) -> pd.DataFrame:
    """`train_kd` with a trainer of the given kind, in the log as `method`."""
    tokenizers = {} if teacher_tokenizer is None else {"teacher": teacher_tokenizer}
    distillation.require_alike(student, tokenizer, {"teacher": teacher}, tokenizers)
    pairs = pair(recipe, student, teacher)
    examples, accounts = {}, {}
    for split, given in ((TRAIN, dialogues), (TEST, held_out)):
        if given is not None:
            examples[split], accounts[split] = read(recipe, splits.dialogues(given), tokenizer, split)
    rows = {split: rows_of(recipe, given) for split, given in examples.items()}
    trainer = distillation.trainer(
        kind, recipe, student, tokenizer, rows, seed=seed, folder=run.folder("trainer"), callbacks=callbacks
    )
    trainer.set_teacher(teacher, pairs, seed=seed)

    def losses_now() -> dict[str, float]:
        if TEST not in rows:
            return {}
        loader = DataLoader(rows[TEST], batch_size=recipe.micro_batch, collate_fn=Collator())
        return measure(recipe, student, teacher, loader, pairs)

    with evaluating(teacher):
        before = losses_now()
        log = trl_adapters.run(trainer, run, epochs=None)
        after = losses_now()
    student.eval()
    return log_frame(
        log, method=method, recipe=recipe, seed=seed, path="plain", steps=trainer.state.global_step,
        rows=accounts[TRAIN], held_out_rows=accounts.get(TEST), held_out_losses={"start": before, "end": after},
    )  # fmt: skip


def read(
    recipe: KD, found: Split[Messages], tokenizer: PreTrainedTokenizerBase, split: str
) -> tuple[list[DialogueExample], Account]:
    """The examples of some rows, labels on the answers' tokens, and what was found in the rows, which is printed."""
    examples, account = dialogue_examples(
        tokenizer,
        found.rows,
        max_length=recipe.max_length,
        answers_only=True,
        system_turn=recipe.system_turn,
        numbers=found.numbers,
    )
    print(f"{split}: {found.line(account.line())}")
    return examples, account


def rows_of(recipe: KD, examples: list[DialogueExample]) -> Any:
    """The examples as the trainer's rows."""
    return dataset([(examples, {})], packed_to=recipe.max_length if recipe.packed else None)


def pair(recipe: KD, student: nn.Module, teacher: nn.Module) -> Pairing | None:
    """Which layers and heads follow which; None where they do not pair, or a model shows no maps, and the attention
    loss is not trained.

    Raises ValueError where it is trained, or where a map that is given does not fit.
    """
    maps = {"layer_map": recipe.layer_map, "head_map": recipe.head_map}
    try:
        pairs = pairing.pair(student.config, teacher.config, **maps)
        for model in (student, teacher):
            require_maps(model)
        return pairs
    except ValueError:
        if recipe.attention_weight or any(maps.values()):
            raise
        return None


class KDTrainer(distillation.DistillationTrainer):
    """Equation (5) with the recipe's weights. `set_teacher` comes before training."""

    recipe: KD

    def set_teacher(self, teacher: nn.Module, pairs: Pairing | None, *, seed: int) -> None:
        """The frozen model to follow, and how its layers and heads pair. `seed` decides what a subclass draws."""
        self.teacher, self.pairs, self.draws = teacher, pairs, seed

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        norms = self.wants_norms()
        parts = kd_parts(self.recipe, model, self.teacher, batch(inputs), self.pairs, all_trained=norms)
        self.note("prediction_loss", parts.prediction)
        self.note("cross_entropy", parts.cross_entropy)
        if parts.attention is not None:
            self.note("attention_loss", parts.attention)
        if norms:
            attention = {} if parts.attention is None else {"attention": parts.attention}
            self.note_norms(prediction=parts.prediction, **attention)
        return total(self.recipe, parts)


def total(recipe: KD, parts: Parts) -> Tensor:
    """Equation (5) with the recipe's weights."""
    return losses.kd_loss(
        parts.prediction,
        parts.prediction.new_zeros(()) if parts.attention is None else parts.attention,
        parts.cross_entropy,
        prediction_weight=recipe.prediction_weight,
        attention_weight=recipe.attention_weight,
        ce_weight=recipe.ce_weight,
    )


def kd_parts(
    recipe: KD,
    student: nn.Module,
    teacher: nn.Module,
    rows: Batch,
    pairs: Pairing | None,
    *,
    all_trained: bool = False,
) -> Parts:
    """The losses of a batch (eq. 1, 2 and 4). One that is not trained carries no gradient, unless `all_trained`.

    The attention loss is taken layer by layer while the student runs: of the teacher its queries and keys are kept, of
    the student those that its own gradient keeps anyway, and no map outlives some of its rows.
    """
    counted = rows.counted(recipe.tokens)
    if pairs is None:
        student_logits, attention = distillation.logits(student, rows), None
        teacher_logits = distillation.teacher_logits(teacher, rows)
    else:
        trained = bool(recipe.attention_weight) or all_trained
        student_logits, teacher_logits, layers = followed_maps(student, teacher, rows, pairs, trained=trained)
        attention = distillation.reduced(recipe, attention_scores(layers), counted)
    prediction_of = student_logits if recipe.prediction_weight or all_trained else student_logits.detach()
    scores = distillation.divergence(recipe, prediction_of, teacher_logits)
    prediction = distillation.reduced(recipe, scores, counted)
    if recipe.temperature_squared:
        prediction = losses.squared(recipe.temperature, prediction)
    entropy_of = student_logits if recipe.ce_weight else student_logits.detach()
    known = rows.followed() if recipe.tokens == "all" else rows.answers & rows.followed()
    cross_entropy = losses.mean_of_tokens(next_token_losses(entropy_of, rows.ids), known[:, 1:])
    return Parts(prediction, attention, cross_entropy)


def followed_maps(
    student: nn.Module, teacher: nn.Module, rows: Batch, pairs: Pairing, *, trained: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Logits of both models, and each student layer's divergence of attention rows, (row, head, position) each."""
    seen: dict[int, LayerAttention] = {}
    wanted = set(pairs.layers)
    heads = torch.tensor(pairs.heads, device=rows.ids.device)

    def keep(layer: LayerAttention) -> None:
        if layer.layer in wanted:
            seen[layer.layer] = layer

    divergences: list[Tensor] = []

    def follow(layer: LayerAttention) -> None:
        theirs = seen[pairs.layers[layer.layer]]
        queries, keys = (layer.queries, layer.keys) if trained else (layer.queries.detach(), layer.keys.detach())
        divergences.append(
            attention_kl(
                queries,
                keys,
                layer.allowed & theirs.allowed,
                scale=layer.scale,
                teacher_queries=theirs.queries[:, heads],
                teacher_keys=_for_heads(theirs)[:, heads],
                teacher_scale=theirs.scale,
            )
        )

    with listening(teacher, keep):
        teacher_logits = distillation.teacher_logits(teacher, rows)
    with listening(getattr(student, "module", student), follow):
        student_logits = distillation.logits(student, rows)
    return student_logits, teacher_logits, divergences


@torch.no_grad()
def measure(
    recipe: KD, student: nn.Module, teacher: nn.Module, held_out: DataLoader, pairs: Pairing | None
) -> dict[str, float]:
    """Means of the losses over held-out rows: prediction_loss, attention_loss where there is one, cross_entropy."""
    sums: dict[str, float] = {}
    rows = 0
    with distillation.measuring(student):
        for inputs in held_out:
            on_device = {name: value.to(student.device) for name, value in inputs.items()}
            parts = kd_parts(recipe, student, teacher, batch(on_device), pairs)
            count = len(on_device["input_ids"])
            rows += count
            named = {"prediction_loss": parts.prediction, "cross_entropy": parts.cross_entropy}
            if parts.attention is not None:
                named["attention_loss"] = parts.attention
            for name, value in named.items():
                sums[name] = sums.get(name, 0.0) + count * value.item()
    return {name: total / rows for name, total in sums.items()}


def _for_heads(layer: LayerAttention) -> Tensor:
    """Keys once for every query head."""
    return layer.keys.repeat_interleave(layer.queries.shape[1] // layer.keys.shape[1], dim=1)
