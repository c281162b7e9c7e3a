"""Domain alignment from an expert (DAE): domain rows of a batch follow the expert, the others the frozen start.

Kothari et al. 2024, arXiv 2406.19112, section 2.2 and equation (6); transformers' Trainer with our losses. Each row
runs through its own teacher alone, where the published code runs both teachers on every row.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.losses.dae import sum_of_group_means
from zephyr_lab.methods import distillation, process
from zephyr_lab.methods.distillation_batches import Batch, Collator, batch, dataset
from zephyr_lab.methods.examples import Account, DialogueExample, each_dialogue, require_some
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.random_order import RandomOrder
from zephyr_lab.methods.recipes.dae import DAERecipe
from zephyr_lab.methods.stages.kd_data import Flagged, read_flagged
from zephyr_lab.models import pairing, saved

GENERAL, EXPERT = "general", "expert"
Teachers = dict[str, PreTrainedModel]


@dataclass(frozen=True, slots=True)
class Routed:
    """Divergences of a batch from its rows' own teachers, (row, position), 0 where no teacher is asked.

    `counted`: the positions that means are taken over, those of unasked rows included. `by_expert`: rows that went to
    the expert's side, (row,). `asked`: which teacher each row ran through, "" for none.
    """

    scores: Tensor
    counted: Tensor
    by_expert: Tensor
    asked: tuple[str, ...]


def build(recipe: DAERecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Align `inputs["student"]` with `inputs["expert"]` on the flagged dialogues of `inputs["dialogues"]`.

    General rows follow `inputs["general"]`, by default the student as it starts, frozen. Writes the model with its
    tokenizer to `out`, log.json (a row a log: loss, domain_loss and general_loss, each the mean over rows of its kind,
    grad_norm; "eval_" marks held-out rows), rows.json and steps/N where the recipe keeps them. Metrics: steps; rows,
    used and findings of the training rows; domain_rows; held_out_domain_loss and held_out_general_loss, also "_start",
    before training.

    Raises ValueError, before training, for a missing expert, other tokenizers or vocabularies, rows without a domain
    flag, and where no row can be trained on; at the first loss that is not finite, in training.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["student"] / recipe.start
    folders = teacher_folders(recipe, inputs)
    student, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    teachers = load_teachers(recipe, inputs, device)
    tokenizers = {name: saved.load_chat_tokenizer(folder) for name, folder in folders.items()}
    pairing.require_same_tokenizer(student=tokenizer, **tokenizers)
    pairing.require_same_turns(student=tokenizer, **tokenizers)
    pairing.require_same_vocabulary(student=student.config, **{name: model.config for name, model in teachers.items()})
    rows, accounts = {}, {}
    for split in (TRAIN, TEST):
        flagged, unusable = read_flagged(inputs["dialogues"], split)
        rows[split], accounts[split] = rows_of(recipe, tokenizer, flagged, seed=derive(seed, "misrouted", split))
        print(f"{split}: {unusable} unusable rows; {accounts[split].line()}")
    trainer = distillation.trainer(
        DAETrainer, recipe, student, tokenizer, rows, seed=seed, folder=context.checkpoints / "trainer"
    )
    trainer.teachers = teachers
    held_out = DataLoader(rows[TEST], batch_size=recipe.micro_batch, collate_fn=Collator())
    before = measure(recipe, student, teachers, held_out)
    log = distillation.run(trainer, context)
    after = measure(recipe, student, teachers, held_out)
    distillation.save(student, tokenizer, context, out)
    files.write_json(out / "log.json", log)
    files.write_json(out / "rows.json", {split: asdict(account) for split, account in accounts.items()})
    return {
        "steps": float(trainer.state.global_step),
        **accounts[TRAIN].metrics(),
        "domain_rows": float(sum(rows[TRAIN]["is_domain"])),
        **{f"held_out_{name}_start": value for name, value in before.items()},
        **{f"held_out_{name}": value for name, value in after.items()},
    }


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


def rows_of(
    recipe: DAERecipe, tokenizer: PreTrainedTokenizerBase, flagged: Sequence[Flagged], *, seed: int
) -> tuple[Dataset, Account]:
    """The trainer's rows with is_domain, as the data say, and by_expert, as they are routed; and what was found.

    Packed rows hold dialogues of one kind and one teacher. Raises ValueError where no row can be trained on.
    """
    flags = [one.is_domain for one in flagged]
    kinds = list(zip(flags, routed_flags(flags, recipe.misrouted, seed=seed), strict=True))
    examples, account = each_dialogue(
        tokenizer,
        [one.messages for one in flagged],
        max_length=recipe.max_length,
        answers_only=True,
        system_turn=recipe.system_turn,
        numbers=[one.number or place for place, one in enumerate(flagged, start=1)],
    )
    require_some(account, max_length=recipe.max_length)
    groups: list[tuple[list[DialogueExample], dict[str, bool]]] = []
    for is_domain, by_expert in ((False, False), (False, True), (True, True), (True, False)):
        of_kind = [
            example
            for example, kind in zip(examples, kinds, strict=True)
            if example is not None and kind == (is_domain, by_expert)
        ]
        groups.append((of_kind, {"is_domain": is_domain, "by_expert": by_expert}))
    return dataset(groups, packed_to=recipe.max_length if recipe.packed else None), account


def routed_flags(flags: Sequence[bool], misrouted: float, *, seed: int) -> list[bool]:
    """The flags, of which a share `misrouted` of each kind, chosen by `seed`, is turned over."""
    rng = random.Random(seed)
    routes = list(flags)
    for kind in (False, True):
        places = [place for place, flag in enumerate(flags) if flag is kind]
        for place in rng.sample(places, round(misrouted * len(places))):
            routes[place] = not kind
    return routes


class DAETrainer(distillation.DistillationTrainer):
    """Equation (6), or the reading of it that the recipe names. `teachers` are set before training."""

    recipe: DAERecipe
    teachers: Teachers

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> RandomOrder:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return RandomOrder(len(rows), seed=self.args.seed)

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        routed = routed_scores(self.recipe, model, self.teachers, batch(inputs), inputs["by_expert"])
        means = row_means(routed)
        is_domain = inputs["is_domain"]
        for name, of_kind in (("domain_loss", is_domain), ("general_loss", ~is_domain)):
            if of_kind.any():
                self.note(name, means[of_kind].mean(), weight=float(of_kind.sum()))
        if self.wants_norms():
            domain = torch.where(routed.by_expert[:, None], routed.scores, 0.0)
            general = routed.scores - domain
            self.note_norms(domain=reduced(self.recipe, routed, domain), general=reduced(self.recipe, routed, general))
        loss = reduced(self.recipe, routed, routed.scores)
        return loss if loss.requires_grad or not self.model.training else loss + _zero(model)


def routed_scores(recipe: DAERecipe, student: nn.Module, teachers: Teachers, rows: Batch, by_expert: Tensor) -> Routed:
    """The divergence of each row from its own teacher (eq. 6), each teacher run on its rows alone.

    The student runs by group as well, so that no group is padded to the other's longest row.
    """
    counted = rows.counted(recipe.tokens)
    scores = torch.zeros(rows.ids.shape, device=rows.ids.device)
    asked = [""] * len(rows.ids)
    for side in (True, False):
        chosen = by_expert if side else ~by_expert
        if not chosen.any() or not (side or recipe.reference_term):
            continue
        name = EXPERT if side and recipe.domain_teacher == EXPERT else GENERAL
        part = rows.rows(chosen)
        target = distillation.teacher_logits(teachers[name], part)
        found = distillation.divergence(recipe, distillation.logits(student, part), target)
        scores[chosen, : found.shape[1]] = found.to(scores.dtype)
        for place in chosen.nonzero().flatten().tolist():
            asked[place] = name
    return Routed(scores, counted, by_expert, tuple(asked))


def row_means(routed: Routed) -> Tensor:
    """The mean over each row's counted positions, (row,)."""
    sums = torch.where(routed.counted, routed.scores, 0.0).sum(dim=1)
    return sums / routed.counted.sum(dim=1).clamp(min=1)


