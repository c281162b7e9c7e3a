"""The drafts of one target as a stage: made from nothing or adapted to it, one arm after another.

All arms of a recipe take equally many steps, and those that share data see the same batches in the same order.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN, dialogue_rows
from zephyr_lab.methods import draft_loss, process
from zephyr_lab.methods.calling import Run, log_rows
from zephyr_lab.methods.draft import merge, train_draft
from zephyr_lab.methods.draft_loss import Row
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.draft import NOTHING, DraftRecipe
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models import draft_files, mistral, saved
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.draft_files import Draft
from zephyr_lab.models.draft_shape import DraftShape, trained_share

KEPT = "steps"  # folder of an arm's copies on the way
RowsOf = Callable[[str, str], list[Row]]


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

    Raises ValueError where an arm's start is missing or does not fit, where no row can be trained on, and at the first
    loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs["target"] / recipe.target_folder
    target, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    stored = inputs["draft"] / recipe.draft_folder if "draft" in inputs else None

    @cache  # read and given features once, however many arms share them
    def rows_of(name: str, split: str) -> list[Row]:
        if split == TEST and not (inputs[name] / f"{TEST}.jsonl").is_file():
            return []
        rows, _ = draft_loss.rows_of(
            dialogue_rows(inputs[name], split),
            tokenizer,
            name=split,
            max_length=recipe.max_length,
            system_turn=recipe.system_turn,
        )
        return draft_loss.FEATURES[recipe.features](rows, target)

    metrics: dict[str, float] = {}
    each = arms(recipe)
    for number, arm in enumerate(each):
        draft = start_of(recipe, arm, target, tokenizer, stored=stored, seed=seed).to(device)
        work = _Work(recipe, arm, target, tokenizer, out / arm.name, _run_of(context, number, len(each)))
        metrics |= {f"{arm.name}/{name}": value for name, value in work.train(draft, rows_of, seed).items()}
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


def _run_of(context: Context, number: int, arms: int) -> Run:
    """Checkpoints of an arm in a folder of their own, and progress over all arms."""
    folder = context.checkpoints / f"arm-{number}"
    folder.mkdir(parents=True, exist_ok=True)

    def progress(step: int, total: int, **numbers: Any) -> None:
        context.progress(number * total + step, arms * total, **numbers)

    return Run(folder, progress)


@dataclass(frozen=True)
class _Work:
    """One arm of the stage."""

    recipe: DraftRecipe
    arm: Arm
    target: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    out: Path
    run: Run

    def train(self, draft: Draft, rows_of: RowsOf, seed: int) -> dict[str, float]:
        """Train `draft`, write it, and return the arm's metrics without its name."""
        if self.arm.part == NOTHING:
            self._save(draft, self.out)
            files.write_json(self.out / "log.json", [])
            return {"parameters": 0.0, "rows": 0.0, **self._shares(draft)}
        rows, held_out = rows_of(self.arm.data, TRAIN), rows_of(self.arm.data, TEST)
        log = train_draft(
            draft,
            self.target,
            self.tokenizer,
            rows,
            recipe=self.recipe.training(self.arm.part, self.arm.rank),
            held_out=held_out or None,
            seed=seed,
            checkpoints=self.run.checkpoints,
            progress=self.run.progress,
            after_step=self._keep,
        )
        self._save(draft, self.out)
        for step in self.recipe.keep_at:
            copied = copy.deepcopy(draft)
            copied.load_state_dict(load_file(self._kept(step)))
            self._save(copied, self.out / KEPT / str(step))
        files.write_json(self.out / "log.json", [row for row in log_rows(log) if "loss" in row])
        counts = {"parameters": float(log.attrs["parameters"]), "rows": float(len(rows)), **self._shares(draft)}
        return counts | _measured(log)

    def _shares(self, draft: Draft) -> dict[str, float]:
        if not isinstance(draft, FeatureDraft):
            return {}
        shares = asdict(trained_share(draft.shape, self.arm.part, rank=self.arm.rank))
        return {f"share_{name}": share for name, share in shares.items()}

    def _save(self, draft: Draft, folder: Path) -> None:
        notes = {**asdict(self.arm), "target_folder": self.recipe.target_folder}
        draft_files.save(copy.deepcopy(draft).cpu(), folder, tokenizer=self.tokenizer, notes=notes)

    def _keep(self, step: int, draft: Draft) -> None:
        """Keep the weights after `step` steps. Written again, equal, where a killed run repeats the step."""
        if step in self.recipe.keep_at:
            weights = merge(copy.deepcopy(draft)).state_dict()
            self._kept(step).parent.mkdir(exist_ok=True)
            save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, self._kept(step))

    def _kept(self, step: int) -> Path:
        return self.run.checkpoints / KEPT / f"{step}.safetensors"


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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


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
    if arm.start == "new":
        return NEW[recipe.kind](recipe, target, tokenizer, derive(seed, "draft"))
    if stored is None:
        raise ValueError(f"arm {arm.name!r} starts from {arm.start!r}, and the stage has no input 'draft'")
    draft = draft_files.load(stored)
    kind = "feature" if isinstance(draft, FeatureDraft) else "causal"
    if kind != recipe.kind:
        raise ValueError(f"the recipe trains {recipe.kind} drafts and {arm.name!r} would start from a {kind} draft")
    return _adapted(recipe, arm, target, draft, seed) if isinstance(draft, FeatureDraft) else draft


def _adapted(recipe: DraftRecipe, arm: Arm, target: PreTrainedModel, stored: FeatureDraft, seed: int) -> FeatureDraft:
    """The stored feature draft as the arm's start."""
    shape = shape_of(recipe, target)
    feature_draft.require_fit(stored, target)
    draft = _with_fresh_private(stored, shape, seed) if arm.start == "fresh_private" else stored
    if draft.shape != shape:
        raise ValueError(f"arm {arm.name!r} starts from a draft of other sizes: {draft.shape}, the recipe's: {shape}")
    if recipe.embedding == "target":
        feature_draft.take_embedding(draft, target)
    return draft


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


def _new_feature(
    recipe: DraftRecipe, target: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
) -> FeatureDraft:
    return feature_draft.build(shape_of(recipe, target), target, seed=seed)


def _new_causal(
    recipe: DraftRecipe, target: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    shape = mistral.MistralShape(
        hidden=recipe.hidden,
        layers=recipe.layers,
        heads=recipe.heads,
        kv_heads=recipe.kv_heads,
        ffn=recipe.shared_width,
        window=None,
        context=target.config.max_position_embeddings,
    )
    return mistral.build(shape, tokenizer, seed=seed)


NEW = {"feature": _new_feature, "causal": _new_causal}  # a draft of random weights, by kind
