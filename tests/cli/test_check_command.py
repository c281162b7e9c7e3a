"""`zephyr-lab check` as a person and a machine meet it: one process, exit codes, stdout and stderr."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger_project import write_project
from zephyr_lab.reporting import claims


@pytest.fixture
def checkout(tmp_path) -> Path:
    return write_project(tmp_path)


def zephyr_lab(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "zephyr_lab.cli.main", *arguments]
    return subprocess.run(
        command, env=os.environ | {"ZEPHYR_LAB_ROOT": str(root)}, capture_output=True, text=True, timeout=120
    )


def in_notebook(root: Path, name: str, code: str) -> None:
    """Run `code` as the notebook `name` would: a session begun, its fragment written."""
    source = "profile: str = 'tiny'  # size\nseeds: int = 3  # seeds"
    parameters = {"cell_type": "code", "id": "p", "metadata": {"tags": ["parameters"]}, "source": source}
    cells = [{**parameters, "execution_count": None, "outputs": []}]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (root / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))
    opening = f"from zephyr_lab.core import session\nsession.begin('tiny', 3, notebook={name!r})\n"
    environment = os.environ | {"ZEPHYR_LAB_ROOT": str(root)}
    subprocess.run([sys.executable, "-c", opening + code], env=environment, capture_output=True, text=True, timeout=120)


def committed(root: Path, **verdicts: str) -> None:
    """A committed ledger at tiny, 3 seeds, in which the named claims have these verdicts."""
    blank = {"effect": None, "interval": None, "n": None, "seeds": None}
    told = [{"id": id, "verdict": verdicts.get(id, "not measured yet"), **blank} for id in claims.everything()]
    content = {"profile": "tiny", "seeds": 3, "source": "figures", "items": [], "claims": told}
    (root / "figures").mkdir()
    (root / "figures" / "ledger.json").write_text(json.dumps(content))


def test_json_is_the_ledger_and_nothing_else_on_stdout(checkout):
    told = zephyr_lab(checkout, "check", "--json")
    ledger = json.loads(told.stdout)
    assert told.returncode == 0, told.stderr
    assert (len(ledger["items"]), len(ledger["claims"])) == (25, 94)
    assert (ledger["profile"], ledger["source"]) == ("tiny", "figures")


def test_the_table_shows_published_committed_and_yours(checkout):
    committed(checkout, Z6="right")
    told = zephyr_lab(checkout, "check")
    assert told.returncode == 0, told.stderr
    for word in ("published", "committed", "tiny, 3 seeds", "yours", "as committed", "zephyr/tab1", "S3-6"):
        assert word in told.stdout
    assert "25 items: 25 missing" in told.stdout
    assert "94 claims: 93 not measured yet, 1 right" in told.stdout


def test_what_an_item_lacks_is_told_in_the_table_and_in_json(checkout):
    code = """
from zephyr_lab.core import files
from zephyr_lab.reporting import check
files.write_text(session.current().build / "tables/zephyr/tab1.csv", "1")
lacking = {"recomputed": "released files not at hand: mt_bench_scores"}
check.item("zephyr/tab1", present=["retrained", "quoted"], lacking=lacking, files=["tables/zephyr/tab1.csv"])
"""
    in_notebook(checkout, "13_chat", code)
    told = zephyr_lab(checkout, "check")
    assert "zephyr/tab1 lacks recomputed: released files not at hand: mt_bench_scores\n" in told.stdout
    assert "retrained+quoted" in told.stdout
    assert "recomputed+retrained+quoted" not in told.stdout  # only kinds that are there
    first = json.loads(zephyr_lab(checkout, "check", "--json").stdout)["items"][0]
    assert first["lacking"] == {"recomputed": "released files not at hand: mt_bench_scores"}
    assert (first["kind"], first["present"]) == ("recomputed+retrained+quoted", ["retrained", "quoted"])


def test_a_difference_from_a_paper_is_no_failure(checkout):
    code = "from zephyr_lab.reporting import check\ncheck.finding('mpt-7b-chat', 5.459, 5.42, source='Table 1')"
    in_notebook(checkout, "13_chat", code)
    assert zephyr_lab(checkout, "check", "--json").returncode == 0


def test_an_exact_check_that_failed_is_exit_1_with_one_line(checkout):
    in_notebook(checkout, "13_chat", "from zephyr_lab.reporting import check\ncheck.exact('a mean', 1.5, 1.25)")
    told = zephyr_lab(checkout, "check", "--json")
    assert told.returncode == 1
    assert told.stderr.splitlines() == ["integrity: 13_chat: a mean is 1.5, must be 1.25"]
    json.loads(told.stdout)


def test_a_verdict_that_changed_against_the_committed_ledger_is_exit_1(checkout):
    committed(checkout, **{"S1-14": "right", "S1-1": "right"})
    in_notebook(checkout, "90_checks", "from zephyr_lab.reporting import check\ncheck.statements(['S1-14', 'S1-1'])")
    told = zephyr_lab(checkout, "check")
    assert told.returncode == 1
    line = "against the committed ledger: S1-14: verdict changed from 'right' to 'wrong'"
    assert told.stderr.splitlines() == [line]


def test_an_unknown_profile_is_one_line_and_exit_2(checkout):
    told = zephyr_lab(checkout, "check", "--profile", "tinny")
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.count("\n") == 1 and "tinny" in told.stderr and "world-gpu" in told.stderr


def test_a_broken_committed_ledger_is_one_line_and_exit_2(checkout):
    (checkout / "figures").mkdir()
    (checkout / "figures" / "ledger.json").write_text("{")
    told = zephyr_lab(checkout, "check", "--json")
    assert told.returncode == 2 and told.stderr.count("\n") == 1
    assert "ledger.json is not JSON" in told.stderr


def test_it_answers_in_about_a_second(checkout):
    """CPU seconds, since other work may hold the cores: start-up loads neither pandas nor torch."""
    before = os.times()
    started = time.perf_counter()
    assert zephyr_lab(checkout, "check").returncode == 0
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 1.5, f"{spent:.2f} CPU seconds, {time.perf_counter() - started:.2f} s in all"
