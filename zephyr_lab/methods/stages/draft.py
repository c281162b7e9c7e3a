"""The drafts of one target as a stage: made from nothing or adapted to it, one arm after another.

All arms of a recipe see the same batches in the same order, as far as they share data, and take equally many steps.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN, dialogue_rows
from zephyr_lab.methods import draft_loss, process
from zephyr_lab.methods.calling import log_rows
from zephyr_lab.methods.draft import train_draft
from zephyr_lab.methods.draft_loss import Row
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.draft import NOTHING, DraftRecipe
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models import draft_files, mistral, saved
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.draft_files import Draft
from zephyr_lab.models.draft_shape import DraftShape, trained_share

KEPT = "steps"  # folder of an arm's copies on the way


def build(recipe: DraftRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train the arms of `recipe` on features of `inputs["target"]`, one after another.

    Inputs: "target", a model folder; "draft", a stage of this module, where an arm starts from one; and the dialogues
    that `recipe.data` names, folders with train.jsonl (and test.jsonl, for held-out losses).

    Writes, a folder an arm: draft.json (kind, sizes, what was trained) and draft.safetensors for a feature draft,
    a plain model folder with its tokenizer beside draft.json for a causal one; log.json, a row a step; steps/<n>/, the
    draft after n steps, for each n of `recipe.keep_at`. An arm that trains "none" is a copy of its start.

    Metrics, by arm, "<arm>/...": parameters, how many train, and for feature drafts share_of_draft,
    share_with_embedding, share_of_full_width; rows; loss_start, loss (means of the first and the last tenth of the
    steps); held_out_loss_start, held_out_loss where there are held-out rows; seconds (CPU, of the steps alone).

    Raises ValueError where an arm's input or start is missing or does not fit, where no row can be trained on, and at
    the first loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs["target"] / recipe.target_folder
    target, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    stored = inputs["draft"] / recipe.draft_folder if "draft" in inputs else None
    data = _Data(recipe, target, tokenizer, inputs)
    metrics: dict[str, float] = {}
    each = arms(recipe)
    for place, arm in enumerate(each):
        draft = start_of(recipe, arm, target, tokenizer, stored=stored, seed=seed).to(device)
        work = _Work(recipe, arm, target, tokenizer, out / arm.name, _part_of(context, place, len(each)))
        metrics |= {f"{arm.name}/{name}": value for name, value in work.run(draft, data, seed).items()}
    return metrics


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm of a recipe, see `DraftRecipe`."""

    name: str
    part: str
    rank: int
    start: str
    data: str


def arms(recipe: DraftRecipe) -> list[Arm]:
    """The arms of a recipe in their order."""
    columns = recipe.arms, recipe.parts, recipe.ranks, recipe.starts, recipe.data
    return [Arm(*values) for values in zip(*columns, strict=True)]


class _Data:
    """Rows of the recipe's inputs, read and given features once, however many arms share them."""

    def __init__(
        self,
        recipe: DraftRecipe,
        target: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        inputs: dict[str, Path],
    ) -> None:
        self._recipe, self._target, self._tokenizer, self._inputs = recipe, target, tokenizer, inputs
        self._rows: dict[tuple[str, str], list[Row]] = {}

    def rows(self, name: str, split: str) -> list[Row]:
        """Rows of an input; none where it has no held-out file. Raises ValueError for an input that is not there."""
        if name not in self._inputs:
            raise ValueError(f"no input {name!r} with dialogues; there are {', '.join(sorted(self._inputs))}")
        if (name, split) not in self._rows:
            self._rows[name, split] = self._read(self._inputs[name], split)
        return self._rows[name, split]

    def _read(self, folder: Path, split: str) -> list[Row]:
        recipe = self._recipe
        if split == TEST and not (folder / f"{TEST}.jsonl").is_file():
            return []
        rows, _ = draft_loss.rows_of(
            dialogue_rows(folder, split),
            self._tokenizer,
            name=split,
            max_length=recipe.max_length,
            system_turn=recipe.system_turn,
        )
        return draft_loss.FEATURES[recipe.features](rows, self._target)


@dataclass(frozen=True)
class _Work:
    """One arm of the stage."""

    recipe: DraftRecipe
    arm: Arm
    target: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    out: Path
    context: Context

    def run(self, draft: Draft, data: _Data, seed: int) -> dict[str, float]:
        """Train `draft`, write it, and return the arm's metrics without its name."""
        if self.arm.part == NOTHING:
            self._save(draft, self.out)
            files.write_json(self.out / "log.json", [])
            return {"parameters": 0.0, "rows": 0.0, **self._shares(draft)}
        rows, held_out = data.rows(self.arm.data, TRAIN), data.rows(self.arm.data, TEST)
        log = train_draft(
            draft,
            self.target,
            self.tokenizer,
            rows,
            recipe=self.recipe.training(self.arm.part, self.arm.rank),
            held_out=held_out or None,
            seed=seed,
            checkpoints=self.context.checkpoints,
            progress=self.context.progress,
            after_step=self._keep,
        )
        self._save(draft, self.out)
        for step in self.recipe.keep_at:
            self._save(self._kept(draft, step), self.out / KEPT / str(step))
        files.write_json(self.out / "log.json", [row for row in log_rows(log) if "loss" in row])
        counts = {"parameters": float(log.attrs["parameters"]), "rows": float(len(rows)), **self._shares(draft)}
        return counts | _measured(log)

    def _shares(self, draft: Draft) -> dict[str, float]:
        if not isinstance(draft, FeatureDraft):
            return {}
        share = trained_share(draft.shape, self.arm.part, rank=self.arm.rank)
        return {
            "share_of_draft": share.of_draft,
            "share_with_embedding": share.with_embedding,
            "share_of_full_width": share.of_full_width,
        }

    def _save(self, draft: Draft, folder: Path) -> None:
        notes = {**asdict(self.arm), "target_folder": self.recipe.target_folder}
        draft_files.save(copy.deepcopy(draft).cpu(), folder, tokenizer=self.tokenizer, notes=notes)

    def _keep(self, step: int, draft: Draft) -> None:
        """Put the weights after `step` steps aside. Taken again, equal, where a killed run repeats the step."""
        if step not in self.recipe.keep_at:
            return
        weights = draft.merged(draft).state_dict()
        folder = self.context.checkpoints / KEPT
        folder.mkdir(exist_ok=True)
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in weights.items()}, folder / f"{step}.safetensors"
        )

    def _kept(self, draft: Draft, step: int) -> Draft:
        """A copy of the draft with the weights that were put aside after `step` steps."""
        copied = copy.deepcopy(draft)
        copied.load_state_dict(load_file(self.context.checkpoints / KEPT / f"{step}.safetensors"))
        return copied


