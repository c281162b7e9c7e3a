"""A trained model with more layers, which add nothing, or with some of its own alone.

More make a target slower without changing what it says.

A toy target costs hardly more than its draft, so that drafting cannot pay. With zeros in the two maps through which a
layer adds to the residual stream, the layer costs what any other does and passes on what it got (Net2Net, Chen et al.
2016, arXiv 1511.05641, does the same for growing networks).
"""

import copy
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel


def enlarge(model: PreTrainedModel, *, layers: int) -> PreTrainedModel:
    """A copy of `model` with `layers` more decoder layers at its end, copies of the last one that add zero.

    Its outputs equal those of `model`. Raises ValueError for a negative number, and for a model whose layers are not
    attention and feed-forward in the way of Llama, Mistral and Qwen.
    """
    if layers < 0:
        raise ValueError(f"layers must not be negative, got {layers}")
    larger = _copied(model)
    stack = larger.base_model.layers
    for _ in range(layers):
        # One configuration for all: by it attention is replaced, and listened to, in every layer.
        added = copy.deepcopy(stack[-1], {id(larger.config): larger.config})
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            _zero(added, name)
        added.self_attn.layer_idx = len(stack)
        stack.append(added)
    larger.config.num_hidden_layers = len(stack)
    if getattr(larger.config, "layer_types", None):
        larger.config.layer_types = [*larger.config.layer_types, *[larger.config.layer_types[-1]] * layers]
    return larger


def of_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A copy of `model` with `layers` of its own alone (from 0, in this order), everything else kept: a student.

    Every second layer makes one of half the depth, `of_layers(model, range(1, 30, 2))`. Raises ValueError for no layer,
    one that is named twice, and numbers that the model does not have.
    """
    stack = model.base_model.layers
    if not layers or len({*layers}) < len(layers) or not 0 <= min(layers) <= max(layers) < len(stack):
        raise ValueError(f"layers must be some of 0 to {len(stack) - 1}, each once, got {list(layers)}")
    smaller = _copied(model)
    smaller.base_model.layers = nn.ModuleList(smaller.base_model.layers[one] for one in layers)
    for place, layer in enumerate(smaller.base_model.layers):
        layer.self_attn.layer_idx = place  # of the cache, and of what listens to attention
    smaller.config.num_hidden_layers = len(layers)
    if kinds := getattr(smaller.config, "layer_types", None):
        smaller.config.layer_types = [kinds[one] for one in layers]
    return smaller


def _copied(model: PreTrainedModel) -> PreTrainedModel:
    copied = copy.deepcopy(model)
    copied.__dict__.pop("forward", None)  # a trainer's wrapper would run the original model's weights
    return copied


def _zero(layer: nn.Module, name: str) -> None:
    try:
        output = layer.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f"{type(layer).__name__} has no {name}: only plain decoder layers can be added") from error
    for parameter in output.parameters():
        parameter.data.zero_()