def reduced(recipe: DAERecipe, routed: Routed, scores: Tensor) -> Tensor:
    """The recipe's mean of `scores` over the batch."""
    if recipe.reduction == "groups":
        loss = sum_of_group_means(scores, routed.counted, routed.by_expert)
    else:
        loss = distillation.reduced(recipe, scores, routed.counted)
    return recipe.temperature**2 * loss if recipe.temperature_squared else loss


def measure(recipe: DAERecipe, student: PreTrainedModel, teachers: Teachers, held_out: DataLoader) -> dict[str, float]:
    """domain_loss and general_loss over held-out rows, each the mean over its kind; a kind without rows is absent."""
    sums: dict[str, list[float]] = {}
    with distillation.measuring(student):
        for inputs in held_out:
            on_device = {name: value.to(student.device) for name, value in inputs.items()}
            means = row_means(routed_scores(recipe, student, teachers, batch(on_device), on_device["by_expert"]))
            for mean, is_domain in zip(means.tolist(), on_device["is_domain"].tolist(), strict=True):
                sums.setdefault("domain_loss" if is_domain else "general_loss", []).append(mean)
    return {name: sum(values) / len(values) for name, values in sorted(sums.items())}


def _zero(model: nn.Module) -> Tensor:
    """0 with a gradient of 0: a batch of general rows alone has no loss where the recipe leaves their term out."""
    return 0.0 * sum(weight.sum() for weight in model.parameters() if weight.requires_grad)
