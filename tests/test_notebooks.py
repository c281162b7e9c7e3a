"""The smoke run: every notebook of this checkout at profile smoke, in a root of its own, as people run it."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zephyr_lab.reporting import check, claims, ledger

ROOT = Path(__file__).parents[1]


def checkout(folder: Path) -> tuple[Path, dict[str, str]]:
    """A copy of this checkout without builds and stages, and the environment in which commands work on it."""
    root = folder / "lab"
    for name in ("notebooks", "papers", "zephyr_lab"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    return root, os.environ | {"ZEPHYR_LAB_ROOT": str(root), "PYTHONPATH": str(root)}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A copy of the checkout without builds and stages, and the outcome of `zephyr-lab run --profile smoke`.

    One seed: what more of them do is tested of notebook 12 (below), and of each interval by itself.
    """
    root, environment = checkout(tmp_path_factory.mktemp("smoke"))
    command = [sys.executable, "-m", "zephyr_lab.cli.main"]
    run = subprocess.run(
        [*command, "run", "--profile", "smoke", "--seeds", "1", "--json"],
        env=environment, cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    check = subprocess.run(
        [*command, "check", "--profile", "smoke", "--json"], env=environment, cwd=root, capture_output=True, text=True
    )
    return root, run, check


def test_every_notebook_runs_at_the_smallest_size(smoke):
    _, run, _ = smoke
    assert run.returncode == 0, run.stdout + run.stderr
    states = {row["notebook"]: row["state"] for row in json.loads(run.stdout)}
    assert set(states) == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(states.values()) == {"ran"}


def test_no_integrity_check_fails_and_every_item_made_has_its_files(smoke):
    root, _, check = smoke
    assert check.returncode == 0, check.stderr
    told = json.loads(check.stdout)
    made = [item for item in told["items"] if item["status"] in ("ok", "partial")]
    assert made and all((root / name).is_file() for item in made for name in item["files"])
    assert told["source"] == "build"


def test_nothing_executed_names_a_folder_of_this_machine(smoke):
    root, _, _ = smoke
    records = list((root / "build" / "smoke" / "notebooks").glob("*.json"))
    assert records and all(str(root) not in path.read_text() for path in records)


OWN_LOSS = """
from zephyr_lab.lab import Lab

margin = 1.0


def hinge(policy, reference):
    return (margin - (policy.chosen - reference.chosen) + (policy.rejected - reference.rejected)).clamp(min=0)


lab = Lab("zephyr", "smoke", 1)
sft, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
of_notebook_12 = {"dSFT-1": sft, "dDPO + dSFT": lab.dpo(sft, pairs, epochs=1)}
print("asked before:", len(lab.ask(of_notebook_12, held_out=pairs).arms))
own = {**of_notebook_12, "hinge": lab.dpo(sft, pairs, loss=hinge, epochs=1)}
answers = lab.ask(own, held_out=pairs)
first = own["hinge"].log().dropna(subset=["loss"]).iloc[0]["loss"]
print("first loss:", round(float(first), 4), "arms:", answers.arms)
print(answers.differences({"gain": ("hinge", "dSFT-1")})["interval"].item())
"""


def test_a_loss_of_one_s_own_trains_its_own_arm_and_nothing_else(smoke, tmp_path):
    root, _, _ = smoke
    (tmp_path / "own.py").write_text(OWN_LOSS)
    environment = os.environ | {"ZEPHYR_LAB_ROOT": str(root), "PYTHONPATH": str(root)}
    command = [sys.executable, str(tmp_path / "own.py")]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    built = [line for line in ran.stderr.splitlines() if "missing stages built here" in line]
    assert [line.partition(" missing")[0] for line in built] == ["2 of 2"]  # a training, an evaluation
    assert "first loss: 1.0 arms: ['dSFT-1', 'dDPO + dSFT', 'hinge']\n1 seed: 16 questions" in ran.stdout


@pytest.mark.slow
def test_a_knob_is_saved_beside_the_standard_run_and_leaves_it_fresh(smoke):
    root, _, _ = smoke
    environment = os.environ | {"ZEPHYR_LAB_ROOT": str(root), "PYTHONPATH": str(root)}
    run = [sys.executable, "-m", "zephyr_lab.cli.main", "run", "12", "--profile", "smoke", "--seeds", "1", "--json"]
    states = []
    for knob in ([], ["-p", "beta=0.3"], []):
        ran = subprocess.run([*run, *knob], env=environment, cwd=root, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        states += [row["state"] for row in json.loads(ran.stdout)]
    assert states == ["fresh", "ran", "fresh"]
    own = root / "build" / "smoke" / "own" / "12_zephyr_steps_and_epochs-beta=0.3"
    assert (own / "tables" / "zephyr" / "tab3.csv").is_file() and (own / "12_zephyr_steps_and_epochs.ipynb").is_file()


@pytest.mark.slow
def test_papermill_alone_gives_the_tables_of_the_command(tmp_path_factory):
    name = "12_zephyr_steps_and_epochs"
    tables = {}
    for how, command in {
        "papermill": [
            "papermill",
            f"notebooks/{name}.ipynb",
            "out.ipynb",
            "-p",
            "profile",
            "smoke",
            "-p",
            "seeds",
            "2",
        ],
        "command": ["zephyr_lab.cli.main", "run", "12", "--profile", "smoke", "--seeds", "2"],
    }.items():
        root, environment = checkout(tmp_path_factory.mktemp(how))
        run = subprocess.run(
            [sys.executable, "-m", *command], env=environment, cwd=root, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout + run.stderr
        made = (root / "build" / "smoke" / "tables").rglob("*.csv")
        tables[how] = {path.name: path.read_bytes() for path in made}
    assert "tab3.csv" in tables["command"]
    assert tables["papermill"] == tables["command"]


def test_an_item_without_a_table_of_scores_states_what_it_must_hold():
    """A table of scores is looked through for its kinds; of any other picture only its notebook knows the point."""
    stated = {
        call.args[0].value: {keyword.arg for keyword in call.keywords}
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
        for call in ast.walk(ast.parse("".join(cell["source"])))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "check.item"
    }
    assert set(stated) == set(ledger.items())
    committed = json.loads((ROOT / "figures" / "ledger.json").read_text(encoding="utf-8"))["items"]
    bare = [
        item["id"]
        for item in committed
        if not check._absent_kinds(["a kind that no table has"], [ROOT / name for name in item["files"]])
    ]
    assert {"kd_dae/fig3", "kd_dae/fig4", "zephyr/samples"} <= set(bare)
    assert [id for id in bare if "holds" not in stated[id]] == []


def claims_named(path: Path) -> tuple[set[str], set[str]]:
    """The claim ids that the code cells of a notebook name anywhere, and those that a call of `decide` or
    `check.claims` is given by name."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    tree = ast.parse("\n".join(line for line in source.splitlines() if not line.startswith("%")))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    deciding = [call for call in calls if ast.unparse(call.func) in ("lab.claims.decide", "decide", "check.claims")]
    decided = {id for call in deciding for argument in call.args[:2] for id in claim_ids(argument)}
    return claim_ids(tree), decided


def claim_ids(tree: ast.AST) -> set[str]:
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)} & set(claims.everything())


def test_every_claim_is_decided_by_one_notebook():
    named: dict[str, list[str]] = {}
    decided: set[str] = set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        anywhere, in_calls = claims_named(path)
        decided |= in_calls
        for id in anywhere:
            named.setdefault(id, []).append(path.stem)
    assert {id: names for id, names in named.items() if len(names) > 1} == {}
    measured = {id for id, claim in claims.everything().items() if claim.decided_by != claims.PUBLISHED_FACTS}
    assert measured <= decided
