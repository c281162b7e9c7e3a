"""What is planted in a judge is found again."""

import statistics

import pytest

from zephyr_lab.world.calibration import noise_sd, pair_errors
from zephyr_lab.world.completions import completions
from zephyr_lab.world.judge import Comparison, PairJudge, RubricJudge, grade

# 95 % intervals of twenty seeds: fewer than fifteen hits has a probability of 0.0003
SEEDS, LEAST_HITS = 20, 15
MADE = completions(11, 500)
ANSWERED = [
    (prompt.turn, [one["response"] for one in row["completions"]])
    for prompt, row in zip(MADE.prompts, MADE.rows, strict=True)
]


def judged(noise, seed):
    judge = RubricJudge(noise_sd=noise, seed=seed)
    verdicts = [judge.score([turn], [texts[0]])[0] for turn, texts in ANSWERED]
    return [one.exact for one in verdicts], [one.score for one in verdicts]


@pytest.mark.parametrize("planted", [0.3, 1.0, 2.5])
def test_planted_noise_is_found_though_the_scale_cuts_it_off(planted):
    estimates = [noise_sd(*judged(planted, seed)) for seed in range(SEEDS)]
    assert sum(one.low <= planted <= one.high for one in estimates) >= LEAST_HITS
    assert statistics.fmean(one.value for one in estimates) == pytest.approx(planted, rel=0.03)
    assert all(one.high - one.low < 0.2 * planted for one in estimates)


def test_leaving_the_cut_off_out_of_account_finds_too_little():
    exact, scores = judged(2.5, 0)
    naive = statistics.fmean((one - two) ** 2 for one, two in zip(exact, scores, strict=True)) ** 0.5
    assert naive < 0.85 * 2.5 < noise_sd(exact, scores).low


def test_the_noise_of_overall_scores_is_found():
    exact = [score for label in MADE.labels for score in label.exact]
    given = [one["overall_score"] for row in MADE.rows for one in row["completions"]]
    # rounded to half points: 10 means 9.75 or more, and the rounding adds a variance of 1/48
    estimate = noise_sd(exact, given, low=1.25, high=9.75)
    assert estimate.low <= (2.5**2 + 1 / 48) ** 0.5 <= estimate.high


def compared(**errors):
    judge = PairJudge(**errors)
    return [judge.compare(turn, texts[0], texts[1]) for turn, texts in ANSWERED]


@pytest.mark.parametrize(
    ("noise", "position", "length"), [(1.0, 0.0, 0.0), (1.0, 0.7, 0.2), (2.0, -0.5, 0.1), (1.5, 1.0, -0.1)]
)
def test_planted_biases_are_found(noise, position, length):
    hits = {"noise_sd": 0, "position_bias": 0, "length_bias": 0}
    planted = {"noise_sd": noise, "position_bias": position, "length_bias": length}
    for seed in range(SEEDS):
        found = pair_errors(compared(noise_sd=noise, position_bias=position, length_bias=length, seed=seed))
        for name, value in planted.items():
            estimate = getattr(found, name)
            hits[name] += estimate.low <= value <= estimate.high
    assert min(hits.values()) >= LEAST_HITS, hits


def test_an_exact_judge_prefers_the_better_answer_and_draws_equal_ones():
    judge = PairJudge()
    for turn, texts in ANSWERED[:300]:
        one, two = (grade(turn, text).exact for text in texts[:2])
        wanted = 1.5 if one == two else 2.0 if two > one else 1.0
        assert judge.compare(turn, texts[0], texts[1]).preference == wanted


def test_a_position_bias_takes_near_equals_for_the_first():
    judge = PairJudge(position_bias=0.5)
    for turn, texts in ANSWERED[:300]:
        compared = judge.compare(turn, texts[0], texts[1])
        if compared.difference == 0:
            assert compared.preference == 1.0
        assert judge.compare(turn, texts[0], texts[0]) == Comparison(1.0, 0.0, 0)


def test_verdicts_without_error_or_too_few_give_no_estimate():
    exact = [1.0, 5.0, 9.0]
    with pytest.raises(ValueError, match="no noise to measure"):
        noise_sd(exact, exact)
    with pytest.raises(ValueError, match="3 comparisons without draws are too few"):
        pair_errors([Comparison(2.0, 1.0, 1)] * 3)
    with pytest.raises(ValueError, match="all alike or without error"):
        pair_errors([Comparison(2.0, float(place), place % 3) for place in range(30)])
    with pytest.raises(ValueError, match="all alike or without error"):
        pair_errors(compared())


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match=r"noise_sd must not be negative, got -1\.0"):
        PairJudge(noise_sd=-1.0)
