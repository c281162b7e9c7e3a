"""Whether a model's logits are nothing but a linear map of its last hidden states: what a fused head stands on."""

import torch
from torch import nn
from transformers import PreTrainedModel

SLOW_PATH = "compute whole logits and use losses.kd instead"
PROBE = 3  # tokens


@torch.no_grad()
def plain_head(model: PreTrainedModel) -> nn.Linear:
    """The model's output head, after the model itself has shown that its logits are that head's and nothing more.

    Tied embeddings and a bias are fine. Raises ValueError, naming the slow path, where the head is no plain linear
    layer (an adapter on it, say), or where logits are capped, scaled or shifted after it: found by comparing the two
    on a few tokens, so that whatever a model does to its logits is seen.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ValueError(
            f"{type(model).__name__} has a head of type {type(head).__name__}, a fused head needs a plain linear one "
            f"(merge an adapter into it first); or {SLOW_PATH}"
        )
    ids = torch.arange(PROBE, device=model.device)[None] % model.config.vocab_size
    was_training = model.training
    model.eval()
    try:
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        expected, found = model(input_ids=ids, use_cache=False).logits, head(hidden)
    finally:
        model.train(was_training)
    tolerance = 16 * torch.finfo(found.dtype).eps * max(float(found.abs().max()), 1.0)
    if not torch.allclose(found, expected.to(found.dtype), rtol=0.0, atol=tolerance):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the head (soft-capping, scaling), which a fused head "
            f"does not know; {SLOW_PATH}"
        )
    return head
