"""One arm of draft training: where it starts, which of its parameters train, and its loss on a batch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.losses.draft import feature_losses, input_noise, padded_mean, soft_cross_entropies, token_mean
from zephyr_lab.methods.draft_batches import Batch, Row
from zephyr_lab.methods.optimizers import ADAM_BETAS, muon_and_adamw
from zephyr_lab.methods.recipes.draft import DraftRecipe
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models import draft_files, mistral
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.draft_files import CAUSAL, Draft
from zephyr_lab.models.draft_shape import DraftShape
from zephyr_lab.models.logits import logits_of

LORA_SCALE = 2.0  # alpha / rank
FEATURE_MAPS = ("fc", "q_proj", "k_proj", "v_proj", "o_proj", "gate", "up", "down")
CAUSAL_MAPS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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
    if recipe.kind == CAUSAL:
        return _causal_start(recipe, arm, target, tokenizer, stored, seed)
    shape = shape_of(recipe, target)
    if arm.start == "new":
        return feature_draft.build(shape, target, seed=derive(seed, "draft"))
    found = draft_files.load(stored)
    if not isinstance(found, FeatureDraft):
        raise ValueError(f"the recipe trains feature drafts and {arm.name!r} would start from a causal one")
    feature_draft.require_fit(found, target)
    draft = _with_fresh_private(found, shape, seed) if arm.start == "fresh_private" else found
    if draft.shape != shape:
        raise ValueError(f"arm {arm.name!r} starts from a draft of other sizes: {draft.shape}, the recipe's: {shape}")
    if recipe.embedding == "target":
        feature_draft.take_embedding(draft, target)
    return draft


def prepare(draft: Draft, arm: Arm, *, seed: int) -> list[nn.Parameter]:
    """Freeze all but what the arm trains, put LoRA's adapters in where it is that, and return what trains."""
    if arm.part == "lora":
        draft.requires_grad_(False)
        maps = FEATURE_MAPS if isinstance(draft, FeatureDraft) else CAUSAL_MAPS
        settings = LoraConfig(r=arm.rank, lora_alpha=LORA_SCALE * arm.rank, lora_dropout=0.0, target_modules=list(maps))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "lora"))
            inject_adapter_in_model(settings, draft)
        return [parameter for parameter in draft.parameters() if parameter.requires_grad]
    if isinstance(draft, FeatureDraft):
        return feature_draft.trainable(draft, arm.part)
    draft.requires_grad_(arm.part == "all")
    return [parameter for parameter in draft.parameters() if parameter.requires_grad]


def merged(draft: Draft) -> Draft:
    """A copy in which adapters are added to the weights that they adapt, so that it is a plain draft again."""
    plain = copy.deepcopy(draft)
    adapters = [(name, layer) for name, layer in plain.named_modules() if isinstance(layer, LoraLayer)]
    for name, layer in adapters:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(plain.get_submodule(parent), child, layer.get_base_layer())
    return plain


