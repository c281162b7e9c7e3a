"""Ten thousand mutated rows through every source and both steps: no traceback, no good row lost, the bad ones counted
and written aside, in less than a minute."""

import json
import subprocess
import sys

import pytest

import data_fuzz

ROWS, BAD = data_fuzz.ROWS, 500  # at least so many of the mutations must hurt, or the test says nothing


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `data_fuzz` tells, run once."""
    command = [sys.executable, data_fuzz.__file__, str(tmp_path_factory.mktemp("fuzz"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("source", ["as_lines", "as_gzip", "in_a_folder", "as_parquet"])
def test_every_source_gives_all_good_rows(told, source):
    found = told[f"source {source}"]
    assert (found["lost"], found["unnamed"]) == (0, 0)
    assert found["bad"] > BAD
    # A table holds only such rows as are objects with one type a column.
    assert ROWS // 2 < found["rows"] < ROWS if source == "as_parquet" else found["rows"] == ROWS


def test_filtering_loses_no_good_row(told):
    found = told["through_the_filter"]
    assert (found["rows"], found["lost"]) == (ROWS, 0)
    assert found["kept"] + found["bad"] == ROWS
    assert found["aside"] == found["bad"] > BAD and found["aside in order"]


def test_every_rule_takes_what_the_schema_lets_through(told):
    found = told["through_every_rule"]
    assert found["rows"] == ROWS and 0 < found["kept"] < ROWS
    assert found["rules that hit"] >= 7


def test_binarising_loses_no_good_row(told):
    found = told["through_binarise"]
    assert found["prompts"] == ROWS
    assert found["pairs"] + found["bad"] == ROWS
    assert found["written"] == found["pairs"] > found["untouched"]
    assert found["aside"] == found["bad"] > BAD


def test_every_way_of_pairing_takes_what_the_schema_lets_through(told):
    found = told["through_every_pairing"]
    assert (found["rows"], found["lost"]) == (ROWS, 0)
    # random_lower makes no pair of equal scores, which untouched rows may have too.
    assert {how: count for how, count in found["pairs lost"].items() if count and not how.endswith("_lower")} == {}


def test_it_all_takes_less_than_a_minute(told):
    assert told["seconds"] < 60
