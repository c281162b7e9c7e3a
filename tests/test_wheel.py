"""A wheel in an empty folder, far from a checkout: what works there, and what says in one line that it needs one."""

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.version import Version

from zephyr_lab.cli.main import app, scores
from zephyr_lab.core.paths import project_root

INSTALLED = {one.name: one.version for one in distributions()}
BUILDS = "pip" in INSTALLED and Version(INSTALLED.get("setuptools", "0")) >= Version("77")  # not imported: it patches
pytestmark = pytest.mark.skipif(not BUILDS, reason="needs pip and setuptools 77 to build a wheel")

CHECKOUT = {
    "run": ["00"], "check": ["--json"], "report": [], "trace": ["zephyr/tab1"], "list": [],
    "keep": ["sft", "--because", "comments"], "clean": ["--yes"], "doctor": [],
}  # fmt: skip
FILES = {"filter", "binarise", "train", "mt-bench", "alpaca-eval"}

# Commands by one interpreter: a list of arguments in, [exit code, stdout, stderr] out, a line each.
COMMANDS = """
import contextlib, io, json, sys
from zephyr_lab.cli.main import main
for line in sys.stdin:
    sys.argv, out, err = ["zephyr-lab", *json.loads(line)], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""

LOSS_AND_SCORER = """
import json, sys
from pathlib import Path
import zephyr_lab
from zephyr_lab.scoring import mt_bench
from zephyr_lab.scoring import mt_bench
mean = mt_bench.score(mt_bench.read(Path(sys.argv[1])).judgments, unparsed="drop", seed=0)["m"].mean.value
assert "torch" not in sys.modules
import torch
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.log_probs import PairLogProbs
policy, reference = (PairLogProbs(*torch.tensor(x).double()) for x in ([[-12.0], [-40.0]], [[-20.0], [-38.0]]))
loss = dpo_loss(policy, reference, beta=0.1).item()
assert "transformers" not in sys.modules
print(json.dumps([zephyr_lab.__file__, mean, loss]))
"""

TRAINING = """
import json
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.models.example import example_model
model, tokenizer = example_model()
pairs = [{"prompt": "Name a fruit.", "chosen": "An apple.", "rejected": "A car."}] * 4
log = train_dpo(model, tokenizer, pairs, reference=example_model()[0], beta=0.1, epochs=4, batch=2, learning_rate=1e-2)
from zephyr_lab.lab import Lab
try:
    Lab("zephyr", "smoke", 1).base()
except FileNotFoundError as error:
    print(json.dumps([log["loss"].tolist(), log["rewards/margins"].tolist(), str(error)]))
"""

EXAMPLE = """
from pathlib import Path
from zephyr_lab.models import saved
from zephyr_lab.models.example import example_model
saved.save(*example_model(), Path("start"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that `pip wheel .` builds of a copy, so that the checkout stays clean."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project_root() / name, source)
    shutil.copytree(project_root() / "zephyr_lab", source / "zephyr_lab", ignore=shutil.ignore_patterns("__pycache__"))
    _pip("wheel", str(source), "--no-build-isolation", "--wheel-dir", str(built))
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The folder in which the wheel is installed."""
    site = tmp_path_factory.mktemp("site")
    _pip("install", "--no-index", "--target", str(site), str(wheel))
    return site


def _pip(command: str, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", command, "--no-deps", *arguments]
    finished = subprocess.run(pip, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr


def _python(site: Path, folder: Path, code: str, *arguments: str, typed: str = "") -> str:
    """What `code` prints in `folder`, which no checkout stands above."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZEPHYR_LAB_")}
    environment |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, env=environment, input=typed, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def _commands(site: Path, folder: Path, commands: list[list[str]]) -> list[tuple[int, str, str]]:
    lines = _python(site, folder, COMMANDS, typed="".join(f"{json.dumps(command)}\n" for command in commands))
    return [tuple(json.loads(line)) for line in lines.splitlines()]


def _judgments(folder: Path) -> Path:
    """Three MT-Bench judgments of a model's first turns, with the scores 5, 6 and 10."""
    path = folder / "gpt-4_single.jsonl"
    rows = [
        {"question_id": 81 + place, "model": "m", "judge": ["gpt-4", "single-v1"], "turn": 1, "score": score}
        for place, score in enumerate((5, 6, 10))
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = project_root() / "zephyr_lab"
    files = {str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file()}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in files if "__pycache__" not in name} == {one for one in packed if ".dist-info/" not in one}


def test_a_scorer_and_a_loss_work(site, tmp_path):
    where, mean, loss = json.loads(_python(site, tmp_path, LOSS_AND_SCORER, str(_judgments(tmp_path))))
    assert Path(where).is_relative_to(site)
    assert mean == 7.0
    assert loss == pytest.approx(math.log(1 + math.exp(-1)))  # log-ratios 8 and -2, beta 0.1


