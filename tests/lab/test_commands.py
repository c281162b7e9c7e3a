"""list, trace and doctor on the toy project; parallel commands; promotion to figures/."""

import json
import os
import pty
import subprocess

import pytest


def test_list_tells_state_and_time(finished):
    rows = {row["notebook"]: row for row in json.loads(finished.run("list", "--json").stdout)}
    assert {row["state"] for row in rows.values()} == {"fresh"}
    assert all(row["seconds"] > 0 and row["seeds"] == 3 for row in rows.values())


def test_list_names_what_went_stale(copy):
    copy.edit("toy_recipes/other.py", "2 * value", "3 * value")
    rows = {row["notebook"]: row["state"] for row in json.loads(copy.run("list", "--json").stdout)}
    assert rows["12_three"] == "stale: toy_recipes.other.double changed"
    assert rows["10_one"] == "fresh"


def test_trace_leads_from_a_product_to_notebook_stages_and_modules(finished):
    found = json.loads(finished.run("trace", "build/tiny/tables/12_three.txt", "--json").stdout)
    assert found["notebook"] == "12_three" and found["state"] == "fresh"
    assert {group["name"]: group["results"] for group in found["stages"]} == {"walk": 11, "sum": 3}
    assert "toy_recipes.study" in found["modules"]
    assert "made by    notebooks/12_three.ipynb" in finished.run("trace", "tables/12_three.txt").stdout


def test_two_commands_at_once_run_each_notebook_once(toy):
    first, second = toy.start("run", "10", "11", "-p", "pause=0"), toy.start("run", "11", "10", "-p", "pause=0")
    told = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0
    lines = [line for out in told for line in out.splitlines() if line.startswith(("10_one", "11_two"))]
    assert sorted(line.split()[0] for line in lines if line.endswith("fresh")) == ["10_one", "11_two"]
    assert len(toy.builds()) == 14


def test_doctor_finds_cores_memory_and_versions(toy):
    findings = {row["what"]: row for row in json.loads(toy.run("doctor", "--json").stdout)}
    assert int(findings["cores"]["found"]) >= 1
    assert findings["python"]["state"] == "ok"
    assert findings["checkout"]["found"] == "writable"


def test_doctor_says_that_a_gpu_profile_needs_a_gpu(toy):
    result = toy.run("doctor", "--profile", "world-gpu", "--json")
    gpu = {row["what"]: row for row in json.loads(result.stdout)}["gpu"]
    assert (gpu["state"] == "wrong") == (gpu["found"] == "none") == (result.returncode == 1)


@pytest.mark.slow
def test_progress_of_stages_is_shown_while_a_notebook_waits_for_them(toy):
    """In a terminal: the command's own screen shows notebooks and stages."""
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        toy.command("run", "10", "-p", "pause=0.2"),
        env=toy.environment | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stderr=terminal,
        stdout=subprocess.DEVNULL,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    process.wait()
    os.close(screen)
    text = shown.decode()
    assert "10_one  " in text and "walk seed 0  step " in text and " steps/s  " in text and " s left" in text
