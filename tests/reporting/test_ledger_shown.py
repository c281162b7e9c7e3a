"""The ledger as frames: every item and claim once, counts that add up, verdicts where they belong."""

from zephyr_lab.reporting import claims, ledger, ledger_shown


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
