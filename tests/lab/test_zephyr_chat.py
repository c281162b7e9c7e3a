"""Win rates against the fixed writer, a judge with a planted liking for length, and Z13 from annotations."""

import pandas as pd
import pytest

from zephyr_lab.lab import zephyr_chat as chat
from zephyr_lab.world.benchmark import mt_bench, written_answers

ASKED = mt_bench(16)
PADDING = " That is all I can say about it. That is all I can say about it."


def answered(texts, *, seeds: int = 2) -> pd.DataFrame:
    """`texts(model, question)` as the first answers of all models, scored 5 throughout."""
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "model": model,
                "run": run,
                "question_id": question.question_id,
                "category": question.category,
                "turn": turn,
                "text": texts(model, question),
                "score": 5.0 + seed,
            }
            for seed in range(seeds)
            for model in chat.MODELS
            for run in ("near-greedy", "hot")
            for question in ASKED
            for turn in (1, 2)
        ]
    )


def ideal(model, question):
    return question.turns[0].ideal


def test_ideal_answers_never_lose_and_their_length_is_counted_in_characters():
    won = chat.judged(answered(ideal), ASKED, chat.JUDGES["exact judge"])
    assert len(won) == 2 * len(chat.MODELS) * len(ASKED)
    assert won["win"].min() >= 0.5 and won["win"].max() == 1
    written = written_answers(ASKED, noise=chat.MEDIUM, seed=chat.BASELINE_SEED)
    assert won["difference"].iloc[0] == len(ASKED[0].turns[0].ideal) - len(written[0][0])


def test_the_baselines_own_answers_draw_everywhere():
    written = dict(zip(ASKED, written_answers(ASKED, noise=chat.MEDIUM, seed=chat.BASELINE_SEED), strict=True))
    table = chat.retrained(answered(lambda model, question: written[question][0]), ASKED)
    assert set(table.loc[table["metric"] == chat.WIN_RATE, "value"]) == {50.0}


def test_a_liking_for_length_rewards_padding():
    """Right answers, padded or not, by model: the exact judge takes points off, the other one adds some."""

    def texts(model, question):
        return question.turns[0].ideal + (PADDING if model == chat.DDPO else "")

    table = chat.lengths(answered(texts), ASKED).set_index(["row", "metric"])["value"]
    exact, biased = (f"win rate, {name}" for name in chat.JUDGES)
    assert table[chat.DDPO, "characters more"] == pytest.approx(table[chat.DSFT, "characters more"] + len(PADDING))
    assert table[chat.DDPO, exact] < table[chat.DSFT, exact]
    assert table[chat.DDPO, biased] > table[chat.DSFT, biased]


def test_the_planted_bias_is_the_difference_of_the_two_judges():
    def texts(model, question):
        return question.turns[0].core if question.question_id % 2 else question.turns[0].wrong_core + PADDING

    table = chat.planted_bias(answered(texts), ASKED).set_index("row")["value"]
    exact, biased = (table[name] for name in chat.JUDGES)
    assert table["difference"] == pytest.approx(biased - exact)
    assert exact < 0 < table["difference"]  # here the long answers are the wrong ones


def test_every_model_has_a_panel_with_every_category_on_one_scale():
    table = chat.by_category(answered(ideal))
    figure = chat.category_panels(table)
    assert [ax.get_xlabel() for ax in figure.axes] == list(chat.PANELS.values())
    ((low, high),) = {ax.get_xlim() for ax in figure.axes}
    assert low == 1 and high > 10  # the mark of a full score is whole
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(dict.fromkeys(table["metric"]))


def test_the_benchmark_is_the_one_that_was_asked():
    assert len(chat.benchmark("tiny")) == 320


# annotations


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ZEPHYR_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def write_annotations(data, sign: int) -> None:
    """Two models whose longer answers win (sign 1) or lose (sign -1), with some noise; one row was not read."""
    rows = []
    for model in ("a", "b"):
        for number in range(200):
            longer = (number * 7) % 200 - 100
            won = (sign * longer > 0) != (number % 5 == 0)
            rows.append({"generator_1": "base", "generator_2": model, "instruction": f"task {number}"}
                        | {"preference": 2.0 if won else 1.0, "len_1": 200, "len_2": 200 + longer})  # fmt: skip
    rows[0]["preference"] = None
    (data / "alpaca_eval").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(data / "alpaca_eval" / "annotations_v1.parquet")


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_of_the_liking_is_found_and_unread_rows_are_left_out(data, monkeypatch, sign):
    monkeypatch.setattr(chat, "RESAMPLES", 50)
    write_annotations(data, sign)
    (row,) = chat.gpt4_length_effect().to_dict("records")
    assert row["n"] == 399 and row["row"] == "Z13" and row["metric"] == chat.CLAIM
    assert sign * row["low"] > 0 and sign * row["high"] > 0


def test_without_annotations_there_is_no_effect(data):
    assert chat.gpt4_length_effect().empty
