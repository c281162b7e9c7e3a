"""Training a draft of speculative decoding for one target: from nothing, or adapting one that another target has.

Lin et al. 2026, arXiv 2603.09527, on the feature draft of Li et al. 2024 (EAGLE, arXiv 2401.15077), read from the
authors' code (papers/eda/NOTES.md).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TRAIN
from zephyr_lab.decoding.drafting import require_pair
from zephyr_lab.methods import calling, draft_loss, loop
from zephyr_lab.methods.calling import Progress, Run, log_frame, settings_by_keyword
from zephyr_lab.methods.draft_loss import MicroBatch, Row
from zephyr_lab.methods.optimizers import ADAM_BETAS, Schedule, muon_and_adamw
from zephyr_lab.methods.recipes.draft import DraftSteps, DraftTraining
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models.causal import causal_model, evaluating
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.draft_files import Draft

PATH = "plain: the loss needs the whole distributions of draft and target, at the answers' places alone"


@settings_by_keyword(DraftTraining)
def train_draft(
    draft: Draft | PeftModel,
    target: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    *,
    recipe: DraftTraining,
    held_out: Any = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    after_step: Callable[[int, Draft], None] | None = None,
) -> pd.DataFrame:
    """Train `draft`, in place, to predict the target's next tokens; it is left in evaluation mode.

    draft: a `FeatureDraft`, or a small causal LM of the target's vocabulary. target: a causal LM, never changed.
    dialogues: rows of messages as TRL has them, a `Split`, or `draft_loss.Row`s, whose features are used where they
    have them. after_step: called with the number of steps taken and the draft, adapters included. checkpoints: a
    folder; a call that finds checkpoints there resumes from them, to the same bytes, and refuses those of other
    settings.

    The log has one row an optimiser step: `step` from 1 and `loss`, in nats where `feature_weight` is 0, before the
    step's update. attrs: "held_out" (eval_loss before and after), "parameters" (how many trained), "seconds" (CPU, of
    the steps; None where none was left to take), "rows", "path", settings, seed and versions.

    A draft of one's own target, then adapted to a model tuned from it, whole, by LoRA, and EDA's way, which gives
    shared and private experts different work (`tests/methods/test_train_draft.py` runs these lines):

        draft = new_draft(chat_model)
        train_draft(draft, chat_model, tokenizer, chats, steps=500)
        whole, lora, eda = (copy.deepcopy(draft) for _ in range(3))
        train_draft(whole, tuned_model, tokenizer, own_answers, steps=100)
        train_draft(lora, tuned_model, tokenizer, own_answers, steps=100, part="lora", rank=8)
        eda.reset_private(seed=1)
        train_draft(eda, tuned_model, tokenizer, own_answers, steps=100, part="private_and_fc")

    Raises ValueError for a draft, a target and a tokenizer that do not belong together, on two devices, for a part that
    the draft does not have, where no row is usable, and at the first loss that is not finite.
    """
    run = Run.of("draft", checkpoints, progress, recipe=recipe, seed=seed)
    model = draft if isinstance(draft, FeatureDraft) else causal_model(draft)
    require_fit(model, target, tokenizer)
    with frozen(target):
        rows, account = _rows(dialogues, "train", target, tokenizer, recipe)
        run.trains_on(row.ids.tolist() for row in rows)
        tests = [] if held_out is None else _rows(held_out, "held out", target, tokenizer, recipe)[0]
        trained = prepare(model, recipe.part, rank=recipe.rank, seed=seed)
        parameters = sum(parameter.numel() for parameter in trained)
        work = _Work(recipe, model, target, rows, seed)
        measured = [{"step": 0, "eval_loss": work.held_out_loss(tests)}] if tests else []
        losses, seconds = work.train(OPTIMIZERS[recipe.optimizer](recipe, model, trained), run, after_step)
        measured += [{"step": recipe.steps, "eval_loss": work.held_out_loss(tests)}] if tests else []
    if recipe.part == "lora":
        merge(model)
    model.eval()
    steps = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    return log_frame(
        [*steps, *measured],
        method="train_draft",
        recipe=recipe,
        seed=seed,
        rows={TRAIN: account},
        path=PATH,
        parameters=parameters,
        seconds=seconds,
    )


def new_draft(target: PreTrainedModel | PeftModel, *, private_experts: int = 1, seed: int = 0) -> FeatureDraft:
    """A fresh feature draft of `target`, on its device: one layer of the target's width and heads, in float32.

    It trains so whatever the target's type is; to decode beside a target in bfloat16, `draft.to(target.dtype)` then.
    Its shared expert is as wide as the target's feed-forward network, a private one half as wide, as the sizes quoted
    for EDA have it (papers/eda/NOTES.md 1); `private_experts` 0 makes EAGLE's plain draft. Other sizes:
    `models.draft.shape_for` and `build`. Raises ValueError for a target that they do not know.
    """
    model = causal_model(target)
    calling.device_of(model)
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        raise ValueError(f"{type(model).__name__} has no attention heads (num_attention_heads) that a draft could have")
    width = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    shape = feature_draft.shape_for(
        model,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        shared_experts=1,
        private_experts=private_experts,
        shared_width=width,
        private_width=width // 2 if private_experts else 0,
        top=1,
        routers=private_experts > 1,
    )
    return feature_draft.build(shape, model, seed=seed).to(model.device)


def require_fit(draft: Draft, target: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError unless both models are on one device and have one vocabulary, which is the tokenizer's."""
    calling.require_fit(target, tokenizer)
    devices = calling.device_of(draft), calling.device_of(target)
    if devices[0] != devices[1]:
        raise ValueError(f"the draft is on {devices[0]}, the target on {devices[1]}; both must be on one device")
    require_pair(draft, causal_model(target))


