"""What a policy does on held-out pairs and prompts: DPO's loss and rewards, its KL to the reference, its lengths.

Exact means over all rows by our own losses; the trainers' curves are means of batch means.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from zephyr_lab.core.shapes import RowNumbers, TokenIds, TokenMask, at_least_float32
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
    ids, mask = padded_rows(prompts, answers, model.device)
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


def own_ranking(log_probs: PairLogProbs, examples: Sequence[PairExample]) -> dict[str, float]:
    """How often a model alone, without a reference, gives the chosen answer the higher log-probability; ties half.

    sum: of log pi(answer | prompt); mean: of that a token, which does not favour short answers; pairs: how many.
    """
    chosen, rejected = (
        torch.tensor([len(ids) for ids in side])
        for side in ([one.chosen_ids for one in examples], [one.rejected_ids for one in examples])
    )
    return {
        "sum": _share_higher(log_probs.chosen, log_probs.rejected),
        "mean": _share_higher(log_probs.chosen / chosen, log_probs.rejected / rejected),
        "pairs": float(len(examples)),
    }


def _share_higher(chosen: Tensor, rejected: Tensor) -> float:
    return ((torch.sign(chosen - rejected) + 1) / 2).mean().item()


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
    ids, mask = padded_rows(prompts, [list(answer.ids) for answer in answers], policy.device)
    for model in (policy, reference):
        require_alike(model, [len(prompt) + len(answer.ids) for prompt, answer in zip(prompts, answers, strict=True)])
    with torch.inference_mode():
        logits = policy.eval()(input_ids=ids, use_cache=False).logits
        reference_logits = reference.eval()(input_ids=ids, use_cache=False).logits
    log_p, log_q = (at_least_float32(one[:, :-1]).log_softmax(dim=-1) for one in (logits, reference_logits))
    divergences = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # of the distributions of tokens 1, 2, ...
    kl = (divergences.double() * mask[:, 1:]).sum(dim=1).cpu()
    return {
        "kl": kl.mean().item(),
        "kl_error": kl.std().item() / math.sqrt(len(kl)) if len(kl) > 1 else 0.0,
        "length": sum(len(answer.ids) for answer in answers) / len(answers),
        "unfinished": sum(not answer.finished for answer in answers) / len(answers),
    }


def padded_rows(
    prompts: Sequence[list[int]], answers: Sequence[list[int]], device: torch.device
) -> tuple[TokenIds, TokenMask]:
    """Prompts with their answers, padded on the right, where no counted token sees it; True on the answers' tokens."""
    both = list(zip(prompts, answers, strict=True))
    ids = [torch.tensor([*prompt, *answer]) for prompt, answer in both]
    marks = [torch.tensor([False] * len(prompt) + [True] * len(answer)) for prompt, answer in both]
    return pad_sequence(ids, batch_first=True).to(device), pad_sequence(marks, batch_first=True).to(device)
