"""Which models the shared prompt is exact for; all others are refused with the reason and the way that remains."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import torch
from torch import nn

from zephyr_lab.core.packed_rows import layer_fault, precision, rope_fault

SLOW_PATH = "use TRL's own path (in a recipe shared_prompt = false)"
# Adapters that change a token by that token alone, each held against padded rows in tests; others are refused by name.
PEFT_TYPES = {
    "LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "FOURIERFT", "HRA", "LN_TUNING", "VBLORA",
    "RANDLORA", "TRAINABLE_TOKENS", "SHIRA", "C3A", "MISS", "ROAD", "WAVEFT", "DELORA", "GRALORA",
}  # fmt: skip
LOGIT_SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")

# Which settings of a config are chances or strengths of noise, by a part of their names.
NOISES = ("drop", "jitter", "noise")
PROBE = 24  # tokens that are read twice

_steady: WeakSet[nn.Module] = WeakSet()


def require_supported(model: nn.Module) -> nn.Module:
    """The causal language model inside `model`, which may carry adapters. Raises ValueError naming what prevents it.

    Supported as they are: a bias in the head, a head tied to the embeddings, adapters below the head.
    """
    from transformers import PreTrainedModel  # loaded already where the model is of its making

    _require_plain_adapters(model)
    if hasattr(model, "get_base_model"):  # peft
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        raise _refusal(f"{type(model).__name__} is not a transformers model: hand over the model itself, unwrapped")
    if not getattr(model, "_supports_attention_backend", False):
        raise _refusal(f"{type(model).__name__} does not take its attention from transformers' attention interface")
    if model.base_model is model:
        raise _refusal(f"{type(model).__name__} names no body that gives hidden states without logits")
    _require_plain_config(model)
    _require_plain_head(model)
    if precision(model) == torch.float16:
        raise _refusal("float16 loses gradients that are made before the loss is scaled; take bfloat16")
    if model.training:
        if torch.is_grad_enabled() and model.is_activation_checkpointing:
            raise _refusal("gradient checkpointing would run layers again without the packed pairs; switch it off")
        _require_steady(model)
    return model


def require_lengths(model: nn.Module, longest: int) -> None:
    """Raises ValueError where texts of up to `longest` tokens in one row change each other's rotary embeddings."""
    if (fault := rope_fault(model.config.get_text_config(), longest)) is not None:
        raise _refusal(f"{fault}; leave longer pairs out")


def output_head(model: nn.Module) -> nn.Module:
    """The layer that makes the logits; where peft keeps a second head beside the first, the active one."""
    head = model.get_output_embeddings()
    if not hasattr(head, "modules_to_save"):
        return head
    active = None if head.disable_adapters else next(iter(head.active_adapters), None)
    return head.original_module if active is None else head.modules_to_save[active]


def _require_plain_config(model: nn.Module) -> None:
    config = model.config.get_text_config()
    if (fault := layer_fault(config)) is not None:
        raise _refusal(fault)
    if getattr(config, "final_logit_softcapping", None):
        raise _refusal(f"the logits are soft-capped (final_logit_softcapping = {config.final_logit_softcapping})")
    for name in LOGIT_SCALES:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise _refusal(f"the logits are scaled ({name} = {getattr(config, name)})")


def _require_plain_head(model: nn.Module) -> None:
    from torch.distributed.tensor import DTensor  # half a second that only a model pays for

    head = output_head(model)
    if type(head) is not nn.Linear:
        raise _refusal(
            f"the output head is a {type(head).__name__}, whose weight alone does not give the logits (an adapter or a "
            "quantised head); leave lm_head out of the adapter's target_modules"
        )
    if isinstance(head.weight, DTensor) or hasattr(head.weight, "ds_id"):
        raise _refusal("the output head is split over processes")


def _require_plain_adapters(model: nn.Module) -> None:
    for config in (getattr(model, "peft_config", None) or {}).values():
        if getattr(config, "is_prompt_learning", False):
            raise _refusal("prompt learning puts tokens before every row")
        if getattr(config, "alora_invocation_tokens", None):
            raise _refusal("an activated LoRA (aLoRA) begins at each row's last invocation; take a plain LoRA")
        kind = getattr(config.peft_type, "value", config.peft_type)
        if kind not in PEFT_TYPES:
            raise _refusal(f"adapters of type {kind} are not known to change each token by itself")


def _require_steady(model: nn.Module) -> None:
    """Raises ValueError where training draws random numbers that a forward pass depends on: dropout of any kind, noise.

    Both responses would share the prompt's. The caller's random numbers stay as they are.
    """
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()):
        raise _refusal(f"dropout is above 0, and both responses would share the prompt's; set it to 0{_noises(model)}")
    if dropout := getattr(model.config.get_text_config(), "attention_dropout", 0.0):
        raise _refusal(f"attention dropout is {dropout:g}, packed pairs have none: set it to 0")
    if model in _steady:
        return
    device = next(model.parameters()).device
    ids = torch.arange(PROBE, device=device)[None] % model.config.get_text_config().vocab_size
    with torch.no_grad(), _own_random_numbers(device):
        before = _random_state(device)
        once = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        if not torch.equal(before, _random_state(device)):  # a layer may draw and not use what it drew
            again = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            # a router's noise changes few rows, so two alike prove nothing where a setting says that noise is on
            if _noises(model) or not torch.equal(once, again):
                raise _refusal(
                    "the same row read twice in training mode is not the same, or need not be: dropout or noise is on, "
                    f"and both responses would share the prompt's; set it to 0{_noises(model)}"
                )
    _steady.add(model)


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[None]:
    accelerated = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices=accelerated, device_type=kind):
        yield


def _random_state(device: torch.device) -> torch.Tensor:
    own = torch.get_rng_state()
    return own if device.type == "cpu" else torch.cat([own, torch.get_device_module(device).get_rng_state(device)])


def _noises(model: nn.Module) -> str:
    """The config's settings that may be the cause, in brackets."""
    settings = [
        f"{name} = {value}"
        for name, value in model.config.get_text_config().to_dict().items()
        if any(part in name for part in NOISES) and isinstance(value, float) and value > 0
    ]
    return f" (its config has {', '.join(settings)})" if settings else ""


def _refusal(reason: str) -> ValueError:
    return ValueError(f"no shared prompt for this model: {reason}; or {SLOW_PATH}")
