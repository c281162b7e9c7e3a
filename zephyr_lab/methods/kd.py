"""Knowledge distillation (KD): a student follows a teacher's next-token distributions and attention maps.

Kothari et al. 2024, arXiv 2406.19112, section 2.1 and equations (1) to (5); transformers' Trainer with our losses. All
three losses are logged, whichever of them is trained.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, dialogue_rows
from zephyr_lab.losses import kd as losses
from zephyr_lab.losses.attention_kd import attention_scores
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.losses.fast.attention_kd import attention_kl
from zephyr_lab.methods import distillation, process
from zephyr_lab.methods.distillation_batches import Batch, Collator, batch, dataset
from zephyr_lab.methods.examples import Account, DialogueExample, dialogue_examples
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.kd import KDRecipe
from zephyr_lab.models import pairing, saved
from zephyr_lab.models.attention_maps import LayerAttention, listening
from zephyr_lab.models.pairing import Pairing


@dataclass(frozen=True, slots=True)
class Parts:
    """The three losses of a batch, scalars. attention is None where the models' layers or heads do not pair."""

    prediction: Tensor
    attention: Tensor | None
    cross_entropy: Tensor


def build(recipe: KDRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Distil `inputs["teacher"]` into `inputs["student"]` on the dialogues of `inputs["dialogues"]`.

    Writes the model with its tokenizer to `out`, log.json (a row a log: loss, prediction_loss, attention_loss,
    cross_entropy, grad_norm; "eval_" marks held-out rows), rows.json (what was found in the data) and steps/N where the
    recipe keeps them. Metrics: steps; rows, used, and a count for each finding in the training rows; the three losses
    on held-out rows, held_out_<loss>, and before training, held_out_<loss>_start.

    Raises ValueError, before training, where teacher and student have different tokenizers or vocabularies, where
    layers or heads do not pair and no map says how, and where no row can be trained on; at the first loss that is not
    finite, in training.
    """
    return train(KDTrainer, recipe, seed=seed, inputs=inputs, out=out, context=context)


def train(
    kind: type["KDTrainer"], recipe: KDRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """`build` with a trainer of the given kind."""
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["student"] / recipe.start
    place = distillation.require_input(inputs, "teacher", "distillation needs a teacher") / recipe.teacher
    student, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    teacher = distillation.load_teacher(place, device)
    tokenizers = {"student": tokenizer, "teacher": saved.load_chat_tokenizer(place)}
    pairing.require_same_tokenizer(**tokenizers)
    pairing.require_same_turns(**tokenizers)
    pairing.require_same_vocabulary(student=student.config, teacher=teacher.config)
    pairs = pair(recipe, student, teacher)
    examples, accounts = {}, {}
    for split in (TRAIN, TEST):
        examples[split], accounts[split] = read(recipe, inputs["dialogues"], tokenizer, split)
    rows = {split: rows_of(recipe, given) for split, given in examples.items()}
    trainer = distillation.trainer(
        kind, recipe, student, tokenizer, rows, seed=seed, folder=context.checkpoints / "trainer"
    )
    trainer.set_teacher(teacher, pairs, seed=seed)
    held_out = DataLoader(rows[TEST], batch_size=recipe.micro_batch, collate_fn=Collator())
    before = measure(recipe, student, teacher, held_out, pairs)
    log = distillation.run(trainer, context)
    after = measure(recipe, student, teacher, held_out, pairs)
    distillation.save(student, tokenizer, context, out)
    files.write_json(out / "log.json", log)
    files.write_json(out / "rows.json", {split: asdict(account) for split, account in accounts.items()})
    return {
        "steps": float(trainer.state.global_step),
        **accounts[TRAIN].metrics(),
        **{f"held_out_{name}_start": value for name, value in before.items()},
        **{f"held_out_{name}": value for name, value in after.items()},
    }


def read(recipe: KDRecipe, folder: Path, tokenizer: Any, split: str) -> tuple[list[DialogueExample], Account]:
    """The examples of a split, labels on the answers' tokens, and what was found in its rows."""
    found = dialogue_rows(folder, split)
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


def rows_of(recipe: KDRecipe, examples: list[DialogueExample]) -> Any:
    """The examples as the trainer's rows."""
    return dataset([(examples, {})], packed_to=recipe.max_length if recipe.packed else None)


def pair(recipe: KDRecipe, student: PreTrainedModel, teacher: PreTrainedModel) -> Pairing | None:
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
    """Equation (5) with the recipe's weights. `set_teacher` comes before training."""

    recipe: KDRecipe

    def set_teacher(self, teacher: PreTrainedModel, pairs: Pairing | None, *, seed: int) -> None:
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


def total(recipe: KDRecipe, parts: Parts) -> Tensor:
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
    recipe: KDRecipe,
    student: nn.Module,
    teacher: PreTrainedModel,
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
    student: nn.Module, teacher: PreTrainedModel, rows: Batch, pairs: Pairing, *, trained: bool
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
    recipe: KDRecipe, student: PreTrainedModel, teacher: PreTrainedModel, held_out: DataLoader, pairs: Pairing | None
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
