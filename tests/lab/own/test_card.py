import re

import pandas as pd

from zephyr_lab.lab.own import card, measures
from zephyr_lab.scoring.intervals import Estimate, Interval

HOSTILE = "</pre><script>alert(1)</script> | [x](http://evil.example) # **b**\x1b[31m\u202e"


def a_card(**changes):
    base = {
        "title": "Mine", "base": "start", "source": "rows.jsonl", "digest": "0" * 64, "rows": 40, "trained": 30,
        "held_out": 8, "left_out": ["row 3: a null value", f"row 4: {HOSTILE}"],
        "checks": pd.DataFrame([{"check": "equal answers", "rows": 1}]),
        "settings": {"DPO": {"beta": 0.1}},
        "results": {"DPO": {measures.ACCURACY: Estimate(0.75, Interval(0.4, 0.9), 8)}},
        "samples": pd.DataFrame([{"question": HOSTILE, "asked": "temperature 0", "model": "DPO", "answer": HOSTILE}]),
    }  # fmt: skip
    return card.Card(**base | changes)


def test_a_card_says_what_was_left_out_what_was_measured_and_what_was_not():
    text = card.text(a_card(not_measured=["a win rate: no judge was named"]))
    assert "Rows left out: 2" in text and "| equal answers | 1 |" in text
    assert "| DPO | accuracy of the implicit reward | 0.750 (0.400 to 0.900) | 8 | bootstrap 95 % |" in text
    assert "a win rate: no judge was named" in text and "one model was trained" in text
    assert '"beta": 0.1' in text and "Base model: start" in text


def test_no_text_of_a_model_or_row_takes_effect():
    text = card.text(a_card())
    assert "<script" not in text and text.count("</pre>") == text.count("<pre>") == 3
    assert "\x1b" not in text and "\u202e" not in text
    read_as_markdown = re.sub("<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert not any(mark in read_as_markdown for mark in ("](", "://", "**", "\\u001b"))
    assert read_as_markdown.count("&#92;u001b") == 2  # the row that was left out, and the question


def test_a_card_is_written_outside_a_checkout(tmp_path, monkeypatch):
    from zephyr_lab.core import paths, provenance

    def nowhere():
        raise FileNotFoundError("no checkout")

    monkeypatch.setattr(paths, "project_root", nowhere)
    provenance.describe.cache_clear()
    try:
        written = card.write(tmp_path, a_card())
    finally:
        provenance.describe.cache_clear()
    assert '"lock": "absent"' in written.read_text()
