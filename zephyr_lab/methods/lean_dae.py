"""One step of DAE where each text runs through its own teacher alone, for any training loop: eq. (6) of 2406.19112.

Texts are packed, so nothing is padded; of both models only the hidden states that predict answers reach a head; a
teacher whose hidden states are cached does not run at all. Equal to `losses.dae` on whole logits (tested).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from zephyr_lab.losses.fast.fused_head import HeadLosses, Hidden, LinearHead
from zephyr_lab.losses.fast.kd_head import kd_head_losses
from zephyr_lab.methods.lean_kd import last_hidden, try_out
from zephyr_lab.methods.teacher_cache import TeacherCache
from zephyr_lab.models.packed_attention import packed, packed_row
from zephyr_lab.models.wrapped import causal_model


@dataclass(frozen=True, slots=True)
class Text:
    """ids of a text and which of them are answers."""

    ids: Int[Tensor, " position"]
    answers: Bool[Tensor, " position"]

    @property
    def counted(self) -> Tensor:
        """The positions that predict a token of an answer."""
        return torch.cat([self.answers[1:], self.answers.new_zeros(1)])


@dataclass(frozen=True, slots=True)
class Teacher:
    """A head, and what gives it hidden states: of the texts at some places of the batch, (token, hidden), in order."""

    head: LinearHead
    hidden: Callable[[Sequence[int], Sequence[Text]], Tensor]


def online(model: nn.Module, head: LinearHead) -> Teacher:
    """A teacher that reads its texts each time."""

    @torch.no_grad()
    def read(places: Sequence[int], texts: Sequence[Text]) -> Tensor:
        return counted_hidden(model, [texts[place] for place in places])

    return Teacher(head, read)


def cached(cache: TeacherCache, head: LinearHead, numbers: Sequence[int]) -> Teacher:
    """A teacher whose hidden states are at hand: numbers, of each text of the batch its row in the cache."""
    return Teacher(head, lambda places, _: cache.take([numbers[place] for place in places])["hidden"])


def counted_hidden(model: nn.Module, texts: Sequence[Text]) -> Hidden:
    """Hidden states at the positions that predict answers, text after text, (token, hidden), from one packed row."""
    try_out(model)
    counted = torch.cat([text.counted for text in texts])[None]
    with packed(causal_model(model), [len(text.ids) for text in texts]):
        return last_hidden(model, packed_row([text.ids for text in texts]), counted)


def token_shares(texts: Sequence[Text]) -> list[Tensor]:
    """Of each text the shares of the mean over all counted tokens of the batch (kd-dae's own)."""
    counts = [int(text.counted.sum()) for text in texts]
    return [torch.full((count,), 1 / max(sum(counts), 1), device=texts[0].ids.device) for count in counts]


def lean_dae_losses(
    student: nn.Module,
    head: LinearHead,
    texts: Sequence[Text],
    *,
    is_domain: Sequence[bool],
    expert: Teacher,
    reference: Teacher,
    shares: Sequence[Tensor],
    prediction_weight: float,
    ce_weight: float,
    temperature: float,
) -> HeadLosses:
    """Sum over texts of share * (divergence from the text's own teacher, and cross-entropy).

    Domain texts follow the expert, the others the reference. shares: of each text a number for each counted position
    (`token_shares`). Raises ValueError where there are not as many as texts, where no text has an answer, and as
    `kd_head.kd_head_losses`.
    """
    if not len(texts) == len(is_domain) == len(shares):
        raise ValueError(f"{len(texts)} texts, {len(is_domain)} is_domain, {len(shares)} shares: one of each a text")
    # Domain texts first: each teacher's tokens then are one run of the student's.
    order = sorted(range(len(texts)), key=lambda place: not is_domain[place])
    split = sum(map(bool, is_domain))
    ordered = [texts[place] for place in order]
    hidden = counted_hidden(student, ordered)
    tokens = sum(int(text.counted.sum()) for text in ordered[:split])
    found = []
    for teacher, places, own in (
        (expert, order[:split], hidden[:tokens]),
        (reference, order[split:], hidden[tokens:]),
    ):
        if not len(own):
            continue
        ids = torch.cat([texts[place].ids[1:][texts[place].answers[1:]] for place in places])
        found.append(
            kd_head_losses(
                own, head, teacher_hidden=teacher.hidden(places, texts), teacher_head=teacher.head, next_ids=ids,
                shares=torch.cat([shares[place] for place in places]), prediction_weight=prediction_weight,
                ce_weight=ce_weight, temperature=temperature,
            )
        )  # fmt: skip
    if not found:
        raise ValueError("no text of the batch has an answer to learn from")
    return HeadLosses(*(torch.stack(parts).sum() for parts in zip(*found, strict=True)))
