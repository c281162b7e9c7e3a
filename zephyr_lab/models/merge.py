"""Two dense models as the experts of one mixture, without training: the 2x student of KD + DAE.

The method of mergekit's mixtures, for Mistral: attention, embeddings and norms of one model (or the mean of both), the
feed-forward layers of each as an expert, routers random or from hidden states. Both experts serve every token, so a
merge of a model with itself computes exactly what it does.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import MistralForCausalLM, MixtralForCausalLM

from zephyr_lab.models.mixtral import assemble, require_same_architecture


def merge(
    first: MistralForCausalLM, second: MistralForCausalLM, *, shared: str, routers: Sequence[Tensor]
) -> MixtralForCausalLM:
    """The mixture of both. shared: "first", whose attention, embeddings and norms stay, or "mean" of both models'.

    routers: (2, hidden) for each layer, from `mixtral.random_routers` or `hidden_routers`. Raises ValueError where the
    architectures differ, or for another `shared`.
    """
    require_same_architecture(first, second)
    if shared == "first":
        common = first
    elif shared == "mean":
        common = _mean(first, second)
    else:
        raise ValueError(f"shared must be 'first' or 'mean', got {shared!r}")
    return assemble([first, second], top=2, shared=common, routers=routers)


def hidden_routers(model: MistralForCausalLM, prompts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Router weights from what `model` makes of each expert's own prompts: the unit mean hidden state before its layer.

    prompts: one sequence of texts an expert, each text's ids of shape (1, position). A token then prefers the expert
    whose prompts its hidden state points at. (expert, hidden) for each layer. Raises ValueError for an expert without
    prompts.
    """
    means = [_mean_states(model, texts, expert) for expert, texts in enumerate(prompts)]
    return [torch.stack(layer) for layer in zip(*means, strict=True)]


def _mean_states(model: MistralForCausalLM, texts: Sequence[Tensor], expert: int) -> list[Tensor]:
    """Of each layer the mean, over all tokens of `texts`, of what its feed-forward part is given, at length 1."""
    if not texts:
        raise ValueError(f"expert {expert} has no prompts, so its router cannot be set from hidden states")
    sums: list[Tensor] = [torch.zeros(model.config.hidden_size) for _ in model.model.layers]
    tokens = sum(ids.shape[1] for ids in texts)

    def adding(place: int):
        def add(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
            sums[place] += given[0].float().sum(dim=(0, 1)).cpu()

        return add

    hooks = [layer.mlp.register_forward_pre_hook(adding(place)) for place, layer in enumerate(model.model.layers)]
    try:
        with torch.inference_mode():
            for ids in texts:
                model(input_ids=ids.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.nn.functional.normalize(total / tokens, dim=0) for total in sums]


def _mean(first: MistralForCausalLM, second: MistralForCausalLM) -> MistralForCausalLM:
    mean = copy.deepcopy(first)
    others = dict(second.named_parameters())
    for name, weights in mean.named_parameters():
        weights.data.copy_((weights.data.float() + others[name].data.float()) / 2)
    return mean
