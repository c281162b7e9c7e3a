"""The lines at the end of a run: printed numbers, verdicts as the ledger has them, other counts of seeds."""

import json
from pathlib import Path

import pytest

from ledger_project import write_project
from zephyr_lab.core import session
from zephyr_lab.engine import freshness
from zephyr_lab.engine.notebooks import Notebook
from zephyr_lab.engine.runner import Outcome
from zephyr_lab.lab import commands
from zephyr_lab.reporting import check, ledger
from zephyr_lab.scoring.intervals import Estimate, Interval

FIRST, SECOND = "13_zephyr_chat_scores", "90_all_checks"
GAIN, LOSS = Estimate(0.9, Interval(0.8, 1.0), n=3, seeds=3), Estimate(-0.5, Interval(-0.8, -0.2), n=3, seeds=3)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    monkeypatch.setattr(freshness, "stale_notebooks", lambda profile: set())
    before = session.current()
    yield write_project(tmp_path, FIRST, SECOND)
    monkeypatch.setattr(session, "_current", before)


def outcomes(*names):
    record = {"profile": "tiny", "products": {}}
    made = [Notebook(Path(f"{name}.ipynb"), name, (), {}, ()) for name in names]
    return [Outcome(notebook, "ran", 1.0, record=record) for notebook in made]


def test_the_end_of_a_run_tells_printed_numbers_and_the_ledgers_verdicts(checkout):
    session.begin("tiny", 3, notebook=FIRST)
    check.finding("a", 1.0, 1.0, source="Table 1")
    check.finding("b", 1.0, 2.0, source="Table 1")
    check.finding("c", 1.0, None, source="nothing printed")
    check.claims("zephyr", ["Z1", "Z3", "Z10"], {"Z1": GAIN, "Z3": LOSS})
    lines = commands.run_lines(outcomes(FIRST))
    assert [line.split()[0] for line in lines[1:4]] == ["agrees", "differs", "noted"]
    assert "1 of 2 printed numbers differ from ours" in lines[-1]
    assert "claims: 1 contradicted, 1 reproduced, 1 not measured yet" in lines[-1]
    told = {claim["id"]: claim["verdict"] for claim in ledger.collect("tiny")["claims"]}
    assert (told["Z1"], told["Z3"]) == ("reproduced", "contradicted")


def test_verdicts_of_fewer_seeds_are_told_in_the_last_line(checkout):
    session.begin("tiny", 3, notebook=FIRST)
    check.claims("zephyr", ["Z1"], {"Z1": GAIN})
    committed = ledger.collect("tiny") | {"seeds": 5}
    committed["claims"] = [
        claim | ({"verdict": "contradicted", "seeds": 5} if claim["id"] == "Z1" else {})
        for claim in committed["claims"]
    ]
    (checkout / "figures").mkdir(exist_ok=True)
    (checkout / "figures" / "ledger.json").write_text(json.dumps(committed))
    last = commands.run_lines(outcomes(FIRST))[-1]
    assert last.startswith("1 verdict differs from the committed at 5 seeds (Z1); this run has 3")


def test_two_writers_of_a_claim_are_told_where_the_run_is_told(checkout):
    for name in (FIRST, SECOND):
        session.begin("tiny", 3, notebook=name)
        check.claims("zephyr", ["Z1"], {"Z1": GAIN})
    last = commands.run_lines(outcomes(FIRST, SECOND))[-1]
    assert last.startswith("Z1 is measured by two notebooks") and FIRST in last and SECOND in last
