"""tau from counts and from rates: closed forms, enumeration of all outcomes, and simulation agree."""

import itertools

import numpy as np
import pytest

from zephyr_lab.scoring import acceptance_length as tau
from zephyr_lab.scoring.acceptance_length import (
    acceptance_difference,
    acceptance_estimate,
    authors_acceptance_length,
    constant_rate_length,
    expected_authors_terms,
    expected_passes,
    pass_distribution,
)


def random_rates(rows=3, longest=5, depth=2, seed=0):
    return np.random.default_rng(seed).uniform(size=(rows, longest, depth))


def enumerated(rates, length):
    """{passes: probability} of one answer by following every outcome of every draft."""

    def follow(start, passes, chance):
        if start >= length:
            found[passes] = found.get(passes, 0.0) + chance
            return
        for accepted in range(len(rates[0]) + 1):
            here = chance
            for depth in range(accepted):
                here *= rates[start][depth]
            if accepted < len(rates[0]):
                here *= 1 - rates[start][accepted]
            follow(start + accepted + 1, passes + 1, here)

    found: dict[int, float] = {}
    follow(0, 0, 1.0)
    return found


def test_tau_is_tokens_over_passes_of_all_answers():
    assert tau.acceptance_length([10, 4], [4, 3]) == 2.0  # not the mean of 2.5 and 1.33
    assert tau.acceptance_length([3], [3]) == 1.0  # every draft rejected


def test_the_authors_tau_divides_by_one_pass_less_and_drops_answers_of_one_pass():
    assert authors_acceptance_length([10, 4, 6], [6, 3, 1]) == (10 / 5 + 4 / 2) / 2


def test_the_authors_tau_is_too_high_by_r_plus_1_over_r():
    tokens, passes = [30, 30], [11, 11]
    r = 10
    assert authors_acceptance_length(tokens, passes) == pytest.approx(
        tau.acceptance_length(tokens, passes) * (r + 1) / r
    )


def test_expected_passes_are_the_mean_over_all_outcomes():
    rates, lengths = random_rates(), np.array([5, 3, 1])
    wanted = [
        sum(passes * chance for passes, chance in enumerated(row, length).items())
        for row, length in zip(rates, lengths, strict=True)
    ]
    assert expected_passes(rates, lengths) == pytest.approx(wanted, rel=1e-12)


def test_the_distribution_of_passes_is_that_of_all_outcomes():
    rates, lengths = random_rates(seed=1), np.array([5, 4, 2])
    for row, length, chances in zip(rates, lengths, pass_distribution(rates, lengths), strict=True):
        found = enumerated(row, length)
        assert chances == pytest.approx([found.get(passes, 0.0) for passes in range(6)], abs=1e-12)


def test_the_authors_expected_terms_are_those_of_all_outcomes():
    rates, lengths = random_rates(seed=2), np.array([5, 4, 1])
    terms = expected_authors_terms(rates, lengths)
    for place, (row, length) in enumerate(zip(rates, lengths, strict=True)):
        found = enumerated(row, length)
        kept = {passes: chance for passes, chance in found.items() if passes >= 2}
        assert terms.kept[place] == pytest.approx(sum(kept.values()))
        assert terms.ratios[place] == pytest.approx(
            sum(chance * length / (passes - 1) for passes, chance in kept.items())
        )


def test_certain_rates_count_whole_passes():
    matches = np.array([1, 1, 0, 1, 1, 1, 0], dtype=float)  # of the 7 tokens of an answer
    rates = np.zeros((1, 7, 2))
    for start, depth in itertools.product(range(7), range(2)):
        if start + depth < 7:
            rates[0, start, depth] = matches[start + depth]
    # two accepted and one more; two accepted and one more; the last
    assert expected_passes(rates, [7]).tolist() == [3.0]


def test_places_past_the_end_are_not_read():
    rates = random_rates(rows=1)
    changed = rates.copy()
    changed[0, 3:] = 0.5
    for start, depth in itertools.product(range(3), range(2)):
        if start + depth >= 3:
            changed[0, start, depth] = 0.123
    assert expected_passes(rates, [3]) == pytest.approx(expected_passes(changed, [3]), rel=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("length", [1, 4])
def test_long_text_at_a_constant_rate_has_the_closed_form(rate, length):
    tokens = 4000
    passes = expected_passes(np.full((1, tokens, length), rate), [tokens])
    assert tokens / passes[0] == pytest.approx(constant_rate_length(rate, length=length), rel=2e-3)
    if rate < 1:
        closed = (1 - rate ** (length + 1)) / (1 - rate)
        assert constant_rate_length(rate, length=length) == pytest.approx(closed)


def test_the_interval_covers_a_known_tau():
    # passes of answers of 24 tokens, drawn with a known expectation: tau = 24 / E[passes]
    generator = np.random.default_rng(0)
    rates = np.full((1, 24, 3), 0.6)
    truth = 24 / expected_passes(rates, [24])[0]
    chances = pass_distribution(rates, [24])[0]
    covered = 0
    for repeat in range(200):
        passes = generator.choice(25, size=40, p=chances / chances.sum())
        found = acceptance_estimate(np.full(40, 24), passes, seed=repeat, resamples=400)
        covered += found.interval.low <= truth <= found.interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    generator = np.random.default_rng(1)
    tokens = generator.integers(10, 40, size=60)
    slow = np.ceil(tokens / generator.uniform(1.5, 4, size=60))
    fast = np.maximum(slow - 1, 1)
    paired = acceptance_difference((tokens, fast), (tokens, slow), seed=0)
    alone = acceptance_estimate(tokens, fast, seed=0)
    assert paired.value == pytest.approx(tau.acceptance_length(tokens, fast) - tau.acceptance_length(tokens, slow))
    assert paired.interval.low > 0
    assert paired.interval.high - paired.interval.low < alone.interval.high - alone.interval.low


def test_prompts_of_one_tau_have_no_interval_and_say_so():
    same = acceptance_estimate([6, 9, 12], [2, 3, 4], seed=0)
    assert (same.value, same.interval, same.method) == (3.0, None, "all equal, no interval")
    difference = acceptance_difference(([6, 9], [2, 3]), ([6, 9], [3, 4.5]), seed=0)
    assert (difference.value, difference.interval) == (1.0, None)
    assert acceptance_estimate([6], [2], seed=0).method == "one prompt, no interval"


def test_one_prompt_has_no_interval():
    assert acceptance_estimate([6], [2], seed=0).interval is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tau.acceptance_length([1, 2], [1]), "needs its tokens and passes"),
        (lambda: tau.acceptance_length([1], [0]), "takes a pass at least"),
        (lambda: authors_acceptance_length([3], [1]), "took a single pass"),
        (lambda: constant_rate_length(1.2, length=3), "rate must be from 0 to 1"),
        (lambda: expected_passes(np.full((1, 2, 1), 1.5), [2]), "must be probabilities"),
        (lambda: expected_passes(np.full((1, 2, 1), 0.5), [3]), "lengths must be from 0 to 2"),
        (lambda: acceptance_difference(([1], [1]), ([1, 1], [1, 1]), seed=0), "the same prompts"),
    ],
)
def test_wrong_numbers_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
