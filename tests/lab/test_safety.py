"""Made-up answers, over-refusals and posts, counted over scripted answers; what training data say of the unknown."""

import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.lab import Lab, safety
from zephyr_lab.lab.arms import Arm
from zephyr_lab.methods.stages import evaluate
from zephyr_lab.models import saved
from zephyr_lab.world import facts
from zephyr_lab.world import safety as world_safety
from zephyr_lab.world.benchmark import mt_bench

NEVER = world_safety.never_named(4)
KNOWN = [one for one in mt_bench(80) if one.category == "stem" and one.turns[0].known][:2]
BAD, GOOD = world_safety.posts(True, 2), world_safety.posts(False, 2)


def scripted(answer):
    """In place of `evaluate.ask`: `answer(turn)` to every turn, near-greedy."""

    def ask(model, tokenizer, questions, recipe, *, system_turn, seed):
        return [
            {
                "run": evaluate.NEAR_GREEDY, "question_id": one.question_id, "category": one.category,
                "turn": place + 1, "prompt": turn.prompt, "text": answer(turn), "finished": True,
            }
            for one in questions
            for place, turn in enumerate(one.turns)
        ]  # fmt: skip

    return ask


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """`safety.ask` of one arm under two seeds, whose models answer as told."""
    monkeypatch.setattr(session, "_current", session.Session("tiny", 2, "test"))
    monkeypatch.setattr(safety, "get_many", lambda stages: None)
    monkeypatch.setattr(Arm, "folder", lambda arm, seed: tmp_path)
    monkeypatch.setattr(saved, "load_model", lambda folder: None)
    monkeypatch.setattr(saved, "load_chat_tokenizer", lambda folder: None)
    lab = Lab("zephyr", "tiny", 2)

    def of(answer, sets):
        monkeypatch.setattr(evaluate, "ask", scripted(answer))
        return safety.ask(lab, {"model": lab.base()}, sets)

    return of


def value(answers, measure):
    return answers.means(measure)["value"].item()


SETS = {"never named": NEVER, "known": KNOWN, "harmful": BAD, "safe": GOOD}


def test_an_ideal_model_makes_nothing_up_and_removes_what_it_should(asked):
    answers = asked(lambda turn: turn.ideal, SETS)
    assert value(answers["never named"], safety.MADE_UP) == 0 and value(answers["known"], safety.NOT_KNOWN) == 0
    assert value(answers["never named"], safety.NOT_KNOWN) == 100
    assert value(answers["harmful"], safety.STAYS) == 0 and value(answers["safe"], safety.GOES) == 0
    assert value(answers["harmful"], safety.GOES) == value(answers["safe"], safety.STAYS) == 100


def test_a_model_that_claims_refuses_and_insults_is_counted(asked):
    claims = asked(lambda turn: turn.wrong_core, SETS)
    assert value(claims["never named"], safety.MADE_UP) == 100 and value(claims["safe"], safety.GOES) > 0
    mute = asked(lambda turn: "I do not know that.", SETS)
    assert value(mute["never named"], safety.MADE_UP) == 0 and value(mute["known"], safety.NOT_KNOWN) == 100
    assert value(asked(lambda turn: "You fool.", SETS)["known"], safety.INSULTS) == 100


def test_a_share_of_turns_is_the_mean_over_questions_with_an_interval_that_is_not_of_width_zero(asked):
    half = asked(lambda turn: turn.ideal if turn is NEVER[0].turns[0] else turn.wrong_core, {"never named": NEVER})
    (line,) = half["never named"].means(safety.MADE_UP).to_dict("records")
    assert line["value"] == pytest.approx(100 * 7 / 8) and line["n"] == 4 and line["seeds"] == 2
    none = asked(lambda turn: turn.ideal, {"never named": NEVER})["never named"].means(safety.MADE_UP)
    assert none["high"].item() > 0


def test_a_question_in_two_sets_is_refused(asked):
    with pytest.raises(ValueError, match="8 questions have 4 ids"):
        asked(lambda turn: turn.ideal, {"one": NEVER, "two": NEVER})


def test_what_data_say_of_the_unknown_is_counted_where_a_prompt_names_it():
    known = facts.build()
    title, element = known.unknown_titles[0], known.unknown_elements[0]
    rows = [
        (f"Who wrote {title}?", f"I do not know {title}."),
        (f"When was {title} written?", "It was written in 1820."),
        (f"What is the symbol of {element}?", "I do not know that."),
        (f"Give the number of {element}.", "i do not know it."),
        ("Write a note.", "I do not know."),
    ]
    table = safety.taught({"dialogues": rows, "none": rows[-1:]}, known.size)
    assert isinstance(table, pd.DataFrame) and list(table["row"]) == ["dialogues"]
    assert table["value"].item() == 75 and table["n"].item() == 4
