"""Acceptance rates of a draft from one teacher-forced pass over answers of the target: tau without decoding.

An answer that the target gave (greedily, or sampled at its temperature) fixes the probability with which each drafted
token of it was accepted, whatever the drafts were. `scoring.acceptance_length.expected_passes` turns these rates into
the exact expectation of passes, for every draft length up to the one asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from zephyr_lab.decoding.cached_steps import require_still
from zephyr_lab.decoding.drafting import Draft, require_pair
from zephyr_lab.decoding.sampling import by_length, require_prompt
from zephyr_lab.models.causal import evaluating
from zephyr_lab.models.draft import FeatureDraft, unrolled
from zephyr_lab.models.logits import last_hidden_states, logits_of
from zephyr_lab.scoring import acceptance_length

ROWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt and the target's answer to it, as ids."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AcceptanceRates:
    """values[row, start, depth]: see `expected_passes`; lengths: tokens of each answer, (row,)."""

    values: np.ndarray
    lengths: np.ndarray

    def passes(self, length: int) -> np.ndarray:
        """Expected target passes of each answer with drafts of `length` tokens, at most as long as the rates go."""
        if not 1 <= length <= self.values.shape[2]:
            raise ValueError(f"length must be from 1 to {self.values.shape[2]}, got {length}")
        return acceptance_length.expected_passes(self.values[:, :, :length], self.lengths)


def acceptance_rates(
    target: PreTrainedModel,
    draft: Draft,
    answers: Sequence[Answered],
    *,
    length: int,
    drawn: bool,
    temperature: float,
    rows_at_once: int = ROWS_AT_ONCE,
) -> AcceptanceRates:
    """Acceptance rates of chains of up to `length` tokens on `answers`, which must be the target's own.

    drawn: the draft draws its tokens at `temperature`, at which the answers were sampled; the rate is min(1, q / p).
    Not drawn: it proposes its likeliest, accepted where that is the answer's token (rates 0 and 1): greedy decoding
    for greedy answers, and given candidates for sampled ones. `temperature` is not read then.

    On other text than the target's own answers the passes are biased. Raises ValueError for an empty prompt or answer,
    a prompt of one token with a feature draft, a draft of another vocabulary, and a temperature of 0 where tokens are
    drawn.
    """
    require_pair(draft, target)
    _require_answers(answers, least=2 if isinstance(draft, FeatureDraft) else 1)
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if drawn and temperature <= 0:
        raise ValueError(f"drafts that are drawn need a temperature above 0, got {temperature}; or drawn=False")
    whole = [len(one.prompt) + len(one.answer) for one in answers]
    for model in (target, draft):
        if isinstance(model, PreTrainedModel):
            require_still(model, max(whole))
    lengths = np.array([len(one.answer) for one in answers])
    values = np.zeros((len(answers), lengths.max(), length))
    with torch.inference_mode(), evaluating(target), evaluating(draft):
        for rows in by_length(whole, rows_at_once):
            batch = [answers[row] for row in rows]
            for depth, rates in enumerate(_rates(target, draft, batch, length, drawn, temperature)):
                # Token k of an answer is number `depth` of the draft that began at k - depth.
                for row, own in zip(rows, np.split(rates, np.cumsum(lengths[rows])[:-1]), strict=True):
                    values[row, : max(len(own) - depth, 0), depth] = own[depth:]
    return AcceptanceRates(values, lengths)


def _rates(
    target: PreTrainedModel, draft: Draft, batch: list[Answered], length: int, drawn: bool, temperature: float
) -> list[np.ndarray]:
    """For each depth the rates of all answer tokens of the batch, row after row, as token number `depth` of a draft."""
    whole = [torch.tensor(answered.prompt + answered.answer) for answered in batch]
    ids = pad_sequence(whole, batch_first=True).to(target.device)  # on the right: no token that counts sees it
    counted = torch.zeros_like(ids, dtype=torch.bool)
    for row, answered in enumerate(batch):
        counted[row, len(answered.prompt) : len(answered.prompt) + len(answered.answer)] = True
    tokens = ids[counted]
    features = last_hidden_states(target, input_ids=ids)
    own = _log_probs(logits_of(target, features[:, :-1][counted[:, 1:]]), tokens, temperature) if drawn else None
    if isinstance(draft, FeatureDraft):
        # Pair t guesses the token at t + 2.
        guessed = [each[:, :-1][counted[:, 2:]] for each in unrolled(draft, ids, features, depth=length)]
        return [_accepted(logits_of(target, each), tokens, own, temperature) for each in guessed]
    hidden = last_hidden_states(draft, input_ids=ids)[:, :-1][counted[:, 1:]]
    # A causal draft's guesses depend on the tokens alone, not on how many of them it drafted.
    return [_accepted(logits_of(draft, hidden), tokens, own, temperature)] * length


def _accepted(logits: Tensor, tokens: Tensor, own: Tensor | None, temperature: float) -> np.ndarray:
    """The probability with which each token is accepted from a draft of these logits, (token,)."""
    if own is None:
        rate = (logits.argmax(dim=-1) == tokens).double()
    else:
        rate = (_log_probs(logits, tokens, temperature) - own).clamp(max=0).exp()
    return rate.cpu().numpy()


def _log_probs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    return (logits.double() / temperature).log_softmax(dim=-1).gather(1, tokens[:, None]).squeeze(1)


def _require_answers(answers: Sequence[Answered], *, least: int) -> None:
    if not answers:
        raise ValueError("there are no answers to measure acceptance on")
    for number, answered in enumerate(answers):
        require_prompt(number, answered.prompt, least)
        if not answered.answer:
            raise ValueError(f"answer {number} is empty")