@contextmanager
def frozen(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Inside, `model` is in evaluation mode and has no gradients; afterwards it is as before."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        with evaluating(model):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _rows(
    dialogues: Any,
    name: str,
    target: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: DraftTraining,
) -> tuple[list[Row], dict[str, float]]:
    rows, account = draft_loss.rows_of(
        dialogues, tokenizer, name=name, max_length=recipe.max_length, system_turn=recipe.system_turn
    )
    calling.require_room(max(len(row.ids) for row in rows), target)
    return draft_loss.FEATURES[recipe.features](rows, target), account


@dataclass(frozen=True)
class _Work:
    """One draft's training on rows that have been read."""

    recipe: DraftTraining
    draft: Draft
    target: PreTrainedModel | PeftModel
    rows: list[Row]
    seed: int

    def train(
        self, optimizers: list[torch.optim.Optimizer], run: Run, after_step: Callable[[int, Draft], None] | None
    ) -> tuple[list[float], float | None]:
        """Losses of all steps, and their CPU seconds (None where a resumed run had no step left to take)."""
        recipe, draft = self.recipe, self.draft
        lengths = [len(row.ids) for row in self.rows]
        batches = draft_loss.order(lengths, batch=recipe.batch, steps=recipe.steps, seed=self.seed)
        began: list[float] = []  # CPU seconds at the start of each step

        def batch_loss(step: int) -> Tensor:
            began.append(time.process_time())
            noise = torch.Generator().manual_seed(derive(self.seed, "noise", step)) if recipe.noise else None
            *first, last = draft_loss.micro_batches(recipe, draft, [self.rows[place] for place in batches[step]])
            before = 0
            for part in first:  # their gradients are added up here, so that no graph is kept
                loss = self._loss(part, noise)
                loss.backward()
                before = before + loss.detach()
            return self._loss(last, noise) + before

        def progress(step: int, of: int, **numbers: float) -> None:
            if after_step is not None:
                after_step(step, draft)
            run.progress(step, of, **numbers)

        losses = loop.train(
            draft,
            optimizers,
            batch_loss,
            schedule=Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every,
            context=Run(run.checkpoints, progress),
        )
        return losses, (time.process_time() - began[0]) * recipe.steps / len(began) if began else None

    def held_out_loss(self, rows: Sequence[Row]) -> float:
        """The training loss, without noise, averaged over batches of held-out rows."""
        self.draft.eval()
        losses = []
        with torch.no_grad():
            for start in range(0, len(rows), self.recipe.micro_batch):
                batch = draft_loss.collate(rows[start : start + self.recipe.micro_batch], self.target)
                losses.append(draft_loss.batch_loss(self.recipe, self.draft, self.target, batch, noise=None).item())
        return sum(losses) / len(losses)

    def _loss(self, part: MicroBatch, noise: torch.Generator | None) -> Tensor:
        """What the part adds to its batch's loss."""
        batch = draft_loss.collate(part.rows, self.target)
        with torch.autocast("cuda", torch.bfloat16, enabled=batch.ids.device.type == "cuda"):
            return part.share * draft_loss.batch_loss(self.recipe, self.draft, self.target, batch, noise=noise)


LORA_SCALE = 2.0  # alpha / rank
FEATURE_MAPS = ["fc", "q_proj", "k_proj", "v_proj", "o_proj", "gate", "up", "down"]
CAUSAL_MAPS = "all-linear"  # all but the output head


def prepare(draft: Draft, part: str, *, rank: int, seed: int) -> list[nn.Parameter]:
    """Freeze all but `part`, insert adapters where it is "lora", and return the parameters that train.

    A draft that comes with adapters in its layers trains what they leave trainable. Raises ValueError for a part that
    the draft does not have.
    """
    if any(isinstance(module, BaseTunerLayer) for module in draft.modules()):
        if part != "all":
            raise ValueError(
                f"the draft has adapters already, and they alone would train: part must be 'all', got {part!r}; merge "
                "them first for another part"
            )
    elif part == "lora":
        _add_adapters(draft, rank, seed)
    elif isinstance(draft, FeatureDraft):
        return feature_draft.trainable(draft, part)
    elif part != "all":
        raise ValueError(f"a causal draft has no private experts and no fc: part must be 'all' or 'lora', got {part!r}")
    else:
        draft.requires_grad_(True)
    return [parameter for parameter in draft.parameters() if parameter.requires_grad]


def _add_adapters(draft: Draft, rank: int, seed: int) -> None:
    draft.requires_grad_(False)
    maps = FEATURE_MAPS if isinstance(draft, FeatureDraft) else CAUSAL_MAPS
    adapters = LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, lora_dropout=0.0, target_modules=maps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "lora"))
        inject_adapter_in_model(adapters, draft)


def merge(draft: Draft) -> Draft:
    """`draft`, its adapters added to the weights that they adapt, so that it is a plain draft again."""
    adapters = [(name, layer) for name, layer in draft.named_modules() if isinstance(layer, LoraLayer)]
    for name, layer in adapters:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(draft.get_submodule(parent), child, layer.get_base_layer())
    return draft


def _adamw(settings: DraftSteps, draft: Draft, trained: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """AdamW for all that trains."""
    return [torch.optim.AdamW(trained, lr=settings.learning_rate, betas=ADAM_BETAS, weight_decay=settings.weight_decay)]


def _muon(settings: DraftSteps, draft: Draft, trained: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the draft and AdamW for the rest."""
    rate, decay = settings.learning_rate, settings.weight_decay
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


Optimizers = Callable[[DraftSteps, Draft, list[nn.Parameter]], list[torch.optim.Optimizer]]
OPTIMIZERS: dict[str, Optimizers] = {"adamw": _adamw, "muon": _muon}
