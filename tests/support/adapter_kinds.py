"""An adapter of each kind that the installed peft has, small, and with an effect from the start."""

import inspect
from typing import Any

import peft
import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn
from transformers import PreTrainedModel

TARGETS = ["q_proj", "v_proj"]
INVOCATION = [7]  # a token that stands in some texts and not in others
# LoRA under its other names, and what else is adapted beside it.
LORA: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "LoRA with dropout": {"lora_dropout": 0.1},
    "LoRA with a bias": {"bias": "all"},
    "DoRA": {"use_dora": True},
    "rsLoRA": {"use_rslora": True},
    "aLoRA": {"alora_invocation_tokens": INVOCATION},
    "LoRA on the feed-forward part": {"target_modules": ["gate_proj", "up_proj", "down_proj"]},
    "LoRA on every layer": {"target_modules": "all-linear"},
    "LoRA on the head": {"target_modules": [*TARGETS, "lm_head"]},
    "LoRA on the embeddings": {"target_modules": [*TARGETS, "embed_tokens"]},
    "LoRA, the head saved": {"modules_to_save": ["lm_head"]},
    "LoRA, the embeddings saved": {"modules_to_save": ["embed_tokens"]},
    "LoRA, norms saved": {"modules_to_save": ["norm"]},
    "LoRA, tokens trained": {"trainable_token_indices": [5, 7]},
}
# What a kind's configuration lacks by default.
OWN: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10, "init_r": 4, "target_r": 2},
    "ADAPTION_PROMPT": {"adapter_len": 3, "adapter_layers": 1, "target_modules": "self_attn"},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 8},
    "CPT": {"cpt_token_ids": [5, 6, 7], "cpt_tokens_type_mask": [1, 1, 1]},
    "FOURIERFT": {"n_frequency": 20},
    "IA3": {"target_modules": [*TARGETS, "down_proj"], "feedforward_modules": ["down_proj"]},
    "OFT": {"oft_block_size": 8, "r": 0},
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 3, "num_tasks": 2},
    "P_TUNING": {"num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "PREFIX_TUNING": {"num_virtual_tokens": 3},
    "CARTRIDGE": {"num_virtual_tokens": 3},
    "LN_TUNING": {"target_modules": ["input_layernorm", "norm"]},
    "ROAD": {"group_size": 16},
    "SHADOW": {"target_modules": None, "shadow_dropout": 0.0},
    "TRAINABLE_TOKENS": {"token_indices": [5, 7], "target_modules": ["embed_tokens"]},
    "VBLORA": {"num_vectors": 16, "vector_length": 8},
    "WAVEFT": {"n_frequency": 20},
}
# Of the weights that are drawn, where the usual one would leave attention of one token alone.
STRENGTHS = {"RANDLORA": 0.005}
KINDS = tuple(sorted(kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING if kind.value != "LORA"))
ADAPTERS = (*LORA, *KINDS)
# Kinds that this test's model cannot carry, and why.
ABSENT: dict[str, str] = {
    "ADAMSS": "it needs the package scikit-learn",
    "MULTITASK_PROMPT_TUNING": "each forward pass must be given task_ids, which a training on one task has none of",
    "POLY": "each forward pass must be given task_ids, which a training on one task has none of",
    "XLORA": "it is a mixture of adapters that were trained and saved before",
}
# The same of one column.
ABSENT_IN: dict[tuple[str, str], str] = {
    ("LILY", "attention KD"): "its router averages over padding too, whose states eager attention and sdpa make unlike",
}


def adapted(model: PreTrainedModel, adapter: str) -> nn.Module:
    """`model` with the adapter, whose weights are drawn so that it counts; the type of numbers is the model's."""
    dtype = model.dtype
    model.float()  # some are made in float32 alone; weights of `small_model` lose nothing by it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        found = get_peft_model(model, adapter_config(adapter), autocast_adapter_dtype=False)
        for name, weight in found.named_parameters():
            if weight.requires_grad and weight.is_floating_point() and not name.startswith("base_model.model.lm_head"):
                weight.data.add_(torch.randn_like(weight), alpha=STRENGTHS.get(adapter, 0.05))
    return found.to(dtype).train()


def adapter_config(adapter: str) -> PeftConfig:
    """The adapter's configuration for a Llama of `model_families`."""
    if adapter in LORA:
        return LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": TARGETS, "r": 4, **LORA[adapter]})
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(adapter)]
    known = inspect.signature(kind.__init__).parameters
    usual = {"task_type": "CAUSAL_LM", "target_modules": TARGETS, "r": 4}
    return kind(**{name: value for name, value in {**usual, **OWN.get(adapter, {})}.items() if name in known})
