"""What notebooks record at their end: fragments, verdicts, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ledger_project import write_product, write_project
from zephyr_lab.core import session
from zephyr_lab.reporting import check, claims, ledger
from zephyr_lab.reporting.tables import COLUMNS
from zephyr_lab.scoring.intervals import Estimate, Interval

NOTEBOOK = "13_zephyr_chat_scores"


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout in which notebook 13 has begun at tiny with 3 seeds."""
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    before = session.current()
    write_project(tmp_path, NOTEBOOK)
    session.begin("tiny", 3, notebook=NOTEBOOK)
    yield tmp_path
    monkeypatch.setattr(session, "_current", before)


def fragment(root: Path) -> dict:
    return json.loads((root / "build" / "tiny" / "ledger" / f"{NOTEBOOK}.json").read_text())


def effects(*rows: dict) -> pd.DataFrame:
    blank = dict.fromkeys(COLUMNS) | {"kind": "retrained", "seeds": 3, "n": 320}
    return pd.DataFrame([blank | row for row in rows], columns=list(COLUMNS))


def claim(root: Path, id: str) -> dict:
    return next(entry for entry in fragment(root)["claims"] if entry["id"] == id)


# --- integrity -------------------------------------------------------------------------------------------------------


def test_an_exact_check_that_holds_is_recorded(checkout):
    check.exact("mean of gpt-4", np.float64(8.990625), 8.990625)
    (entry,) = fragment(checkout)["exact"]
    assert entry == {
        "what": "mean of gpt-4",
        "got": 8.990625,
        "expected": 8.990625,
        "tolerance": 0,
        "holds": True,
    }
    assert ledger.integrity_failures("tiny") == []


def test_an_exact_check_that_fails_is_recorded_and_raises(checkout):
    with pytest.raises(ValueError, match=r"integrity: mean of gpt-4 is 8\.99, must be 8\.990625"):
        check.exact("mean of gpt-4", 8.99, 8.990625)
    assert ledger.integrity_failures("tiny") == [f"{NOTEBOOK}: mean of gpt-4 is 8.99, must be 8.990625"]


@pytest.mark.parametrize(
    ("got", "expected", "tolerance", "holds"),
    [
        (1.0, 1, 0, True),
        (1.0000009, 1.0, 1e-6, True),
        (1.0000011, 1.0, 1e-6, False),
        (float("nan"), float("nan"), 1.0, False),
        (float("inf"), 1.0, 1.0, False),
        ([1, 2], (1, 2), 0, True),
        (np.array([1.0, 2.0]), [1.0, 2.5], 0.5, True),
        ([1, 2], [1, 2, 3], 9, False),
        ("abc", "abc", 0, True),
        ("abc", "abd", 5, False),
        (np.bool_(True), True, 0, True),
        ({"a": 1}, {"a": 2}, 0, False),
        (3, "3", 0, False),
    ],
)
def test_what_counts_as_equal(checkout, got, expected, tolerance, holds):
    if holds:
        check.exact("it", got, expected, tolerance)
    else:
        with pytest.raises(ValueError, match="integrity: it is"):
            check.exact("it", got, expected, tolerance)
    assert fragment(checkout)["exact"][0]["holds"] is holds


def test_a_check_that_is_repeated_and_mended_counts_once(checkout):
    with pytest.raises(ValueError, match="integrity"):
        check.exact("it", 1, 2)
    check.exact("it", 2, 2)
    assert [entry["holds"] for entry in fragment(checkout)["exact"]] == [True]


# --- findings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "published", "agrees"),
    [
        (6.85625, 6.86, True),
        (5.459119, 5.42, False),
        (5.41875, 5.42, True),
        (2.753125, 2.75, True),
        (7.1249, 7.13, False),
    ],
)
def test_a_finding_agrees_where_it_rounds_to_the_printed_digits(checkout, ours, published, agrees):
    found = check.finding("x", ours, published, source="Table 1", interval=(1.0, 9.0))
    assert found.agrees is agrees
    (entry,) = fragment(checkout)["findings"]
    assert entry == {
        "what": "x",
        "ours": ours,
        "interval": [1.0, 9.0],
        "published": published,
        "source": "Table 1",
        "agrees": agrees,
    }


def test_a_finding_reads_as_one_line(checkout):
    found = check.finding("mpt-7b-chat", 5.459119, 5.42, source="Table 1", interval=(4.91, 5.98))
    assert repr(found) == "differs  mpt-7b-chat: 5.46 [4.91, 5.98], published 5.42 (Table 1)"


def test_nothing_printed_is_neither_agreement_nor_difference(checkout):
    assert check.finding("x", 1, None, source="none").agrees is None


# --- claims ----------------------------------------------------------------------------------------------------------