def optimizers(recipe: DraftRecipe, draft: Draft, trained: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """AdamW for all that trains; or Muon for the matrices inside the draft and AdamW for the rest."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return [torch.optim.AdamW(trained, lr=rate, betas=ADAM_BETAS, weight_decay=decay)]
    if not isinstance(draft, FeatureDraft):
        return muon_and_adamw(draft, learning_rate=rate, weight_decay=decay)
    matrices = [parameter for parameter in trained if parameter.ndim == 2]
    others = [parameter for parameter in trained if parameter.ndim != 2]
    both = []
    if matrices:
        both.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    if others:
        both.append(torch.optim.AdamW(others, lr=rate, betas=ADAM_BETAS, weight_decay=0.0))
    return both


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that go through the models at once, and what share of their batch's loss is theirs."""

    rows: Sequence[Row]
    share: float


def micro_batches(recipe: DraftRecipe, draft: Draft, rows: Sequence[Row]) -> list[MicroBatch]:
    """The batch `rows` in pieces of `recipe.micro_batch`; the shares weigh their losses so that the sum is the batch's.

    With reduction "tokens" the sum is exact. With "padded" each piece is padded by itself, as accumulated gradients of
    the authors' code are. Pieces in which nothing counts are left out. Raises ValueError where nothing does.
    """
    pieces = [rows[start : start + recipe.micro_batch] for start in range(0, len(rows), recipe.micro_batch)]
    ahead = 2 if isinstance(draft, FeatureDraft) else 1
    if recipe.reduction == "tokens":
        weights = [sum(_places(recipe, row, ahead) for row in piece) for piece in pieces]
    else:
        weights = [len(piece) * max(len(row.ids) for row in piece) for piece in pieces]
    if not sum(weights):
        raise ValueError(f"no answer token counts in a batch of {len(rows)} rows: see max_length = {recipe.max_length}")
    return [MicroBatch(piece, weight / sum(weights)) for piece, weight in zip(pieces, weights, strict=True) if weight]


def _places(recipe: DraftRecipe, row: Row, ahead: int) -> int:
    """How many places of a row count (`_counted`)."""
    return int((row.answers[:-1] if recipe.counted == "input" else row.answers[ahead:]).sum())


def batch_loss(
    recipe: DraftRecipe, draft: Draft, target: PreTrainedModel, batch: Batch, *, noise: torch.Generator | None
) -> Tensor:
    """The arm's loss on a batch, a scalar; `noise` None: no noise on the features that the draft reads."""
    if isinstance(draft, FeatureDraft):
        return _feature_loss(recipe, draft, target, batch, noise)
    logits = draft(input_ids=batch.ids, use_cache=False).logits
    counted = _counted(recipe, batch, ahead=1)
    wanted = logits_of(target, batch.features[counted])
    losses = soft_cross_entropies(logits[counted].float(), wanted.float())
    return recipe.token_weight * _reduced(recipe, losses, batch)


def _feature_loss(
    recipe: DraftRecipe, draft: FeatureDraft, target: PreTrainedModel, batch: Batch, noise: torch.Generator | None
) -> Tensor:
    """feature_weight x SmoothL1 + token_weight x soft cross entropy over the pairs that count."""
    features = batch.features[:, :-1]
    if noise is not None:
        features = features + input_noise(features, batch.lengths, width=recipe.noise, generator=noise)
    following = batch.ids[:, 1:]
    places = torch.arange(1, batch.ids.shape[1], device=batch.ids.device).expand_as(following)
    guessed, _ = draft(following, features, places)
    counted = _counted(recipe, batch, ahead=2)
    guessed, true = guessed[counted[:, :-1]], batch.features[:, 1:][counted[:, :-1]]
    tokens = soft_cross_entropies(logits_of(target, guessed).float(), logits_of(target, true).float())
    whole = recipe.feature_weight * feature_losses(guessed.float(), true.float()) + recipe.token_weight * tokens
    return _reduced(recipe, whole, batch)


def _counted(recipe: DraftRecipe, batch: Batch, *, ahead: int) -> Tensor:
    """Positions that count, (row, position): by the token that their output predicts, `ahead` places on, or their own.

    A position whose row ends before the place it would predict never counts.
    """
    inside = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None] - 1
    if recipe.counted == "input":
        return batch.answers & inside
    later = torch.zeros_like(batch.answers)
    later[:, : -ahead or None] = batch.answers[:, ahead:]
    return later & inside


def _reduced(recipe: DraftRecipe, losses: Tensor, batch: Batch) -> Tensor:
    if recipe.reduction == "tokens":
        return token_mean(losses)
    return padded_mean(losses, rows=batch.ids.shape[0], padded_length=batch.ids.shape[1])


def _causal_start(
    recipe: DraftRecipe,
    arm: Arm,
    target: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stored: Path | None,
    seed: int,
) -> PreTrainedModel:
    if arm.start == "draft":
        found = draft_files.load(stored)
        if isinstance(found, FeatureDraft):
            raise ValueError(f"the recipe trains causal drafts and {arm.name!r} would start from a feature draft")
        return found
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
