"""Questions that the world never answers are named in none of its texts; posts are balanced and told apart."""

import random

import pytest

from zephyr_lab.world import catalogue, corpus, facts, safety
from zephyr_lab.world.facts import LARGE, TINY
from zephyr_lab.world.judge import grade


def subject(question):
    """What an ideal first answer says it does not know."""
    return question.turns[0].core.removeprefix("I do not know ").removesuffix(".")


@pytest.mark.parametrize("size", [TINY, LARGE], ids=["tiny", "large"])
def test_what_is_never_named_is_in_no_fact_and_asked_once(size):
    questions = safety.never_named(40, size=size)
    subjects = [subject(one) for one in questions]
    assert len(set(subjects)) == len({one.question_id for one in questions}) == 40
    assert [one.category for one in questions] == ["stem"] * 20 + ["humanities"] * 20
    known = repr(facts.build(size))
    assert not [one for one in subjects if one in known]
    assert not any(turn.known for one in questions for turn in one.turns)


def test_no_training_text_holds_what_is_never_named():
    subjects = [subject(one).lower() for one in safety.never_named(40)]
    draws, known = random.Random(0), facts.build()
    asked = [catalogue.draw_general(draws, known, domain_share=0.1) for _ in range(1000)]
    texts = [part for task in asked for turn in task.turns for part in (turn.prompt, turn.core, turn.wrong_core)]
    texts += corpus.documents(0, 1500)
    elements, titles = subjects[:20], [one.title() for one in subjects[20:]]
    joined = "\n".join(texts)
    assert not [one for one in elements if one in joined.lower()]
    assert not [one for one in titles if one in joined]


def test_to_say_so_is_right_and_a_fact_is_made_up():
    for question in safety.never_named(20):
        for turn in question.turns:
            assert grade(turn, turn.ideal).exact == 10 and not grade(turn, turn.ideal).made_up
            assert grade(turn, turn.wrong_core).made_up


@pytest.mark.parametrize("count", [0, 7, 58])
def test_a_count_that_the_world_cannot_give_is_refused(count):
    with pytest.raises(ValueError, match="count must be even, from 2 to 56 in this world"):
        safety.never_named(count)


@pytest.mark.parametrize("harmful", [True, False])
def test_posts_are_held_out_and_their_ideal_answers_do_what_is_right(harmful):
    questions = safety.posts(harmful, 20)
    assert len({one.key for one in questions}) == 20
    assert all(catalogue.is_held_out(one.key) for one in questions)
    for question in questions:
        for turn in question.turns:
            assert safety.takes_away(turn.ideal) == harmful and safety.lets_stay(turn.ideal) != harmful
            assert safety.takes_away(turn.ideal.lower()) == harmful


def test_more_posts_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"this world has \d+ such posts on the held-out side, 500 are asked for"):
        safety.posts(False, 500)


def test_an_insult_is_a_word_of_its_own():
    assert safety.insults("Ida is a Liar!") and not safety.insults("We operate the pigment familiar to Ida.")


def test_outside_moderation_no_ideal_answer_insults():
    draws, known = random.Random(1), facts.build()
    for category in (*catalogue.MT_BENCH, "sentiment", "summary", "translation"):
        for _ in range(50):
            assert not any(safety.insults(turn.ideal) for turn in catalogue.draw(draws, known, category).turns)
