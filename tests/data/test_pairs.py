"""Each way of making pairs, against its words, brute force, and the published figures.

The published repair of overall scores, at its borders.
"""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from data_rows import completion, scored
from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import Row
from zephyr_lab.data import pairs, pairs_statistics, schemas
from zephyr_lab.data.pairs import Binarisation, NoPair, Pair, repaired_score
from zephyr_lab.data.pairs_statistics import pair_statistics
from zephyr_lab.data.schemas import Completion


def outcome(prompt, rejected, *, chosen="overall_score", seed=0):
    (made,) = pairs.binarise([prompt], Binarisation(chosen=chosen, rejected=rejected), seed=seed)
    return made


def places(prompt, rejected, **named):
    made = outcome(prompt, rejected, **named)
    assert isinstance(made, Pair)
    return made.chosen, made.rejected


@pytest.mark.parametrize("rejected", pairs.REJECTED)
def test_chosen_is_the_first_of_the_highest(rejected):
    assert places(scored(3, 9, 9, 1), rejected)[0] == 1


def test_worst_and_second_best_take_the_first_of_equals():
    assert places(scored(5, 2, 9, 2), "worst") == (2, 1)
    assert places(scored(5, 9, 7, 7), "second_best") == (1, 2)
    assert places(scored(9, 5, 9, 1), "second_best") == (0, 2)  # a tie at the top is an equal pair


def test_random_reaches_every_other_completion_equally_often_and_never_the_chosen():
    prompts = [scored(1, 9, 9, 3)] * 3000
    drawn = pairs.binarise(prompts, Binarisation(chosen="overall_score", rejected="random"), seed=1)
    counts = Counter(made.rejected for made in drawn)
    assert set(counts) == {0, 2, 3}
    # 1000 expected, standard deviation sqrt(3000 * 1/3 * 2/3) = 26
    assert all(abs(count - 1000) < 4 * 26 for count in counts.values())


def test_random_is_the_published_draw_with_one_seed_for_all():
    # The repaired release's script in its own words: choice among all, drawn again while it is the chosen one.
    prompts, generator, expected = [scored(1, 9, 4, 3), scored(8, 2, 8, 8), scored(5, 5)] * 5, random.Random(42), []
    for prompt in prompts:
        rated = [(c.overall_score, c.response, c.model) for c in prompt.completions]
        chosen = max(rated, key=lambda one: one[0])
        while (drawn := generator.choice(rated)) == chosen:
            pass
        expected.append((rated.index(chosen), rated.index(drawn)))
    made = pairs.binarise(prompts, Binarisation(chosen="overall_score", rejected="random"), seed=42)
    assert [(one.chosen, one.rejected) for one in made] == expected


def test_random_lower_never_takes_an_equal_score():
    prompt = scored(9, 9, 2, 3)
    assert {places(prompt, "random_lower", seed=seed)[1] for seed in range(50)} == {2, 3}
    made = outcome(scored(4, 4, 4), "random_lower")
    assert isinstance(made, NoPair) and made.column is None and "random_lower" in made.problem


@pytest.mark.parametrize("best, rejected", [(0, 2), (1, 0), (2, 0), (3, 0)])
def test_the_first_release_rejects_place_0_or_2_of_four(best, rejected):
    prompt = scored(*(9 if place == best else 1 for place in range(4)))
    assert {places(prompt, "first_release", seed=seed) for seed in range(20)} == {(best, rejected)}


