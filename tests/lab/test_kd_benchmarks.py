"""Table 1 and Figure 1 of KD + DAE: published, recomputed and our own rows, each in its place."""

import pytest

from kd_answers import chat, shop
from zephyr_lab.lab import chat_benchmarks, kd_benchmarks
from zephyr_lab.lab.chat_benchmarks import ChatScores
from zephyr_lab.lab.kd_benchmarks import ALPHA, BETA, MODELS, WORLD, Benchmarks
from zephyr_lab.reporting import figures, published, tables
from zephyr_lab.scoring.intervals import Estimate, Interval
from zephyr_lab.scoring.mt_bench import ModelScore
from zephyr_lab.world.benchmark import mt_bench

ONE = Estimate(8.0, Interval(7.5, 8.5), 20)


def released(*rows):
    """Scores of released judgements: a row of Zephyr's table each."""
    frame = tables.frame(
        {"row": row, "metric": "mt_bench", "kind": "recomputed", "value": 7.0, "low": 6.5, "high": 7.5, "n": 160,
         "interval": "80 questions, bootstrap 95 %", "source": "mt_bench_scores"}
        for row in rows
    )  # fmt: skip
    score = ModelScore.__new__(ModelScore)
    object.__setattr__(score, "categories", dict.fromkeys(published.exhibit("kd_dae", "fig1").axes, ONE))
    models = {chat_benchmarks.RADAR_MODELS[name]: score for name in kd_benchmarks.RADAR_MODELS} if rows else {}
    return ChatScores(models, {}, {}, {}, frame, {}, {})


@pytest.fixture(scope="module")
def done():
    answers = chat({ALPHA: 7.0, BETA: 7.1}, MODELS, range(2))
    ids = {81, 111, 171}
    return Benchmarks(
        answers, shop({BETA: 6.0}, MODELS, range(2)), tuple(q for q in mt_bench(320) if q.question_id in ids)
    )


def test_only_rows_that_this_paper_prints_are_recomputed():
    assert list(kd_benchmarks.recomputed(released("MPT-Chat", "StableLM-Tuned-alpha", "GPT-4"))["row"]) == [
        "MPT-Chat",
        "GPT-4",
    ]


def test_our_models_stand_in_rows_of_their_own_under_the_papers_three_columns(done):
    table = kd_benchmarks.table(released("MPT-Chat"), done).set_index(["row", "metric", "kind"])
    assert table.loc[("Flip-7B-Instruct-beta", "ecomm_eval", "quoted"), "value"] == 8.75
    assert table.loc[("MPT-Chat", "mt_bench", "recomputed"), "value"] == 7.0
    assert table.loc[(BETA + WORLD, "ecomm_eval", "retrained"), "value"] == pytest.approx(6.01)
    assert table.loc[(BETA + WORLD, "mt_bench", "retrained"), "value"] == pytest.approx(7.11)
    assert 0 <= table.loc[(BETA + WORLD, "alpaca_eval", "retrained"), "value"] <= 100
    assert not any(kind == "quoted" and row.endswith(WORLD) for row, _, kind in table.index)


def test_without_released_judgements_the_table_has_no_recomputed_row(done):
    none = released()
    assert set(kd_benchmarks.table(none, done)["kind"]) == {"quoted", "retrained"}
    assert set(kd_benchmarks.categories(none)["kind"]) == {"quoted"}
    figures.radar(kd_benchmarks.categories(none), order=published.exhibit("kd_dae", "fig1").axes)


def test_the_radar_has_recomputed_polygons_of_the_same_models_beside_all_read_off_marks():
    table = kd_benchmarks.categories(released("GPT-4"))
    assert set(table.loc[table["kind"] == "recomputed", "row"]) == set(kd_benchmarks.RADAR_MODELS)
    assert "Flip-2x7B-Instruct-beta" in set(table.loc[table["kind"] == "quoted", "row"])
    assert list(dict.fromkeys(table["metric"])) == list(published.exhibit("kd_dae", "fig1").axes)


def test_the_digitised_mean_is_that_of_the_eight_values_in_print():
    values = [9.62, 8.65, 6.24, 5.77, 5.15, 8.56, 9.34, 9.67]
    assert kd_benchmarks.digitised_mean() == pytest.approx(sum(values) / 8)


def test_categories_and_aspects_are_shown_of_the_chosen_models(done):
    assert set(kd_benchmarks.by_category(done)["row"]) == set(kd_benchmarks.SHOWN)
    assert len(kd_benchmarks.category_panels(kd_benchmarks.by_category(done)).axes) == len(kd_benchmarks.SHOWN)
    aspects = kd_benchmarks.aspects(done).set_index(["row", "metric"])["value"]
    assert aspects[BETA, "helpfulness"] == aspects[BETA, "ecomm_eval"] == pytest.approx(6.01)
