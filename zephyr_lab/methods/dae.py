"""Domain alignment from an expert (DAE): domain rows of a batch follow the expert, the others the frozen start.

Kothari et al. 2024, arXiv 2406.19112, section 2.2 and equation (6); transformers' Trainer with our losses. Each row
runs through its own teacher alone, where the published code runs both teachers on every row.
"""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, TrainerCallback

from zephyr_lab.core.rows import Row, Rows, read_as, required
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import splits
from zephyr_lab.data.splits import TEST, TRAIN, Split, Talk
from zephyr_lab.losses.dae import sum_of_group_means
from zephyr_lab.losses.fast.kd_head import LinearHead, mean_of_sequences
from zephyr_lab.methods import distillation
from zephyr_lab.methods.calling import Progress, Run, require_room, settings_by_keyword
from zephyr_lab.methods.distillation import Batch, Twins, batch, dataset
from zephyr_lab.methods.examples import Account, DialogueExample, each_dialogue, require_some
from zephyr_lab.methods.lean_dae import Teacher, Text, counted_hidden, lean_dae_losses
from zephyr_lab.methods.lean_kd import linear_head, spread
from zephyr_lab.methods.recipes.kd import DAE
from zephyr_lab.methods.trl_adapters import RandomOrder
from zephyr_lab.models.causal import evaluating
from zephyr_lab.models.packed_attention import require_lengths

GENERAL, EXPERT = "general", "expert"
BOTH = (True, False)
Teachers = dict[str, nn.Module | None]  # None: the student with its adapters off


@dataclass(frozen=True, slots=True)
class Flagged:
    """A dialogue, whether it belongs to the domain, and its row's number in the file (from 1; 0: of no file)."""

    messages: Talk
    is_domain: bool
    number: int = 0


def flagged_rows(folder: Path, split: str) -> Split[Flagged]:
    """The dialogues of a stage's split with their flags. Raises ValueError for a row without a flag."""
    rows = splits.stage_rows(folder, split)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("is_domain"), bool):
            raise ValueError(
                f"{split}.jsonl row {number} has no is_domain, true or false; domain alignment wants flagged dialogues"
            )
    read = [Flagged(splits.row_messages(row), row["is_domain"], number) for number, row in enumerate(rows, start=1)]
    return Split(read, [one.number for one in read], [])


def flagged(rows: Any) -> Split[Flagged]:
    """Rows as TRL has them (`data.splits.dialogues`), each with a column is_domain more. Raises as `flagged_rows`."""
    if isinstance(rows, Split):
        return rows
    read = [*splits.each_row(rows)]
    flags = Rows.of((Row(place, dict(one)) for place, one in enumerate(read, 1) if isinstance(one, Mapping)), _flag)
    if flags.bad:
        raise ValueError(
            f"{len(flags.bad)} rows of the data have no domain flag (first: {flags.bad[0]}); give each row a column "
            "is_domain, true or false"
        )
    talks = splits.dialogues(read)
    numbered = zip(talks.rows, talks.numbers, strict=True)
    good = [Flagged(one, read[number - 1]["is_domain"], number) for one, number in numbered]
    return Split(good, talks.numbers, talks.bad)


def _flag(row: Row) -> bool:
    return read_as(required(row.data, "is_domain"), bool, "is_domain")


