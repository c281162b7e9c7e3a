"""Whether a model's logits are nothing but a linear map of its last hidden states: what a fused head stands on."""

import torch
from torch import Tensor, nn

from zephyr_lab.models import logits
from zephyr_lab.models.wrapped import causal_model, evaluating, instead

SLOW_PATH = "compute whole logits and use losses.kd instead"
LARGEST = 1e3  # logit that is tried: a soft cap shows on none that is small


@torch.no_grad()
def plain_head(model: nn.Module) -> nn.Linear:
    """The model's output head, after the model itself has shown that its logits are that head's and nothing more.

    Tied embeddings, a bias and adapters below the head are fine. Raises ValueError, naming the slow path, where the
    head is no plain linear layer (an adapter on it, say), or where hidden states are changed before it or logits after
    it (capped, scaled, shifted): the model's own forward pass is given hidden states and, in the head's place, logits
    from tiny to large, and has to hand on both as they are.
    """
    causal = causal_model(model)
    head = causal.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ValueError(
            f"{type(causal).__name__} has a head of type {type(head).__name__}, a fused head needs a plain linear one "
            f"(merge an adapter into it first); or {SLOW_PATH}"
        )
    body = logits.body_of(causal)  # before the head is replaced: the model is tried with its own
    entries = len(head.weight)
    states = torch.linspace(-1.0, 1.0, body.width, dtype=head.weight.dtype, device=head.weight.device)[None]
    shown = torch.logspace(-3, 3, entries, dtype=torch.float32, device=head.weight.device).to(head.weight.dtype)
    shown[::2] *= -1
    reached: list[Tensor] = []

    def in_its_place(hidden: Tensor) -> Tensor:
        reached.append(hidden)
        return shown.expand(*hidden.shape[:-1], entries).clone()

    with evaluating(causal), instead(head, in_its_place):
        found = logits.logits_of(causal, states)
    if len(reached) != 1 or not torch.equal(reached[0], states[None]):
        raise ValueError(f"{type(causal).__name__} changes hidden states before its head; {SLOW_PATH}")
    if not torch.equal(found[0].to(shown.dtype), shown):
        raise ValueError(
            f"{type(causal).__name__} changes its logits after the head (soft-capping, scaling), which a fused head "
            f"does not know; {SLOW_PATH}"
        )
    return head
