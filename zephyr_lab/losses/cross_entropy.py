"""Next-token cross-entropy, the loss of pre-training and of supervised fine-tuning."""

import torch
from torch.nn.functional import cross_entropy

from zephyr_lab.core.shapes import Logits, NextTokenScores, TokenIds, at_least_float32


def next_token_losses(logits: Logits, ids: TokenIds) -> NextTokenScores:
    """-log p(token | tokens before it) in nats of tokens 1, 2, ... of each row: shape (row, position - 1).

    The logits at a position predict the token after it, so the last position's logits and the first token drop out.
    Not masked and not averaged: the caller knows which tokens count.
    """
    nothing = ids.new_full((len(ids), 1), -100)  # after the last token; cutting the logits instead would copy them
    following = torch.cat([ids[:, 1:], nothing], dim=1)
    losses = cross_entropy(
        at_least_float32(logits).flatten(0, 1), following.flatten(), reduction="none", ignore_index=-100
    )
    return losses.view(ids.shape)[:, :-1]
