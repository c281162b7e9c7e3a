"""Zephyr's Table 1 from released judgements: the right models, both conventions, and what is said of absent files."""

import json
import re
from functools import cache

import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.lab.zephyr import chat_benchmarks
from zephyr_lab.reporting import figures, published, tables

QUESTIONS = range(81, 161)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty folder of released files, an empty cache, and a build folder of its own."""
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ZEPHYR_LAB_CACHE", str(tmp_path / "cache"))
    session.begin("tiny", 3, notebook="13_test")
    return tmp_path / "data"


@pytest.fixture
def ours(released, monkeypatch):
    """The scores of the released files at hand, computed once."""
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(released("measurement_db/mt_bench_scores.csv").parents[1]))
    return scores_at_hand()


@cache
def scores_at_hand():
    return chat_benchmarks.scores()


def write_scores(data) -> None:
    """MPT-7B: 6 in turn 1, 4 in turn 2, one cell of turn 2 unparsed and so left out; GPT-4: 9 everywhere."""
    cells = [
        {"model": model, "question_id": question, "turn": turn, "category": "any", "score": score}
        for model, marks in (("mpt-7b-chat", (6, 4)), ("gpt-4", (9, 9)))
        for question in QUESTIONS
        for turn, score in enumerate(marks, start=1)
        if (model, question, turn) != ("mpt-7b-chat", 121, 2)
    ]
    (data / "measurement_db").mkdir(parents=True)
    pd.DataFrame(cells).to_csv(data / "measurement_db" / "mt_bench_scores.csv", index=False)


def write_annotations(data, lost: int = 1) -> None:
    """zephyr-7b-beta: three wins, one loss, answers of 100, 200, 300 and 400 characters against 50."""
    rows = [
        {"generator_1": "text_davinci_003", "generator_2": "zephyr-7b-beta", "instruction": f"task {number}"}
        | {"preference": 1.0 if number == lost else 2.0, "len_1": 50, "len_2": 100 * (number + 1)}
        for number in range(4)
    ]
    (data / "alpaca_eval").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(data / "alpaca_eval" / "annotations_v1.parquet")


def value(table, row, metric, kind="recomputed"):
    found = table[(table["row"] == row) & (table["metric"] == metric) & (table["kind"] == kind)]
    assert len(found) == 1
    return found["value"].iloc[0]


# which model answers which row


def test_a_printed_row_is_answered_by_a_model_of_the_same_size():
    printed = published.wide("zephyr", "tab1").set_index("model")["size"].to_dict()
    for models in (chat_benchmarks.MT_BENCH_MODELS, chat_benchmarks.ALPACA_EVAL_MODELS):
        for row, model in models.items():
            if isinstance(printed[row], str):  # the proprietary models are printed without a size
                assert re.search(r"(\d+)b\b", model.lower())[1] + "B" == printed[row], (row, model)


def test_every_printed_row_has_its_sources_told():
    told = chat_benchmarks.sources().set_index("row of Table 1")
    assert list(told.index) == list(dict.fromkeys(published.table("zephyr", "tab1")["row"]))
    assert told.loc["Zephyr", "AlpacaEval 1"] == "zephyr-7b-beta in alpaca_eval_v1"
    assert told.loc["Zephyr", "MT-Bench"] == told.loc["Guanaco", "MT-Bench"] == chat_benchmarks.NO_FILE


# made-up files


def test_rows_are_named_as_printed_and_hold_the_pooled_mean(data):
    write_scores(data)
    write_annotations(data)
    frame = chat_benchmarks.scores().frame
    assert value(frame, "MPT-Chat", "mt_bench") == pytest.approx((80 * 6 + 79 * 4) / 159)
    assert value(frame, "GPT-4", "mt_bench") == 9
    assert value(frame, "Zephyr", "alpaca_eval") == 75
    assert frame["n"].tolist() == [159, 160, 4]


def test_the_two_conventions_differ_by_what_is_unparsed(data):
    write_scores(data)
    table = chat_benchmarks.conventions(chat_benchmarks.scores())
    assert set(table["row"]) == {"mpt-7b-chat"}  # GPT-4 has no unparsed cell
    assert value(table, "mpt-7b-chat", "unparsed dropped") == pytest.approx(796 / 159)
    assert value(table, "mpt-7b-chat", "unparsed counted as -1") == pytest.approx(795 / 160)
    assert value(table, "mpt-7b-chat", "unparsed counted as -1", "quoted") == 5.42


def test_lengths_stand_beside_win_rates(data):
    write_annotations(data)
    table = chat_benchmarks.lengths(chat_benchmarks.scores())
    assert value(table, "zephyr-7b-beta", "length") == 250
    assert value(table, "zephyr-7b-beta", "win_rate") == 75
    assert 0 < value(table, "zephyr-7b-beta", "length_controlled") < 100
    assert "extrapolated: 100.0%" in chat_benchmarks.length_notes(chat_benchmarks.scores())["zephyr-7b-beta"]


def test_a_fit_without_interval_is_left_out_and_said(data):
    write_annotations(data, lost=0)  # the shortest answer lost: length alone tells wins from losses
    ours = chat_benchmarks.scores()
    assert set(chat_benchmarks.lengths(ours)["metric"]) == {"length", "win_rate"}
    assert "length alone decides" in chat_benchmarks.length_notes(ours)["zephyr-7b-beta"]


def test_categories_come_in_the_order_of_the_spokes_with_the_sister_plot_beside_them(data):
    write_scores(data)
    table = chat_benchmarks.categories(chat_benchmarks.scores())
    assert tuple(dict.fromkeys(table["metric"])) == published.exhibit("zephyr", "fig1").axes
    assert value(table, "GPT-4", "coding") == 9
    assert value(table, "GPT-4", "coding", "quoted") == published.cell("kd_dae", "fig1", "GPT-4", "coding")
    assert set(table["row"]) == {"GPT-4", "GPT-3.5-turbo", "Llama-2-70b-chat", "Claude-v1"}


def test_category_means_are_of_the_rows_asked_for_and_at_hand_and_come_in_the_order_of_any_radar(data):
    write_scores(data)
    means = chat_benchmarks.category_means(chat_benchmarks.scores(), ("GPT-4", "GPT-3.5-turbo"))
    assert set(means["row"]) == {"GPT-4"} and set(means["value"]) == {9.0}  # no score of GPT-3.5-turbo at hand
    axes = ("stem", "coding", "math")
    ordered = chat_benchmarks.in_order_of(axes, means[means["metric"].isin(axes)])
    assert tuple(ordered["metric"]) == axes


def test_rows_that_cannot_be_read_are_counted_and_the_rest_is_scored(data):
    write_scores(data)
    path = data / "measurement_db" / "mt_bench_scores.csv"
    path.write_text(path.read_text() + "gpt-4,200,1,any,9\ngpt-4,81,1,any,99\n")
    ours = chat_benchmarks.scores()
    assert ours.rejected == {"mt_bench_scores": 2, "alpaca_eval_v1": 0}
    assert ours.mt_bench["gpt-4"].mean.n == 160


def test_findings_are_recorded_only_where_something_is_printed(data, monkeypatch, tmp_path):
    write_scores(data)
    table = tables.side_by_side(chat_benchmarks.scores().frame, published.table("zephyr", "tab1"))
    monkeypatch.setattr(session.Session, "build", tmp_path)
    found = chat_benchmarks.findings(table)
    assert [(one.what, one.agrees) for one in found] == [("MPT-Chat, mt_bench", False), ("GPT-4, mt_bench", False)]


# absent files


def test_without_files_everything_runs_and_says_what_is_missing(data):
    ours = chat_benchmarks.scores()
    assert set(ours.absent) == {"mt_bench_scores", "alpaca_eval_v1"}
    assert all("ZEPHYR_LAB_DATA" in how and "list data --fetch" in how for how in ours.absent.values())
    table = tables.side_by_side(ours.frame, published.table("zephyr", "tab1"))
    assert set(table["kind"]) == {"quoted"}
    columns = ours.columns(table)
    assert columns["present"] == ["quoted"] and set(columns["lacking"]) == {"recomputed", "retrained"}
    assert columns["lacking"]["retrained"] == chat_benchmarks.NOT_TRAINED
    assert "not at hand: mt_bench_scores, alpaca_eval_v1 (zephyr-lab list data)" in columns["lacking"]["recomputed"]
    assert list(chat_benchmarks.known_figures(ours)) == []
    assert chat_benchmarks.conventions(ours).empty and chat_benchmarks.lengths(ours).empty
    assert figures.radar(chat_benchmarks.categories(ours)).axes
    assert figures.dot_plots(chat_benchmarks.lengths(ours), {"length": "characters"})


def test_one_file_gives_its_half_of_the_column(data):
    write_annotations(data)
    ours = chat_benchmarks.scores()
    assert list(ours.absent) == ["mt_bench_scores"]
    lacking = ours.columns(ours.frame)["lacking"]
    assert set(lacking) == {"recomputed from mt_bench_scores", "retrained"}
    assert "not at hand: mt_bench_scores (" in lacking["recomputed from mt_bench_scores"]
    assert set(ours.columns(ours.frame, needs=[chat_benchmarks.ANNOTATIONS])["lacking"]) == {"retrained"}


def test_rows_of_our_own_models_fill_the_retrained_column(data):
    ours = chat_benchmarks.scores()
    numbers = {"value": 7.0, "low": 6.9, "high": 7.1, "n": 320, "seeds": 3, "interval": "3 seeds, t 95 %"}
    retrained = tables.frame([{"row": "dDPO, world", "metric": "mt_bench", "kind": "retrained", **numbers}])
    columns = ours.columns(tables.side_by_side(retrained, published.table("zephyr", "tab1")))
    assert columns["present"] == ["retrained", "quoted"] and set(columns["lacking"]) == {"recomputed"}


# the released files


def test_known_figures_come_out_exactly(ours):
    known = list(chat_benchmarks.known_figures(ours))
    assert len(known) == 9
    for figure in known:
        assert figure.got == pytest.approx(figure.expected, abs=figure.tolerance or 1e-12), figure.what


def test_released_scores_print_what_the_paper_prints_but_for_the_two_conventions(ours):
    table = tables.side_by_side(ours.frame, published.table("zephyr", "tab1"))
    wide = table.pivot(index=["row", "metric"], columns="kind", values="value").dropna()
    differs = wide[(wide["quoted"] - wide["recomputed"]).abs() > 0.005 * (1 + 1e-9)]
    assert len(wide) == 14
    assert list(differs.index) == [("MPT-Chat", "mt_bench")]
    kept = chat_benchmarks.conventions(ours)
    assert round(value(kept, "mpt-7b-chat", "unparsed counted as -1"), 2) == 5.42


def test_categories_and_lengths_equal_an_independent_count(ours, released):
    expected = json.loads(released("measurement_db/expected.json").read_text())["models"]
    table = chat_benchmarks.categories(ours)
    for row, model in chat_benchmarks.RADAR_MODELS.items():
        for category, mean in expected[model]["category_average"].items():
            assert value(table, row, category) == pytest.approx(mean, abs=1e-6)
    lengths = chat_benchmarks.lengths(ours)
    for model, facts in json.loads(released("alpaca_eval/expected.json").read_text())["annotations_v1.parquet"].items():
        assert int(value(lengths, model, "length")) == facts["mean_len_2_truncated"]
        assert value(lengths, model, "win_rate") == pytest.approx(facts["published"]["win_rate"], abs=1e-9)


# --- how much GPT-4 likes length ----------------------------------------------------------------------------------


def write_annotations_of_length(data, way: int) -> None:
    """Two models whose longer answers win (1) or lose (-1), with some noise; one row was not read."""
    rows = []
    for model in ("a", "b"):
        for number in range(200):
            longer = (number * 7) % 200 - 100
            won = (way * longer > 0) != (number % 5 == 0)
            rows.append({"generator_1": "base", "generator_2": model, "instruction": f"task {number}"}
                        | {"preference": 2.0 if won else 1.0, "len_1": 200, "len_2": 200 + longer})  # fmt: skip
    rows[0]["preference"] = None
    (data / "alpaca_eval").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(data / "alpaca_eval" / "annotations_v1.parquet")


@pytest.mark.parametrize("way", [1, -1])
def test_which_way_length_counts_is_seen_and_unread_rows_are_left_out(data, monkeypatch, way):
    monkeypatch.setattr(chat_benchmarks, "RESAMPLES", 50)
    write_annotations_of_length(data, way)
    (row,) = chat_benchmarks.length_effect("Z13", "log-odds").to_dict("records")
    assert row["n"] == 399 and (row["row"], row["metric"]) == ("Z13", "log-odds")
    assert way * row["low"] > 0 and way * row["high"] > 0


def test_without_annotations_there_is_no_effect_of_length(data):
    assert chat_benchmarks.length_effect("Z13", "log-odds").empty
