"""What a policy does on held-out pairs and prompts: DPO's loss and rewards, its KL to the reference, its lengths.

Exact means over all rows by our own losses; the trainers' curves are means of batch means.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from zephyr_lab.core.shapes import Logits, NextTokenScores, RowNumbers, TokenIds, TokenMask, at_least_float32
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.losses.dpo import dpo_loss, implicit_rewards
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods.examples import PairExample
from zephyr_lab.models.causal import one_by_one, require_alike
from zephyr_lab.models.logits import last_hidden_states, logits_of


def pair_log_probs(model: PreTrainedModel, examples: Sequence[PairExample], *, rows_at_once: int) -> PairLogProbs:
    """log pi(answer | prompt) of both answers of each pair, summed over the answer's tokens, on the CPU in float64."""
    log_probs = torch.zeros(2, len(examples), dtype=torch.float64)
    by_length = sorted(range(len(examples)), key=lambda place: examples[place].longest)  # little padding
    for start in range(0, len(by_length), rows_at_once):
        places = by_length[start : start + rows_at_once]
        prompts = [examples[place].prompt_ids for place in places]
        log_probs[0, places] = answer_log_probs(model, prompts, [examples[place].chosen_ids for place in places])
        log_probs[1, places] = answer_log_probs(model, prompts, [examples[place].rejected_ids for place in places])
    return PairLogProbs(*log_probs)


def answer_log_probs(model: PreTrainedModel, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> RowNumbers:
    """log pi(answer | prompt) of each row, on the CPU in float64. The model is put into evaluation mode.

    Only the answers' tokens meet the output head: prompts are the longer part, and the head half of a small model.
    """
    ids, mask = _rows(prompts, answers, model)
    if len(ids) > 1 and one_by_one(model, ids.shape[1]) is not None:
        rows = zip(prompts, answers, strict=True)
        return torch.cat([answer_log_probs(model, [prompt], [answer]) for prompt, answer in rows])
    counted = mask[:, 1:]
    with torch.inference_mode():
        hidden = last_hidden_states(model.eval(), input_ids=ids)[:, :-1]
        logits = at_least_float32(logits_of(model, hidden[counted]))
        log_probs = -cross_entropy(logits, ids[:, 1:][counted], reduction="none").double()
    return counted.double().masked_scatter(counted, log_probs).sum(dim=1).cpu()


def pair_metrics(policy: PairLogProbs, reference: PairLogProbs, *, beta: float) -> dict[str, float]:
    """Means over pairs: loss, accuracy (ties half), rewards and margin, and log-probabilities of both sides in nats."""
    rewards = implicit_rewards(policy, reference, beta=beta)
    margin = rewards.chosen - rewards.rejected
    means = {
        "loss": dpo_loss(policy, reference, beta=beta),
        "accuracy": (torch.sign(margin) + 1) / 2,
        "reward_chosen": rewards.chosen,
        "reward_rejected": rewards.rejected,
        "margin": margin,
        "log_prob_chosen": policy.chosen,
        "log_prob_rejected": policy.rejected,
    }
    return {name: values.mean().item() for name, values in means.items()}


def sampled_metrics(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    seed: int,
) -> dict[str, float]:
    """KL(policy || reference) in nats an answer, and lengths, on one answer of the policy a prompt at temperature 1.

    kl: at each token of an answer the exact divergence of the two next-token distributions, summed over the answer and
    averaged over prompts; its expectation is the divergence of whole answers, with far less noise than log-ratios.
    kl_error: its standard error over prompts. length: mean tokens of an answer, its </s> included; unfinished: share
    of answers that reach `max_new_tokens` without </s>.
    """
    generator = torch.Generator().manual_seed(seed)
    answers = sample(policy, prompts, max_new_tokens=max_new_tokens, temperatures=1.0, generator=generator)
    ids, mask = _rows(prompts, [list(answer.ids) for answer in answers], policy)
    for model in (policy, reference):
        require_alike(model, [len(prompt) + len(answer.ids) for prompt, answer in zip(prompts, answers, strict=True)])
    with torch.inference_mode():
        logits = policy.eval()(input_ids=ids, use_cache=False).logits
        reference_logits = reference.eval()(input_ids=ids, use_cache=False).logits
    divergences = _divergences(logits, reference_logits)
    kl = (divergences.double() * mask[:, 1:]).sum(dim=1).cpu()
    return {
        "kl": kl.mean().item(),
        "kl_error": kl.std().item() / math.sqrt(len(kl)) if len(kl) > 1 else 0.0,
        "length": sum(len(answer.ids) for answer in answers) / len(answers),
        "unfinished": sum(not answer.finished for answer in answers) / len(answers),
    }


def _divergences(logits: Logits, reference_logits: Logits) -> NextTokenScores:
    """KL(p || q) in nats of the distributions of tokens 1, 2, ... of each row."""
    log_p, log_q = (at_least_float32(one[:, :-1]).log_softmax(dim=-1) for one in (logits, reference_logits))
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _rows(
    prompts: Sequence[list[int]], answers: Sequence[list[int]], model: PreTrainedModel
) -> tuple[TokenIds, TokenMask]:
    """Prompts with their answers, padded on the right, where no counted token sees it; True on the answers' tokens."""
    rows = [torch.tensor([*prompt, *answer]) for prompt, answer in zip(prompts, answers, strict=True)]
    marks = [
        torch.tensor([False] * len(prompt) + [True] * len(answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    ids = pad_sequence(rows, batch_first=True)  # with id 0; any would do
    mask = pad_sequence(marks, batch_first=True, padding_value=False)
    return ids.to(model.device), mask.to(model.device)
