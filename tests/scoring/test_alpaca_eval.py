"""AlpacaEval win rates: the published leaderboard, and small cases worked by hand."""

import json
import math
from functools import cache

import pytest

from zephyr_lab.core.row_files import read_rows
from zephyr_lab.core.rows import BadColumn
from zephyr_lab.scoring import alpaca_eval
from zephyr_lab.scoring.alpaca_eval import Annotation, annotation, read


def row(**changes):
    good = {
        "instruction": "Say hello.",
        "generator_1": "baseline",
        "output_1": "Hello.",
        "generator_2": "m",
        "output_2": "Hello there!",
        "annotator": "judge",
        "preference": 2.0,
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def record(*wins, **others):
    rows = [Annotation("m", f"instruction {place}", win, **others) for place, win in enumerate(wins)]
    return alpaca_eval.score(rows, resamples=50)["m"]


@pytest.mark.parametrize(("preference", "win"), [(1, 0), (2.0, 1), (1.5, 0.5), (0, 0.5), (0.0, 0.5), (1.25, 0.25)])
def test_a_preference_is_one_more_than_a_win(preference, win):
    assert annotation(row(preference=preference)).win == win


def test_a_null_preference_is_a_row_that_could_not_be_read():
    assert annotation(row(preference=None)).win is None


def test_a_record_worked_by_hand():
    model = record(1.0, 1.0, 0.0, 0.5, None)
    # mean of 1, 1, 0, 0.5 is 0.625; squared deviations sum to 0.6875, over 3 and rooted 0.478714
    assert model.win_rate.value == 62.5
    assert model.standard_error == pytest.approx(100 * 0.478714 / 2, abs=1e-4)
    assert (model.wins, model.losses, model.draws, model.nulls, model.win_rate.n) == (2, 1, 1, 1, 4)


def test_the_discrete_rate_rounds_weights_and_keeps_draws_at_one_half():
    model = record(0.9, 0.6, 0.4999, 0.5)
    assert model.discrete.value == pytest.approx(100 * 2.5 / 4)
    assert model.win_rate.value == pytest.approx(100 * 2.4999 / 4)
    assert (model.wins, model.losses, model.draws) == (2, 1, 1)


def test_the_average_length_takes_unread_rows_too_and_is_cut():
    lengths = {"a": (1.0, 10), "b": (None, 11), "c": (0.0, 11)}
    rows = [Annotation("m", instruction, win, length) for instruction, (win, length) in lengths.items()]
    assert alpaca_eval.score(rows, resamples=10)["m"].avg_length == 10


def test_one_row_has_no_error_and_none_that_could_be_read_no_rate():
    assert (record(1.0).standard_error, record(1.0).win_rate.interval) == (None, None)
    nothing = record(None, None)
    assert (nothing.win_rate.value, nothing.standard_error, nothing.nulls, nothing.avg_length) == (None, None, 2, None)
    assert json.loads(json.dumps(nothing.as_json()))["win_rate"] is None


def test_an_instruction_annotated_twice_is_drawn_as_one_and_reported():
    rows = [Annotation("m", "same", win) for win in (1.0, 0.0)] + [Annotation("m", "other", 1.0)]
    assert alpaca_eval.score(rows, resamples=10)["m"].annotated_twice == 1


def test_the_length_comes_from_the_output_or_from_its_own_column():
    assert (annotation(row()).length, annotation(row()).baseline_length) == (12, 6)
    stripped = row(output_1=..., output_2=..., len_1=6, len_2=12.0)
    assert (annotation(stripped).length, annotation(stripped).baseline_length) == (12, 6)
    assert annotation(row(output_1=..., output_2=None)).length is None


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"preference": ...}, "preference"),
        ({"preference": 3}, "preference"),
        ({"preference": -1}, "preference"),
        ({"preference": 0.5}, "preference"),
        ({"preference": 2.0001}, "preference"),
        ({"preference": "2"}, "preference"),
        ({"preference": True}, "preference"),
        ({"preference": float("inf")}, "preference"),
        ({"preference": {"value": 2}}, "preference"),
        ({"generator_2": ...}, "generator_2"),
        ({"generator_2": ""}, "generator_2"),
        ({"generator_2": None}, "generator_2"),
        ({"generator_1": 5}, "generator_1"),
        ({"instruction": ["a"]}, "instruction"),
        ({"output_2": 5}, "output_2"),
        ({"len_2": -1}, "len_2"),
        ({"len_2": "12"}, "len_2"),
    ],
)
def test_a_row_that_cannot_be_counted_names_its_column(changes, column):
    with pytest.raises(BadColumn) as error:
        annotation(row(**changes))
    assert error.value.column == column


