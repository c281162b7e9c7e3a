"""The ledger as frames: every item and claim once, counts that add up, verdicts where they belong."""

import csv
import io

from zephyr_lab.reporting import claims, ledger, ledger_export, ledger_shown


def told(**verdicts: str) -> dict:
    """A ledger in which every claim but those named is not measured yet."""
    nothing = {"effect": None, "interval": None, "n": None, "seeds": None}
    listed = [{"id": id, "verdict": verdicts.get(id, claims.NOT_MEASURED), **nothing} for id in claims.everything()]
    missing = {"status": "missing", "files": [], "present": [], "lacking": {}}
    items = [{"id": id, "kind": item.kind, **missing} for id, item in ledger.items().items()]
    items[0] |= {"status": "partial", "present": ["quoted"], "lacking": {"recomputed": "no files"}}
    return {"items": items, "claims": listed}


def test_every_claim_and_item_has_one_row():
    frame = ledger_shown.claims_frame(told(Z6="right"))
    assert frame["claim"].tolist() == list(claims.everything())
    assert frame.set_index("claim").loc["Z6", "verdict"] == "right"
    items = ledger_shown.items_frame(told())
    assert items["item"].tolist() == list(ledger.items())
    assert items["status"].tolist() == ["partial"] + 24 * ["missing"]
    assert items.loc[0, ["shows", "lacking"]].tolist() == ["quoted", "recomputed: no files"]


def test_an_effect_is_shown_with_interval_and_counts():
    one = told(Z1="reproduced")
    one["claims"][0] |= {"effect": 0.36, "interval": [0.21, 0.51], "n": 320, "seeds": 5}
    frame = ledger_shown.claims_frame(one).set_index("claim")
    assert frame.loc["Z1", "effect [95 %]"] == "+0.36 [+0.21, +0.51], n 320, 5 seeds"
    assert frame.loc["Z2", "effect [95 %]"] == ""


def test_counts_add_up_to_the_claims_of_each_paper():
    counts = ledger_shown.verdict_counts(told(Z1="contradicted", K1="reproduced"))
    assert list(counts.columns) == ["contradicted", "reproduced", "not measured yet"]
    assert counts.loc["Zephyr"].tolist() == [1, 0, len(claims.load("zephyr")) - 1]
    assert counts.loc["KD + DAE", "reproduced"] == 1
    assert counts.to_numpy().sum() == len(claims.everything())


# --- for others: a CSV file, a Markdown page --------------------------------------------------------------------------


def measured() -> dict:
    record = {"profile": "tiny", "seeds": 5, "tests": 1, **told(Z1="direction only", Z6="right")}
    record["claims"][0] |= {
        "effect": 0.3612345678, "interval": [0.05, 0.68], "n": 320, "seeds": 5, "one": "one base", "p": 0.03,
        "p_holm": 0.06, "half_width": 0.315, "needs": 0.1, "reached": False, "more": "about 30 seeds in place of 5",
        "basis": "5 seeds x 320 questions, two-way 95 %",
    }  # fmt: skip
    return record


def test_the_table_has_every_claim_once_and_numbers_that_a_program_reads():
    rows = list(csv.DictReader(io.StringIO(ledger_export.csv_text(measured()))))
    assert [row["claim"] for row in rows] == list(claims.everything())
    first = rows[0]
    assert [float(first[name]) for name in ("effect", "low", "high", "p", "p_holm")] == [
        0.36123457, 0.05, 0.68, 0.03, 0.06,
    ]  # fmt: skip
    assert first["decided by"] == 'chat score (1-10): "dDPO + dSFT" - "dSFT-1", higher, margin 0.1'
    assert (first["reached"], first["one"], first["paper"]) == ("False", "one base", "Zephyr")
    unmeasured = next(row for row in rows if row["claim"] == "Z6")
    assert (unmeasured["verdict"], unmeasured["effect"], unmeasured["low"]) == ("right", "", "")
    assert unmeasured["decided by"] == "published facts"


def test_the_page_has_every_claim_and_item_and_says_how_to_read_it():
    page = ledger_export.markdown_text(measured())
    lines = page.splitlines()
    assert all(any(line.startswith(f"| {id} |") for line in lines) for id in claims.everything())
    assert "+0.361 [+0.05, +0.68], n 320, 5 seeds, one base | p 0.03, Holm 0.06" in page
    assert "0.32, needs 0.1: about 30 seeds in place of 5 |" in page
    assert "zephyr/tab1" in page and "recomputed: no files" in page
    assert "## How to read a verdict" in lines and "### Measured claims" in page and "toy" in page
    widths = {line.replace("\\|", "").count("|") for line in lines if line.startswith("| Z")}
    assert widths == {8}  # a bar in a cell would make one more