def test_the_seed_decides_and_the_same_seed_decides_alike():
    prompts = [scored(1, 2, 3, 4)] * 20
    how = Binarisation(chosen="overall_score", rejected="random")
    runs = [[one.rejected for one in pairs.binarise(prompts, how, seed=seed)] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_twins_of_the_chosen_completion_are_no_other():
    twin = schemas.Completion("m", "same", 9.0)
    prompt = schemas.ScoredPrompt("?", (), (twin, twin, schemas.Completion("n", "other", 1.0)), Row(1, {}))
    for rejected in pairs.REJECTED:
        assert places(prompt, rejected) == (0, 2)
    only_twins = schemas.ScoredPrompt("?", (), (twin, twin), Row(1, {}))
    for rejected in pairs.REJECTED:
        assert isinstance(outcome(only_twins, rejected), NoPair)


def test_completions_without_a_score_are_left_out():
    assert places(scored(None, 3, None, 8), "worst") == (3, 1)


@pytest.mark.parametrize(
    "scores, column, problem",
    [
        ((7,), "completions", "holds one completion; a pair takes two"),
        ((7, None, None), "completions[1].overall_score", "1 of 3 completions have a score by overall_score"),
        ((None, None), "completions[0].overall_score", "0 of 2"),
    ],
)
def test_fewer_than_two_scores_make_no_pair_and_say_why(scores, column, problem):
    made = outcome(scored(*scores), "random")
    assert isinstance(made, NoPair)
    assert made.column == column and problem in made.problem


def test_mean_rating_may_choose_another_answer_than_the_overall_score():
    row = {
        "instruction": "?",
        "completions": [completion(9, ratings=["1", "2", "N/A", "3"]), completion(4, ratings=["5", "5", "4", "N/A"])],
    }
    prompt = schemas.scored_prompt(Row(1, row))
    assert places(prompt, "worst") == (0, 1)
    made = outcome(prompt, "worst", chosen="mean_rating")
    assert (made.chosen, made.score_chosen, made.score_rejected) == (1, 14 / 3, 2.0)


@pytest.mark.parametrize("wrong", [{"chosen": "best"}, {"rejected": "wrost"}])
def test_an_unknown_rule_is_refused_with_what_is_allowed(wrong):
    with pytest.raises(ValueError, match=r"no rule .*allowed: (overall_score, mean_rating|random, random_l)"):
        Binarisation(**{"chosen": "overall_score", "rejected": "random", **wrong})


def test_argilla_s_variant_drops_equal_ratings_and_the_others_keep_them():
    equal = [completion(9, ratings=["4"] * 4), completion(4, ratings=["4"] * 4, model="n")]
    prompt = schemas.scored_prompt(Row(1, {"instruction": "?", "completions": equal}))
    made = {name: next(iter(pairs.binarise([prompt], how, seed=42))) for name, how in pairs.PUBLISHED.items()}
    assert {name for name, one in made.items() if isinstance(one, NoPair)} == {"argilla"}


def test_statistics_by_hand():
    prompts = [scored(9, 9, 1), scored(2, 2, 2), scored(1, 8), scored(5)]
    made = pair_statistics(pairs.binarise(prompts, Binarisation(chosen="overall_score", rejected="worst"), seed=0))
    assert (made.prompts, made.pairs, made.ties_at_top, made.all_equal, made.equal_pairs) == (4, 3, 2, 1, 1)
    assert made.mean_chosen == pytest.approx((9 + 2 + 8) / 3)
    assert made.mean_rejected == pytest.approx((1 + 2 + 1) / 3)
    assert made.chosen_positions == [2, 1, 0]
    assert made.rejected_positions == [1, 1, 1]


def test_without_a_pair_the_means_are_none():
    made = pair_statistics(pairs.binarise([scored(5)], Binarisation(chosen="overall_score", rejected="worst"), seed=0))
    assert (made.pairs, made.mean_chosen, made.mean_rejected) == (0, None, None)


# --- scores that are a 10 by mistake, and pairs of one text ----------------------------------------------------------

MISTYPED = completion(10, ratings=["1"] * 4, response="awful", model="a")
DOUBTFUL = completion(10, ratings=["3"] * 4, response="so so", model="b")
GOOD = completion(7, ratings=["4"] * 4, response="good", model="c")
PLAIN = Binarisation(chosen="overall_score", rejected="worst")


def rated(*completions):
    return schemas.scored_prompt(Row(1, {"instruction": "Why?", "completions": list(completions)}))


def made_of(how, *prompts):
    """The outcomes, and their statistics."""
    outcomes = list(pairs.binarise(prompts, how, seed=0))
    return outcomes, pair_statistics(outcomes)


def test_a_ten_beside_the_lowest_ratings_is_a_one():
    (pair,), found = made_of(PLAIN, rated(MISTYPED, GOOD))
    assert (pair.chosen, pair.rejected) == (1, 0)
    assert (pair.score_chosen, pair.score_rejected) == (7.0, 1.0)
    assert (found.tens_meant_as_one, found.doubtful_tens, found.mean_rejected) == (1, 0, 1.0)


def test_raw_scores_are_kept_where_asked_for_and_still_counted():
    (pair,), found = made_of(replace(PLAIN, raw_scores=True), rated(MISTYPED, GOOD))
    assert (pair.chosen, pair.score_chosen, found.tens_meant_as_one) == (0, 10.0, 1)


def test_a_doubtful_ten_stays_and_is_counted():
    (pair,), found = made_of(PLAIN, rated(GOOD, DOUBTFUL))
    assert (pair.chosen, pair.score_chosen) == (1, 10.0)
    assert (found.tens_meant_as_one, found.doubtful_tens) == (0, 1)


def test_ratings_decide_alone_where_they_are_what_is_asked_for():
    _, found = made_of(Binarisation(chosen="mean_rating", rejected="worst"), rated(MISTYPED, GOOD, DOUBTFUL))
    assert (found.tens_meant_as_one, found.doubtful_tens) == (0, 0)


def test_the_first_release_came_before_the_repair_and_the_second_after_it():
    prompt = rated(MISTYPED, GOOD)
    chosen = {name: next(iter(pairs.binarise([prompt], how, seed=0))).chosen for name, how in pairs.PUBLISHED.items()}
    assert chosen == {"first_release": 0, "repaired_release": 1, "paper": 1, "argilla": 1}


def test_pairs_of_one_text_are_counted_and_dropped_where_asked_for():
    twins = rated(completion(8, response="same", model="a"), completion(8, response="same", model="b"))
    others = rated(completion(8, response="one", model="a"), completion(8, response="two", model="b"))
    how = Binarisation(chosen="overall_score", rejected="random")
    outcomes, found = made_of(how, twins, others)
    assert [isinstance(one, Pair) for one in outcomes] == [True, True]
    assert (found.pairs, found.identical_pairs, found.identical_dropped) == (2, 1, 0)
    outcomes, found = made_of(replace(how, drop_identical=True), twins, others)
    assert [isinstance(one, Pair) for one in outcomes] == [False, True]
    assert outcomes[0].column is None and outcomes[0].problem == "both answers are the same text"
    assert (found.prompts, found.pairs, found.identical_pairs, found.identical_dropped) == (2, 1, 0, 1)


def test_dropping_pairs_leaves_the_draws_of_the_others_as_they_are():
    prompts = [rated(*(completion(s, response=f"{s % 3}", model=f"{n}") for n, s in enumerate(row)))
               for row in ([8, 5, 2, 7], [8, 8, 5, 1], [9, 6, 3, 2], [5, 4, 3, 2])]  # fmt: skip
    how = Binarisation(chosen="overall_score", rejected="random")
    kept, dropped = (list(pairs.binarise(prompts, one, seed=3)) for one in (how, replace(how, drop_identical=True)))
    assert any(isinstance(one, NoPair) for one in dropped)
    assert [b for b in dropped if isinstance(b, Pair)] == [a for a in kept if not a.is_identical]


def test_the_published_ratings_of_a_mistaken_ten(released):
    # UltraFeedback's own row, as its README prints it, with the score that the fault would have given it
    known = json.loads(released("ultra/known_rows.json").read_text(encoding="utf-8"))["ultrafeedback_readme_row"]
    row = json.loads(json.dumps(known["row"]))
    row["completions"][0]["overall_score"] = 10
    read = schemas.scored_prompt(Row(1, row)).completions[0]
    assert read.mean_rating == 2.75
    assert pairs.is_doubtful(read) and pairs.as_meant(read) == read
    for aspect in row["completions"][0]["annotations"].values():
        aspect["Rating"] = "1"
    assert pairs.as_meant(schemas.scored_prompt(Row(1, row)).completions[0]).overall_score == 1.0


# --- released completions ------------------------------------------------------------------------------------------

EXPECTED = {
    "alvarobartt_fastchat/completions.jsonl.gz": "alvarobartt_fastchat/expected_completions.json",
    "prometheus_eval/vicuna_four_completions.jsonl.gz": "prometheus_eval/expected.json",
}


@pytest.fixture(params=EXPECTED)
def released_prompts(request, released):
    """Scored prompts of a released file and the figures that are known of it."""
    known = json.loads(released(EXPECTED[request.param]).read_text(encoding="utf-8"))
    return list(schemas.scored_prompts(iter_rows(released(request.param)))), known


def statistics(prompts, rejected, seed=0):
    return pair_statistics(pairs.binarise(prompts, Binarisation(chosen="overall_score", rejected=rejected), seed=seed))


def test_known_figures_of_the_chosen_answers(released_prompts):
    prompts, known = released_prompts
    made = statistics(prompts, "random")
    assert made.prompts == made.pairs == known["prompts"]
    assert made.ties_at_top == known["prompts_with_tie_at_the_top"]
    assert made.all_equal == known["prompts_with_all_scores_equal"]
    assert made.chosen_positions == known["chosen_position_counts"]
    assert round(made.mean_chosen, 6) == known["mean_chosen_score_best_first_in_order"]


def test_known_figures_of_the_first_release(released_prompts):
    prompts, known = released_prompts
    made, known = statistics(prompts, "first_release"), known["h4_first_release_seed_42_in_every_call"]
    assert round(made.mean_rejected, 6) == known["mean_rejected_score"]
    assert made.rejected_positions == known["rejected_position_counts"]
    assert made.equal_pairs == known["pairs_with_equal_scores"]


def test_known_figures_of_the_worst_answers(released_prompts):
    prompts, known = released_prompts
    assert round(statistics(prompts, "worst").mean_rejected, 6) == known["worst_of_rest_mean_rejected_score"]


def test_random_rejects_have_the_known_expectation(released_prompts):
    prompts, known = released_prompts
    runs = [statistics(prompts, "random", seed) for seed in range(50)]
    mean = sum(run.mean_rejected for run in runs) / len(runs)
    equal = sum(run.equal_pairs for run in runs) / len(runs) / known["prompts"]
    # four standard errors of a mean over 50 seeds; one run's deviation is below 0.2 and 0.08 on both files
    assert mean == pytest.approx(known["expected_mean_rejected_score_uniform_over_the_rest"], abs=4 * 0.2 / 50**0.5)
    assert equal == pytest.approx(known["expected_share_of_pairs_with_equal_scores_uniform"], abs=4 * 0.08 / 50**0.5)


# --- written and read again ----------------------------------------------------------------------------------------


def test_a_pair_has_h4_s_columns():
    made = outcome(scored(9, 1, instruction="Why?"), "worst")
    assert pairs.pair_row(made) == {
        "prompt": "Why?",
        "prompt_id": schemas.prompt_id("Why?"),
        "chosen": [{"content": "Why?", "role": "user"}, {"content": "answer 0", "role": "assistant"}],
        "rejected": [{"content": "Why?", "role": "user"}, {"content": "answer 1", "role": "assistant"}],
        "messages": [{"content": "Why?", "role": "user"}, {"content": "answer 0", "role": "assistant"}],
        "score_chosen": 9,
        "score_rejected": 1,
    }


@pytest.mark.parametrize("rejected", pairs.REJECTED)
def test_pairs_read_again_are_the_same_pairs(rejected):
    prompts = [scored(1, 9, 4, 3), scored(8, 2, 8, 8), scored(5, 6)]
    how = Binarisation(chosen="overall_score", rejected="random")
    rows = [pairs.pair_row(made) for made in pairs.binarise(prompts, how, seed=0)]
    again = [schemas.scored_prompt(Row(1, row)) for row in rows]
    how = Binarisation(chosen="overall_score", rejected=rejected)
    made = [one for one in pairs.binarise(again, how, seed=0) if isinstance(one, Pair)]
    equal = [row for row in rows if row["score_chosen"] == row["score_rejected"]]
    expected = [row for row in rows if row not in equal] if rejected == "random_lower" else rows
    assert [pairs.pair_row(one) for one in made] == expected


# --- splits --------------------------------------------------------------------------------------------------------


def test_the_split_is_the_one_of_datasets():
    from datasets import Dataset

    theirs = Dataset.from_dict({"place": list(range(500))}).train_test_split(test_size=40, seed=42)
    ours = pairs_statistics.split_pairs(500, test=40, seed=42)
    assert list(ours.train_prefs) == theirs["train"]["place"][:]
    assert list(ours.test_prefs) == theirs["test"]["place"][:]


def test_the_published_splits_have_their_published_sizes():
    # cards of both releases: 61,966 and 2,000; 61,135 and 2,000; half of the test for sft and gen
    for count, train in ((63_966, 61_966), (63_135, 61_135)):
        split = pairs_statistics.split_pairs(count)
        assert [len(rows) for rows in (split.train_prefs, split.test_prefs, split.test_sft)] == [train, 2000, 1000]
        assert not set(split.train_prefs) & set(split.test_prefs)
        assert set(split.test_sft) <= set(split.test_prefs)


@pytest.mark.parametrize("test", [0, -1, 10, 11])
def test_a_split_that_leaves_nothing_is_refused(test):
    with pytest.raises(ValueError, match="test must be from 1 to 9 of 10 pairs"):
        pairs_statistics.split_pairs(10, test=test)


@pytest.mark.parametrize(
    "score, ratings, repaired",
    [
        (10.0, (2.0, 2.0, 2.0, 2.0), 1.0),
        (10.0, (2.0, 2.0, 2.0, 3.0), None),
        (10.0, (4.0, 4.0, None, 4.0), None),
        (10.0, (4.0, 4.0, 4.0, 5.0), 10.0),
        (10.0, (), 10.0),
        (9.5, (1.0, 1.0, 1.0, 1.0), 9.5),
        (None, (1.0, 1.0, 1.0, 1.0), None),
    ],
)
def test_only_a_doubtful_ten_is_touched(score, ratings, repaired):
    assert repaired_score(Completion("m", "text", score, ratings)) == repaired
