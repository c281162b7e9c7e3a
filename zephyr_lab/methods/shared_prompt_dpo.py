"""TRL's DPOTrainer with each pair's prompt computed once: the loss is `losses.fast.shared_prompt`'s, the rest is TRL's.

Batches, logs and their names, checkpoints, accelerate and the order of rows stay as they are; losses and gradients
differ from TRL's own by rounding. Settings and models that this cannot do exactly are refused.
"""

import functools
import inspect
import warnings
from typing import Any

from datasets import Dataset, IterableDataset
from torch import Tensor, nn
from trl import DPOConfig, DPOTrainer

from zephyr_lab.losses.fast import pair_losses, shared_prompt
from zephyr_lab.losses.fast.pair_head import HeadLoss
from zephyr_lab.losses.fast.pair_losses import PairLoss
from zephyr_lab.losses.fast.pair_packing import PackedPairs, from_padded
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs
from zephyr_lab.methods.pair_trainer import BATCH, PairLossTrainer, StageDPOTrainer, require_answers
from zephyr_lab.models.causal import in_mode
from zephyr_lab.models.lean_feed_forward import lean_feed_forward

PLAIN = "train with StageDPOTrainer or TRL's own DPOTrainer (in a recipe shared_prompt = false)"
IDS = {"prompt_ids", "chosen_ids", "rejected_ids"}
# Settings of DPOConfig that TRL's own path knows and this one does not. All others are TRL's or are used here: a test
# walks over every field.
NEEDED = {
    "ld_alpha": None,
    "use_weighting": False,
    "f_divergence_type": "reverse_kl",
    "activation_offloading": False,
    "torch_compile": False,
    "use_liger_kernel": False,
    "fp16": False,
    "fp16_full_eval": False,
    "neftune_noise_alpha": None,
}


class SharedPromptDPOTrainer(PairLossTrainer):
    """TRL's DPOTrainer on packed pairs, with its arguments, rows, logs and files; rows of ids are taken as they are.

    Without `ref_model` the reference is TRL's: of an adapter the model without it, else the model's start. Raises
    ValueError, when made, for settings and models that need TRL's own path.
    """

    @functools.wraps(DPOTrainer.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings = inspect.signature(DPOTrainer.__init__).bind(self, *args, **kwargs).arguments.get("args")
        _require_settings(DPOConfig() if settings is None else settings)
        super().__init__(*args, **kwargs)
        if self._is_vision_dataset:
            raise _refusal("rows with images need more than ids")
        self.pair_loss = _pair_loss(self.loss_types, self.loss_weights, self.beta)
        if self.aux_loss_enabled:
            raise _refusal("a mixture's balancing loss would count shared prompts once; set router_aux_loss_coef to 0")
        # Not in the first step: there accelerate's autocast is on, and one that is entered twice stays on for good.
        with in_mode(self.model, training=True):
            shared_prompt.require_exact(self.model)
        accept_packed(self.model)

    def scored(self, model: nn.Module, inputs: dict[str, Tensor], reference: PairLogProbs) -> tuple[HeadLoss, Tensor]:
        packed = _packed(inputs)
        return model(packed_loss=(packed, reference, self.pair_loss)), packed.of_chosen()

    def log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> PairLogProbs:
        return shared_prompt.pair_log_probs(model, _packed(inputs))

    def _prepare_dataset(
        self, dataset: Dataset | IterableDataset, processing_class: Any, args: DPOConfig, dataset_name: str
    ) -> Any:
        """TRL's, for rows that are no ids yet. Rows that it drops are counted aloud; a row left without a token in its
        prompt or an answer is named before the first step (ValueError)."""
        prepared = dataset
        if not next(iter(dataset)).keys() >= IDS:
            prepared = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if isinstance(prepared, Dataset):
            if dropped := len(dataset) - len(prepared):
                warnings.warn(
                    f"{dropped} of {len(dataset)} rows of the {dataset_name} set are left out: "
                    f"their prompts alone fill max_length {args.max_length}; raise it to train on them",
                    stacklevel=2,
                )
            require_answers(prepared, max_length=args.max_length, truncation_mode=args.truncation_mode)
        return prepared


class StageSharedPromptDPOTrainer(StageDPOTrainer, SharedPromptDPOTrainer):
    """The same in a stage: its progress, order of rows and checkpoints."""


def accept_packed(model: nn.Module) -> None:
    """Let `model(packed_loss=(packed, reference, pair_loss))` give `shared_prompt.loss`; other calls stay as they are.

    Wrappers that spread a model over processes see a gradient only if it comes out of the wrapped `forward`.
    """
    usual = model.forward

    @functools.wraps(usual)  # `generate` reads the signature
    def forward(
        *args: Any, packed_loss: tuple[PackedPairs, PairLogProbs, PairLoss] | None = None, **kwargs: Any
    ) -> Any:
        if packed_loss is None:
            return usual(*args, **kwargs)
        with lean_feed_forward(model):
            return shared_prompt.loss(model, *packed_loss)

    model.forward = forward


def _packed(inputs: dict[str, Tensor]) -> PackedPairs:
    if others := sorted(inputs.keys() - BATCH):
        raise _refusal(f"the batch holds {', '.join(others)}, which packed pairs have no place for")
    return from_padded(inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"])


def _pair_loss(loss_types: list[str], weights: list[float], beta: float) -> PairLoss:
    """TRL's weighted sum of losses by name. Its "ipo" takes the mean over tokens where the paper's h has the sum."""
    known = {"sigmoid": pair_losses.dpo(beta=beta), "ipo": _mean_ipo(tau=beta)}
    if not known.keys() >= set(loss_types):
        raise _refusal(f"loss_type must be one of {', '.join(known)}, got {', '.join(loss_types)}")

    def loss(policy: PairLogProbs, reference: PairLogProbs | None, lengths: PairLengths) -> Tensor:
        return sum(
            weight * known[name](policy, reference, lengths) for name, weight in zip(loss_types, weights, strict=True)
        )

    return loss


def _mean_ipo(*, tau: float) -> PairLoss:
    def loss(policy: PairLogProbs, reference: PairLogProbs | None, lengths: PairLengths) -> Tensor:
        return ipo_loss(mean_log_probs(policy, lengths), mean_log_probs(reference, lengths), tau=tau)

    return loss


def _require_settings(settings: DPOConfig) -> None:
    if settings.gradient_checkpointing:
        raise _refusal("gradient_checkpointing would run layers again without the packed pairs; set it to False")
    for name, usual in NEEDED.items():
        if getattr(settings, name) != usual:
            raise _refusal(f"{name} must be {usual}, got {getattr(settings, name)}")


def _refusal(reason: str) -> ValueError:
    return ValueError(f"no shared prompt: {reason}; or {PLAIN}")
