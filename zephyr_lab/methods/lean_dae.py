"""One step of DAE where each text runs through its own teacher alone, for any training loop: eq. (6) of 2406.19112.

Texts are packed, so nothing is padded; of both models only the hidden states that count reach a head. Equal to
`losses.dae` on whole logits (tested).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zephyr_lab.losses.fast.kd_head import Divergence, Hidden, LinearHead, forward_kl, kd_head_losses
from zephyr_lab.losses.shapes import Scalar
from zephyr_lab.methods.lean_kd import last_hidden, try_out
from zephyr_lab.models.causal import causal_model
from zephyr_lab.models.packed_attention import packed, packed_row


@dataclass(frozen=True, slots=True)
class Text:
    """ids of a text, and the positions that a divergence is taken at (`losses.kd.predicting` of the answers, say)."""

    ids: Int[Tensor, " position"]
    counted: Bool[Tensor, " position"]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A head, and a function that gives hidden states of some texts at the positions that count, (token, hidden)."""

    head: LinearHead
    hidden: Callable[[Sequence[Text]], Tensor]


@dataclass(frozen=True, slots=True)
class DAELosses:
    """The loss to train on, and as plain numbers the divergence at each counted position, text after text."""

    loss: Scalar
    scores: Float[Tensor, " token"]


def online(model: nn.Module, head: LinearHead) -> Teacher:
    """A teacher that reads its texts each time."""

    @torch.no_grad()
    def read(texts: Sequence[Text]) -> Tensor:
        return counted_hidden(model, texts)

    return Teacher(head, read)


def counted_hidden(model: nn.Module, texts: Sequence[Text]) -> Hidden:
    """Hidden states at the positions that count, text after text, (token, hidden), from one packed row."""
    try_out(model)
    counted = torch.cat([text.counted for text in texts])[None]
    with packed(causal_model(model), [len(text.ids) for text in texts]):
        return last_hidden(model, packed_row([text.ids for text in texts]), counted)


def token_shares(texts: Sequence[Text]) -> list[Tensor]:
    """Each text's shares in the mean over all counted tokens of the batch (the published code's mean)."""
    counts = [int(text.counted.sum()) for text in texts]
    share = 1 / max(sum(counts), 1)
    return [torch.full((count,), share, dtype=torch.float64, device=texts[0].ids.device) for count in counts]


def lean_dae_losses(
    student: nn.Module,
    head: LinearHead,
    texts: Sequence[Text],
    *,
    is_domain: Sequence[bool],
    expert: Teacher,
    reference: Teacher,
    shares: Sequence[Tensor],
    weight: float = 1.0,
    temperature: float,
    divergence: Divergence = forward_kl,
) -> DAELosses:
    """weight * the sum over texts and their counted positions of share * the divergence from the text's own teacher.

    Domain texts follow the expert, the others the reference; the student runs by group too, so that before the first
    step it equals its frozen start exactly. shares: for each text a number for each counted position (`token_shares`).
    Raises ValueError where their number is not that of the texts, where no position counts, and as `kd_head_losses`.
    """
    if not len(texts) == len(is_domain) == len(shares):
        raise ValueError(f"{len(texts)} texts, {len(is_domain)} is_domain, {len(shares)} shares: one of each a text")
    if not any(len(share) for share in shares):
        raise ValueError("no text of the batch has a position that counts")
    losses, scores = [], [share.new_zeros(len(share)) for share in shares]
    for teacher, side in ((expert, True), (reference, False)):
        numbers = [number for number, flag in enumerate(is_domain) if bool(flag) is side and len(shares[number])]
        if not numbers:
            continue
        own, own_shares = [texts[number] for number in numbers], [shares[number] for number in numbers]
        group = kd_head_losses(
            counted_hidden(student, own),
            head,
            teacher_hidden=teacher.hidden(own),
            teacher_head=teacher.head,
            next_ids=None,
            shares=torch.cat(own_shares),
            prediction_weight=weight,
            ce_weight=0.0,
            temperature=temperature,
            divergence=divergence,
        )
        losses.append(group.loss)
        for number, part in zip(numbers, group.scores[0].split([len(one) for one in own_shares]), strict=True):
            scores[number] = part
    return DAELosses(torch.stack(losses).sum(), torch.cat([one.to(losses[0].dtype) for one in scores]))
