"""Log-probabilities, divergences and draft losses of models that scale or cap their logits: those of whole logits."""

import pytest
import torch
from torch import Tensor

from model_families import family_model
from zephyr_lab.losses.draft import soft_cross_entropies
from zephyr_lab.methods import rollouts
from zephyr_lab.methods.held_out_pairs import answer_log_probs
from zephyr_lab.methods.rollouts import Answered
from zephyr_lab.methods.stages.draft_rows import draft_loss
from zephyr_lab.methods.stages.frontier import answer_kl
from zephyr_lab.models.draft import build, shape_for
from zephyr_lab.models.logits import last_hidden_states

PROMPTS, ANSWERS = [[5, 6, 7], [8, 30]], [[11, 12], [13, 14, 15, 16]]
ANSWERED = Answered([0, 1], PROMPTS, ANSWERS, [True, False])
FAMILIES = ["cohere", "granite", "gemma2"]


def next_token_log_probs(model, prompt, answer) -> Tensor:
    """log p of every entry at each place of the answer, (token, entry), by whole logits in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].double()
    return logits.log_softmax(dim=-1)[len(prompt) - 1 : -1]


def log_prob(model, prompt, answer) -> float:
    return next_token_log_probs(model, prompt, answer).gather(1, torch.tensor(answer)[:, None]).sum().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_held_out_log_probs_are_a_log_softmax_over_whole_logits(family):
    model = family_model(family)
    expected = [log_prob(model, prompt, answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    assert answer_log_probs(model, PROMPTS, ANSWERS).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_of_rollouts_are_too(family):
    model = family_model(family)
    expected = [log_prob(model, prompt, answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    found, _ = rollouts.token_log_probs(model, ANSWERED)
    assert found.sum(dim=1).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_divergence_of_answers_is_summed_over_whole_distributions(family):
    policy, reference = family_model(family), family_model(family)
    for parameter in reference.parameters():
        parameter.data.mul_(1.05)
    expected = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        own, other = (next_token_log_probs(model, prompt, answer) for model in (policy, reference))
        expected.append((own.exp() * (own - other)).sum().item())
    assert answer_kl(policy, reference, ANSWERED).tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("family", ["granite", "gemma2"])
def test_the_loss_of_a_draft_is_to_the_targets_whole_distribution(family):
    target = family_model(family)
    shape = shape_for(
        target, heads=4, kv_heads=2, shared_experts=1, private_experts=1, shared_width=16, private_width=8, top=1,
        routers=False,
    )  # fmt: skip
    draft = build(shape, target, seed=0)
    ids, mask = [*PROMPTS[0], *ANSWERS[1]], [False] * 3 + [True] * 4
    row = torch.tensor([ids])
    with torch.no_grad():
        features = last_hidden_states(target, input_ids=row)
        guessed, _ = draft(row[:, 1:], features[:, :-1], torch.arange(1, 7)[None])
        # the target's own logits, and what it would make of the guesses: by replacing what its body gives
        own = target(input_ids=row).logits[0, 2:6]
        body = target.model.register_forward_hook(lambda module, args, output: type(output)(last_hidden_state=guessed))
        drafted = target(input_ids=row[:, 1:]).logits[0, 1:5]
        body.remove()
    expected = soft_cross_entropies(drafted.double(), own.double()).mean().item()
    assert draft_loss(draft, target, (ids, mask)) == pytest.approx(expected, rel=1e-4)
