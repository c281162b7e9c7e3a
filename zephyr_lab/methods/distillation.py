"""What KD and DAE share: batches with answer masks, and transformers' Trainer with a loss of ours, its parts logged.

Packing is TRL's; rows are padded on the right, where no token that counts sees the padding. Progress, checkpoints, the
halt at the first NaN and equal bytes after a kill are those of `trl_adapters`.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from datasets import Dataset, concatenate_datasets
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
from trl import pack_dataset

from zephyr_lab.core.shapes import TokenIds, TokenMask
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.losses import kd as plain
from zephyr_lab.losses.fast import kd_head
from zephyr_lab.losses.kd import predicting
from zephyr_lab.methods import optimizers, trl_adapters
from zephyr_lab.methods.calling import Run, device_of, log_frame, require_fit, require_trainable
from zephyr_lab.methods.examples import IGNORED, Account, DialogueExample
from zephyr_lab.methods.lean_kd import spread
from zephyr_lab.methods.recipes.kd import Distillation
from zephyr_lab.models import pairing, saved
from zephyr_lab.models.causal import evaluating, own_random_numbers, share_weights
from zephyr_lab.models.packed_attention import require_apart

Form = TypeVar("Form")
TRIED = 32  # tokens of the first row that a path is tried on


@dataclass(frozen=True, slots=True)
class Batch:
    """ids, and masks of their shape: `real` is False on padding, `answers` True on tokens of answers.

    places: position of each token in its own document where rows are packed, else None.
    """

    ids: TokenIds
    real: TokenMask
    answers: TokenMask
    places: TokenIds | None

    def rows(self, chosen: Tensor) -> "Batch":
        """The chosen rows (bool), cut to the longest of them."""
        width = int(self.real[chosen].sum(dim=1).max())
        places = None if self.places is None else self.places[chosen, :width]
        return Batch(self.ids[chosen, :width], self.real[chosen, :width], self.answers[chosen, :width], places)

    def texts(self, row: int) -> list[slice]:
        """The slice of each document of a row."""
        length = int(self.real[row].sum())
        starts = [0] if self.places is None else (self.places[row, :length] == 0).nonzero().flatten().tolist()
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], length], strict=True)]

    def inputs(self) -> dict[str, Any]:
        """Arguments of a model's forward. Without an attention mask it reads restarts of `places` as borders."""
        packed = {} if self.places is None else {"position_ids": self.places}
        return {"input_ids": self.ids, "use_cache": False, **packed}

    def followed(self) -> TokenMask:
        """True on tokens that follow another of their document, so that a model predicts them."""
        later = torch.ones_like(self.real)
        later[:, 0] = False
        return self.real & (later if self.places is None else self.places > 0)

    def counted(self, tokens: str) -> TokenMask:
        """The positions that a divergence is taken at; `tokens` as in `recipes.kd.Distillation`."""
        return COUNTED[tokens](self)

    def predicted(self, tokens: str) -> TokenMask:
        """The positions that predict a token of the cross-entropy's: of the answers, or with "all" any."""
        return predicting(self.followed() if tokens == "all" else self.answers & self.followed())


COUNTED = {
    "all": lambda batch: batch.real,
    "answers": lambda batch: predicting(batch.answers & batch.followed()),
    "answers_unshifted": lambda batch: batch.answers,
}


def dataset(groups: Sequence[tuple[Sequence[DialogueExample], dict[str, bool]]], *, packed_to: int | None) -> Dataset:
    """Rows of some groups of examples, each with further columns of its own, e.g. {"is_domain": True}.

    packed_to: rows are filled up with several dialogues of one group, up to so many tokens; None: one dialogue a row.
    Columns: input_ids, labels, and seq_lengths where packed.
    """
    parts = []
    for examples, columns in groups:
        if not examples:
            continue
        rows = Dataset.from_dict(
            {
                "input_ids": [example.input_ids for example in examples],
                "labels": [example.labels for example in examples],
            }
        )
        if packed_to is not None:
            rows = pack_dataset(rows, packed_to, "bfd", {"load_from_cache_file": False})
        for name, value in columns.items():
            rows = rows.add_column(name, [value] * len(rows))
        parts.append(rows)
    return concatenate_datasets(parts)


class Collator:
    """Tensors of some rows: input_ids (padded), labels (IGNORED where padded), and every further column as flags.

    Packed rows also have position_ids, which restart with each document. Padding is on the right, where any id serves:
    published tokenizers have no token for it.
    """

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        columns = {
            "input_ids": _padded([row["input_ids"] for row in rows], 0),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
            "real": _padded([[1] * len(row["input_ids"]) for row in rows], 0).bool(),
        }
        if "seq_lengths" in rows[0]:
            places = [[place for length in row["seq_lengths"] for place in range(length)] for row in rows]
            columns["position_ids"] = _padded(places, 0)
        for name in rows[0].keys() - columns.keys() - {"seq_lengths"}:
            columns[name] = torch.tensor([row[name] for row in rows])
        return columns


