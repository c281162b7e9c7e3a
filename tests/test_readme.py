"""README keeps its promises: its table is the ledger's, its examples run, its tree and its commands exist."""

import doctest
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sync_readme
from zephyr_lab.core.profiles import GROUPS, PROFILES, group_of
from zephyr_lab.core.settings import ALONE

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.stem[:2]: path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}  # number -> name


def markdown_of(name: str) -> str:
    """The prose of a notebook."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


TEXTS = {
    "README": README,
    "CONTRIBUTING": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    "notebooks/README": (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8"),
    "notebook 00": markdown_of("00_start_here"),
}
COMMANDS = """
import json
import typer
from zephyr_lab.cli.main import app

def options(command, name=""):
    yield name.strip(), [option for parameter in command.params for option in parameter.opts]
    for child, below in getattr(command, "commands", {}).items():
        yield from options(below, f"{name} {child}")

print(json.dumps(dict(options(typer.main.get_command(app)))))
"""


@pytest.fixture(scope="module")
def commands() -> dict[str, list[str]]:
    """Options of each command, "score mt-bench" among them."""
    done = subprocess.run([sys.executable, "-c", COMMANDS], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_the_result_table_is_the_committed_ledgers():
    assert sync_readme.synced(README) == README, "run .venv/bin/python tools/sync_readme.py"


def test_a_changed_status_would_be_seen(monkeypatch):
    told = {"profile": "tiny", "seeds": 5, "items": [{"id": "zephyr/tab1", "status": "partial"}], "claims": []}
    monkeypatch.setattr(sync_readme.ledger, "committed", lambda: told)
    line = next(line for line in sync_readme.results().splitlines() if "Table 1: chat benchmarks |" in line)
    assert "| partial | `zephyr-lab run 13` |" in line
    told["items"][0] |= {"status": "ok", "present": ["retrained", "quoted"]}
    assert "chat benchmarks | retrained, quoted | ok | `zephyr-lab run 13` |" in sync_readme.results()


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


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_named_commands_options_and_targets_exist(text, commands):
    spans = re.findall(r"zephyr-lab ((?:score )?[a-z][a-z-]+)([^`\n#|]*)", text)
    assert {name for name, _ in spans} <= set(commands) | {"score"}
    asked = [(name, option) for name, rest in spans for option in re.findall(r"--[a-z-]+", rest)]
    assert [(name, option) for name, option in asked if option not in commands[name]] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        target
        for line in re.findall(r"`make ([a-z -]+?)[`A-Z]|^make ([a-z -]+?)(?:\s+#|$)", text, re.M)
        for target in line
    }
    assert {name for target in targets for name in target.split()} <= set(re.findall(r"^([a-z-]+):", makefile, re.M))


def test_every_command_for_files_of_others_prints_json_as_promised(commands):
    block = re.search(r"## Your own files\n\n```\n(.*?)```\n\nEach takes `--json`", README, re.DOTALL)[1]
    named = re.findall(r"^zephyr-lab (score [a-z-]+|[a-z-]+)", block, re.M)
    assert len(named) >= 4 and all("--json" in commands[name] for name in named)


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_named_files_exist(text):
    named = set(re.findall(r"`((?:tests|tools|zephyr_lab|papers|notebooks|figures|benchmarks)/[\w./-]+)`", text))
    named |= set(re.findall(r"\]\((?!https?:)([\w./-]+)\)", text))
    assert {name for name in named if not (ROOT / name).exists() and not (ROOT / "notebooks" / name).exists()} == set()


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_named_notebooks_exist(text):
    """By name, by number ("notebook 12", "run 13", "(10 to 14)"), and by group ("4x", "5x, 90")."""
    numbers = re.findall(r"notebooks? (\d\d)\b|zephyr-lab run (\d\d)\b|`(\d\d)_\w+`", text)
    numbers += re.findall(r"\((\d\d)(?: to | and |, )(\d\d)\)", text)
    named = {number for found in numbers for number in found if number}
    # lists of groups: "4x teaching, 5x cost, 90 all checks", or the first cell of a row of the map, "| 5x, 60 |"
    named |= set(re.findall(r"\dx [a-zA-Z+ ]+, (\d\d) ", text))
    named |= {
        one for cell in re.findall(r"^\| ((?:\dx|\d\d)(?:, (?:\dx|\d\d))*) \|", text, re.M) for one in cell.split(", ")
    }
    groups = {number[0] + "x" for number in NOTEBOOKS}
    assert named - set(NOTEBOOKS) - groups == set()
    assert set(re.findall(r"\b(\dx) ", text)) <= groups
    names = set(re.findall(r"`(\d\d_\w+)`", text))
    assert names <= set(NOTEBOOKS.values())


def test_what_the_tree_says_of_each_group_is_told_in_its_notebooks():
    line = re.search(r"^notebooks/ +(.*)$", README, re.M)[1]
    for entry in line.split(", "):
        group, _, subject = entry.partition(" ")
        names = [name for number, name in NOTEBOOKS.items() if number == group or number[0] + "x" == group]
        prose = " ".join(markdown_of(name) for name in names).casefold()
        for word in re.findall(r"[A-Za-z]+", subject.replace(" and ", " ").replace("your own", "")):
            assert word.casefold() in prose, f"README promises {word!r} in {group}, which {names} do not speak of"


def test_the_list_of_notebooks_is_whole():
    listed = re.findall(r"^\| `(\d\d_\w+)` \|", TEXTS["notebooks/README"], re.M)
    assert listed == sorted(NOTEBOOKS.values())


def test_models_that_a_profile_is_said_to_have_are_in_its_settings():
    rows = re.findall(r"^\| `(gpu|paper)` \| ([^;|]*);", README, re.M)
    assert [profile for profile, _ in rows] == ["gpu", "paper"]
    for profile, cell in rows:
        known = models_of(profile)
        for name in cell.split(", "):
            pattern = name.strip().replace(" ", "-")
            assert any(pattern in model for model in known), f"{profile} has no {name!r}; it has: {', '.join(known)}"


def models_of(profile: str) -> list[str]:
    """Names of models in the tables of a profile, all papers, inherited ones included."""
    found = []
    for path in sorted((ROOT / "papers").glob("*/settings.toml")):
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        scopes = (tables, tables.get(group_of(profile), {}), tables.get(profile, {}))
        for name in {name for scope in scopes for name in scope if name not in (*GROUPS, *PROFILES, ALONE)}:
            merged = {key: value for scope in scopes for key, value in scope.get(name, {}).items()}
            found += [value for value in merged.values() if isinstance(value, str) and "/" in value]
    return found


def test_a_text_that_promises_more_is_caught(commands):
    """The checks above, on what README once said."""
    with pytest.raises(AssertionError):
        test_named_notebooks_exist("5x cost and inference, 70 your own data, 90 all checks")
    with pytest.raises(AssertionError):
        test_named_notebooks_exist("| 5x, 70 | cost, inference, your own data |")
    with pytest.raises(AssertionError):
        test_named_commands_options_and_targets_exist("`zephyr-lab check --never`", commands)
    assert not any("Qwen2.5-0.5B" in model for model in models_of("gpu"))
