"""Training drafts of speculative decoding: from nothing for one target, and adapting them to another.

Lin et al. 2026, arXiv 2603.09527, read from the authors' code (papers/eda/NOTES.md). All arms of a recipe see the same
batches in the same order, as far as they share data, and take equally many steps.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods import draft_arms, draft_batches, loop, process
from zephyr_lab.methods.draft_arms import Arm, MicroBatch
from zephyr_lab.methods.draft_batches import Row
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.recipes.draft import DraftRecipe
from zephyr_lab.models import draft_files, saved
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.draft_files import Draft
from zephyr_lab.models.draft_shape import trained_share

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
    target.requires_grad_(False)
    stored = inputs["draft"] / recipe.draft_folder if "draft" in inputs else None
    data = _Data(recipe, target, tokenizer, inputs)
    metrics: dict[str, float] = {}
    arms = draft_arms.arms(recipe)
    for place, arm in enumerate(arms):
        draft = draft_arms.start_of(recipe, arm, target, tokenizer, stored=stored, seed=seed).to(device)
        work = _Work(recipe, arm, target, tokenizer, data, seed)
        own = _part_of(context, place, len(arms))
        metrics |= {f"{arm.name}/{name}": value for name, value in work.run(draft, out / arm.name, own).items()}
    return metrics


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
        if split == TEST and not (folder / f"{TEST}.jsonl").is_file():
            return []
        rows = draft_batches.read_rows(
            folder, split, self._tokenizer, max_length=self._recipe.max_length, system_turn=self._recipe.system_turn
        )
        return draft_batches.with_features(rows, self._target) if self._recipe.features == "kept" else rows


@dataclass(frozen=True)
class _Work:
    """One arm's training."""

    recipe: DraftRecipe
    arm: Arm
    target: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    data: _Data
    seed: int

    def run(self, draft: Draft, out: Path, context: Context) -> dict[str, float]:
        """Train `draft`, write it to `out`, and return the arm's metrics without its name."""
        trained = draft_arms.prepare(draft, self.arm, seed=self.seed)
        metrics = self._counts(draft, trained)
        if not trained:
            self._save(draft, out)
            files.write_json(out / "log.json", [])
            return metrics
        held_out = self.data.rows(self.arm.data, TEST)
        if held_out:
            metrics["held_out_loss_start"] = self._held_out_loss(draft, held_out)
        losses, seconds = self._train(draft, trained, context)
        if held_out:
            metrics["held_out_loss"] = self._held_out_loss(draft, held_out)
        self._save(draft, out)
        for step in self.recipe.keep_at:
            self._save(self._kept(draft, context, step), out / KEPT / str(step))
        files.write_json(out / "log.json", [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)])
        tenth = max(1, len(losses) // 10)
        metrics |= {"loss_start": _mean(losses[:tenth]), "loss": _mean(losses[-tenth:])}
        return metrics | ({"seconds": seconds} if seconds is not None else {})

    def _train(
        self, draft: Draft, trained: list[torch.nn.Parameter], context: Context
    ) -> tuple[list[float], float | None]:
        """Losses of all steps, and their CPU seconds (None where a resumed arm had no step left to take)."""
        recipe = self.recipe
        rows = self.data.rows(self.arm.data, TRAIN)
        lengths = [len(row.ids) for row in rows]
        batches = draft_batches.order(lengths, batch=recipe.batch, steps=recipe.steps, seed=self.seed)
        taken: list[float] = []

        def batch_loss(step: int) -> Tensor:
            if step in recipe.keep_at:
                self._keep(draft, context, step)
            taken.append(time.process_time())
            noise = None
            if recipe.noise:
                noise = torch.Generator().manual_seed(derive(self.seed, "noise", step))
            *first, last = draft_arms.micro_batches(recipe, draft, [rows[place] for place in batches[step]])
            before = sum(self._backward(draft, part, noise) for part in first)
            return self._loss(draft, last, noise) + before

        losses = loop.train(
            draft,
            draft_arms.optimizers(recipe, draft, trained),
            batch_loss,
            schedule=Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every,
            context=context,
        )
        draft.eval()
        spent = (time.process_time() - taken[0]) * recipe.steps / len(taken) if taken else None
        return losses, spent

    def _loss(self, draft: Draft, part: MicroBatch, noise: torch.Generator | None) -> Tensor:
        """What the part adds to its batch's loss."""
        batch = draft_batches.collate(part.rows, self.target)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.recipe.device == "cuda"):
            return part.share * draft_arms.batch_loss(self.recipe, draft, self.target, batch, noise=noise)

    def _backward(self, draft: Draft, part: MicroBatch, noise: torch.Generator | None) -> Tensor:
        """As `_loss`, its gradient already added to the draft's and its graph gone."""
        loss = self._loss(draft, part, noise)
        loss.backward()
        return loss.detach()

    def _held_out_loss(self, draft: Draft, rows: Sequence[Row]) -> float:
        """The training loss, without noise, averaged over batches of held-out rows."""
        draft.eval()
        losses = []
        with torch.no_grad():
            for start in range(0, len(rows), self.recipe.micro_batch):
                batch = draft_batches.collate(rows[start : start + self.recipe.micro_batch], self.target)
                losses.append(draft_arms.batch_loss(self.recipe, draft, self.target, batch, noise=None).item())
        return _mean(losses)

    def _counts(self, draft: Draft, trained: list[torch.nn.Parameter]) -> dict[str, float]:
        counts = {
            "parameters": float(sum(parameter.numel() for parameter in trained)),
            "rows": float(len(self.data.rows(self.arm.data, TRAIN))) if trained else 0.0,
        }
        if isinstance(draft, FeatureDraft):
            share = trained_share(draft.shape, self.arm.part, rank=self.arm.rank)
            counts |= {
                "share_of_draft": share.of_draft,
                "share_with_embedding": share.with_embedding,
                "share_of_full_width": share.of_full_width,
            }
        return counts

    def _save(self, draft: Draft, folder: Path) -> None:
        notes = {**asdict(self.arm), "target_folder": self.recipe.target_folder}
        draft_files.save(draft_arms.merged(draft).cpu(), folder, tokenizer=self.tokenizer, notes=notes)

    def _keep(self, draft: Draft, context: Context, step: int) -> None:
        """Put the weights after `step` steps aside. Taken again, equal, where a killed run repeats the step."""
        weights = {name: tensor.detach().clone().contiguous() for name, tensor in draft.state_dict().items()}
        folder = context.checkpoints / KEPT
        folder.mkdir(exist_ok=True)
        save_file(weights, folder / f"{step}.safetensors")

    def _kept(self, draft: Draft, context: Context, step: int) -> Draft:
        """A copy of the draft with the weights that were put aside after `step` steps."""
        copied = copy.deepcopy(draft)
        copied.load_state_dict(load_file(context.checkpoints / KEPT / f"{step}.safetensors"))
        return copied


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