def test_a_measured_claim_gets_verdict_effect_interval_and_counts(checkout):
    check.claims("zephyr", ["Z1"], {"Z1": Estimate(0.5, Interval(0.2, 0.8), n=3, seeds=3)})
    told = claim(checkout, "Z1")
    assert told["verdict"] == "reproduced"
    assert (told["effect"], told["interval"], told["n"], told["seeds"]) == (0.5, [0.2, 0.8], 3, 3)
    assert told["why"].startswith('chat score (1-10): "dDPO + dSFT" - "dSFT-1": higher, margin 0.1')


def test_flipping_the_measured_data_flips_the_recorded_verdict(checkout):
    check.claims("zephyr", ["Z1"], {"Z1": Estimate(-0.5, Interval(-0.8, -0.2), n=3, seeds=3)})
    assert claim(checkout, "Z1")["verdict"] == "contradicted"


def test_a_table_of_effects_is_read_by_claim(checkout):
    check.claims("zephyr", ["Z1", "Z3"], effects({"row": "Z1", "metric": "m", "value": 0.3, "low": 0.05, "high": 0.6}))
    assert (claim(checkout, "Z1")["verdict"], claim(checkout, "Z1")["seeds"]) == ("direction only", 3)
    assert claim(checkout, "Z3")["verdict"] == "not measured yet"
    assert claim(checkout, "Z3")["why"].startswith("needs: over seeds and questions")


def test_a_claim_of_two_parts_reads_its_rows_by_metric(checkout):
    gap, score = (part.metric for part in claims.everything()["Z4"].parts)
    rows = [
        {"row": "Z4", "metric": score, "value": -0.3, "low": -0.4, "high": -0.2},
        {"row": "Z4", "metric": gap, "value": 0.2, "low": 0.1, "high": 0.3},
    ]
    check.claims("zephyr", ["Z4"], effects(*rows))
    assert (claim(checkout, "Z4")["verdict"], claim(checkout, "Z4")["effect"]) == ("contradicted", -0.3)
    with pytest.raises(ValueError, match="Z4 needs one row for each of its metrics"):
        check.claims("zephyr", ["Z4"], effects(rows[0]))


def test_one_seed_gives_no_verdict_and_no_bare_effect(checkout):
    alone = {"row": "Z1", "metric": "m", "value": 0.3, "low": float("nan"), "high": float("nan"), "seeds": 1}
    check.claims("zephyr", ["Z1"], effects(alone))
    told = claim(checkout, "Z1")
    assert (told["verdict"], told["effect"], told["interval"]) == ("not resolved", None, None)
    assert "one seed gives no interval" in told["why"]


def test_a_table_of_scores_says_nothing_on_claims_that_are_not_its_rows(checkout):
    shown = check.claims("zephyr", ["Z6", "Z11", "Z13"], effects({"row": "gpt-4", "metric": "mt_bench", "value": 9.0}))
    verdicts = {entry["id"]: entry["verdict"] for entry in fragment(checkout)["claims"]}
    assert verdicts == {"Z6": "right", "Z11": "not testable here", "Z13": "not measured yet"}
    assert claim(checkout, "Z6")["facts"] and claim(checkout, "Z6")["effect"] is None
    assert "needs the 7B model" in claim(checkout, "Z11")["why"]
    assert "Z6  right: MT-Bench 7.34" in repr(shown) and "<td" in shown._repr_html_()


def test_statements_are_recorded_with_their_facts(checkout):
    check.statements()
    told = fragment(checkout)["claims"]
    assert len(told) == 55
    assert all(entry["facts"] and entry["why"] and entry["effect"] is None for entry in told)


def test_an_effect_of_ours_stands_beside_a_statement_and_does_not_decide_it(checkout):
    for effect in (30.0, -30.0):
        row = {"row": "S0-2", "metric": "m", "value": effect, "low": effect - 1, "high": effect + 1}
        check.claims("overview", ["S0-2", "S0-3"], effects(row))
        told = claim(checkout, "S0-2")
        assert (told["verdict"], told["effect"], told["n"], told["seeds"]) == ("unsupported", effect, 320, 3)
        assert "; effect: redefined, ours: relative drop of the error on held-out pairs" in told["why"]
        assert told["facts"]
    assert claim(checkout, "S0-3")["effect"] is None
    alone = {"row": "S0-2", "metric": "m", "value": 1.0, "low": float("nan"), "high": float("nan"), "seeds": 1}
    check.claims("overview", ["S0-2"], effects(alone))
    assert (claim(checkout, "S0-2")["verdict"], claim(checkout, "S0-2")["effect"]) == ("unsupported", None)


def test_an_effect_that_a_statement_did_not_announce_is_refused(checkout):
    with pytest.raises(ValueError, match=r"S0-1 is decided by published facts and takes one effect .* later = None"):
        check.claims("overview", ["S0-1"], {"S0-1": Estimate(0.5, Interval(0.2, 0.8), n=3, seeds=3)})


