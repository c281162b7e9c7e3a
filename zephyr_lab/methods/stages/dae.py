"""Domain alignment as stages: the training, and one batch of it looked at before and after (Figure 3)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods import dae, distillation, process, trl_adapters
from zephyr_lab.methods.dae import EXPERT, GENERAL, Teachers, flagged_rows, train_dae
from zephyr_lab.methods.distillation import Collator, batch
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.kd import DAERecipe
from zephyr_lab.methods.stages import kd
from zephyr_lab.methods.trl_adapters import RandomOrder
from zephyr_lab.models import saved
from zephyr_lab.models.causal import evaluating

ALIGNED = "aligned"
MOST_ROWS = 32  # as many as fit a picture: of larger batches the part that holds both kinds


def build(recipe: DAERecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Align `inputs["student"]` with `inputs["expert"]` on the flagged dialogues of `inputs["dialogues"]`.

    General rows follow `inputs["general"]`, by default the student as it starts, frozen. Writes what `stages.kd`
    writes; log.json: loss, domain_loss and general_loss, each the mean over rows of its kind, grad_norm. Metrics:
    steps; rows, used and findings of the training rows; domain_rows; held_out_domain_loss and held_out_general_loss,
    also "_start", before training. Raises ValueError as `train_dae`, and for a step to keep that is never reached.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start, folders = inputs["student"] / recipe.start, teacher_folders(recipe, inputs)
    student, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    log = train_dae(
        student,
        tokenizer,
        flagged_rows(inputs["dialogues"], TRAIN),
        recipe=recipe,
        **load_teachers(recipe, inputs, device),
        tokenizers={name: saved.load_chat_tokenizer(folder) for name, folder in folders.items()},
        held_out=flagged_rows(inputs["dialogues"], TEST),
        seed=seed,
        checkpoints=context.checkpoints,
        progress=context.progress,
        callbacks=kd.keeping(recipe.keep_steps, context),
    )
    kd.save(student, tokenizer, log, context, out)
    return kd.metrics(log, domain_rows=float(log.attrs["domain_rows"]))


def teacher_folders(recipe: DAERecipe, inputs: dict[str, Path]) -> dict[str, Path]:
    """The folder of each teacher: the general one's is the student's start where no other is given."""
    general = inputs[GENERAL] / recipe.general if GENERAL in inputs else inputs["student"] / recipe.start
    return {EXPERT: inputs[EXPERT] / recipe.expert, GENERAL: general}


def load_teachers(recipe: DAERecipe, inputs: dict[str, Path], device: torch.device) -> Teachers:
    """Both teachers, frozen."""
    folders = teacher_folders(recipe, inputs)
    return {name: distillation.load_teacher(folder, device) for name, folder in folders.items()}


def build_routing(
    recipe: DAERecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Read one batch of the DAE run of `recipe` and `seed`, whose final model is `inputs["aligned"]` (Figure 3).

    The other inputs are the run's own; nothing is trained. The batch is the first of the trainer's own order that holds
    rows of both kinds: a rule that does not look at losses. Writes routing.json: batch, its number from 0 (counted in
    batches of at most `MOST_ROWS` rows); rows, of each is_domain, teacher ("" for none), tokens, loss_before and
    loss_after, its mean divergence from that teacher in nats a token before the first update and after the last.
    Metrics: batch; domain and general, the count of rows of each kind, one of them 0 where no batch holds both.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["student"] / recipe.start
    flagged = flagged_rows(inputs["dialogues"], TRAIN).rows
    rows, _ = dae.rows_of(recipe, saved.load_chat_tokenizer(start), flagged, seed=derive(seed, "misrouted", TRAIN))
    order = RandomOrder(len(rows), seed=trl_adapters.trainer_seed(seed))  # of the run's first epoch
    number, places = first_mixed(rows["is_domain"], order, size=batch_rows(recipe))
    parts = [
        distillation.on_device(Collator()([rows[place] for place in some]), device)
        for some in cut(places, recipe.micro_batch)
    ]
    teachers = load_teachers(recipe, inputs, device)
    losses: list[list[float]] = []
    for step, folder in enumerate((start, inputs[ALIGNED]), start=1):  # one student at a time: a large one fills a GPU
        student = saved.load_model(folder).to(device)
        form, _ = dae.form_of(recipe, student, teachers, rows, lean=True)  # as training computes it
        with torch.no_grad(), evaluating(student):
            routed = [form.routed(recipe, student, batch(part), part["by_expert"]) for part in parts]
        losses.append([loss for one in routed for loss in dae.row_means(one).tolist()])
        context.progress(step, 2)
    kinds = [kind for part in parts for kind in part["is_domain"].tolist()]
    asked = [name for one in routed for name in one.asked]
    tokens = [count for one in routed for count in one.counted.sum(dim=1).tolist()]
    names = ("is_domain", "teacher", "tokens", "loss_before", "loss_after")
    table = [dict(zip(names, row, strict=True)) for row in zip(kinds, asked, tokens, *losses, strict=True)]
    files.write_json(out / "routing.json", {"batch": number, "rows": table})
    return {"batch": float(number), "domain": float(sum(kinds)), "general": float(len(kinds) - sum(kinds))}


def batch_rows(recipe: DAERecipe) -> int:
    """How many rows are drawn: a whole batch, `MOST_ROWS` of a larger one."""
    return min(recipe.batch, MOST_ROWS)


def first_mixed(is_domain: Sequence[bool], order: Iterable[int], *, size: int) -> tuple[int, list[int]]:
    """The first batch of `size` rows with rows of both kinds, else the first: its number from 0 and its rows."""
    batches = cut(order, size)
    mixed = (number for number, rows in enumerate(batches) if len({is_domain[row] for row in rows}) == 2)
    number = next(mixed, 0)
    return number, batches[number]


def cut(rows: Iterable[int], size: int) -> list[list[int]]:
    """`rows` in parts of `size`, the last one shorter where the number does not divide."""
    listed = list(rows)
    return [listed[first : first + size] for first in range(0, len(listed), size)]
