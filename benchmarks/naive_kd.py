"""The losses of KD and DAE as kd-dae's formulas have them: whole logits, whole attention maps, every model on all rows.

Written from the equations of arXiv 2406.19112 and what its code (flipkart-incubator/kd-dae) does with them, but for the
mask, which is shifted to the positions that predict, so that gradients can be compared. Every model also computes the
cross-entropy that transformers returns with labels; at lambda = 1 nobody reads it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

IGNORED = -100


def head_loss(logits: Tensor, teacher_logits: Tensor, counted: Tensor) -> Tensor:
    """Mean over counted positions of KL(teacher, student); logits (..., entry), counted of their leading shape."""
    scores = kl_div(logits.log_softmax(dim=-1), teacher_logits.softmax(dim=-1), reduction="none").sum(dim=-1)
    return (scores * counted).sum() / counted.sum()


def attention_loss(maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], counted: Tensor) -> Tensor:
    """Mean over layers, heads and counted query rows of the maps' divergence, from logarithms of probabilities.

    Not a number where a window or padding bans a key that is not ahead: 0 * log 0.
    """
    ahead = torch.ones_like(maps[0][0, 0], dtype=torch.bool).triu(1)
    found = []
    for own, theirs in zip(maps, teacher_maps, strict=True):
        ratio = theirs.masked_fill(ahead, 1.0).log() - own.masked_fill(ahead, 1.0).log()
        found.append(((theirs * ratio).sum(dim=-1) * counted[:, None]).sum() / (counted.sum() * own.shape[1]))
    return torch.stack(found).mean()


def labels(ids: Tensor, answers: Tensor) -> Tensor:
    return ids.masked_fill(~answers, IGNORED)


def whole_step(
    student: PreTrainedModel, teacher: PreTrainedModel, ids: Tensor, answers: Tensor, counted: Tensor
) -> Tensor:
    """Prediction and attention loss of a batch; both models with attn_implementation="eager"."""
    arguments = {"input_ids": ids, "labels": labels(ids, answers), "output_attentions": True, "use_cache": False}
    with torch.no_grad():
        theirs = teacher(**arguments)
    own = student(**arguments)
    return head_loss(own.logits, theirs.logits, counted) + attention_loss(own.attentions, theirs.attentions, counted)


def dae_step(
    student: PreTrainedModel, expert: PreTrainedModel, reference: PreTrainedModel, ids: Tensor, answers: Tensor,
    counted: Tensor, is_domain: Tensor,
) -> Tensor:  # fmt: skip
    """Three whole forward passes over the padded batch; each row then picks one of the two teachers' logits."""
    arguments = {"input_ids": ids, "labels": labels(ids, answers), "use_cache": False}
    with torch.no_grad():
        theirs, general = expert(**arguments).logits, reference(**arguments).logits
    teacher = torch.where(is_domain[:, None, None], theirs, general)
    return head_loss(student(**arguments).logits, teacher, counted)
