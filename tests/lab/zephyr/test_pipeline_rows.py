"""Rows for Figure 2: the first that fit, else the shortest, never two that say the same."""

import json

import pytest

from zephyr_lab.lab.zephyr import pipeline_rows


def talk(*texts):
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts, strict=False)]


def pair(prompt, chosen, rejected, scores=(4.0, 2.0), before=()):
    start = [*talk(*before), {"role": "user", "content": prompt}]
    sides = {
        side: [*start, {"role": "assistant", "content": text}]
        for side, text in (("chosen", chosen), ("rejected", rejected))
    }
    return {"prompt": prompt, **sides, "score_chosen": scores[0], "score_rejected": scores[1]}


def write(folder, *pairs):
    (folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in pairs))
    return folder


def test_the_first_short_dialogue_is_taken():
    short, later = talk("Ask.", "Say."), talk("Ask more.", "Say more.")
    assert pipeline_rows.first_short([talk("x" * 400, "y"), short, later]) is short
    long, longer = talk("x" * 300, "y"), talk("x" * 400, "y")
    assert pipeline_rows.first_short([longer, long]) is long


def test_pairs_that_show_nothing_are_passed_over(tmp_path):
    good = pair("Ask.", "Right.", "Wrong.")
    folder = write(
        tmp_path,
        pair("Ask.", "Same.", "Same."),
        pair("Ask.", "Right.", "Wrong.", scores=(3.0, 3.0)),
        pair("And then?", "Right.", "Wrong.", before=("Ask.", "Say.")),
        pair("Ask." + "x" * 300, "Right.", "Wrong."),
        good,
        pair("Later.", "Right.", "Wrong."),
    )
    assert pipeline_rows.first_pair(folder) == good


def test_of_long_pairs_the_shortest_is_taken(tmp_path):
    long, longer = (pair("Ask.", "Right." * count, "Wrong.") for count in (60, 90))
    assert pipeline_rows.first_pair(write(tmp_path, longer, long)) == long


def test_pairs_without_any_difference_are_said(tmp_path):
    with pytest.raises(ValueError, match="no pair on an opening prompt"):
        pipeline_rows.first_pair(write(tmp_path, pair("Ask.", "Same.", "Same.")))