@settings_by_keyword(DAE)
def train_dae(
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    *,
    recipe: DAE,
    expert: nn.Module,
    general: nn.Module | None = None,
    tokenizers: Mapping[str, PreTrainedTokenizerBase] | None = None,
    held_out: Any = None,
    lean: bool = True,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """Align `student`, in place, with `expert` on domain rows; on the others it stays near `general`: eq. (6).

    student: any causal model of transformers; expert, general: others with the same vocabulary, on the same device,
    never changed. general None: the student as it starts, with adapters the model below them, else a frozen copy. rows:
    dialogues with a column is_domain (`flagged`); tokenizers: "expert" and "general", compared with `tokenizer` where
    given. lean: take the loss from hidden states of packed texts (`lean_dae`) where all models allow it; it equals the
    plain one up to rounding. Where not, one line says why, and whole logits of padded rows are computed.

    Returns the log, a row a log of the trainer: step, loss, domain_loss and general_loss (nats a token, the mean over
    rows of each kind, absent where there were none) and grad_norm. attrs has besides: path, "lean" or "plain: <why>";
    steps; rows, an account of the rows by split; domain_rows; held_out_losses, both losses on held-out rows, "start"
    and "end".

    Raises ValueError, before training, for other tokenizers, vocabularies or devices, rows without a domain flag, and
    where no row can be trained on; in training, at the first loss that is not finite.

    >>> from zephyr_lab.models.example import example_model
    >>> (student, tokenizer), (expert, _) = example_model(), example_model(seed=1)
    >>> chat = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]
    >>> rows = [{"messages": chat, "is_domain": flag} for flag in (True, False)] * 2
    >>> log = train_dae(student, tokenizer, rows, expert=expert, batch=4, learning_rate=1e-3)
    train: 0 unusable rows; 4 rows, 4 used
    >>> bool(log["domain_loss"].iloc[0] > 0), float(log["general_loss"].iloc[0])  # others follow the start, at 0
    (True, 0.0)
    """
    teachers = {EXPERT: expert} if general is None else {EXPERT: expert, GENERAL: general}
    distillation.require_alike(student, tokenizer, teachers, dict(tokenizers or {}))
    run = Run.of("DAE", checkpoints, progress, recipe=recipe, seed=seed)
    sides: Teachers = {EXPERT: expert, GENERAL: frozen_start(student) if general is None else general}
    by_split, accounts = {}, {}
    for split, data in ((TRAIN, rows), (TEST, held_out)):
        if data is not None:
            read = flagged(data)
            order = derive(seed, "misrouted", split)
            by_split[split], accounts[split] = rows_of(recipe, tokenizer, read.rows, seed=order)
            print(f"{split}: {read.line(accounts[split].line())}")
    if not recipe.packed:
        longest = max(len(ids) for of_split in by_split.values() for ids in of_split["input_ids"])
        require_room(longest, student, *teachers.values())
    run.trains_on(by_split[TRAIN], student)
    all_rows = concatenate_datasets([*by_split.values()])
    return distillation.train(
        DAETrainer,
        "train_dae",
        recipe,
        student,
        tokenizer,
        by_split,
        teachers=teachers.values(),
        choose=partial(form_of, recipe, student, sides, all_rows, lean=lean),
        measure=partial(measure, recipe, student),
        accounts=accounts,
        seed=seed,
        run=run,
        callbacks=callbacks,
        domain_rows=sum(by_split[TRAIN]["is_domain"]),
    )


def frozen_start(student: nn.Module) -> nn.Module | None:
    """A frozen copy of the student, or None for one with adapters, which is its own start while they are off."""
    if hasattr(student, "disable_adapter"):
        return None
    return copy.deepcopy(student).eval().requires_grad_(False)


@contextmanager
def reading(teacher: nn.Module | None, student: nn.Module) -> Iterator[nn.Module]:
    """The teacher; for None the student with its adapters off, without dropout."""
    if teacher is not None:
        yield teacher
        return
    student = getattr(student, "module", student)
    with student.disable_adapter(), evaluating(student):
        yield student


def rows_of(
    recipe: DAE, tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Flagged], *, seed: int
) -> tuple[Dataset, Account]:
    """The trainer's rows with is_domain, as the data say, and by_expert, as they are routed; and an account of them.

    Packed rows hold dialogues of one kind and one teacher. Raises ValueError where no row can be trained on.
    """
    flags = [one.is_domain for one in dialogues]
    kinds = list(zip(flags, routed_flags(flags, recipe.misrouted, seed=seed), strict=True))
    examples, account = each_dialogue(
        tokenizer,
        [one.messages for one in dialogues],
        max_length=recipe.max_length,
        answers_only=True,
        system_turn=recipe.system_turn,
        numbers=[one.number or place for place, one in enumerate(dialogues, start=1)],
    )
    require_some(account, max_length=recipe.max_length)
    groups: list[tuple[list[DialogueExample], dict[str, bool]]] = []
    for kind in ((False, False), (False, True), (True, True), (True, False)):
        pairs = zip(examples, kinds, strict=True)
        of_kind = [example for example, own in pairs if example is not None and own == kind]
        groups.append((of_kind, {"is_domain": kind[0], "by_expert": kind[1]}))
    return dataset(groups, packed_to=recipe.max_length if recipe.packed else None), account


def routed_flags(flags: Sequence[bool], misrouted: float, *, seed: int) -> list[bool]:
    """The flags, of which a share `misrouted` of each kind, chosen by `seed`, is flipped."""
    rng = random.Random(seed)
    routes = list(flags)
    for kind in (False, True):
        places = [place for place, flag in enumerate(flags) if flag is kind]
        for place in rng.sample(places, round(misrouted * len(places))):
            routes[place] = not kind
    return routes


