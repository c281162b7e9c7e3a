"""What rules find of what was planted, by themselves and one after the other, and what they leave."""

import itertools

import pytest

from zephyr_lab.data.filters import Rule
from zephyr_lab.data.filters_quality import detection
from zephyr_lab.lab.overview import planted_faults
from zephyr_lab.lab.sizes import Filtering

ON_ANSWERS = {
    "truecase": ("lower_start", "all_lower"),
    "disclaimer_preface": ("preface",),
    "wide_refusal": ("preface",),
}
ON_DIALOGUES = ("exact_duplicate", "contaminated")
STEPS = ("truecase", "disclaimer_preface", "truncated", "exact_duplicate", "near_duplicate", "contaminated")


@pytest.fixture(scope="module")
def sets():
    return planted_faults.planted(Filtering(world="tiny", rows=200, duplicates=0.05, contamination=0.03), 2)


def line(table, row, metric):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_rules_are_judged_on_what_was_planted(sets):
    table = planted_faults.quality(sets, ON_ANSWERS, ON_DIALOGUES)
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
    ours = line(planted_faults.quality(sets, ON_ANSWERS, ON_DIALOGUES), "wide_refusal", "recall")
    by_hand = detection(found, truth)
    # what is counted by hand lacks "I don't have opinions.", one planted phrase of ten
    assert 0 < 100 * by_hand.recall < ours["value"] < 100 * by_hand.recall + 25


def test_the_card_s_examples_find_themselves_and_not_the_same_thought_in_other_words(sets):
    table = planted_faults.phrases(sets, ["disclaimer_preface", "narrow_refusal"])
    assert line(table, "I do not have emotions.", "narrow_refusal")["value"] == 100
    assert line(table, "As a model, I do not have feelings.", "narrow_refusal")["value"] == 0
    assert line(table, "As a model, I do not have feelings.", "disclaimer_preface")["value"] == 100
    assert line(table, "A machine feels nothing.", "disclaimer_preface")["value"] == 0


def test_a_waterfall_loses_no_row(sets):
    steps = planted_faults.waterfall(sets, STEPS)
    assert [step.rule for step in steps] == list(STEPS)
    assert steps[0].came == 400 and steps[0].dropped == 0 and steps[0].repaired > 0
    for before, after in itertools.pairwise(steps):
        assert after.came == before.came - before.dropped
    table = planted_faults.waterfall_frame(steps)
    dropped = table.loc[table["metric"] == "dropped", "value"].sum()
    assert dropped + line(table, "kept", "dialogues")["value"] == pytest.approx(100)


def test_counts_are_of_dialogues_and_of_answers(sets):
    table = planted_faults.counts(sets, ["truecase"], ["contaminated"])
    assert line(table, "truecase", "dialogues")["n"] == 400
    assert line(table, "truecase", "answers")["n"] == 800
    assert "answers" not in set(table.loc[table["row"] == "contaminated", "metric"])


def test_filters_of_form_leave_wrong_answers_and_mend_the_rest(sets):
    before, published, after = "as drawn", "casing, disclaimers", "all rules"
    table = planted_faults.left_over(sets, {before: [], published: STEPS[:2], after: STEPS})
    assert line(table, before, "lower case")["value"] > 5 > line(table, published, "lower case")["value"]
    assert line(table, published, "disclaimer")["value"] < line(table, before, "disclaimer")["value"]
    assert line(table, after, "broken off")["value"] < line(table, published, "broken off")["value"]
    wrong = line(table, before, "wrong core")
    assert wrong["low"] < line(table, after, "wrong core")["value"] < wrong["high"]


def test_each_step_is_shown_on_a_row_that_it_changes(sets):
    shown = planted_faults.before_and_after(sets, STEPS).set_index("rule")
    assert shown.loc["truecase", "before"] != shown.loc["truecase", "after"]
    assert shown.loc["truecase", "before"].lower() == shown.loc["truecase", "after"].lower()
    assert (shown.drop("truecase")["after"] == "dialogue dropped").all()


def test_a_rule_of_one_s_own_is_counted_and_judged_beside_a_named_one(sets):
    own = Rule(name="refusal", find=sets[0].rules(["wide_refusal"])[0].find)
    counts = planted_faults.counts(sets, [own, "wide_refusal"], [])
    quality = planted_faults.quality(sets, {own: ("preface",), "wide_refusal": ("preface",)}, [])
    for table, metrics in ((counts, ("dialogues", "answers")), (quality, ("precision", "recall"))):
        for metric in metrics:
            assert line(table, "refusal", metric)["value"] == line(table, "wide_refusal", metric)["value"]
    assert [step.rule for step in planted_faults.waterfall(sets, ["truncated", own])] == ["truncated", "refusal"]
