"""What is counted of pairs by several rules: worked by hand, and what must hold on the world."""

import pytest

from zephyr_lab.core import session
from zephyr_lab.core.rows import Row
from zephyr_lab.data.pairs import REJECTED, SCORES, Binarisation
from zephyr_lab.data.schemas import scored_prompt
from zephyr_lab.lab.overview import pair_counts
from zephyr_lab.lab.overview.pair_counts import Scored
from zephyr_lab.world.completions import completions


@pytest.fixture(autouse=True)
def running():
    session.begin("smoke", 2, notebook="03_test")


@pytest.fixture(scope="module")
def sets():
    return pair_counts.read([completions(seed, 200) for seed in range(2)])


def prompt(number, *scores):
    """Four answers of one, two, three and four words with these overall scores."""
    completions = [
        {"model": f"m{place}", "response": "word " * (place + 1), "overall_score": score}
        | {"annotations": {"honesty": {"Rating": str(5 - place)}}}
        for place, score in enumerate(scores)
    ]
    return scored_prompt(Row(number, {"instruction": f"ask {number}", "completions": completions}))


# exact scores 1 to 4 by place; overall scores choose place 3, then 0 (a tie with 1)
BY_HAND = [Scored([prompt(1, 2, 4, 6, 8), prompt(2, 9, 9, 5, 5)], [(1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0)])]


def value(table, row, metric):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    assert len(found) == 1
    return found["value"].iloc[0]


RULES = {
    f"{chosen}, {rejected}": Binarisation(chosen=chosen, rejected=rejected, raw_scores=True)
    for chosen in SCORES
    for rejected in REJECTED
}
BY_OVERALL = {rule.rejected: rule for rule in RULES.values() if rule.chosen == "overall_score"}


def test_statistics_worked_by_hand():
    table = pair_counts.statistics(BY_HAND, RULES)
    worst = "overall_score, worst"  # pairs (3, 0) and (0, 2)
    assert value(table, worst, "exact_chosen") == (4 + 1) / 2
    assert value(table, worst, "exact_rejected") == (1 + 3) / 2
    assert value(table, worst, "better") == 50
    assert value(table, worst, "longer") == ((4 - 1) + (1 - 3)) / 2
    second = "overall_score, second_best"  # pairs (3, 2) and (0, 1), the second with equal scores
    assert value(table, second, "equal") == 50
    assert value(table, second, "exact_rejected") == (3 + 2) / 2
    first = "overall_score, first_release"  # pairs (3, 0) and (0, 2)
    assert value(table, first, "exact_rejected") == (1 + 3) / 2


def test_ties_and_differing_choices_worked_by_hand():
    table = pair_counts.ties(BY_HAND)
    assert value(table, "overall_score", "tie_at_top") == 50
    assert value(table, "mean_rating", "tie_at_top") == 0
    # mean ratings fall from place 0 on, so only the second prompt is chosen alike
    assert value(table, "mean_rating", "same_choice") == 50


def test_positions_worked_by_hand():
    table = pair_counts.positions(BY_HAND, BY_OVERALL)
    assert [value(table, f"chosen, {place}", "position") for place in range(4)] == [50, 0, 0, 50]
    assert [value(table, f"first_release, {place}", "position") for place in range(4)] == [50, 0, 50, 0]
    assert table["rule"].iloc[0] == "chosen"


def test_the_first_release_never_takes_the_second_or_fourth_place(sets):
    table = pair_counts.positions(sets, BY_OVERALL)
    taken = [value(table, f"first_release, {place}", "position") for place in range(4)]
    assert taken[1] == taken[3] == 0 and min(taken[0], taken[2]) > 0
    assert all(value(table, f"random, {place}", "position") > 10 for place in range(4))


def test_harder_rejects_make_less_certain_pairs(sets):
    table = pair_counts.statistics(sets, RULES)
    for chosen in ("overall_score", "mean_rating"):
        better = [value(table, f"{chosen}, {rule}", "better") for rule in ("worst", "random", "second_best")]
        assert better == sorted(better, reverse=True)
        assert value(table, f"{chosen}, random_lower", "equal") == 0


def test_one_prompt_shows_what_every_rule_takes(sets):
    place = pair_counts.most_divided(sets[0], RULES)
    shown = pair_counts.one_prompt(sets[0], place, RULES)
    rules = shown.set_index(shown.columns[0]).drop(["text", "exact score", "overall score", "mean rating"])
    assert list(rules.index) == list(RULES)
    for _, marks in rules.iterrows():
        assert sorted(marks) == ["", "", "+", "-"]
    assert len({tuple(marks) for _, marks in rules.iterrows()}) > 2


def test_a_rule_that_finds_nothing_to_reject_says_so():
    shown = pair_counts.one_prompt(Scored([prompt(1, 5, 5, 5, 5)], [(1.0, 2.0, 3.0, 4.0)]), 0, RULES).set_index("ask 1")
    assert set(shown.loc["overall_score, random_lower"]) == {"no pair"}


def lowest(completions, chosen):
    others = [place for place in range(len(completions)) if place != chosen]
    return min(others, key=lambda place: completions[place].overall_score)


def test_a_rule_of_one_s_own_is_counted_as_the_named_rule_that_it_is(sets):
    table = pair_counts.statistics(sets, {"worst": BY_OVERALL["worst"], "own": lowest})
    named, own = (table[table["row"] == row].drop(columns="row").reset_index(drop=True) for row in ("worst", "own"))
    assert named.equals(own)
    with pytest.raises(ValueError, match=r"itself gave 3 for prompt 1; allowed: another place than that of the chosen"):

        def itself(completions, chosen):
            return chosen

        pair_counts.statistics(BY_HAND, {"own": itself})


def test_known_figures_hold_on_the_world(sets):
    for known in pair_counts.known_figures(sets):
        assert known.got == known.expected, known.what


def test_published_sets_are_named_with_their_rules():
    assert dict(pair_counts.releases().set_index("set")["rejected"]) == {
        "first_release": "first_release",
        "repaired_release": "random",
        "paper": "random",
        "argilla": "random_lower",
    }
