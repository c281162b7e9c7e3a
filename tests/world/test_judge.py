"""Two objectives on the same verdicts."""

import pytest

from zephyr_lab.world import benchmark
from zephyr_lab.world.judge import WORD_PRICE, RubricJudge, grade, score, value
from zephyr_lab.world.task import Check, Turn, normalise

TURN = Turn(
    prompt="Read: Ida, a nurse, lives in Rome. Give name and city.",
    core="The name is Ida and the city is Rome.",
    wrong_core="The name is Ida and the city is Oslo.",
    checks=(Check(("name is Ida",), 0.5), Check(("city is Rome",), 0.5)),
    explanation="The text names Ida of Rome.",
    wrong_explanation="The text names Tom of Oslo.",
    key="names Ida of Rome",
    group="two fields",
)
CORE, WHY = TURN.core, TURN.explanation


@pytest.mark.parametrize(
    ("answer", "exact"),
    [
        # 1 + 4 core + 2 explanation + complete + capital + no preface - cost
        (f"{CORE} {WHY}", 1 + 4 + 2 + 3),
        (CORE, 1 + 4 + 0 + 3),
        (f"The name is Ida and the city is Oslo. {WHY}", 1 + 2 + 2 + 3),
        (CORE.rstrip("."), 1 + 4 + 0 + 2),
        (CORE.lower(), 1 + 4 + 0 + 2),
        (f"{CORE} {WHY[0].lower() + WHY[1:]}", 1 + 4 + 2 + 2),
        (f"I do not have emotions. {CORE} {WHY}", 1 + 4 + 2 + 2),
        (f"i cannot take sides. {CORE.lower()}", 1 + 4 + 0 + 1),
        # seven words beyond core and explanation, three are free: one point
        (f"{CORE} {WHY} I hope this answer helps you today.", 1 + 4 + 2 + 3 - 1),
        # fifteen words beyond: two points, and never more
        (f"{CORE} {WHY} I hope this answer helps you today. Please ask me if you need more help.", 10 - 2),
        (f"{CORE} {WHY} {'Well now. ' * 12}".strip(), 10 - 2),
        # more than forty words are not complete
        (f"{CORE} {WHY} {'Well now. ' * 20}".strip(), 10 - 2 - 1),
        # a false explanation costs its words (six beyond, three free)
        (f"{CORE} The text names Tom of Oslo.", 1 + 4 + 0 + 3 - 1),
        # nothing right: three at most
        ("The job is nurse.", 3),
        ("the job is nurse", 1 + 0 + 0 + 1),
        ("", 1),
        (" ... ", 1 + 1),
    ],
)
def test_the_rubric_worked_by_hand(answer, exact):
    verdict = grade(TURN, answer)
    assert verdict.exact == verdict.score == exact


def test_an_answer_cut_off_at_the_length_limit_is_not_complete():
    assert grade(TURN, TURN.ideal, ended=False).exact == 9


def test_flags_tell_refusals_and_inventions_and_false_reasons():
    unknown = Turn(
        "",
        "I do not know zoloum.",
        "",
        (Check(("not know",)),),
        "It is not in my books.",
        "",
        "not in my",
        "",
        known=False,
    )
    assert grade(unknown, unknown.ideal).refused and not grade(unknown, unknown.ideal).made_up
    assert grade(unknown, "Zoloum is a gas.").made_up
    assert not grade(unknown, "").made_up
    assert grade(TURN, "I do not know that.").refused
    assert grade(TURN, f"{CORE} The text names Tom of Oslo.").misled
    # neither padding nor half a sentence is a false reason
    assert not grade(TURN, f"I cannot take sides. {CORE} I hope this answer helps you today.").misled
    assert not grade(TURN, f"{CORE} The text names").misled


def test_numbers_are_compared_whole():
    turn = Turn("", "The answer is 12.", "", (Check(("is 12",)),), "", "", "7 + 5 = 12", "")
    assert grade(turn, "The answer is 12.").core == 1
    assert grade(turn, "The answer is 120.").core == 0
    assert grade(turn, "The answer is 1 2.").core == 0


def test_normalising_keeps_words_and_operators():
    assert normalise("Use def f(x): return x + 3.") == " use def f x return x + 3 "
    assert normalise("Color=red; material=wood.") == " color = red material = wood "
    assert normalise("Ünïcode 日本 _ ok") == " ünïcode 日本 ok "


def test_scores_come_for_each_turn_and_lengths_must_match():
    question = benchmark.mt_bench(8)[0]
    assert [one.exact for one in score(question.turns, [turn.ideal for turn in question.turns])] == [10, 10]
    with pytest.raises(ValueError, match="2 turns, 1 answers and 1 end marks do not match"):
        score(question.turns, ["Yes."])


def test_a_noisy_judge_keeps_the_exact_score_beside_its_own():
    question = benchmark.mt_bench(80)[3]
    answers = [turn.core for turn in question.turns]
    noisy = RubricJudge(noise_sd=1.0, seed=1).score(question.turns, answers)
    assert [one.exact for one in noisy] == [one.exact for one in score(question.turns, answers)]
    assert all(one.score != one.exact and 1 <= one.score <= 10 for one in noisy)


def test_a_noisy_judge_says_the_same_in_any_order_and_something_else_with_another_seed():
    questions = benchmark.mt_bench(80)

    def scores(order, seed):
        judge = RubricJudge(noise_sd=1.0, seed=seed)
        told = {one.key: judge.score(one.turns, [turn.core for turn in one.turns]) for one in order}
        return {key: [verdict.score for verdict in verdicts] for key, verdicts in told.items()}

    assert scores(questions, 0) == scores(questions[::-1], 0) != scores(questions, 1)


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match="noise_sd must not be negative, got -1"):
        RubricJudge(noise_sd=-1.0)


def test_ten_megabytes_without_a_full_stop_are_graded_in_time():
    assert grade(TURN, "word " * 2_000_000).cost == 2


SUM = Turn(
    prompt="What is 7 plus 5?", core="The answer is 12.", wrong_core="The answer is 13.", checks=(Check(("12",)),),
    explanation="We have 7 + 5 = 12.", wrong_explanation="We have 7 + 5 = 13.", key="7 + 5 = 12", group="plus",
)  # fmt: skip


def test_quality_is_the_exact_score():
    verdict = grade(SUM, "The answer is 12. We have 7 + 5 = 12.")
    assert value(verdict, "quality") == verdict.exact == 10.0


def test_brief_takes_its_price_for_every_word():
    verdict = grade(SUM, "The answer is 12.")
    assert value(verdict, "brief") == verdict.exact - 4 * WORD_PRICE


def test_the_two_disagree_about_an_explanation():
    short, long = grade(SUM, "The answer is 12."), grade(SUM, "The answer is 12. We have 7 + 5 = 12.")
    assert value(long, "quality") > value(short, "quality")
    assert value(long, "brief") < value(short, "brief")


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="one of quality, brief, got 'kind'"):
        value(grade(SUM, "12"), "kind")