def test_text_of_claims_is_escaped_in_html(checkout):
    shown = check.claims("zephyr", ["Z1"])
    assert "6.64 -&gt; 7.00" in shown._repr_html_()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check.claims("zephyr", ["Z99"]), r"zephyr has no claim 'Z99'; known: Z1, Z2"),
        (lambda: check.claims("zephyr", ["K1"]), r"zephyr has no claim 'K1'"),
        (lambda: check.claims("zephir", ["Z1"]), r"no claims of a paper named 'zephir'"),
        (lambda: check.statements(["Z1"]), r"published facts do not decide 'Z1'"),
    ],
)
def test_an_unknown_claim_is_refused(checkout, call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- items -----------------------------------------------------------------------------------------------------------


def test_an_item_names_its_kinds_and_files(checkout):
    svg = write_product(checkout, "figures/zephyr/tab1.svg")
    write_product(checkout, "tables/zephyr/tab1.csv")
    lacking = {"retrained": "no model of this profile has been trained"}
    check.item("zephyr/tab1", present=["quoted", "recomputed"], lacking=lacking, files=[svg, "tables/zephyr/tab1.csv"])
    (entry,) = fragment(checkout)["items"]
    assert entry["kind"] == "recomputed+retrained+quoted"
    assert entry["files"] == ["figures/zephyr/tab1.svg", "tables/zephyr/tab1.csv"]
    assert (entry["present"], entry["lacking"]) == (["quoted", "recomputed"], lacking)


def test_a_kind_that_its_tables_have_no_number_of_is_not_present(checkout):
    scores = "row,metric,kind,value\na,score,quoted,7.34\na,score,retrained,\n"
    write_product(checkout, "tables/zephyr/tab2.csv", text=scores)
    check.item("zephyr/tab2", present=["retrained", "quoted"], files=["tables/zephyr/tab2.csv"])
    (entry,) = fragment(checkout)["items"]
    assert entry["present"] == ["quoted"]
    assert entry["lacking"] == {"retrained": "tab2.csv holds no number of this kind"}


def test_what_an_item_must_hold_and_does_not_is_lacking(checkout):
    holds = {"rows of both routes": False, "a divergence above 0": True}
    check.item("zephyr/fig2", present=["retrained"], holds=holds)
    (entry,) = fragment(checkout)["items"]
    assert entry["lacking"] == {"rows of both routes": "what was made here does not show it"}


def test_a_part_of_a_kind_may_be_lacking(checkout):
    check.item("zephyr/fig2", present=["retrained"], lacking={"retrained seeds 3 and 4": "not trained"})
    (entry,) = fragment(checkout)["items"]
    assert entry["present"] == ["retrained"] and set(entry["lacking"]) == {"retrained seeds 3 and 4"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "zephyr/tab9", "present": []}, "no item 'zephyr/tab9' in papers/items.toml; known: zephyr/tab1"),
        ({"id": "zephyr/tab2", "present": ["quoted"]}, "name each kind once .* got quoted$"),
        ({"id": "zephyr/tab2", "present": ["quoted"], "lacking": {"quoted": "x"}}, "got quoted.quoted"),
        ({"id": "zephyr/fig2", "present": ["recomputed"]}, "zephyr/fig2 shows retrained"),
        ({"id": "zephyr/fig2", "present": ["retrained"], "files": ["../../elsewhere.svg"]}, "is below build/tiny/"),
        ({"id": "zephyr/fig2", "present": ["retrained"], "files": ["figures/gone.svg"]}, "was not written"),
    ],
)
def test_an_item_that_is_not_told_in_full_is_refused(checkout, arguments, message):
    with pytest.raises(ValueError, match=message):
        check.item(**arguments)


# --- the fragment ----------------------------------------------------------------------------------------------------


def test_a_fragment_carries_notebook_profile_and_seeds(checkout):
    check.exact("it", 1, 1)
    told = fragment(checkout)
    assert (told["notebook"], told["profile"], told["seeds"]) == (NOTEBOOK, "tiny", 3)
    assert list(told) == ["notebook", "profile", "seeds", "items", "claims", "exact", "findings"]


def test_a_new_run_starts_with_an_empty_fragment(checkout):
    check.exact("old", 1, 1)
    session.begin("tiny", 3, notebook=NOTEBOOK)
    check.exact("new", 1, 1)
    assert [entry["what"] for entry in fragment(checkout)["exact"]] == ["new"]


def test_the_fragment_is_a_registered_product(checkout, monkeypatch, tmp_path):
    record = tmp_path / "record.jsonl"
    monkeypatch.setenv("ZEPHYR_LAB_RECORD", str(record))
    check.exact("it", 1, 1)
    events = [json.loads(line) for line in record.read_text().splitlines()]
    assert {event["path"] for event in events if event["event"] == "product"} == {f"ledger/{NOTEBOOK}.json"}


def test_a_full_disk_leaves_the_older_fragment_whole(checkout, monkeypatch):
    check.exact("first", 1, 1)

    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        check.exact("second", 1, 1)
    assert [entry["what"] for entry in fragment(checkout)["exact"]] == ["first"]
    assert [path.name for path in (checkout / "build" / "tiny" / "ledger").iterdir()] == [f"{NOTEBOOK}.json"]
