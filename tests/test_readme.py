"""README keeps its promises: its table is the ledger's, its examples run, its tree and its commands exist."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sync_readme

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_result_table_is_the_committed_ledgers():
    assert sync_readme.synced(README) == README, "run .venv/bin/python tools/sync_readme.py"


def test_a_changed_status_would_be_seen(monkeypatch):
    told = {"profile": "tiny", "seeds": 5, "items": [{"id": "zephyr/tab1", "status": "partial"}], "claims": []}
    monkeypatch.setattr(sync_readme.ledger, "committed", lambda: told)
    line = next(line for line in sync_readme.results().splitlines() if "Table 1: chat benchmarks |" in line)
    assert "| partial | `zephyr-lab run 13` |" in line
    told["items"][0]["status"] = "ok"
    assert "| ok | `zephyr-lab run 13` |" in sync_readme.results()


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="markers"):
        sync_readme.synced("no table here")


def test_examples_run_and_print_what_they_say():
    blocks = re.findall(r"```pycon\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        example = doctest.DocTestParser().get_doctest(block, {}, f"README example {number}", "README.md", 0)
        assert doctest.DocTestRunner().run(example).failed == 0


def test_the_tree_names_what_is_there():
    tree = re.search(r"<!-- tree: .*?```\n(.*?)```", README, re.DOTALL)[1]
    named = [line.split()[0] for line in tree.splitlines()]
    assert [name for name in named if not (ROOT / name).exists()] == []
    packages = {f"zephyr_lab/{path.parent.name}/" for path in (ROOT / "zephyr_lab").glob("*/__init__.py")}
    assert packages - set(named) == set()


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_named_commands_and_targets_exist(text):
    called = set(re.findall(r"zephyr-lab ((?:score )?[a-z][a-z-]+)", text))
    code = "from zephyr_lab.cli.main import app; import typer; print(*typer.main.get_command(app).commands)"
    known = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())
    assert {name.split()[0] for name in called} <= known
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        target
        for line in re.findall(r"`make ([a-z -]+?)[`A-Z]|^make ([a-z -]+?)(?:\s+#|$)", text, re.M)
        for target in line
    }
    assert {name for target in targets for name in target.split()} <= set(re.findall(r"^([a-z-]+):", makefile, re.M))


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_named_files_exist(text):
    named = set(re.findall(r"`((?:tests|tools|zephyr_lab|papers|notebooks|figures)/[\w./-]+)`", text))
    assert {name for name in named if not (ROOT / name).exists()} == set()
