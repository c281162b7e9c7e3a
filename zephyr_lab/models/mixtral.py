"""Mixtral from dense Mistrals: several experts in each layer in place of one feed-forward network.

`upcycle` copies one model's; `merge` takes two models as the experts of one mixture, without training, the 2x student
of KD + DAE (the method of mergekit's mixtures). Every setting that the two architectures fill in differently is carried
over (Mixtral's own defaults have another rotary base and norm epsilon, and a merge with those computes something else
without a word).
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedConfig

from zephyr_lab.models.mistral import generation_config

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
    routers = random_routers(dense, experts, sd=router_sd, seed=seed)
    mixture = _assemble([dense] * experts, top=top, shared=dense, routers=routers)
    if noise:
        generator = torch.Generator().manual_seed(seed)
        for name, weights in mixture.named_parameters():
            if ".mlp.experts." in name:
                drawn = torch.randn(weights.shape, generator=generator).to(weights)
                weights.data.add_(drawn, alpha=noise * weights.data.float().std().item())
    return mixture


def merge(
    first: MistralForCausalLM, second: MistralForCausalLM, *, shared: str, routers: Sequence[Tensor]
) -> MixtralForCausalLM:
    """The mixture of two models. Both experts serve every token, so a model merged with itself computes what it did.

    shared: "first", whose attention, embeddings and norms stay, or "mean" of both models'. routers: (2, hidden) for
    each layer, from `random_routers` or `hidden_routers`. Raises ValueError where the architectures differ, or for
    another `shared`.
    """
    _require_same_architecture(first, second)
    if shared not in ("first", "mean"):
        raise ValueError(f"shared must be 'first' or 'mean', got {shared!r}")
    common = first if shared == "first" else _mean(first, second)
    return _assemble([first, second], top=2, shared=common, routers=routers)


def random_routers(model: MistralForCausalLM, experts: int, *, sd: float, seed: int) -> list[Tensor]:
    """Router weights for each layer, (expert, hidden) each, drawn from N(0, sd)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (experts, model.config.hidden_size)
    return [sd * torch.randn(shape, generator=generator) for _ in range(model.config.num_hidden_layers)]


def hidden_routers(model: MistralForCausalLM, prompts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Router weights from what `model` makes of each expert's own prompts: the unit mean hidden state before its layer.

    prompts: one sequence of texts an expert, each text's ids of shape (1, position). A token then prefers the expert
    whose prompts its hidden state points at. (expert, hidden) for each layer. Raises ValueError for an expert without
    prompts.
    """
    means = [_mean_states(model, texts, expert) for expert, texts in enumerate(prompts)]
    return [torch.stack(layer) for layer in zip(*means, strict=True)]


def _assemble(
    experts: Sequence[MistralForCausalLM], *, top: int, shared: MistralForCausalLM, routers: Sequence[Tensor]
) -> MixtralForCausalLM:
    """A mixture with the feed-forward layers of `experts` and all else from `shared`; `routers`: (expert, hidden)."""
    config = mixture_config(shared.config, experts=len(experts), top=top)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and thrown away
        mixture = MixtralForCausalLM(config).to(shared.dtype).eval()
    own = dict(mixture.named_parameters())
    for name, weights in shared.named_parameters():
        if ".mlp." not in name:
            own[name].data.copy_(weights.data)
    for index, layer in enumerate(mixture.model.layers):
        parts = [expert.model.layers[index].mlp for expert in experts]
        # Gate first, then up: the order in which transformers cuts the fused weight apart.
        fused = [torch.cat([part.gate_proj.weight, part.up_proj.weight]) for part in parts]
        layer.mlp.experts.gate_up_proj.data.copy_(torch.stack(fused).data)
        layer.mlp.experts.down_proj.data.copy_(torch.stack([part.down_proj.weight for part in parts]).data)
        layer.mlp.gate.weight.data.copy_(routers[index])
    mixture.generation_config = generation_config(config)
    return mixture


def _require_same_architecture(first: MistralForCausalLM, second: MistralForCausalLM) -> None:
    """Raises ValueError naming the first field of the configurations in which the two models differ."""
    ours, theirs = (mixture_config(model.config, experts=2, top=2).to_dict() for model in (first, second))
    for name in SAME:
        if name != "dtype" and ours.get(name) != theirs.get(name):
            raise ValueError(
                f"the models' {name} differ: {ours.get(name)} and {theirs.get(name)}; one cannot merge them"
            )


def _mean_states(model: MistralForCausalLM, texts: Sequence[Tensor], expert: int) -> list[Tensor]:
    """Of each layer the mean, over all tokens of `texts`, of what its feed-forward part reads, at length 1."""
    if not texts:
        raise ValueError(f"expert {expert} has no prompts, so its router cannot be set from hidden states")
    sums: list[Tensor] = [torch.zeros(model.config.hidden_size) for _ in model.model.layers]
    tokens = sum(ids.shape[1] for ids in texts)

    def adding_to(total: Tensor):
        def add(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            total.add_(arguments[0].float().sum(dim=(0, 1)).cpu())

        return add

    hooks = [
        layer.mlp.register_forward_pre_hook(adding_to(total))
        for layer, total in zip(model.model.layers, sums, strict=True)
    ]
    try:
        with torch.inference_mode():
            for ids in texts:
                model(input_ids=ids.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [nn.functional.normalize(total / tokens, dim=0) for total in sums]


def _mean(first: MistralForCausalLM, second: MistralForCausalLM) -> MistralForCausalLM:
    mean = copy.deepcopy(first)
    others = dict(second.named_parameters())
    for name, weights in mean.named_parameters():
        weights.data.copy_((weights.data.float() + others[name].data.float()) / 2)
    return mean