def test_an_annotations_file_is_a_list_of_objects(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([row(), row(preference=7), row(preference=None, instruction=...)], indent=4))
    found = read(path)
    assert [item.win for item in found.annotations] == [1, None]
    assert found.annotations[1].instruction == "row 3"
    assert [(bad.row, bad.column) for bad in found.bad] == [(2, "preference")]


read_once = cache(read)
FILES = ["annotations_v1.parquet", "annotations_v2_weighted.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_every_figure_of_the_published_leaderboard(released, name):
    found = read_once(released(f"alpaca_eval/{name}"))
    expected = json.loads(released("alpaca_eval/expected.json").read_text())[name]
    assert found.bad == []
    models = alpaca_eval.score(found.annotations, resamples=200)
    assert set(models) == set(expected)
    for model, figures in expected.items():
        ours, published = models[model], figures["published"]
        for figure in (figures, published):
            assert ours.win_rate.value == pytest.approx(figure["win_rate"], abs=1e-9)
            assert ours.standard_error == pytest.approx(figure["standard_error"], abs=1e-9)
            assert ours.discrete.value == pytest.approx(figure["discrete_win_rate"], abs=1e-9)
            counts = (ours.wins, ours.losses, ours.draws, ours.win_rate.n)
            assert counts == tuple(figure[key] for key in ("n_wins", "n_wins_base", "n_draws", "n_total"))
        assert ours.nulls == figures["null_preference"]
        assert ours.avg_length == figures["mean_len_2_truncated"] == published["avg_length"]
        # 805 independent rows: the bootstrap has to give what the standard error says
        low, high = ours.win_rate.interval
        if ours.standard_error == 0:  # the baseline beside itself: what 805 equal rows leave unseen
            assert high - low == pytest.approx(100 * (1 - 0.025 ** (1 / 805)))
            continue
        assert (high - low) / 2 == pytest.approx(1.96 * ours.standard_error, rel=0.25, abs=1e-9)


def test_the_baseline_against_itself_is_at_exactly_50(released):
    found = read_once(released("alpaca_eval/annotations_v2_weighted.parquet"))
    ours = alpaca_eval.score(found.annotations, resamples=10)["gpt4_1106_preview"]
    assert ours.win_rate.value == ours.discrete.value == ours.length_controlled.value == 50


def test_length_control_moves_short_and_long_models_the_published_way(released):
    published = json.loads(released("alpaca_eval/expected.json").read_text())
    for name in FILES:
        models = alpaca_eval.score(read_once(released(f"alpaca_eval/{name}")).annotations, resamples=10)
        for model, ours in models.items():
            figures = published[name][model]["published"]
            moved = figures["length_controlled_winrate"] - figures["win_rate"]
            fitted = ours.length_controlled.value - ours.win_rate.value
            assert math.copysign(1, moved) == math.copysign(1, fitted)


def test_the_mean_length_of_zephyrs_own_answers(released):
    rows = read_rows(released("alpaca_eval/zephyr-7b-beta_outputs.jsonl.gz")).good
    wins = [Annotation("zephyr", f"row {row.number}", 1.0, len(row.data["output"])) for row in rows]
    assert alpaca_eval.score(wins, resamples=10)["zephyr"].avg_length == 1444
