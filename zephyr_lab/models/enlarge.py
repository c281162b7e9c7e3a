"""Making a trained target slower without changing what it says: extra layers that add nothing.

A toy target costs hardly more than its draft, so that drafting cannot pay. With zeros in the two maps through which a
layer adds to the residual stream, the layer costs what any other does and passes on what it got (Net2Net, Chen et al.
2016, arXiv 1511.05641, does the same for growing networks).
"""

import copy

from torch import nn
from transformers import PreTrainedModel


def enlarge(model: PreTrainedModel, *, layers: int) -> PreTrainedModel:
    """A copy of `model` with `layers` more decoder layers at its end, copies of the last one that add zero.

    Its outputs equal those of `model`. Raises ValueError for a negative number, and for a model whose layers are not
    attention and feed-forward in the way of Llama, Mistral and Qwen.
    """
    if layers < 0:
        raise ValueError(f"layers must not be negative, got {layers}")
    larger = copy.deepcopy(model)
    larger.__dict__.pop("forward", None)  # a trainer's wrapper would run the original model's weights
    stack = larger.base_model.layers
    for _ in range(layers):
        added = copy.deepcopy(stack[-1])
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            _zero(added, name)
        added.self_attn.layer_idx = len(stack)
        stack.append(added)
    larger.config.num_hidden_layers = len(stack)
    if getattr(larger.config, "layer_types", None):
        larger.config.layer_types = [*larger.config.layer_types, *[larger.config.layer_types[-1]] * layers]
    return larger


def _zero(layer: nn.Module, name: str) -> None:
    try:
        output = layer.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f"{type(layer).__name__} has no {name}: only plain decoder layers can be added") from error
    for parameter in output.parameters():
        parameter.data.zero_()
