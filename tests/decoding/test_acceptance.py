"""Expected passes from one teacher-forced pass are those of the decoding loop, and transformers counts the same."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.assisted import assisted
from tiny_drafts import first_layers_of, little_feature_draft, little_target
from tiny_models import small_model
from zephyr_lab.decoding.acceptance import Answered, acceptance_rates
from zephyr_lab.decoding.drafting import Chain
from zephyr_lab.decoding.speculative import speculate


@pytest.fixture(scope="module")
def target():
    return little_target()


@pytest.fixture(scope="module")
def drafts(target):
    return {"causal": first_layers_of(target), "feature": little_feature_draft(target)}


def random_prompts(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 9, (count,), generator=generator).tolist()
    return [torch.randint(3, 6, (length,), generator=generator).tolist() for length in lengths]


def greedy(target, draft, length, prompts, tokens=20):
    return speculate(
        target, draft, Chain(length), prompts, max_new_tokens=tokens, verify="greedy", temperature=0.0, generator=None
    )


def sampled(target, draft, plan, prompts, *, seed, temperature, tokens=20):
    generator = torch.Generator().manual_seed(seed)
    return speculate(
        target, draft, plan, prompts, max_new_tokens=tokens, verify="sampling", temperature=temperature,
        generator=generator,
    )  # fmt: skip


def answered(prompts, answers):
    return [Answered(tuple(prompt), answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]


@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_greedy_passes_are_exactly_those_of_the_loop_at_every_length(target, drafts, kind):
    prompts = random_prompts(20)
    rates = acceptance_rates(
        target, drafts[kind], answered(prompts, greedy(target, drafts[kind], 1, prompts)),
        length=6, drawn=False, temperature=0.0,
    )  # fmt: skip
    accepted = 0
    for length in (1, 2, 4, 6):
        answers = greedy(target, drafts[kind], length, prompts)
        assert rates.passes(length).tolist() == [answer.passes for answer in answers]
        accepted += sum(len(answer.ids) - answer.passes for answer in answers)
    assert accepted > 20  # or the agreement would say nothing


@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_passes_with_given_candidates_are_certain_once_the_answer_is_known(target, drafts, kind):
    prompts = random_prompts(20)
    answers = sampled(target, drafts[kind], Chain(3), prompts, seed=3, temperature=0.7)
    rates = acceptance_rates(
        target, drafts[kind], answered(prompts, answers), length=3, drawn=False, temperature=0.7
    )  # fmt: skip
    assert rates.passes(3).tolist() == [answer.passes for answer in answers]


@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_expected_passes_of_drawn_drafts_are_the_mean_of_many_loops(target, drafts, kind):
    prompts, temperature = random_prompts(40) * 20, 0.8
    answers = sampled(target, drafts[kind], Chain(3, drawn=True), prompts, seed=1, temperature=temperature, tokens=12)
    rates = acceptance_rates(
        target, drafts[kind], answered(prompts, answers), length=3, drawn=True, temperature=temperature,
        rows_at_once=200,
    )  # fmt: skip
    counted = np.array([answer.passes for answer in answers])
    difference = counted - rates.passes(3)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert abs(difference.mean()) < 4 * error
    assert error < 0.02 * counted.mean()  # the test can see two per cent
    assert rates.passes(3).std() < counted.std()  # and knowing the answer alone makes the smaller spread


def test_text_that_the_target_did_not_give_is_measured_wrongly(target, drafts):
    # greedy answers are likelier than the target's samples, so their acceptance is another
    prompts = random_prompts(40) * 5
    own = sampled(target, drafts["causal"], Chain(3, drawn=True), prompts, seed=1, temperature=1.0)
    other = greedy(target, drafts["causal"], 3, prompts)
    tokens_a_pass = []
    for answers in (own, other):
        rates = acceptance_rates(
            target, drafts["causal"], answered(prompts, answers), length=3, drawn=True, temperature=1.0
        )  # fmt: skip
        tokens_a_pass.append(rates.lengths.sum() / rates.passes(3).sum())
    counted = sum(len(answer.ids) for answer in own) / sum(answer.passes for answer in own)
    assert tokens_a_pass[0] == pytest.approx(counted, rel=0.03)
    assert abs(tokens_a_pass[1] - counted) > 0.05 * counted


def test_longer_drafts_never_need_more_passes(target, drafts):
    prompts = random_prompts(20)
    answers = answered(prompts, greedy(target, drafts["causal"], 1, prompts))
    rates = acceptance_rates(target, drafts["causal"], answers, length=6, drawn=False, temperature=0.0)
    totals = [rates.passes(length).sum() for length in range(1, 7)]
    assert all(later <= earlier for earlier, later in pairwise(totals))


@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_neither_batches_nor_padding_change_a_rate(target, drafts, kind):
    prompts = random_prompts(12)
    answers = answered(prompts, greedy(target, drafts[kind], 2, prompts))
    settings = {"length": 4, "drawn": True, "temperature": 1.0}
    together = acceptance_rates(target, drafts[kind], answers, **settings)
    alone = acceptance_rates(target, drafts[kind], answers, **settings, rows_at_once=1)
    np.testing.assert_allclose(together.values, alone.values, atol=1e-12)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_transformers_assisted_generation_takes_the_same_passes(target, drafts, length):
    prompts = random_prompts(6)
    ours = greedy(target, drafts["causal"], length, prompts)
    theirs = assisted(
        target, drafts["causal"], prompts, length=length, max_new_tokens=20, temperature=0.0, seed=0
    )  # fmt: skip
    assert [(answer.ids, answer.passes) for answer in ours] == [(answer.ids, answer.passes) for answer in theirs]


def test_sampling_transformers_takes_as_many_passes_as_expected(target, drafts):
    prompts = random_prompts(40)
    theirs = assisted(target, drafts["causal"], prompts, length=3, max_new_tokens=20, temperature=1.0, seed=4)
    rates = acceptance_rates(
        target, drafts["causal"], answered(prompts, theirs), length=3, drawn=True, temperature=1.0
    )  # fmt: skip
    difference = np.array([answer.passes for answer in theirs]) - rates.passes(3)
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / np.sqrt(len(difference))


def test_the_default_confidence_threshold_would_shorten_drafts():
    # canary: by default transformers stops a draft at the first token with less than 0.4, and a draft that is the
    # target itself, unsure of most tokens, then looks like a bad one
    target, draft = small_model(seed=1), small_model(seed=1)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(262, 640, (4,), generator=generator).tolist() for _ in range(3)]
    settings = {"length": 5, "max_new_tokens": 18, "temperature": 0.0, "seed": 0}
    before = draft.generation_config.assistant_confidence_threshold
    whole = assisted(target, draft, prompts, **settings)
    cut = assisted(target, draft, prompts, **settings, confidence_threshold=0.4)
    assert [answer.ids for answer in whole] == [answer.ids for answer in cut]
    assert [answer.passes for answer in whole] == [3, 3, 3]  # 18 tokens, 6 a pass
    assert sum(answer.passes for answer in cut) > 12
    assert draft.generation_config.assistant_confidence_threshold == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": []}, "no answers"),
        ({"answers": [Answered((3, 4), (5,)), Answered((), (5,))]}, "prompt 1 is empty"),
        ({"answers": [Answered((3, 4), ())]}, "answer 0 is empty"),
        ({"answers": [Answered((3,), (5,))]}, "has one token; a feature draft"),
        ({"length": 0}, "length must be at least 1"),
        ({"drawn": True, "temperature": 0.0}, "drawn need a temperature above 0"),
    ],
)
def test_wrong_arguments_are_named(target, drafts, changes, message):
    given = {"answers": [Answered((3, 4), (5, 2))], "length": 2, "drawn": False, "temperature": 0.0, **changes}
    with pytest.raises(ValueError, match=message):
        acceptance_rates(target, drafts["feature"], given.pop("answers"), **given)


def test_rates_know_no_longer_drafts(target, drafts):
    rates = acceptance_rates(
        target, drafts["causal"], [Answered((3, 4), (5, 2))], length=2, drawn=False, temperature=0.0
    )  # fmt: skip
    with pytest.raises(ValueError, match="length must be from 1 to 2, got 3"):
        rates.passes(3)
