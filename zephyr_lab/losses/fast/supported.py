"""Which models the shared prompt is exact for; all others are refused with the reason and the way that remains."""

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

SLOW_PATH = "use TRL's own path (in a recipe shared_prompt = false)"
LAYER_TYPES = {"full_attention", "sliding_attention"}
LOGIT_SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def require_supported(model: nn.Module) -> PreTrainedModel:
    """The causal language model inside `model`, which may carry adapters. Raises ValueError naming what is in the way.

    Supported as they are: a bias in the head, a head tied to the embeddings, adapters below the head.
    """
    if hasattr(model, "get_base_model"):  # peft
        if getattr(model.active_peft_config, "is_prompt_learning", False):
            raise _refusal("prompt learning puts tokens before every row")
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        raise _refusal(f"{type(model).__name__} is not a transformers model: hand over the model itself, unwrapped")
    if not getattr(model, "_supports_attention_backend", False):
        raise _refusal(f"{type(model).__name__} does not take its attention from transformers' attention interface")
    _require_plain_config(model)
    _require_plain_head(model)
    _require_range(model)
    if torch.is_grad_enabled() and model.training:
        _require_one_pass(model)
    return model


def precision(model: PreTrainedModel) -> torch.dtype:
    """What the model's products are computed in here and now: autocast's type where it is on, else the weights'.

    The type of logits says less: under autocast some arrive in float32, made of products in bfloat16.
    """
    device = model.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


def _require_plain_config(model: PreTrainedModel) -> None:
    config = model.config.get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES)
    if others:
        raise _refusal(f"layers of type {', '.join(others)} mix tokens in other ways than plain attention")
    if getattr(config, "final_logit_softcapping", None):
        raise _refusal(f"the logits are soft-capped (final_logit_softcapping = {config.final_logit_softcapping})")
    for name in LOGIT_SCALES:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise _refusal(f"the logits are scaled ({name} = {getattr(config, name)})")


def _require_plain_head(model: PreTrainedModel) -> None:
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise _refusal(
            f"the output head is a {type(head).__name__}, whose weight alone does not give the logits (an adapter or a "
            "quantised head); leave lm_head out of the adapter's target_modules"
        )
    if isinstance(head.weight, DTensor) or hasattr(head.weight, "ds_id"):
        raise _refusal("the output head is split over processes")


def _require_range(model: PreTrainedModel) -> None:
    if precision(model) == torch.float16:
        raise _refusal("float16 loses gradients that are made before the loss is scaled; take bfloat16")


def _require_one_pass(model: PreTrainedModel) -> None:
    if model.is_activation_checkpointing:
        raise _refusal("gradient checkpointing would run layers again without the packed pairs; switch it off")
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()):
        raise _refusal("dropout is above 0, and both responses would share the prompt's; set it to 0")


def _refusal(reason: str) -> ValueError:
    return ValueError(f"no shared prompt for this model: {reason}; or {SLOW_PATH}")
