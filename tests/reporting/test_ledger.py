"""The ledger: every item and claim always there, from the build first, from the committed ledger else."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from ledger_project import write_product, write_project
from zephyr_lab.core import session
from zephyr_lab.reporting import check, claims, ledger
from zephyr_lab.scoring.intervals import Estimate, Interval, t_estimate

NOTEBOOK = "13_zephyr_chat_scores"
LAST = "90_all_checks"
PAPER_ITEMS = {
    "zephyr": ["tab1", "tab2", "tab3", "fig1", "fig2", "fig3", "samples", "beta_log", "alpha_log"],
    "kd_dae": ["tab1", "tab2", "fig1", "fig2", "fig3", "fig4"],
    "eda": ["math_t0", "math_t1", "code_t0", "code_t1", "medical", "cost", "definitions"],
    "teaching": ["toy", "dpo_vs_rlhf", "family"],
}
ITEMS = [f"{paper}/{name}" for paper, names in PAPER_ITEMS.items() for name in names]
CLAIM_KEYS = (
    "id", "verdict", "effect", "interval", "n", "seeds",
    "basis", "part", "one", "p", "half_width", "needs", "reached", "more", "p_holm",
)  # fmt: skip
GAIN = Estimate(0.5, Interval(0.2, 0.8), n=3, seeds=3)


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    before = session.current()
    yield write_project(tmp_path, NOTEBOOK, LAST)
    monkeypatch.setattr(session, "_current", before)


def run(notebook: str = NOTEBOOK, profile: str = "tiny", seeds: int = 3) -> None:
    session.begin(profile, seeds, notebook=notebook)


def made(root: Path, **item) -> None:
    """Notebook 13 made zephyr/tab1, as `item` says; by default with all kinds."""
    run(profile=item.pop("profile", "tiny"), seeds=item.pop("seeds", 3))
    write_product(root, "figures/zephyr/tab1.svg", profile=session.current().profile)
    write_product(root, "tables/zephyr/tab1.csv", profile=session.current().profile)
    told = {"present": ["recomputed", "retrained", "quoted"]} | item
    check.item("zephyr/tab1", files=["figures/zephyr/tab1.svg", "tables/zephyr/tab1.csv"], **told)


def promote(root: Path, profile: str = "tiny") -> None:
    """What `make figures` does to the ledger and its files."""
    told = ledger.collect(profile, committed=False)
    (root / "figures" / "zephyr").mkdir(parents=True, exist_ok=True)
    (root / "figures" / "ledger.json").write_text(json.dumps(told))
    for kind in ("figures", "tables"):
        for path in (root / "build" / profile / kind).glob("*/*"):
            shutil.copy(path, root / "figures" / path.parent.name)


def item(told: dict, id: str = "zephyr/tab1") -> dict:
    return next(one for one in told["items"] if one["id"] == id)


def claim(told: dict, id: str) -> dict:
    return next(one for one in told["claims"] if one["id"] == id)


# --- its form --------------------------------------------------------------------------------------------------------


def test_all_25_items_and_87_claims_are_always_there_in_order(checkout):
    told = ledger.collect("tiny")
    assert [one["id"] for one in told["items"]] == ITEMS and len(ITEMS) == 25
    assert [one["id"] for one in told["claims"]] == list(claims.everything())
    assert {one["status"] for one in told["items"]} == {"missing"}
    assert {one["verdict"] for one in told["claims"]} == {"not measured yet"}


def test_the_form_is_exactly_the_printed_one(checkout):
    made(checkout)
    check.claims("zephyr", ["Z1"], {"Z1": GAIN})
    told = ledger.collect("tiny")
    assert list(told) == ["profile", "seeds", "source", "items", "claims", "tests", "version"]
    assert {tuple(one) for one in told["items"]} == {("id", "kind", "status", "files", "present", "lacking")}
    assert {tuple(one) for one in told["claims"]} == {CLAIM_KEYS}
    assert (told["profile"], told["seeds"], told["source"]) == ("tiny", 3, "build")
    assert claim(told, "Z1") == {
        "id": "Z1",
        "verdict": "reproduced",
        "effect": 0.5,
        "interval": [0.2, 0.8],
        "n": 3,
        "seeds": 3,
        "basis": "bootstrap 95 %",
        "part": None,
        "one": "one base",
        "p": claim(told, "Z1")["p"],
        "half_width": pytest.approx(0.3),
        "needs": 0.1,
        "reached": False,
        "more": None,
        "p_holm": claim(told, "Z1")["p"],
    }
    assert item(told)["kind"] == "recomputed+retrained+quoted"
    json.dumps(told, allow_nan=False)


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="no profile named 'tinny'"):
        ledger.collect("tinny")


# --- status of an item -----------------------------------------------------------------------------------------------


def test_an_item_with_all_its_kinds_and_files_is_ok(checkout):
    made(checkout)
    told = item(ledger.collect("tiny"))
    assert told["status"] == "ok"
    assert all((checkout / name).is_file() for name in told["files"])


def test_a_kind_that_should_be_there_makes_it_partial(checkout):
    made(checkout, present=["recomputed", "quoted"], lacking={"retrained": "not trained"})
    assert item(ledger.collect("tiny"))["status"] == "partial"


def test_what_is_lacking_is_told_with_its_reason_and_stays_when_promoted(checkout):
    lacking = {"recomputed": "released judgements are not at hand"}
    made(checkout, present=["quoted", "retrained"], lacking=lacking)
    promote(checkout)
    for _ in range(2):  # from the build, then from the committed ledger
        told = item(ledger.collect("tiny"))
        assert (told["status"], told["present"], told["lacking"]) == ("partial", ["retrained", "quoted"], lacking)
        assert ledger.lacking_text(told) == "recomputed: released judgements are not at hand"
        shutil.rmtree(checkout / "build", ignore_errors=True)


def test_an_item_that_does_not_hold_what_it_must_is_partial(checkout):
    made(checkout, holds={"rows of both kinds": True})
    assert item(ledger.collect("tiny"))["status"] == "ok"
    made(checkout, holds={"rows of both kinds": False})
    told = item(ledger.collect("tiny"))
    assert told["status"] == "partial" and set(told["lacking"]) == {"rows of both kinds"}


def test_an_older_committed_ledger_names_no_kinds_that_are_there(checkout):
    made(checkout)
    promote(checkout)
    path = checkout / "figures" / "ledger.json"
    old = json.loads(path.read_text())
    for one in old["items"]:
        del one["present"], one["lacking"]
    path.write_text(json.dumps(old))
    shutil.rmtree(checkout / "build")
    told = item(ledger.collect("tiny"))
    assert (told["present"], told["lacking"]) == (["recomputed", "retrained", "quoted"], {})


def test_an_item_of_a_stale_notebook_is_stale(checkout):
    made(checkout)
    assert item(ledger.collect("tiny", stale={NOTEBOOK}))["status"] == "stale"
    assert item(ledger.collect("tiny", stale={LAST}))["status"] == "ok"


def test_an_item_whose_file_is_gone_is_missing(checkout):
    made(checkout)
    (checkout / "build" / "tiny" / "tables" / "zephyr" / "tab1.csv").unlink()
    assert item(ledger.collect("tiny"))["status"] == "missing"


def test_an_item_with_nothing_present_is_missing(checkout):
    run()
    check.item("zephyr/fig2", present=[], lacking={"retrained": "not trained"})
    assert item(ledger.collect("tiny"), "zephyr/fig2")["status"] == "missing"


def test_the_fragment_of_a_notebook_that_is_gone_does_not_count(checkout):
    made(checkout)
    (checkout / "notebooks" / f"{NOTEBOOK}.ipynb").unlink()
    assert item(ledger.collect("tiny"))["status"] == "missing"


def test_an_interactive_session_does_not_count(checkout):
    run(notebook="interactive")
    check.claims("zephyr", ["Z1"], {"Z1": GAIN})
    assert claim(ledger.collect("tiny"), "Z1")["verdict"] == "not measured yet"


# --- joining notebooks -----------------------------------------------------------------------------------------------


def test_claims_of_several_notebooks_are_joined(checkout):
    run(NOTEBOOK)
    check.claims("zephyr", ["Z3"], {"Z3": GAIN})
    run(LAST)
    check.claims("zephyr", ["Z1", "Z3"], {"Z1": Estimate(-0.5, Interval(-0.8, -0.2), n=3, seeds=3)})
    told = ledger.collect("tiny")
    assert claim(told, "Z1")["verdict"] == "contradicted"
    assert claim(told, "Z3")["verdict"] == "reproduced"  # "not measured yet" does not put out a verdict


@pytest.mark.parametrize(("paper", "id"), [("zephyr", "Z1"), ("overview", "S0-2")])
def test_a_claim_that_two_notebooks_measured_is_refused_with_both_named(checkout, paper, id):
    run(NOTEBOOK)
    check.claims(paper, [id], {id: Estimate(4.36, Interval(3.0, 6.0), n=3, seeds=3)})
    run(LAST)
    check.claims(paper, [id], {id: Estimate(16.9, Interval(12.0, 20.0), n=3, seeds=3)})
    with pytest.raises(ValueError, match=rf"{id} is measured by two notebooks: {NOTEBOOK} \(\+4.36 .*{LAST} \(\+16.9 "):
        ledger.collect("tiny")
    assert claim(ledger.collect("tiny", stale={LAST}), id)["effect"] == 4.36  # what does not stand is no writer


def test_a_verdict_left_open_is_a_measurement_too(checkout):
    run(NOTEBOOK)
    check.claims("zephyr", ["Z1"], {"Z1": GAIN})
    run(LAST)
    frame = pd.DataFrame([{"row": "Z1", "metric": "m", "value": 1.0, "low": None, "high": None, "n": 3, "seeds": 1}])
    check.claims("zephyr", ["Z1"], frame)
    with pytest.raises(ValueError, match=f"{LAST} .not resolved."):
        ledger.collect("tiny")


def test_a_fresh_notebook_wins_over_a_stale_one(checkout):
    run(NOTEBOOK)
    check.claims("zephyr", ["Z1"], {"Z1": GAIN})
    run(LAST)
    check.claims("zephyr", ["Z1"], {"Z1": Estimate(-0.5, Interval(-0.8, -0.2), n=3, seeds=3)})
    assert claim(ledger.collect("tiny", stale={LAST}), "Z1")["verdict"] == "reproduced"


def test_an_effect_is_not_put_out_by_a_later_verdict_without_one(checkout):
    run(NOTEBOOK)
    check.claims("overview", ["S0-2"], {"S0-2": GAIN})
    run(LAST)
    check.statements()
    assert claim(ledger.collect("tiny"), "S0-2")["effect"] == 0.5
    stale = claim(ledger.collect("tiny", stale={NOTEBOOK}), "S0-2")
    assert (stale["verdict"], stale["effect"]) == ("unsupported", None)


def test_the_smallest_count_of_seeds_is_told(checkout):
    run(NOTEBOOK, seeds=5)
    check.exact("a", 1, 1)
    run(LAST, seeds=3)
    check.exact("b", 1, 1)
    assert ledger.collect("tiny")["seeds"] == 3


def test_a_finding_agrees_differs_or_is_noted():
    words = [
        ledger.finding_word({"published": published, "agrees": agrees})
        for published, agrees in ((1.0, True), (1.0, False), (None, None))
    ]
    assert words == ["agrees", "differs", "noted"]


def test_an_exact_check_is_told_with_its_tolerance(checkout):
    run(NOTEBOOK)
    with pytest.raises(ValueError, match="is 90, must be 96 to within 5"):
        check.exact("covered", 90, 96, 5)
    assert ledger.integrity_failures("tiny") == [f"{NOTEBOOK}: covered is 90, must be 96 to within 5"]
    assert ledger.required({"expected": 96, "tolerance": 0}) == "96"


def told_at(seeds, **verdicts):
    return {
        "profile": "tiny",
        "claims": [{"id": id, "verdict": verdict, "seeds": seeds} for id, verdict in verdicts.items()],
    }


def test_verdicts_that_fewer_seeds_left_open_are_told_in_one_line():
    ours = told_at(3, Z1="not resolved", Z2="reproduced", Z3="not measured yet", K7="not resolved")
    theirs = told_at(5, Z1="reproduced", Z2="reproduced", Z3="reproduced", K7="contradicted")
    line = ledger.other_seeds(ours, theirs)
    assert line.startswith("2 verdicts differ from the committed at 5 seeds (Z1, K7); this run has 3")
    assert "wider the intervals" in line
    assert ledger.other_seeds(told_at(5, Z1="not resolved"), theirs) == ""  # at equal seeds it is a change
    assert ledger.other_seeds(ours, theirs | {"profile": "smoke"}) == ledger.other_seeds(ours, None) == ""


# --- the committed ledger --------------------------------------------------------------------------------------------


def test_a_fresh_clone_answers_from_the_committed_ledger_alone(checkout):
    made(checkout, seeds=5)
    check.statements()
    promote(checkout)
    shutil.rmtree(checkout / "build")
    told = ledger.collect("tiny")
    assert (told["source"], told["seeds"]) == ("figures", 5)
    assert item(told) == {
        "id": "zephyr/tab1",
        "kind": "recomputed+retrained+quoted",
        "status": "ok",
        "files": ["figures/zephyr/tab1.svg", "figures/zephyr/tab1.csv"],
        "present": ["recomputed", "retrained", "quoted"],
        "lacking": {},
    }
    assert all((checkout / name).is_file() for name in item(told)["files"])
    assert claim(told, "S1-1")["verdict"] == "right"


def test_what_the_build_lacks_comes_from_the_committed_ledger(checkout):
    made(checkout, seeds=5)
    check.claims("zephyr", ["Z1"], {"Z1": Estimate(0.4, Interval(0.2, 0.6), n=5, seeds=5)})
    promote(checkout)
    shutil.rmtree(checkout / "build")
    run(LAST, seeds=3)
    check.claims("zephyr", ["Z3"], {"Z3": GAIN})
    told = ledger.collect("tiny")
    assert told["source"] == "build"
    assert (claim(told, "Z1")["seeds"], claim(told, "Z3")["seeds"]) == (5, 3)
    assert item(told)["files"][0] == "figures/zephyr/tab1.svg"


def test_a_committed_file_that_is_gone_makes_its_item_missing(checkout):
    made(checkout)
    promote(checkout)
    shutil.rmtree(checkout / "build")
    (checkout / "figures" / "zephyr" / "tab1.csv").unlink()
    assert item(ledger.collect("tiny"))["status"] == "missing"


def test_another_profile_takes_only_what_no_profile_changes(checkout):
    made(checkout, seeds=5)
    check.claims("zephyr", ["Z1", "Z6"], {"Z1": GAIN})
    check.claims("overview", ["S0-2"], {"S0-2": GAIN})
    promote(checkout)
    shutil.rmtree(checkout / "build")
    assert claim(ledger.collect("tiny"), "S0-2")["effect"] == 0.5
    told = ledger.collect("smoke")
    statement = dict.fromkeys(CLAIM_KEYS) | {"id": "S0-2", "verdict": "unsupported"}
    assert claim(told, "S0-2") == statement
    assert told["profile"] == "smoke"
    assert claim(told, "Z1")["verdict"] == "not measured yet"  # measured over seeds at tiny
    assert claim(told, "Z6")["verdict"] == "right"
    assert item(told)["status"] == "missing"


def test_a_promoted_ledger_is_the_same_when_promoted_again(checkout):
    made(checkout)
    promote(checkout)
    first = (checkout / "figures" / "ledger.json").read_text()
    promote(checkout)
    assert (checkout / "figures" / "ledger.json").read_text() == first


# --- against the committed ledger ------------------------------------------------------------------------------------


def measured_once(effect: float, seeds: int = 3) -> dict:
    run(seeds=seeds)
    check.claims(
        "zephyr", ["Z1"], {"Z1": Estimate(effect, Interval(effect - 0.05, effect + 0.05), n=seeds, seeds=seeds)}
    )
    return ledger.collect("tiny", committed=False)


def test_no_committed_ledger_no_changes(checkout):
    assert ledger.changes(measured_once(0.5), None) == []


def test_a_changed_verdict_is_told(checkout):
    old, new = measured_once(0.5), measured_once(0.1)
    assert ledger.changes(new, old) == ["Z1: verdict changed from 'reproduced' to 'direction only'"]
    assert ledger.changes(old, old) == []


def test_a_reversed_sign_is_told_where_the_verdict_stays(checkout):
    old, new = measured_once(0.01), measured_once(-0.01)
    assert ledger.changes(new, old) == ["Z1: sign reversed from +0.01 to -0.01"]


def test_other_seeds_or_another_profile_are_not_compared(checkout):
    old, new = measured_once(0.5, seeds=5), measured_once(-0.5, seeds=3)
    assert ledger.changes(new, old) == []
    assert ledger.changes(measured_once(-0.5, seeds=5) | {"profile": "smoke"}, old) == []


def test_what_one_side_has_not_measured_is_not_a_change(checkout):
    run()
    check.claims("zephyr", ["Z1"])
    nothing = ledger.collect("tiny", committed=False)
    assert ledger.changes(measured_once(0.5), nothing) == []
    assert ledger.changes(nothing, measured_once(0.5)) == []


def test_a_statement_whose_facts_changed_is_told(checkout):
    run(LAST)
    check.statements(["S1-14"])
    old = ledger.collect("tiny", committed=False)
    path = checkout / "papers" / "overview" / "published.yaml"
    path.write_text(path.read_text().replace("licence.mistral_7b, value: Apache-2.0", "licence.mistral_7b, value: MIT"))
    check.statements(["S1-14"])
    new = ledger.collect("tiny", committed=False)
    assert ledger.changes(new, old) == ["S1-14: verdict changed from 'wrong' to 'right'"]


def test_items_name_known_kinds(checkout):
    path = checkout / "papers" / "items.toml"
    path.write_text(path.read_text().replace('kind = "retrained"', 'kind = "trained"', 1))
    with pytest.raises(ValueError, match=r"papers/items.toml: zephyr/fig2 has kind 'trained'; known"):
        ledger.items()


# --- p-values, Holm, versions ----------------------------------------------------------------------------------------


def test_holms_p_is_over_all_claims_that_are_tests(checkout):
    run()
    near = t_estimate([0.12, 0.18, 0.15], of="3 seeds", seeds=3)
    far = t_estimate([0.5, 0.52, 0.51], of="3 seeds", seeds=3)
    check.claims(
        "zephyr", ["Z1", "Z3", "Z8", "Z12"], {"Z1": near, "Z3": far, "Z8": Estimate(0.0, Interval(0.0, 0.0), 9)}
    )
    told = ledger.collect("tiny")
    by_id = {claim["id"]: claim for claim in told["claims"]}
    assert told["tests"] == 2  # a count is no test, nor is what nothing can test
    assert by_id["Z3"]["p_holm"] == pytest.approx(2 * by_id["Z3"]["p"])
    assert by_id["Z1"]["p_holm"] == pytest.approx(by_id["Z1"]["p"]) and by_id["Z1"]["p"] > by_id["Z3"]["p"]
    assert by_id["Z8"]["p"] is by_id["Z8"]["p_holm"] is by_id["Z12"]["p"] is None
    assert by_id["Z1"]["basis"] == "3 seeds, t 95 %" and by_id["Z1"]["needs"] == 0.1
    json.dumps(told, allow_nan=False)


def test_a_committed_ledger_keeps_its_p_values(checkout):
    run()
    check.claims("zephyr", ["Z1"], {"Z1": t_estimate([0.12, 0.18, 0.15], of="3 seeds", seeds=3)})
    promote(checkout)
    before = next(one for one in ledger.committed()["claims"] if one["id"] == "Z1")
    shutil.rmtree(checkout / "build")
    after = next(one for one in ledger.collect("tiny")["claims"] if one["id"] == "Z1")
    assert after == before and after["p"] is not None


def test_a_ledger_of_the_first_version_is_read_and_one_of_a_later_refused(checkout):
    told = ledger.collect("tiny", committed=False)
    first = {key: value for key, value in told.items() if key not in ("version", "tests")}
    first["claims"] = [{key: claim[key] for key in ledger.CLAIM_KEYS[:6]} for claim in first["claims"]]
    path = checkout / "figures" / "ledger.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(first))
    assert ledger.collect("tiny")["claims"][0]["p"] is None
    for version in (ledger.VERSION + 1, "new"):
        path.write_text(json.dumps({**told, "version": version}))
        with pytest.raises(ValueError, match=f"ledger.json is of version {version!r}, this zephyr_lab reads 1 to 2"):
            ledger.collect("tiny")


def test_p_and_half_width_read_as_a_line():
    claim = {"p": 0.0312, "p_holm": 0.4, "half_width": 0.153, "needs": 0.1, "reached": False, "more": "about 9 seeds"}
    assert ledger.p_text(claim) == "p 0.031, Holm 0.4"
    assert ledger.p_text({"p": 1e-9, "p_holm": 3e-8}) == "p < 0.0001, Holm < 0.0001"
    assert ledger.half_width_text(claim) == "0.15, needs 0.1: about 9 seeds"
    assert ledger.half_width_text(claim | {"reached": True}) == "0.15, needs 0.1: reached"
    assert ledger.p_text({}) == ledger.half_width_text({"p": None}) == ""