def test_commands_on_files_work(site, tmp_path):
    chats = [{"id": "1", "data": ["Name a fruit.", "An apple."]}, {"id": "2", "data": ["Why?", ""]}]
    scored = {"annotations": {}, "model": "m"}
    completions = [scored | {"response": f"answer {score}", "overall_score": float(score)} for score in (3, 4, 9)]
    preferences = {"instruction": "i", "generator_1": "base", "generator_2": "m", "output_1": "a", "output_2": "b"}
    contents = {
        "chats.jsonl": chats, "scored.jsonl": [{"instruction": "Why?", "completions": completions}],
        "annotations.jsonl": [preferences | {"preference": 2.0}],
    }  # fmt: skip
    for name, rows in contents.items():
        (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    filtered, pairs, turns, wins = _commands(
        site, tmp_path, [
            ["filter", "chats.jsonl", "--rules", "empty_answer", "--out", "kept.jsonl", "--json"],
            ["binarise", "scored.jsonl", "--rejected", "worst", "--out", "pairs.jsonl"],
            ["score", "mt-bench", _judgments(tmp_path).name, "--json"],
            ["score", "alpaca-eval", "annotations.jsonl", "--json"],
        ],
    )  # fmt: skip
    assert [one[0] for one in (filtered, pairs, turns, wins)] == [0] * 4, (filtered, pairs, turns, wins)
    assert json.loads(filtered[1])["kept"] == 1
    assert json.loads((tmp_path / "kept.jsonl").read_text()) == chats[0]
    pair = json.loads((tmp_path / "pairs.jsonl").read_text())
    assert (pair["chosen"][1]["content"], pair["rejected"][1]["content"]) == ("answer 9", "answer 3")
    assert json.loads(turns[1])["models"]["m"]["mean"] == 7.0
    assert json.loads(wins[1])["models"]["m"]["win_rate"] == 100.0


def test_what_needs_a_checkout_says_so_in_one_line(site, tmp_path):
    ends = _commands(site, tmp_path, [[name, *arguments] for name, arguments in CHECKOUT.items()])
    for name, (code, out, err) in zip(CHECKOUT, ends, strict=True):
        assert (name, code, out, err.count("\n")) == (name, 2, "", 1)
        assert err.startswith("zephyr-lab: no checkout of zephyr_lab above this folder"), name
        assert err.endswith("run the command inside a clone or set ZEPHYR_LAB_ROOT\n"), name
    assert list(tmp_path.iterdir()) == []


def test_another_project_with_notebooks_is_no_checkout(site, tmp_path):
    # Taken for one, its notebooks would be listed, run and cleaned up after as ours.
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "10_mine.ipynb").touch()
    for code, _, err in _commands(site, tmp_path, [["list"], ["clean"], ["run", "--explain"]]):
        assert (code, err.partition(" above")[0]) == (2, "zephyr-lab: no checkout of zephyr_lab")


def test_each_command_is_known_to_need_a_checkout_or_not():
    commands = {command.name for typed in (app, scores) for command in typed.registered_commands}
    assert commands == FILES | set(CHECKOUT)


def test_released_files_are_listed_without_a_checkout(site, tmp_path):
    ((code, out, _),) = _commands(site, tmp_path, [["list", "data", "--json"]])
    assert code == 0 and "mt_bench_questions" in {row["name"] for row in json.loads(out)}


@pytest.mark.slow
def test_a_model_trains_and_the_vocabulary_of_notebooks_asks_for_a_checkout(site, tmp_path):
    losses, margins, refusal = json.loads(_python(site, tmp_path, TRAINING).splitlines()[-1])
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)  # policy and reference are one model
    assert losses[-1] < losses[0] and margins[-1] > 0
    assert refusal.startswith("no checkout of zephyr_lab above this folder") and "\n" not in refusal


@pytest.mark.slow
def test_a_model_and_a_file_become_an_aligned_model(site, tmp_path):
    _python(site, tmp_path, EXAMPLE)
    pairs = [{"prompt": f"Name fruit {n}.", "chosen": f"Apple {n}.", "rejected": f"Car {n}."} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*pairs, {"prompt": None}]))
    command = [
        "train",
        "dpo",
        "--model",
        "start",
        "--data",
        "rows.jsonl",
        "--out",
        "out",
        "--max-length",
        "64",
        "--json",
    ]
    ((code, out, err),) = _commands(site, tmp_path, [command])
    assert code == 0, err
    told = json.loads(out)
    assert (told["rows"], told["usable"], told["trained_on"], told["held_out"]) == (41, 40, 36, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"build", "out", "rows.jsonl", "start"}
    assert [path.name for path in (tmp_path / "build/rejected/train").iterdir()] == ["rows.jsonl"]