class DAETrainer(distillation.DistillationTrainer):
    """Equation (6), or the reading of it that the recipe names."""

    recipe: DAE

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> RandomOrder:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return RandomOrder(len(rows), seed=self.args.seed)

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        of_batch = partial(self.form.routed, self.recipe, model, batch(inputs), inputs["by_expert"])
        sides = {"domain": (True,), "general": (False,)}
        self.note_norms({name: lambda side=side: of_batch(side).loss for name, side in sides.items()})
        routed = of_batch()
        means = row_means(routed)
        is_domain = inputs["is_domain"]
        for name, of_kind in (("domain_loss", is_domain), ("general_loss", ~is_domain)):
            if of_kind.any():
                self.note(name, means[of_kind].mean(), weight=float(of_kind.sum()))
        return routed.loss if routed.loss.requires_grad or not self.model.training else routed.loss + _zero(model)


def _zero(model: nn.Module) -> Tensor:
    """0 with a gradient of 0: a batch of general rows alone has no loss where the recipe leaves their term out."""
    return 0.0 * sum(weight.sum() for weight in model.parameters() if weight.requires_grad)


@dataclass(frozen=True, slots=True)
class Routed:
    """The loss of a batch (eq. 6), and as plain numbers the divergences of its rows from their own teachers.

    scores: (row, position), 0 where no teacher is read. counted: the positions that means are taken over, also of rows
    without a teacher. by_expert: rows of the expert's side, (row,). asked: the teacher of each row, "" for none.
    """

    loss: Tensor
    scores: Tensor
    counted: Tensor
    by_expert: Tensor
    asked: tuple[str, ...]


def asked_by(recipe: DAE) -> dict[bool, str]:
    """The teacher of each side, the expert's (True) and the other; "" for none."""
    expert = EXPERT if recipe.domain_teacher == EXPERT else GENERAL
    return {True: expert, False: GENERAL if recipe.reference_term else ""}


@dataclass(frozen=True, slots=True)
class LeanDAE:
    """The loss from hidden states of packed texts, each through its own teacher alone."""

    teachers: Teachers
    heads: dict[str, LinearHead]  # of student and teachers

    @classmethod
    def of(cls, student: nn.Module, teachers: Teachers, *, longest: int = 1) -> "LeanDAE":
        """Raises ValueError where a head is more than a linear map of hidden states (`lean_kd.linear_head`), or where
        texts of up to `longest` tokens in one row would change each other's rotary embeddings."""
        distillation.require_whole_weights()
        for model in (student, *filter(None, teachers.values())):
            require_lengths(model, longest)
        own = linear_head(student)
        heads = {name: own if model is None else linear_head(model) for name, model in teachers.items()}
        return cls(teachers, {**heads, "": own})

    def routed(
        self, recipe: DAE, student: nn.Module, rows: Batch, by_expert: Tensor, sides: tuple[bool, ...] = BOTH
    ) -> Routed:
        """The divergence of each row from its own teacher (eq. 6), its gradient already computed: call backward once.

        sides: rows of the expert's side (True) or of the other (False) alone.
        """
        names = asked_by(recipe)
        counted = rows.counted(recipe.tokens)
        read = [bool(names[side]) and side in sides for side in by_expert.tolist()]
        asked = tuple(names[side] if is_read else "" for side, is_read in zip(by_expert.tolist(), read, strict=True))
        scores = torch.zeros(rows.ids.shape, device=rows.ids.device)
        own = counted & torch.tensor(read, device=counted.device)[:, None]
        if not own.any():
            return Routed(scores.sum(), scores, counted, by_expert, asked)
        shares = shares_of(recipe, counted, by_expert)
        texts = [(row, part) for row, is_read in enumerate(read) if is_read for part in rows.texts(row)]
        lean = lean_dae_losses(
            student,
            self.heads[""],
            [Text(rows.ids[row, part], counted[row, part]) for row, part in texts],
            is_domain=[bool(by_expert[row]) for row, _ in texts],
            expert=self._teacher(names[True], student),
            reference=self._teacher(names[False], student),
            shares=[shares[row, part][counted[row, part]] for row, part in texts],
            weight=distillation.factor(recipe),
            temperature=recipe.temperature,
            divergence=distillation.DIVERGENCES[recipe.divergence].lean,
        )
        scores = scores.to(lean.scores.dtype)
        scores[own] = lean.scores
        return Routed(lean.loss, scores, counted, by_expert, asked)

    def _teacher(self, name: str, student: nn.Module) -> Teacher:
        """`name`'s side; for "" one that is never read."""

        @torch.no_grad()
        def read(texts: Sequence[Text]) -> Tensor:
            with reading(self.teachers[name], student) as teacher:
                return counted_hidden(teacher, texts)

        return Teacher(self.heads[name], read)


