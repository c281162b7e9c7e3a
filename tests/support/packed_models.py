"""Tiny models of several architectures and random pairs, for the shared prompt; plain rows as the oracle."""

import random

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from zephyr_lab.losses.log_probs import PairLogProbs

ENTRIES = 40
SIZES = {
    "vocab_size": ENTRIES, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.3,
}  # fmt: skip
ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 6}),
    "mixtral": (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 3, "sliding_window": None}),
    "qwen2": (
        Qwen2Config, Qwen2ForCausalLM, {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 4}),
    "gemma": (GemmaConfig, GemmaForCausalLM, {"head_dim": 4}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 4}),
}  # fmt: skip

Pairs = list[tuple[list[int], list[int], list[int]]]


def packed_model(name: str = "mistral", *, seed: int = 0, **changes) -> PreTrainedModel:
    """A random model in float32 that has preferences of its own, in training mode."""
    configuration, model, settings = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model(configuration(**{**SIZES, **settings, **changes})).train()


def random_pairs(seed: int, count: int = 3, *, longest: int = 12) -> Pairs:
    drawn = random.Random(seed)
    return [
        tuple([drawn.randrange(ENTRIES) for _ in range(drawn.randint(1, longest))] for _ in range(3))
        for _ in range(count)
    ]


def plain_log_probs(model: PreTrainedModel, pairs: Pairs) -> PairLogProbs:
    """Each response after its own prompt, one row at a time, from whole logits."""
    found = [[], []]
    for prompt, *responses in pairs:
        for side, response in zip(found, responses, strict=True):
            ids = torch.tensor([prompt + response])
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            picked = logits.log_softmax(dim=-1).gather(1, ids[0, 1:, None])
            side.append(picked[-len(response) :].sum().double())
    return PairLogProbs(*(torch.stack(side) for side in found))


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """By parameter, with zeros where the loss leaves none; they are taken off the model."""
    model.zero_grad()
    loss.backward()
    found = {
        name: torch.zeros_like(one) if one.grad is None else one.grad.clone() for name, one in model.named_parameters()
    }
    model.zero_grad()
    return found


def worst_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest difference of a tensor over its largest expected entry, the worst tensor's.

    A gradient that is exactly 0 has nothing but rounding; it is compared with a hundredth of the largest of all.
    """
    least = 1e-2 * max(one.abs().max().item() for one in expected.values())
    return max(
        (found[name] - one).abs().max().item() / max(one.abs().max().item(), least) for name, one in expected.items()
    )