def _measured(log: pd.DataFrame) -> dict[str, float]:
    """An arm's losses at its start and its end, and its seconds, as far as they were measured."""
    losses = [float(loss) for loss in log["loss"]]
    tenth = max(1, len(losses) // 10)
    held_out = [row["eval_loss"] for row in log.attrs["held_out"]]
    seconds = log.attrs["seconds"]
    return {
        **({"held_out_loss_start": held_out[0], "held_out_loss": held_out[-1]} if held_out else {}),
        "loss_start": _mean(losses[:tenth]),
        "loss": _mean(losses[-tenth:]),
        **({"seconds": seconds} if seconds is not None else {}),
    }


def start_of(
    recipe: DraftRecipe,
    arm: Arm,
    target: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    stored: Path | None,
    seed: int,
) -> Draft:
    """The arm's draft before training. `stored`: folder of the draft that it starts from, if any.

    Raises ValueError for a start from a draft that is not there or whose sizes are not the recipe's.
    """
    if arm.start != "new" and stored is None:
        raise ValueError(f"arm {arm.name!r} starts from {arm.start!r}, and the stage has no input 'draft'")
    return STARTS[recipe.kind](recipe, arm, target, tokenizer, None if arm.start == "new" else stored, seed)


def shape_of(recipe: DraftRecipe, target: PreTrainedModel) -> DraftShape:
    """The shape of the recipe's feature drafts on `target`."""
    return feature_draft.shape_for(
        target,
        heads=recipe.heads,
        kv_heads=recipe.kv_heads,
        shared_experts=recipe.shared_experts,
        private_experts=recipe.private_experts,
        shared_width=recipe.shared_width,
        private_width=recipe.private_width,
        top=recipe.top,
        routers=recipe.routers,
    )


def _feature_start(
    recipe: DraftRecipe,
    arm: Arm,
    target: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stored: Path | None,
    seed: int,
) -> FeatureDraft:
    del tokenizer
    shape = shape_of(recipe, target)
    if stored is None:
        return feature_draft.build(shape, target, seed=derive(seed, "draft"))
    read = draft_files.load(stored)
    if not isinstance(read, FeatureDraft):
        raise ValueError(f"the recipe trains feature drafts and {arm.name!r} would start from a causal one")
    feature_draft.require_fit(read, target)
    draft = _with_fresh_private(read, shape, seed) if arm.start == "fresh_private" else read
    if draft.shape != shape:
        raise ValueError(f"arm {arm.name!r} starts from a draft of other sizes: {draft.shape}, the recipe's: {shape}")
    if recipe.embedding == "target":
        feature_draft.take_embedding(draft, target)
    return draft


def _causal_start(
    recipe: DraftRecipe,
    arm: Arm,
    target: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stored: Path | None,
    seed: int,
) -> PreTrainedModel:
    if stored is not None:
        read = draft_files.load(stored)
        if isinstance(read, FeatureDraft):
            raise ValueError(f"the recipe trains causal drafts and {arm.name!r} would start from a feature draft")
        return read
    shape = mistral.MistralShape(
        hidden=recipe.hidden,
        layers=recipe.layers,
        heads=recipe.heads,
        kv_heads=recipe.kv_heads,
        ffn=recipe.shared_width,
        window=None,
        context=target.config.max_position_embeddings,
    )
    return mistral.build(shape, tokenizer, seed=derive(seed, "draft"))


Start = Callable[[DraftRecipe, Arm, PreTrainedModel, PreTrainedTokenizerBase, Path | None, int], Draft]
STARTS: dict[str, Start] = {"feature": _feature_start, "causal": _causal_start}  # by kind


def _with_fresh_private(stored: FeatureDraft, shape: DraftShape, seed: int) -> FeatureDraft:
    """The stored draft with private experts of `shape`, random; all else is the stored draft's."""
    draft = FeatureDraft(shape, stored.traits)
    kept = {name: tensor for name, tensor in stored.state_dict().items() if not name.startswith("private.")}
    try:
        draft.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise ValueError(
            f"the stored draft {stored.shape} differs from the recipe's {shape} in more than private experts"
        ) from error
    draft.reset_private(derive(seed, "private"))
    return draft


@dataclass(frozen=True)
class _ArmContext:
    """A stage's context as one of its arms sees it."""

    checkpoints: Path
    progress: Callable[..., None]


def _part_of(context: Context, place: int, arms: int) -> _ArmContext:
    """A folder of its own for the checkpoints of arm `place`, and progress over all arms."""
    folder = context.checkpoints / f"arm-{place}"
    folder.mkdir(parents=True, exist_ok=True)

    def progress(step: int, total: int, **numbers: Any) -> None:
        context.progress(place * total + step, arms * total, **numbers)

    return _ArmContext(folder, progress)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