@dataclass(frozen=True, slots=True)
class PlainDAE:
    """The loss from whole logits of padded rows: the reference of `LeanDAE`, and the way for models that it does not
    know."""

    teachers: Teachers

    def routed(
        self, recipe: DAE, student: nn.Module, rows: Batch, by_expert: Tensor, sides: tuple[bool, ...] = BOTH
    ) -> Routed:
        """The divergence of each row from its own teacher (eq. 6), each teacher run on its rows alone.

        The student runs by group as well, so that no group is padded to the other's longest row. sides: as `LeanDAE`.
        """
        counted = rows.counted(recipe.tokens)
        scores = torch.zeros(rows.ids.shape, device=rows.ids.device)
        asked = [""] * len(rows.ids)
        for side in sides:
            chosen, name = by_expert if side else ~by_expert, asked_by(recipe)[side]
            if not chosen.any() or not name:
                continue
            part = rows.rows(chosen)
            with reading(self.teachers[name], student) as teacher:
                target = distillation.teacher_logits(teacher, part)
            of_group = distillation.divergence(recipe, distillation.logits(student, part), target)
            scores = scores.to(of_group.dtype)
            scores[chosen, : of_group.shape[1]] = of_group
            for row in chosen.nonzero().flatten().tolist():
                asked[row] = name
        loss = distillation.factor(recipe) * REDUCTIONS[recipe.reduction].plain(scores, counted, by_expert)
        return Routed(loss, scores.detach(), counted, by_expert, tuple(asked))


def form_of(
    recipe: DAE, student: nn.Module, teachers: Teachers, rows: Dataset, *, lean: bool
) -> tuple[LeanDAE | PlainDAE, str]:
    """How the loss of these models is computed, and the log's word for it. Without `lean`, from whole logits."""
    sides = [side for side, name in asked_by(recipe).items() if name]

    def each(form: LeanDAE | PlainDAE, rows: Batch) -> list[Routed]:
        return [form.routed(recipe, student, rows, torch.tensor([side], device=rows.ids.device)) for side in sides]

    longest = max(map(len, rows["input_ids"]))
    ways = {"lean": partial(LeanDAE.of, student, teachers, longest=longest)} if lean else {}
    ways["plain"] = partial(PlainDAE, teachers)
    form, path = distillation.first_that_works(ways, each, student, rows, method="train_dae")
    return form, path if lean else "plain: asked for"


def row_means(routed: Routed) -> Tensor:
    """The mean over each row's counted positions, (row,)."""
    sums = torch.where(routed.counted, routed.scores, 0.0).sum(dim=1)
    return sums / routed.counted.sum(dim=1).clamp(min=1)


def shares_of(recipe: DAE, counted: Tensor, by_expert: Tensor) -> Tensor:
    """Each position's share in the recipe's mean over the batch, (row, position), 0 where it does not count."""
    return REDUCTIONS[recipe.reduction].lean(counted, by_expert)


def _of_all(mean: Twins) -> Twins:
    """A mean that is the same for both kinds of rows."""
    return Twins(
        lambda scores, counted, by_expert: mean.plain(scores, counted),
        lambda counted, by_expert: spread(mean.lean(counted), counted),
    )


def _shares_of_groups(counted: Tensor, by_expert: Tensor) -> Tensor:
    """Those of `losses.dae.sum_of_group_means`."""
    groups = [counted & side[:, None] for side in (by_expert, ~by_expert)]
    return sum(spread(mean_of_sequences(group), group) for group in groups)


REDUCTIONS = {name: _of_all(mean) for name, mean in distillation.MEANS.items()} | {
    "groups": Twins(sum_of_group_means, _shares_of_groups)
}


def measure(
    recipe: DAE, student: nn.Module, form: LeanDAE | PlainDAE, held_out: Iterator[dict[str, Tensor]]
) -> dict[str, float]:
    """domain_loss and general_loss over held-out rows, each the mean over its kind; a kind without rows is absent."""
    sums: dict[str, list[float]] = {}
    for inputs in held_out:
        means = row_means(form.routed(recipe, student, batch(inputs), inputs["by_expert"]))
        for mean, is_domain in zip(means.tolist(), inputs["is_domain"].tolist(), strict=True):
            sums.setdefault("domain_loss" if is_domain else "general_loss", []).append(mean)
    return {name: sum(values) / len(values) for name, values in sorted(sums.items())}
