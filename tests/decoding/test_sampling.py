"""The sampler gives what the model says: no cache, batch, padding or order shows in an answer."""

from collections import Counter

import pytest
import torch
from scipy import stats

from tiny_models import small_model, small_tokenizer
from zephyr_lab.decoding.sampling import Completion, left_padded, positions, sample

EOS = 2


@pytest.fixture(scope="module")
def model():
    return small_model(seed=1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_prompts(count, longest=30, seed=0):
    """Prompts of 1 to `longest` random tokens, none of them a control token or a byte."""
    draws, entries = generator(seed), len(small_tokenizer())
    lengths = torch.randint(1, longest + 1, (count,), generator=draws).tolist()
    return [torch.randint(262, entries, (length,), generator=draws).tolist() for length in lengths]


def greedy_without_cache(model, prompt, steps):
    """The definition: the whole row through the model for each token."""
    ids = list(prompt)
    for _ in range(steps):
        with torch.inference_mode():
            ids.append(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
        if ids[-1] == EOS:
            break
    return tuple(ids[len(prompt) :])


def ids_of(completions):
    return [completion.ids for completion in completions]


def stopping_model():
    """A model that every twelfth token of the vocabulary stops: a random model hardly ever says </s>."""
    model = small_model(seed=2)
    model.config.eos_token_id = model.generation_config.eos_token_id = list(range(0, model.config.vocab_size, 12))
    return model


def test_greedy_is_the_argmax_of_each_whole_row(model):
    # rows of up to 30 + 24 tokens pass the window of 16, so the cache has to forget too
    prompts = random_prompts(12)
    answers = sample(model, prompts, max_new_tokens=24, temperatures=0.0, generator=None)
    assert ids_of(answers) == [greedy_without_cache(model, prompt, 24) for prompt in prompts]


@pytest.mark.parametrize("make", [small_model, stopping_model])
def test_greedy_is_what_transformers_generates(make):
    model, prompts = make(), random_prompts(24, seed=5)
    own = sample(model, prompts, max_new_tokens=20, temperatures=0.0, generator=None)
    ids, mask = left_padded(prompts)
    stock = model.generate(ids, attention_mask=mask.long(), max_new_tokens=20, do_sample=False)
    for answer, row in zip(own, stock[:, ids.shape[1] :].tolist(), strict=True):
        assert answer.ids == tuple(row[: len(answer.ids)])
        assert set(row[len(answer.ids) :]) <= {0}  # transformers pads rows that have ended


def test_an_answer_ends_on_its_first_stop_token_or_at_the_limit():
    model = stopping_model()
    stops = set(model.config.eos_token_id)
    answers = sample(model, random_prompts(40), max_new_tokens=10, temperatures=1.0, generator=generator())
    finished = [answer for answer in answers if answer.finished]
    assert 0 < len(finished) < len(answers)  # both kinds occur
    assert all(answer.ids[-1] in stops and not stops & set(answer.ids[:-1]) for answer in finished)
    assert all(not stops & set(answer.ids) and len(answer.ids) == 10 for answer in answers if not answer.finished)


@pytest.mark.parametrize("temperatures", [0.0, 0.7])
def test_neither_batches_nor_neighbours_change_an_answer(temperatures):
    model, prompts = stopping_model(), random_prompts(30, seed=9)
    together, by_seven, alone = (
        sample(model, prompts, max_new_tokens=12, temperatures=temperatures, generator=generator(3), rows_at_once=rows)
        for rows in (128, 7, 1)
    )
    assert together == by_seven == alone


def test_the_order_of_greedy_prompts_changes_no_answer():
    model, prompts = stopping_model(), random_prompts(20, seed=4)
    forwards = sample(model, prompts, max_new_tokens=12, temperatures=0.0, generator=None)
    backwards = sample(model, prompts[::-1], max_new_tokens=12, temperatures=0.0, generator=None)
    assert forwards == backwards[::-1]


def test_rows_have_their_own_temperature(model):
    prompts = random_prompts(4) * 2
    mixed = sample(model, prompts, max_new_tokens=8, temperatures=[0.0] * 4 + [1.5] * 4, generator=generator())
    greedy = sample(model, prompts[:4], max_new_tokens=8, temperatures=0.0, generator=None)
    assert mixed[:4] == greedy
    assert mixed[4:] != greedy


def test_equal_seeds_give_equal_answers_and_others_differ(model):
    def draw(seed):
        return sample(model, random_prompts(6), max_new_tokens=8, temperatures=1.0, generator=generator(seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_tokens_are_drawn_with_the_models_probabilities(model):
    prompt, draws, temperature = random_prompts(1)[0], 4000, 0.8
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1].double()
    expected = torch.softmax(logits / temperature, dim=-1)
    answers = sample(model, [prompt] * draws, max_new_tokens=1, temperatures=temperature, generator=generator(11))
    counts = Counter(answer.ids[0] for answer in answers)
    likely = [token for token in range(len(expected)) if expected[token] * draws >= 5]
    observed = [counts[token] for token in likely]
    wanted = [expected[token].item() * draws for token in likely]
    rest = max(draws - sum(wanted), 1e-9)
    if rest >= 1:
        observed, wanted = [*observed, draws - sum(observed)], [*wanted, rest]
    wanted = [value * draws / sum(wanted) for value in wanted]
    assert stats.chisquare(observed, wanted).pvalue > 1e-3


def test_padding_counts_for_nothing():
    ids, mask = left_padded([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[True] * 3, [False, False, True]]
    assert positions(mask).tolist() == [[0, 1, 2], [0, 0, 0]]


def test_no_prompts_give_no_answers(model):
    assert sample(model, [], max_new_tokens=3, temperatures=0.0, generator=None) == []


def test_the_models_mode_is_as_before():
    model = small_model().train()
    answers = sample(model, [[300]], max_new_tokens=1, temperatures=0.0, generator=None)
    assert answers == [Completion(answers[0].ids, answers[0].ids[0] == EOS)]
    assert model.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [[300], []]}, "prompt 1 is empty"),
        ({"prompts": [[300] * 120]}, "exceed the model's 128 positions"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperatures": [0.0, 0.0]}, "need one for each of 1 prompts, got 2"),
        ({"temperatures": -0.5}, "must be finite and not negative"),
        ({"temperatures": float("nan")}, "must be finite and not negative"),
        ({"temperatures": 1.0}, "need a generator"),
    ],
)
def test_wrong_arguments_are_named(model, arguments, message):
    given = {"prompts": [[300]], "max_new_tokens": 10, "temperatures": 0.0, "generator": None, **arguments}
    with pytest.raises(ValueError, match=message):
        sample(model, given.pop("prompts"), **given)


def test_a_model_without_a_stop_token_is_refused():
    model = small_model()
    model.config.eos_token_id = None
    with pytest.raises(ValueError, match="names no eos_token_id"):
        sample(model, [[300]], max_new_tokens=1, temperatures=0.0, generator=None)
