"""`make figures`: only whole, fresh builds are promoted; the same results leave the committed files alone."""

import json
import shutil
from pathlib import Path

import pytest

PAPERS = Path(__file__).parents[2] / "papers"


@pytest.fixture
def built(copy):
    """The finished toy project with this project's claims and items, which the ledger is made of."""
    shutil.copytree(PAPERS, copy.root / "papers")
    return copy


def promote(toy, seeds=3):
    code = "import sys; from zephyr_lab.lab.promote import main; "
    return toy.python(f"{code}sys.argv = ['promote', '--profile', 'tiny', '--seeds', '{seeds}']; main()")


def run_again_without_pause(toy):
    """Promotion looks at default parameters; the toy's default sleeps, so the default is changed, not the run."""
    for notebook in (toy.root / "notebooks").glob("*.ipynb"):
        notebook.write_text(notebook.read_text().replace("pause: float = 0.05", "pause: float = 0.0"))
    assert set(toy.states().values()) == {"fresh"}


def test_tables_ledger_and_provenance_are_promoted_once(built):
    run_again_without_pause(built)
    first = promote(built)
    assert first.returncode == 0, first.stderr
    figures = built.root / "figures"
    assert (figures / "10_one.txt").read_text() == (built.root / "build/tiny/tables/10_one.txt").read_text()
    assert len(json.loads((figures / "ledger.json").read_text())["claims"]) == 94
    provenance = json.loads((figures / "provenance.json").read_text())
    entry = provenance["notebooks"]["10_one"]
    assert list(entry["files"]) == ["10_one.txt"]
    assert {group["name"]: group["results"] for group in entry["stages"]} == {"walk": 11, "sum": 3}
    assert len(provenance["made_with"]) == 1  # one machine, told once
    assert str(built.root) not in (figures / "provenance.json").read_text()
    before = {path: path.stat().st_mtime_ns for path in figures.rglob("*")}
    assert promote(built).stdout == "figures/: 0 changed\n"
    assert {path: path.stat().st_mtime_ns for path in figures.rglob("*")} == before


def test_a_changed_result_changes_the_provenance_of_its_notebook_alone(built):
    run_again_without_pause(built)
    assert promote(built).returncode == 0
    path = built.root / "figures" / "provenance.json"
    before = json.loads(path.read_text())
    built.edit("toy_recipes/other.py", "2 * value", "3 * value")  # 12 uses it, and 90 follows from 12
    assert built.states()["12_three"] == "ran"
    assert promote(built).returncode == 0
    after = json.loads(path.read_text())
    changed = {name for name, entry in after["notebooks"].items() if entry != before["notebooks"][name]}
    assert changed == {"12_three", "90_last"}


def test_what_was_kept_over_a_change_of_source_says_so_wherever_it_is_shown(built):
    run_again_without_pause(built)
    built.edit("toy_recipes/steps.py", "value * 1103515245 + 12345", "1103515245 * value + 12345")
    assert built.run("keep", "10", "11", "12", "--because", "a product commutes").returncode == 0
    assert set(built.states().values()) == {"fresh"}
    assert "kept over a change of source (notebook 10, notebook 11, notebook 12, sum, walk): a product commutes" in (
        built.run("check").stdout
    )
    assert promote(built).returncode == 0
    told = json.loads((built.root / "figures" / "provenance.json").read_text())["notebooks"]["10_one"]
    assert told["kept"] == [{"because": "a product commutes", "stages": ["notebook 10", "sum", "walk"]}]
    assert {group["name"]: group["seeds"] for group in told["stages"]} == {"walk": "0-10", "sum": "0-2"}
    assert "a product commutes" in built.run("trace", "10_one.txt").stdout


def test_a_stale_notebook_or_another_count_of_seeds_is_refused(built):
    run_again_without_pause(built)
    assert "notebook 10 is not fresh at profile tiny, 5 seeds (parameter seeds 3 -> 5)" in promote(built, 5).stderr
    built.edit("toy_recipes/other.py", "2 * value", "3 * value")
    refused = promote(built)
    assert refused.returncode == 1
    assert "notebook 12 is not fresh" in refused.stderr and "toy_recipes.other.double changed" in refused.stderr
    assert not (built.root / "figures").exists()


def test_some_notebooks_alone_are_promoted_only_from_a_build_without_the_others(built):
    run_again_without_pause(built)
    code = "import sys; from zephyr_lab.lab.promote import main; sys.argv = 'promote --seeds 3 10 12'.split(); main()"
    assert "10_one.txt" in built.python(code).stdout
    assert {path.name for path in (built.root / "figures").iterdir()} == {
        "10_one.txt", "12_three.txt", "ledger.json", "provenance.json",
    }  # fmt: skip
    (built.root / "build/tiny/ledger").mkdir()
    (built.root / "build/tiny/ledger/11_two.json").write_text("{}")
    assert "build/tiny holds results of 11_two too; promote it as well" in built.python(code).stderr


def test_a_figure_that_nothing_makes_any_more_is_removed(built):
    run_again_without_pause(built)
    (built.root / "figures" / "old").mkdir(parents=True)
    (built.root / "figures" / "old" / "tab9.csv").write_text("1")
    assert "old/tab9.csv (removed)" in promote(built).stdout
    assert not (built.root / "figures" / "old" / "tab9.csv").exists()
