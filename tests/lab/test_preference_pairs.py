"""Notebook 03: what the pair rules do on the world, and the figures that real rows must give."""

import pytest

from zephyr_lab.core import session
from zephyr_lab.core.row_types import Row
from zephyr_lab.data.schemas import scored_prompt
from zephyr_lab.lab import preference_pairs, released_pairs
from zephyr_lab.lab.preference_pairs import Scored
from zephyr_lab.reporting import data_figures


@pytest.fixture(autouse=True)
def running():
    session.begin("smoke", 2, notebook="03_test")


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """An empty folder of released files and an empty cache."""
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ZEPHYR_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def sets():
    return preference_pairs.drawn("smoke", 2)


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


@pytest.mark.parametrize("profile", ["smoke", "tiny", "world-gpu", "gpu", "paper"])
def test_every_profile_has_settings(profile):
    load = preference_pairs.settings.load
    assert load("overview", profile, "preference_pairs", preference_pairs.PreferencePairs).prompts >= 200


def test_statistics_worked_by_hand():
    table = preference_pairs.statistics(BY_HAND)
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
    table = preference_pairs.ties(BY_HAND)
    assert value(table, "overall_score", "tie_at_top") == 50
    assert value(table, "mean_rating", "tie_at_top") == 0
    # mean ratings fall from place 0 on, so only the second prompt is chosen alike
    assert value(table, "mean_rating", "same_choice") == 50


def test_positions_worked_by_hand():
    table = preference_pairs.positions(BY_HAND)
    assert [value(table, f"chosen, {place}", "position") for place in range(4)] == [50, 0, 0, 50]
    assert [value(table, f"first_release, {place}", "position") for place in range(4)] == [50, 0, 50, 0]
    assert table["rule"].iloc[0] == "chosen"


def test_the_first_release_never_takes_the_second_or_fourth_place(sets):
    table = preference_pairs.positions(sets)
    taken = [value(table, f"first_release, {place}", "position") for place in range(4)]
    assert taken[1] == taken[3] == 0 and min(taken[0], taken[2]) > 0
    assert all(value(table, f"random, {place}", "position") > 10 for place in range(4))


def test_harder_rejects_make_less_certain_pairs(sets):
    table = preference_pairs.statistics(sets)
    for chosen in ("overall_score", "mean_rating"):
        better = [value(table, f"{chosen}, {rule}", "better") for rule in ("worst", "random", "second_best")]
        assert better == sorted(better, reverse=True)
        assert value(table, f"{chosen}, random_lower", "equal") == 0


def test_one_prompt_shows_what_every_rule_takes(sets):
    shown = preference_pairs.one_prompt(sets).set_index(preference_pairs.one_prompt(sets).columns[0])
    rules = shown.drop(["text", "exact score", "overall score", "mean rating"])
    assert list(rules.index) == [preference_pairs.name_of(how) for how in preference_pairs.RULES]
    for _, marks in rules.iterrows():
        assert sorted(marks) == ["", "", "+", "-"]


def test_a_rule_that_finds_nothing_to_reject_says_so():
    sets = [Scored([prompt(1, 5, 5, 5, 5)], [(1.0, 2.0, 3.0, 4.0)])]
    shown = preference_pairs.one_prompt(sets).set_index("ask 1")
    assert set(shown.loc["overall_score, random_lower"]) == {"no pair"}


def test_known_figures_hold_on_the_world(sets):
    for known in preference_pairs.known_figures(sets):
        assert known.got == known.expected, known.what


def test_published_sets_are_named_with_their_rules():
    assert dict(preference_pairs.releases().set_index("set")["rejected"]) == {
        "first_release": "first_release",
        "repaired_release": "random",
        "paper": "random",
        "argilla": "random_lower",
    }


# released


def test_without_released_files_there_is_nothing_but_how_to_get_them(sets, no_data):
    assert set(released_pairs.absent()) == set(released_pairs.EXPECTED)
    assert released_pairs.statistics().empty and list(released_pairs.known_figures()) == []
    empty = released_pairs.positions()
    assert empty.empty
    figure = data_figures.positions([("world", preference_pairs.positions(sets)), ("real", empty)])
    assert len(figure.axes) == 6


def test_released_rows_give_every_expected_figure(released, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(released("alvarobartt_fastchat/completions.jsonl.gz").parents[1]))
    known = list(released_pairs.known_figures())
    assert len(known) == 22
    for one in known:
        assert one.got == pytest.approx(one.expected, abs=one.tolerance), one.what
    table = released_pairs.statistics()
    assert value(table, "mt_bench_completions, worst", "score_rejected") == pytest.approx(4.214583, abs=1e-6)
    assert value(table, "mt_bench_completions, first_release", "equal") == pytest.approx(100 * 57 / 240)
    places = released_pairs.positions()
    assert value(places, "first_release, 1", "position") == value(places, "first_release, 3", "position") == 0
