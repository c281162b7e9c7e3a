"""One training batch of DAE before and after training: which teacher each row follows and how far the student is off.

Kothari et al. 2024, arXiv 2406.19112, Figure 3, of a finished run; nothing is trained here. The batch is chosen by a
rule and not by what it shows: the first of the trainer's own order that holds rows of both kinds.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor, nn

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TRAIN
from zephyr_lab.methods import dae, distillation, process, trl_adapters
from zephyr_lab.methods.distillation_batches import Collator, batch
from zephyr_lab.methods.flagged import flagged_rows
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.dae import DAERecipe
from zephyr_lab.methods.stages.dae import load_teachers
from zephyr_lab.methods.trl_adapters import RandomOrder
from zephyr_lab.models import saved

ALIGNED = "aligned"
MOST_ROWS = 32  # a picture's worth: of larger batches the part that holds both kinds


def build(recipe: DAERecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
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
