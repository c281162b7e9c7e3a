"""Win rates against a writer, and judges with and without a planted liking for length."""

import pandas as pd
import pytest

from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.zephyr import pair_judging
from zephyr_lab.world.answers import MEDIUM
from zephyr_lab.world.benchmark import mt_bench, written_answers
from zephyr_lab.world.judge import PairJudge

ASKED = mt_bench(16)
WRITTEN = written_answers(ASKED, noise=MEDIUM, seed=0)
PADDING = " That is all I can say about it. That is all I can say about it."
EXACT, BIASED = "exact", "likes length"
JUDGES = {EXACT: PairJudge(), BIASED: PairJudge(length_bias=0.2)}
ARMS = ("plain", "padded")


def answered(texts) -> Answers:
    """`texts(arm, question)` as the answers of both arms under two seeds, to both turns and in both runs."""
    return Answers(
        pd.DataFrame(
            [
                {"seed": seed, "model": arm, "run": run, "question_id": question.question_id, "turn": turn}
                | {"text": texts(arm, question)}
                for seed in range(2)
                for arm in ARMS
                for run in ("near-greedy", "hot")
                for question in ASKED
                for turn in (1, 2)
            ]
        )
    )


def by_judge(texts):
    return {name: pair_judging.judged(answered(texts), ASKED, WRITTEN, judge) for name, judge in JUDGES.items()}


def test_ideal_answers_never_lose_and_their_length_is_counted_in_characters():
    won = by_judge(lambda arm, question: question.turns[0].ideal)[EXACT]
    assert len(won) == 2 * len(ARMS) * len(ASKED)  # first turns, near-greedy
    assert won["win"].min() >= 0.5 and won["win"].max() == 1
    assert won["difference"].iloc[0] == len(ASKED[0].turns[0].ideal) - len(WRITTEN[0][0])


def test_the_writer_s_own_answers_draw_everywhere():
    written = dict(zip(ASKED, WRITTEN, strict=True))
    won = by_judge(lambda arm, question: written[question][0])[EXACT]
    assert set(pair_judging.win_rates(won)["value"]) == {50.0}
    assert pair_judging.win_rates(won, ["padded"], metric="m")[["row", "metric"]].to_numpy().tolist() == [
        ["padded", "m"]
    ]


def test_a_liking_for_length_rewards_padding():
    """Right answers, padded or not: the exact judge takes points off, the other one adds some."""
    won = by_judge(lambda arm, question: question.turns[0].ideal + (PADDING if arm == "padded" else ""))
    table = pair_judging.at_equal_lengths(won, ARMS).set_index(["row", "metric"])["value"]
    more = table["padded", "characters more"] - table["plain", "characters more"]
    assert more == pytest.approx(len(PADDING))
    assert table["padded", f"win rate, {EXACT}"] < table["plain", f"win rate, {EXACT}"]
    assert table["padded", f"win rate, {BIASED}"] > table["plain", f"win rate, {BIASED}"]
    turn = ASKED[0].turns[0]
    said = pair_judging.verdicts(JUDGES, turn, turn.ideal, turn.ideal + PADDING).set_index("judge")["wins"]
    assert said.to_dict() == {EXACT: "the first", BIASED: "the second"}


def test_the_planted_bias_is_the_difference_of_the_two_judges():
    def texts(arm, question):
        return question.turns[0].core if question.question_id % 2 else question.turns[0].wrong_core + PADDING

    table = pair_judging.length_slopes(by_judge(texts), ARMS).set_index("row")["value"]
    assert table["difference"] == pytest.approx(table[BIASED] - table[EXACT])
    assert table[EXACT] < 0 < table["difference"]  # here the long answers are the wrong ones
