"""Domain alignment as a stage: student, teachers and flagged dialogues from folders, the aligned model to one."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods import dae, distillation, process, trl_adapters
from zephyr_lab.methods.dae import EXPERT, GENERAL, Teachers, flagged_rows, train_dae
from zephyr_lab.methods.distillation import Collator, RandomOrder, batch
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.kd import DAERecipe
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


ALIGNED = "aligned"
MOST_ROWS = 32  # a picture's worth: of larger batches the part that holds both kinds


def build_routing(
    recipe: DAERecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Read one batch of the DAE run of `recipe` and `seed`, whose final model is `inputs["aligned"]`.

    The other inputs are the run's own. Writes routing.json: batch, its number from 0 (counted in batches of at most
    `MOST_ROWS` rows); rows, of each is_domain, teacher ("" for none), tokens, loss_before and loss_after, its mean
    divergence from that teacher in nats a token before the first update and after the last. Metrics: batch; domain
    and general, the count of rows of each kind, one of them 0 where no batch holds both.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["student"] / recipe.start
    flagged = flagged_rows(inputs["dialogues"], TRAIN).rows
    rows, _ = dae.rows_of(recipe, saved.load_chat_tokenizer(start), flagged, seed=derive(seed, "misrouted", TRAIN))
    number, places = first_mixed(rows["is_domain"], order(len(rows), seed), size=batch_rows(recipe))
    parts = [
        {name: value.to(device) for name, value in Collator()([rows[place] for place in some]).items()}
        for some in cut(places, recipe.micro_batch)
    ]
    teachers = load_teachers(recipe, inputs, device)
    losses: list[list[float]] = []
    for step, folder in enumerate((start, inputs[ALIGNED]), start=1):  # one student at a time: a large one fills a GPU
        student = saved.load_model(folder).to(device)
        form, _ = dae.form_of(recipe, student, teachers, rows, lean=True)  # as training computes it
        read = [routed(recipe, student, form, part) for part in parts]
        losses.append([loss for one in read for loss in dae.row_means(one).tolist()])
        context.progress(step, 2)
    kinds = [kind for part in parts for kind in part["is_domain"].tolist()]
    asked = [name for one in read for name in one.asked]
    tokens = [count for one in read for count in one.counted.sum(dim=1).tolist()]
    names = ("is_domain", "teacher", "tokens", "loss_before", "loss_after")
    told = [dict(zip(names, row, strict=True)) for row in zip(kinds, asked, tokens, *losses, strict=True)]
    files.write_json(out / "routing.json", {"batch": number, "rows": told})
    return {"batch": float(number), "domain": float(sum(kinds)), "general": float(len(kinds) - sum(kinds))}


def batch_rows(recipe: DAERecipe) -> int:
    """How many rows are drawn: a whole batch, `MOST_ROWS` of a larger one."""
    return min(recipe.batch, MOST_ROWS)


def order(rows: int, seed: int) -> RandomOrder:
    """The order in which a run of `seed` saw its `rows` rows in its first epoch."""
    return RandomOrder(rows, seed=trl_adapters.trainer_seed(seed))


def first_mixed(is_domain: Sequence[bool], places: Iterable[int], *, size: int) -> tuple[int, list[int]]:
    """The first batch of `size` rows with rows of both kinds: its number from 0 and the places of its rows.

    `places` is the order that rows come in. Where no batch holds both kinds, the first batch.
    """
    batches = cut(places, size)
    mixed = (number for number, some in enumerate(batches) if len({is_domain[place] for place in some}) == 2)
    number = next(mixed, 0)
    return number, batches[number]


def routed(recipe: DAERecipe, student: nn.Module, form: dae.Form, part: dict[str, Tensor]) -> dae.Routed:
    """The divergences of what `Collator` made of some rows, without gradients."""
    with distillation.measuring(student):
        return form.routed(recipe, student, batch(part), part["by_expert"])


def cut(places: Iterable[int], size: int) -> list[list[int]]:
    """`places` in parts of `size`, the last one shorter where they do not come out even."""
    listed = list(places)
    return [listed[first : first + size] for first in range(0, len(listed), size)]
