"""Mixtral from dense Mistrals: several experts in each layer in place of one feed-forward network.

Every setting that the two architectures fill in differently is carried over (Mixtral's own defaults have another rotary
base and norm epsilon, and a merge with those computes something else without a word).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedConfig,
)

# Fields of the dense configuration that mean the same in the mixture.
SAME = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "sliding_window", "max_position_embeddings", "rope_parameters", "rms_norm_eps",
    "initializer_range", "hidden_act", "attention_dropout", "tie_word_embeddings", "pad_token_id", "bos_token_id",
    "eos_token_id", "use_cache", "dtype",
)  # fmt: skip


def mixture_config(dense: PreTrainedConfig, *, experts: int, top: int) -> MixtralConfig:
    """The configuration of a mixture of `experts` that computes as `dense` does outside its feed-forward layers.

    No auxiliary loss and no noise in the router: the published losses have neither. Raises ValueError for another
    architecture than Mistral.
    """
    if not isinstance(dense, MistralConfig):
        raise ValueError(f"a mixture is made of dense Mistral models, got {type(dense).__name__}")
    return MixtralConfig(
        **{name: getattr(dense, name) for name in SAME},
        num_local_experts=experts,
        num_experts_per_tok=top,
        router_aux_loss_coef=0.0,
        router_jitter_noise=0.0,
        output_router_logits=False,
    )


def upcycle(
    dense: MistralForCausalLM, *, experts: int, top: int, noise: float, router_sd: float, seed: int
) -> MixtralForCausalLM:
    """A mixture whose experts are copies of `dense`'s feed-forward layers (Komatsuzaki et al. 2022, arXiv 2212.05055).

    noise: standard deviation of what each expert weight gets added, relative to that of its own tensor, so that experts
    can grow apart; at 0 the mixture computes exactly what `dense` does, whatever its random routers say.
    """
    mixture = assemble(
        [dense] * experts, top=top, shared=dense, routers=_random_routers(dense, experts, router_sd, seed)
    )
    if noise:
        generator = torch.Generator().manual_seed(seed)
        for name, weights in mixture.named_parameters():
            if ".mlp.experts." in name:
                drawn = torch.randn(weights.shape, generator=generator).to(weights)
                weights.data.add_(drawn, alpha=noise * weights.data.float().std().item())
    return mixture


def assemble(
    experts: Sequence[MistralForCausalLM], *, top: int, shared: MistralForCausalLM, routers: Sequence[Tensor]
) -> MixtralForCausalLM:
    """A mixture with the feed-forward layers of `experts` and all else from `shared`; `routers`: (expert, hidden) each.

    Raises ValueError where the models' shapes differ.
    """
    require_same_architecture(*experts, shared)
    config = mixture_config(shared.config, experts=len(experts), top=top)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and thrown away
        mixture = MixtralForCausalLM(config).to(shared.dtype).eval()
    own = dict(mixture.named_parameters())
    for name, weights in shared.named_parameters():
        if ".mlp." not in name:
            own[name].data.copy_(weights.data)
    for place, layer in enumerate(mixture.model.layers):
        parts = [expert.model.layers[place].mlp for expert in experts]
        # Gate first, then up: the order in which transformers cuts the fused weight apart.
        fused = [torch.cat([part.gate_proj.weight, part.up_proj.weight]) for part in parts]
        layer.mlp.experts.gate_up_proj.data.copy_(torch.stack(fused).data)
        layer.mlp.experts.down_proj.data.copy_(torch.stack([part.down_proj.weight for part in parts]).data)
        layer.mlp.gate.weight.data.copy_(routers[place])
    ids = {name: getattr(config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    mixture.generation_config = GenerationConfig(**ids)
    return mixture


def random_routers(model: MistralForCausalLM, experts: int, *, sd: float, seed: int) -> list[Tensor]:
    """Router weights for each layer, (expert, hidden) each, drawn from N(0, sd)."""
    return _random_routers(model, experts, sd, seed)


def require_same_architecture(*models: MistralForCausalLM) -> None:
    """Raises ValueError naming the first field of the configurations in which two of `models` differ."""
    first, *others = (mixture_config(model.config, experts=2, top=2).to_dict() for model in models)
    for other in others:
        unlike = [name for name in SAME if name != "dtype" and first.get(name) != other.get(name)]
        if unlike:
            name = unlike[0]
            raise ValueError(
                f"the models' {name} differ: {first.get(name)} and {other.get(name)}; one cannot merge them"
            )


def _random_routers(model: nn.Module, experts: int, sd: float, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (experts, model.config.hidden_size)
    return [sd * torch.randn(shape, generator=generator) for _ in range(model.config.num_hidden_layers)]
