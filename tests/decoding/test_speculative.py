"""Speculative decoding gives the target's own answers: the same ones greedily, the same distribution when sampled."""

from collections import Counter

import pytest
import torch
from scipy import stats
from transformers import GraniteConfig, GraniteForCausalLM

import smollm2
from any_models import any_model, message
from tiny_drafts import SEQUENCE, first_layers_of, little_feature_draft, little_target, sequence_probabilities
from tiny_models import small_model
from zephyr_lab.decoding.acceptance import Answered, acceptance_rates
from zephyr_lab.decoding.drafting import Chain, Tree
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.speculative import lineage, speculate
from zephyr_lab.models.draft import build, shape_for
from zephyr_lab.models.enlarge import of_layers
from zephyr_lab.scoring.acceptance_length import acceptance_length

PLANS = [Chain(1), Chain(4), Tree(top=3, depth=3, size=9), Tree(top=2, depth=4, size=5)]
SAMPLED_PLANS = [Chain(2, drawn=True), Chain(4, drawn=True), Chain(2), Tree(top=3, depth=2, size=7)]


def random_prompts(count, entries=6, longest=9, least=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(least, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(3, entries, (length,), generator=generator).tolist() for length in lengths]


def greedy(target, draft, plan, prompts, tokens=20, **changes):
    settings = {"max_new_tokens": tokens, "verify": "greedy", "temperature": 0.0, "generator": None, **changes}
    return speculate(target, draft, plan, prompts, **settings)


def sampled(target, draft, plan, prompts, *, tokens, seed=0, temperature=1.0, **changes):
    generator = torch.Generator().manual_seed(seed)
    return speculate(
        target, draft, plan, prompts, max_new_tokens=tokens, verify="sampling", temperature=temperature,
        generator=generator, **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def target():
    return little_target()


@pytest.fixture(scope="module")
def drafts(target):
    return {"causal": first_layers_of(target), "feature": little_feature_draft(target)}


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_greedy_answers_are_those_of_plain_greedy_decoding(target, drafts, kind, plan):
    # rows of up to 9 + 20 tokens pass the window of 4, and end at unlike passes
    prompts = random_prompts(24)
    plain = sample(target, prompts, max_new_tokens=20, temperatures=0.0, generator=None)
    answers = greedy(target, drafts[kind], plan, prompts)
    assert [answer.ids for answer in answers] == [completion.ids for completion in plain]
    assert [answer.finished for answer in answers] == [completion.finished for completion in plain]


@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_a_larger_target_with_long_answers_too(kind):
    target = small_model(seed=1)
    draft = small_model(seed=1, layers=1)
    if kind == "feature":
        sizes = {"shared_experts": 1, "private_experts": 1, "shared_width": 48, "private_width": 24}
        shape = shape_for(target, heads=4, kv_heads=2, **sizes, top=1, routers=False)
        draft = build(shape, target, seed=0)
    prompts = random_prompts(8, entries=600, longest=30)
    plain = sample(target, prompts, max_new_tokens=24, temperatures=0.0, generator=None)
    for plan in (Chain(5), Tree(top=4, depth=3, size=12)):
        assert [answer.ids for answer in greedy(target, draft, plan, prompts, 24)] == [row.ids for row in plain]


@pytest.mark.parametrize("plan", SAMPLED_PLANS, ids=str)
@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_sampled_answers_have_the_targets_distribution(target, drafts, kind, plan):
    prompt, draws, temperature = [4, 5, 3], 4000, 0.8
    expected = sequence_probabilities(target, prompt, temperature)
    assert sum(expected.values()) == pytest.approx(1.0)
    answers = sampled(
        target, drafts[kind], plan, [prompt] * draws, tokens=SEQUENCE, temperature=temperature, rows_at_once=draws
    )
    assert sum(answer.passes for answer in answers) < 0.9 * sum(len(answer.ids) for answer in answers)  # drafts count
    assert chi_square(Counter(answer.ids for answer in answers), expected, draws) > 1e-3


@pytest.mark.parametrize("plan", [Chain(3, drawn=True), Chain(2)], ids=str)
@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_a_target_that_scales_its_logits_is_sampled_from_as_it_is(kind, plan):
    # Granite divides its logits by 4: without that its likeliest token would come nearly always
    target = scaled_target()
    sizes = {"shared_experts": 1, "private_experts": 1, "shared_width": 12, "private_width": 6}
    draft = scaled_target(seed=1)
    if kind == "feature":
        draft = build(shape_for(target, heads=2, kv_heads=1, **sizes, top=1, routers=False), target, seed=0).double()
    prompt, draws = [4, 5, 3], 4000
    expected = sequence_probabilities(target, prompt, 1.0)
    answers = sampled(target, draft, plan, [prompt] * draws, tokens=SEQUENCE, rows_at_once=draws)
    assert chi_square(Counter(answer.ids for answer in answers), expected, draws) > 1e-3
    with torch.no_grad():
        first = target(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(dim=-1)
    share = sum(answer.ids[0] == first.argmax() for answer in answers) / draws
    error = (first.max() * (1 - first.max()) / draws).sqrt()
    assert abs(share - first.max()) < 4 * error and first.max() < 0.6


def scaled_target(seed=0):
    config = GraniteConfig(
        vocab_size=8, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=40, initializer_range=1.0, logits_scaling=4.0, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GraniteForCausalLM(config).eval().double()


def test_the_chi_square_test_sees_a_wrong_rule(target, drafts):
    # the draft's own samples, accepted without a look, are not the target's
    prompt, draws = [4, 5, 3], 4000
    generator = torch.Generator().manual_seed(0)
    own = sample(
        drafts["causal"], [prompt] * draws, max_new_tokens=SEQUENCE, temperatures=0.8, generator=generator,
        rows_at_once=draws,
    )  # fmt: skip
    expected = sequence_probabilities(target, prompt, 0.8)
    assert chi_square(Counter(row.ids for row in own), expected, draws) < 1e-10


def chi_square(counts, expected, draws):
    """p-value of counts against probabilities; answers expected less than five times stand together."""
    likely = [answer for answer, chance in expected.items() if chance * draws >= 5]
    observed = [counts[answer] for answer in likely]
    wanted = [expected[answer] * draws for answer in likely]
    return stats.chisquare([*observed, draws - sum(observed)], [*wanted, draws - sum(wanted)]).pvalue


@pytest.mark.parametrize("plan", [Chain(3), Tree(top=2, depth=3, size=5)], ids=str)
@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_neither_batches_nor_order_change_an_answer_or_its_passes(target, drafts, kind, plan):
    prompts = random_prompts(9, seed=3)
    together, by_four = (greedy(target, drafts[kind], plan, prompts, rows_at_once=rows) for rows in (32, 4))
    backwards = greedy(target, drafts[kind], plan, prompts[::-1])[::-1]
    assert together == by_four == backwards


@pytest.mark.parametrize("plan", [Chain(3, drawn=True), Tree(top=2, depth=2, size=5)], ids=str)
def test_batches_change_no_sampled_answer(target, drafts, plan):
    prompts = random_prompts(9, seed=5)
    together, by_four = (
        sampled(target, drafts["feature"], plan, prompts, tokens=12, seed=7, rows_at_once=rows) for rows in (32, 4)
    )
    assert together == by_four
    assert sampled(target, drafts["feature"], plan, prompts, tokens=12, seed=8) != together


def test_a_target_drafting_for_itself_gains_the_whole_draft_and_one_token(target):
    answers = greedy(target, target, Chain(4), random_prompts(20))
    assert all(gain == 5 for answer in answers for gain in answer.gains[:-1])
    drawn = sampled(target, target, Chain(4, drawn=True), random_prompts(20), tokens=20)
    assert all(gain == 5 for answer in drawn for gain in answer.gains[:-1])


@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_the_first_token_may_come_from_reading_the_prompt(target, drafts, kind):
    prompts = random_prompts(20, least=1, seed=6)  # with it even a feature draft answers prompts of one token
    plain = sample(target, prompts, max_new_tokens=20, temperatures=0.0, generator=None)
    for plan in (Chain(3), Tree(top=2, depth=3, size=5)):
        answers = greedy(target, drafts[kind], plan, prompts, first_from_prompt=True)
        assert [answer.ids for answer in answers] == [completion.ids for completion in plain]
        assert all(sum(answer.gains) == len(answer.ids) - 1 for answer in answers)
    assert [row.ids for row in greedy(target, drafts[kind], Chain(3), prompts, 1, first_from_prompt=True)] == [
        row.ids[:1] for row in plain
    ]


def test_sampled_answers_that_begin_at_the_prompt_have_the_targets_distribution(target, drafts):
    prompt, draws, temperature = [4, 5, 3], 4000, 0.8
    expected = sequence_probabilities(target, prompt, temperature)
    answers = sampled(
        target, drafts["feature"], Chain(2, drawn=True), [prompt] * draws, tokens=SEQUENCE, temperature=temperature,
        rows_at_once=draws, first_from_prompt=True,
    )  # fmt: skip
    assert chi_square(Counter(answer.ids for answer in answers), expected, draws) > 1e-3


def test_gains_sum_to_the_answer_and_hold_one_token_at_least(target, drafts):
    for plan in PLANS:
        for answer in greedy(target, drafts["causal"], plan, random_prompts(20, seed=2)):
            assert sum(answer.gains) == len(answer.ids)
            assert min(answer.gains) >= 1 and max(answer.gains) <= plan.nodes + 1


def test_a_tree_that_holds_the_chain_needs_no_more_passes(target, drafts):
    prompts = random_prompts(30, seed=4)
    chain = greedy(target, drafts["causal"], Chain(3), prompts)
    tree = greedy(target, drafts["causal"], Tree(top=3, depth=3, size=21), prompts)  # all nodes: the chain is one path
    assert sum(answer.passes for answer in tree) < sum(answer.passes for answer in chain)


def test_prompts_of_one_token_are_answered_by_causal_drafts(target, drafts):
    prompts = random_prompts(6, least=1, longest=1)
    plain = sample(target, prompts, max_new_tokens=9, temperatures=0.0, generator=None)
    assert [answer.ids for answer in greedy(target, drafts["causal"], Chain(2), prompts, 9)] == [
        row.ids for row in plain
    ]


def test_the_models_modes_are_as_before(target, drafts):
    draft = drafts["feature"].train()
    greedy(target, draft, Chain(2), [[3, 4]])
    assert draft.training and not target.training
    draft.eval()


def test_lineage_of_a_tree_by_hand():
    # root -> 0 -> 2, root -> 1
    seen, depths = lineage(torch.tensor([[-1, -1, 0]]))
    assert seen[0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1]]
    assert depths.tolist() == [[0, 1, 1, 2]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": [[3, 4], []]}, "prompt 1 is empty"),
        ({"prompts": [[3] * 35]}, "exceed the model's 40 positions"),
        ({"prompts": [[3]]}, "prompt 0 has one token; a feature draft needs"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"verify": "sampling"}, "sampling verification needs a temperature above 0, got 0.0"),
        ({"verify": "sampling", "temperature": 1.0}, "needs a generator"),
        ({"temperature": 0.7}, "greedy verification has temperature 0, got 0.7"),
        ({"plan": Chain(3, drawn=True)}, "greedy verification takes the draft's likeliest"),
        ({"verify": "fast"}, "verify must be 'greedy' or 'sampling'"),
    ],
)
def test_wrong_arguments_are_named(target, drafts, changes, message):
    given = {
        "plan": Chain(3), "prompts": [[3, 4]], "max_new_tokens": 8, "verify": "greedy", "temperature": 0.0,
        "generator": None, **changes,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        speculate(target, drafts["feature"], given.pop("plan"), given.pop("prompts"), **given)


@pytest.mark.parametrize("kind", ["causal", "feature"])
def test_a_draft_of_another_vocabulary_is_refused(target, kind):
    other = little_target(entries=7)
    draft = first_layers_of(other) if kind == "causal" else little_feature_draft(other)
    with pytest.raises(ValueError, match="different vocabularies: 7 and 6 entries"):
        greedy(target, draft, Chain(2), [[3, 4]])


def test_attention_without_tree_masks_is_refused(drafts):
    eager = little_target()
    eager.config._attn_implementation = "eager"
    with pytest.raises(ValueError, match="'eager' takes no tree masks"):
        greedy(eager, drafts["feature"], Chain(2), [[3, 4]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chain(0), "length must be at least 1"),
        (lambda: Tree(top=0, depth=1, size=1), "must be at least 1"),
        (lambda: Tree(top=2, depth=2, size=7), "has 6 nodes, size is 7"),
    ],
)
def test_impossible_plans_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def assert_first_layers_draft_losslessly(target, prompts, depth, *, tokens):
    """Greedy answers with the first layers as the draft are the target's own, in as many passes as expected exactly."""
    draft = of_layers(target, range(depth))
    plain = sample(target, prompts, max_new_tokens=tokens, temperatures=0.0, generator=None)
    drafted = greedy(target, draft, Chain(3), prompts, tokens=tokens)
    assert [one.ids for one in drafted] == [one.ids for one in plain]
    answered = [Answered(tuple(prompt), one.ids) for prompt, one in zip(prompts, plain, strict=True)]
    rates = acceptance_rates(target, draft, answered, length=3, drawn=False, temperature=0.0)
    passes = [one.passes for one in drafted]
    assert rates.passes(3).tolist() == pytest.approx(passes)
    lengths = [len(one.ids) for one in plain]
    assert acceptance_length(lengths, passes) == pytest.approx(acceptance_length(lengths, rates.passes(3)))
    return acceptance_length(lengths, passes)


@pytest.mark.parametrize("make", [lambda: any_model("llama"), lambda: small_model(5)])
def test_the_first_layers_of_a_model_are_a_draft_of_it(make):
    prompts = [list(range(5, 5 + length)) for length in (3, 7, 4)]
    assert 1 <= assert_first_layers_draft_losslessly(make(), prompts, 1, tokens=12) <= 4


@pytest.mark.slow
@smollm2.needs_smollm2
def test_the_first_layers_of_smollm2_are_a_draft_of_it(tmp_path):
    target, tokenizer = smollm2.load(smollm2.save_to(tmp_path))
    chats = [[message("user", text)] for text in ("What is the capital of France?", "Name three fruits.")]
    prompts = tokenizer.apply_chat_template(chats, add_generation_prompt=True)["input_ids"]
    assert assert_first_layers_draft_losslessly(target, prompts, 24, tokens=16) >= 1
