"""Notebook 02: what rules find of what was planted, what is left, and the released rows."""

import itertools

import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.data.filters_quality import detection
from zephyr_lab.lab import filtering, published_counts, released_dialogues


@pytest.fixture(autouse=True)
def running():
    session.begin("smoke", 2, notebook="02_test")


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """An empty folder of released files and an empty cache."""
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ZEPHYR_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def sets():
    return filtering.planted("smoke", 2)


def line(table, row, metric):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize("profile", ["smoke", "tiny", "world-gpu", "gpu", "paper"])
def test_every_profile_has_settings(profile):
    assert filtering.settings.load("overview", profile, "filtering", filtering.Filtering).rows >= 200


# planted


def test_rules_are_judged_on_what_was_planted(sets):
    table = filtering.quality(sets)
    planted = sum(made_of(label, "preface") for made in sets for label in made.labels)
    recall = line(table, "disclaimer_preface", "recall")
    assert recall["n"] == planted
    assert recall["value"] < 50  # most planted phrases are on no list of the filter's
    assert line(table, "disclaimer_preface", "precision")["value"] > 90
    assert line(table, "truecase", "recall")["value"] > 95
    assert line(table, "contaminated", "recall")["value"] == 100
    assert line(table, "exact_duplicate", "precision")["value"] == 100


def made_of(label, defect):
    return sum(defect in defects for defects in label.defects)


def test_quality_is_that_of_a_count_by_hand(sets):
    found, truth = [], []
    for made in sets:
        for one, label in zip(made.dialogues, made.labels, strict=True):
            for (_, text), defects in zip(one.answers(), label.defects, strict=True):
                found.append("i do not have" in text.lower() and ("emotions" in text or "feelings" in text))
                truth.append("preface" in defects)
    ours = line(filtering.quality(sets), "wide_refusal", "recall")
    by_hand = detection(found, truth)
    # what is counted by hand lacks "I don't have opinions.", one planted phrase of ten
    assert 0 < 100 * by_hand.recall < ours["value"] < 100 * by_hand.recall + 25


def test_the_card_s_examples_find_themselves_and_not_the_same_thought_in_other_words(sets):
    table = filtering.phrases(sets)
    assert line(table, "I do not have emotions.", "narrow_refusal")["value"] == 100
    assert line(table, "As a model, I do not have feelings.", "narrow_refusal")["value"] == 0
    assert line(table, "As a model, I do not have feelings.", "disclaimer_preface")["value"] == 100
    assert line(table, "A machine feels nothing.", "disclaimer_preface")["value"] == 0


def test_a_waterfall_loses_no_row(sets):
    steps = filtering.waterfall(sets)
    assert [step.rule for step in steps] == list(filtering.STEPS)
    assert steps[0].came == 400 and steps[0].dropped == 0 and steps[0].repaired > 0
    for before, after in itertools.pairwise(steps):
        assert after.came == before.came - before.dropped
    table = filtering.waterfall_frame(steps)
    dropped = table.loc[table["metric"] == "dropped", "value"].sum()
    assert dropped + line(table, "kept", "dialogues")["value"] == pytest.approx(100)


def test_counts_are_of_dialogues_and_of_answers(sets):
    table = filtering.counts(sets)
    assert line(table, "truecase", "dialogues")["n"] == 400
    assert line(table, "truecase", "answers")["n"] == 800
    assert "answers" not in set(table.loc[table["row"] == "contaminated", "metric"])


def test_filters_of_form_leave_wrong_answers_and_mend_the_rest(sets):
    table = filtering.left_over(sets)
    before, published, after = "as drawn", "casing, disclaimers", "all rules"
    assert line(table, before, "lower case")["value"] > 5 > line(table, published, "lower case")["value"]
    assert line(table, published, "disclaimer")["value"] < line(table, before, "disclaimer")["value"]
    assert line(table, after, "broken off")["value"] < line(table, published, "broken off")["value"]
    wrong = line(table, before, "wrong core")
    assert wrong["low"] < line(table, after, "wrong core")["value"] < wrong["high"]


def test_each_step_is_shown_on_a_row_that_it_changes(sets):
    shown = filtering.before_and_after(sets).set_index("rule")
    assert shown.loc["truecase", "before"] != shown.loc["truecase", "after"]
    assert shown.loc["truecase", "before"].lower() == shown.loc["truecase", "after"].lower()
    assert (shown.drop("truecase")["after"] == "dialogue dropped").all()


# released


def test_without_released_files_there_is_nothing_but_how_to_get_them(no_data):
    assert set(released_dialogues.absent()) == set(released_dialogues.FILES)
    assert "zephyr-lab list data --fetch" in released_dialogues.absent()["mt_bench_questions"]
    assert released_dialogues.counts().empty and released_dialogues.by_model().empty
    assert released_dialogues.repairs().empty and list(released_dialogues.known_figures()) == []


def test_released_rows_give_the_known_counts(released, monkeypatch):
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


# published


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
