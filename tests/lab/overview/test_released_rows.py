"""Released rows: nothing but how to get them where they are absent, and every known figure where they are there."""

import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.lab.overview import published_counts, released_dialogues, released_pairs


@pytest.fixture(autouse=True)
def running():
    session.begin("smoke", 2, notebook="02_test")


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """An empty folder of released files and an empty cache."""
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ZEPHYR_LAB_CACHE", str(tmp_path / "cache"))


def line(table, row, metric):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_without_released_dialogues_there_is_nothing_but_how_to_get_them(no_data):
    assert set(released_dialogues.absent()) == set(released_dialogues.FILES)
    assert "zephyr-lab list data --fetch" in released_dialogues.absent()["mt_bench_questions"]
    assert released_dialogues.counts().empty and released_dialogues.by_model().empty
    assert released_dialogues.repairs().empty and list(released_dialogues.known_figures()) == []


def test_released_dialogues_give_the_known_counts(released, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(released("alvarobartt_fastchat/dialogues.jsonl.gz").parents[1]))
    known = list(released_dialogues.known_figures())
    assert len(known) == 8
    for one in known:
        assert one.got == one.expected, one.what
    assert line(released_dialogues.counts(), "wide_refusal", "dialogues")["value"] == pytest.approx(100 * 15 / 1200)
    by_model = released_dialogues.by_model()
    assert line(by_model, released_dialogues.ZEPHYR_ROW, "truncated")["n"] == 805
    assert by_model["row"].nunique() == 16
    assert by_model.loc[by_model["metric"] == "disclaimer_preface", "value"].is_monotonic_decreasing
    shown = released_dialogues.repairs()
    assert len(shown) == 3 and (shown["before"] != shown["after"]).all()


def write_counts(folder, train=207865):
    path = folder / "none" / "ultra" / "published_counts.csv"
    path.parent.mkdir(parents=True)
    chat, raw = published_counts.ULTRACHAT, published_counts.RAW_ULTRACHAT
    feedback = published_counts.ULTRAFEEDBACK
    rows = [(raw, "all", 1468348), (chat, "train_sft", train), (feedback, "all prompts", 63967)]
    rows.append((feedback, "source truthful_qa", 811))
    listed = pd.DataFrame(rows, columns=["dataset", "part", "rows"]).assign(where_it_is_published="a card")
    listed.to_csv(path, index=False)


def test_published_counts_stand_in_the_order_asked_for(no_data, tmp_path):
    raw, chat = published_counts.RAW_ULTRACHAT, published_counts.ULTRACHAT
    assert set(published_counts.rows_of(raw, chat)["row"]) == {
        f"{chat}, {part}" for part in ("train_sft", "test_sft", "train_gen", "test_gen")
    }
    write_counts(tmp_path)
    rows = published_counts.rows_of(raw, chat)
    assert rows["row"].iloc[0] == f"{raw}, all" and rows["value"].iloc[0] == 1468348
    assert set(rows["kind"]) == {"quoted"}


def test_sums_of_the_published_counts_come_out(no_data, tmp_path):
    assert published_counts.absent() and list(published_counts.known_figures()) == []
    write_counts(tmp_path)
    known = list(published_counts.known_figures())
    assert len(known) == 3 and all(one.got == one.expected for one in known)


def test_sources_that_disagree_are_seen(no_data, tmp_path):
    write_counts(tmp_path, train=200000)
    differing = [one for one in published_counts.known_figures() if one.got != one.expected]
    assert [one.got for one in differing] == [200000]


def test_without_released_completions_there_are_no_pairs_of_them(no_data):
    assert set(released_pairs.absent()) == set(released_pairs.EXPECTED)
    assert released_pairs.statistics().empty and list(released_pairs.known_figures()) == []
    empty = released_pairs.positions()
    assert empty.empty


def test_released_completions_give_every_expected_figure(released, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(released("alvarobartt_fastchat/completions.jsonl.gz").parents[1]))
    known = list(released_pairs.known_figures())
    assert len(known) == 22
    for one in known:
        assert one.got == pytest.approx(one.expected, abs=one.tolerance), one.what
    table = released_pairs.statistics()
    assert line(table, "mt_bench_completions, worst", "score_rejected")["value"] == pytest.approx(4.214583, abs=1e-6)
    assert line(table, "mt_bench_completions, first_release", "equal")["value"] == pytest.approx(100 * 57 / 240)
    places = released_pairs.positions()
    assert [line(places, f"first_release, {place}", "position")["value"] for place in (1, 3)] == [0, 0]