def on_device(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The columns on `device`."""
    return {name: value.to(device) for name, value in inputs.items()}


def batch(inputs: dict[str, Tensor]) -> Batch:
    """The columns that `Collator` returns, as a batch."""
    return Batch(inputs["input_ids"], inputs["real"], inputs["labels"] != IGNORED, inputs.get("position_ids"))


def _padded(rows: list[list[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


@dataclass(frozen=True, slots=True)
class Twins:
    """A function on whole tensors, and the one that does the same on the lean path."""

    plain: Callable[..., Tensor]
    lean: Callable[..., Any]


# The functions that the words of a recipe name.
DIVERGENCES = {
    "forward": Twins(plain.forward_kl, kd_head.forward_kl),
    "reverse": Twins(plain.reverse_kl, kd_head.reverse_kl),
}
MEANS = {
    "sequences": Twins(plain.mean_of_sequences, kd_head.mean_of_sequences),
    "tokens": Twins(plain.mean_of_tokens, kd_head.mean_of_tokens),
}


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


def logits(model: nn.Module, rows: Batch) -> Tensor:
    """Next-token logits of a batch, (row, position, entry)."""
    return model(**rows.inputs()).logits


@torch.no_grad()
def teacher_logits(teacher: nn.Module, rows: Batch) -> Tensor:
    """Next-token logits of a frozen model. Raises ValueError where it would read across the border of packed texts."""
    if rows.places is not None:
        require_apart(teacher, int(rows.places.max()) + 1)
    return logits(teacher, rows)


class KeepSteps(TrainerCallback):
    """Saves the model after some steps in folder/N, before the checkpoint of the same step, so no kill loses one.

    Raises ValueError at the start of a training that ends before one of them.
    """

    def __init__(self, steps: Iterable[int], folder: Path) -> None:
        self._steps, self._folder = frozenset(steps), folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        if self._steps and max(self._steps) > state.max_steps:
            raise ValueError(f"keep_steps names step {max(self._steps)}, but training ends at step {state.max_steps}")

    def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        if state.global_step in self._steps:
            saved.save(objects["model"], objects["processing_class"], self._folder / str(state.global_step))


class DistillationTrainer(trl_adapters.StageTrainer):
    """A trainer whose loss is computed by `losses`; a subclass says how.

    `losses` notes the parts of the loss by name; each log row has their means since the last one. Set before training:
    form, how the losses are computed; draws, a seed for what a subclass draws.
    """

    recipe: Distillation
    form: Any
    draws: int

    def __init__(self, recipe: Distillation, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recipe = recipe
        self.model_accepts_loss_kwargs = False  # our losses are means: the trainer divides by the accumulation steps
        self._noted: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of one micro-batch, its parts noted."""
        raise NotImplementedError

    def note(self, name: str, value: Tensor, *, weight: float = 1.0) -> None:
        """Include `value` in the mean that the next log row has under `name`."""
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

    def note_norms(self, parts: Mapping[str, Callable[[], Tensor]]) -> None:
        """In a step whose log is to have them, note the gradient norm of each part as <name>_grad_norm.

        Each part is computed for itself, with the random numbers that the step itself will draw.
        """
        every = self.recipe.gradient_norms_every
        if not (self.model.training and every > 0 and self.state.global_step % every == 0):
            return
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        for name, part in parts.items():
            with own_random_numbers(self.model.device):
                loss = part()
            if loss.requires_grad:
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
                squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
                self.note(f"{name}_grad_norm", torch.stack(squares).sum().sqrt())


def train(
    kind: type[DistillationTrainer],
    method: str,
    recipe: Distillation,
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: dict[str, Dataset],
    *,
    teachers: Iterable[nn.Module],
    choose: Callable[[], tuple[Any, str]],
    measure: Callable[[Any, Iterator[dict[str, Tensor]]], dict[str, float]],
    accounts: Mapping[str, Account],
    seed: int,
    run: Run,
    callbacks: Sequence[TrainerCallback],
    **notes: Any,
) -> pd.DataFrame:
    """Train `student` on rows["train"], and return the log of `method`.

    choose: gives the trainer's form and the log's word for it. measure: means of the losses by a form over what
    `Collator` makes of rows["test"], if there are any.
    """
    with trl_adapters.settings_kept(student, tokenizer):
        built = trainer(
            kind, recipe, student, tokenizer, rows, seed=seed, folder=run.folder("trainer"), callbacks=callbacks
        )
    built.draws = seed

    def losses_now() -> dict[str, float]:
        if TEST not in rows:
            return {}
        loader = DataLoader(rows[TEST], batch_size=recipe.micro_batch, collate_fn=Collator())
        with torch.no_grad(), evaluating(student):
            return measure(built.form, (on_device(inputs, student.device) for inputs in loader))

    with ExitStack() as stack:
        for teacher in teachers:
            stack.enter_context(evaluating(teacher))
        built.form, path = choose()
        stack.enter_context(trl_adapters.settings_kept(student, tokenizer))
        before = losses_now()
        log = trl_adapters.run(built, run)
        after = losses_now()
    student.eval()
    return log_frame(
        log,
        method=method,
        recipe=recipe,
        seed=seed,
        path=path,
        steps=built.state.global_step,
        rows={split: asdict(account) for split, account in accounts.items()},
        held_out_losses={"start": before, "end": after},
        **notes,
    )


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
    """Raises ValueError where a teacher, by name, is on another device or its tokenizer has other ids.

    The student's own tokenizer and device are checked too, and that no teacher is the student itself. Sizes of
    vocabularies are the caller's to compare (`models.pairing`).
    """
    device = require_trainable(student)
    for one in teachers.values():
        device_of(one)
    require_fit(student, tokenizer)
    pairing.require_same_tokenizer(student=tokenizer, **tokenizers)
    pairing.require_same_turns(student=tokenizer, **tokenizers)
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


def first_that_works(
    ways: Mapping[str, Callable[[], Form]],
    loss: Callable[[Form, Batch], Any],
    student: nn.Module,
    rows: Dataset,
    *,
    method: str,
) -> tuple[Form, str]:
    """The first of some forms, by name, whose `loss` takes the models, and the log's word for it.

    All but the last are tried: in training mode, without gradients, on the beginning of the first row. A form refuses
    by ValueError; where the first does, one line says why, and which form is taken.
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
                form = make()
                if name != last:
                    with torch.no_grad(), own_random_numbers(student.device):
                        loss(form, sample)
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
