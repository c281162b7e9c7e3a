"""Rules that the repository as a whole keeps: nothing of one machine, stripped notebooks, one lock, no large files."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import bootstrap
import lock
import no_large_files

ROOT = Path(__file__).resolve().parent.parent
LONGEST_IN_A_CELL = 10  # lines of a function that a cell may define

# Folders that exist on somebody's machine only. The brackets keep this file from matching itself.
MACHINE_PATH = re.compile(r"(?<![\w./-])(?:/(?:hom[e]|roo[t]|wor[k]|op[t]|mn[t]|User[s])/\w|[A-Z]:\\\\?User[s])")
REGISTRY_HOST = re.compile(r"pypi\.or[g]|pythonhosted\.or[g]|npmjs\.(?:or[g]|co[m])|conda\.anaconda\.or[g]|index-ur[l]")


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the repository: committed ones, and new ones that git does not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: the repository's own files cannot be listed")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def texts() -> list[tuple[str, str]]:
    """(name, text) of every text file."""
    found = []
    for path in tracked():
        try:
            found.append((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # a picture
    return found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def notebooks() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".ipynb"]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if line and not line.startswith("#")}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- nothing of one machine ---------------------------------------------------------------------------------------


def test_no_path_of_one_machine():
    assert lines_with(MACHINE_PATH) == []


def test_no_registry_host():
    # Where packages come from is the user's pip configuration, not ours.
    assert lines_with(REGISTRY_HOST) == []


@pytest.mark.parametrize("line", ["open('/hom" + "e/ada/x')", r"C:\User" + r"s\ada", "see /roo" + "t/lab"])
def test_a_path_of_one_machine_would_be_seen(line):
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["https://host.example/home/x", "#!/usr/bin/env bash", "figures/tmp/x", "a/opt/b"])
def test_other_paths_are_left_alone(line):
    assert not MACHINE_PATH.search(line)


def test_no_file_over_500_kb():
    assert no_large_files.too_large(tracked()) == []


def test_a_file_of_half_a_megabyte_and_a_byte_is_refused(tmp_path):
    (tmp_path / "fits").write_bytes(b"x" * 500_000)
    (tmp_path / "large").write_bytes(b"x" * 500_001)
    refused = no_large_files.too_large([tmp_path / "fits", tmp_path / "large", tmp_path / "absent"])
    assert len(refused) == 1 and "large: 500 kB, at most 500" in refused[0]


# --- notebooks ----------------------------------------------------------------------------------------------------


def problems(notebook: dict, name: str) -> list[str]:
    """What keeps a notebook out of the repository, in words."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = []
    if any(cell.get("outputs") or cell.get("execution_count") for cell in code):
        found.append("has stored outputs or execution counts (nbstripout)")
    parameters = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    if len(parameters) != 1 or parameters[0] is not code[0]:
        found.append("the first code cell, and no other, carries the tag `parameters`")
    for parameter in ("profile: str", "seeds: int"):
        if parameters and parameter not in "".join(parameters[0]["source"]):
            found.append(f"the parameters cell lacks `{parameter}`")
    trees = [ast.parse("".join(cell["source"])) for cell in code]
    defined = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in defined if not name.startswith("4") else []:
        # A short def is right where it is the experiment (a loss of one's own), a study is not.
        if isinstance(node, ast.ClassDef) or len(ast.unparse(node).splitlines()) > LONGEST_IN_A_CELL:
            found.append(f"defines in a cell what belongs in the library: {node.name}")
    return found


def test_notebooks_are_stripped_and_have_parameters():
    found = {path.name: problems(json.loads(path.read_text(encoding="utf-8")), path.name) for path in notebooks()}
    assert {name: problem for name, problem in found.items() if problem} == {}


def test_each_problem_of_a_notebook_is_seen():
    def cell(source, *, tags=(), outputs=()):
        return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}, "outputs": list(outputs)}

    good = cell("profile: str = 'tiny'\nseeds: int = 3", tags=["parameters"])
    assert problems({"cells": [good]}, "13_x.ipynb") == []
    assert "outputs" in problems({"cells": [good, cell("1", outputs=[{}])]}, "13_x.ipynb")[0]
    assert "tag" in problems({"cells": [cell("1"), good]}, "13_x.ipynb")[0]
    assert "seeds" in problems({"cells": [cell("profile: str = 'tiny'", tags=["parameters"])]}, "13_x.ipynb")[0]
    study = cell("def f():\n" + "    pass\n" * LONGEST_IN_A_CELL)
    assert "library" in problems({"cells": [good, study]}, "13_x.ipynb")[0]
    assert "library" in problems({"cells": [good, cell("class C:\n    pass")]}, "13_x.ipynb")[0]
    assert problems({"cells": [good, study]}, "40_x.ipynb") == []
    assert problems({"cells": [good, cell("def hinge(a, b):\n    return a - b")]}, "13_x.ipynb") == []


def test_notebooks_pass_the_stripping_hook():
    # The very command of .pre-commit-config.yaml, asked to verify instead of to strip.
    if not notebooks():
        pytest.skip("no notebooks in this checkout")
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    entry = shlex.split(next(hook["entry"] for hook in hooks if hook["id"] == "nbstripout"))
    command = [sys.executable, "-m", "nbstripout", *entry[1:], "--verify", *map(str, notebooks())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- one lock -----------------------------------------------------------------------------------------------------


def requirements() -> list[Requirement]:
    described = project()["project"]
    return [Requirement(line) for line in described["dependencies"] + described["optional-dependencies"]["test"]]


def test_every_dependency_is_pinned_within_its_range():
    locked = pins()
    loose = {
        requirement.name: locked.get(canonical(requirement.name), "not in constraints.txt")
        for requirement in requirements()
        if not requirement.specifier.contains(locked.get(canonical(requirement.name), "0"), prereleases=True)
    }
    assert loose == {}


def installed_by(names: Iterable[str]) -> set[str]:
    """Canonical names of the distributions that these bring along, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonical(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needed = map(Requirement, requires(name) or ())
        except PackageNotFoundError:
            continue  # a dependency of another platform
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def imported_in(folder: str) -> set[str]:
    """Top-level names that the Python files of `folder` import, the standard library's left out."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module)
    return {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"zephyr_lab"}


def test_what_the_package_imports_is_installed_with_it():
    described = project()["project"]
    available = installed_by(Requirement(line).name for line in described["dependencies"])
    extras = (line for name, lines in described["optional-dependencies"].items() if name != "test" for line in lines)
    available |= {canonical(Requirement(line).name) for line in extras}
    owners = packages_distributions()
    unknown = {
        name: owners.get(name)
        for name in imported_in("zephyr_lab")
        if not {canonical(owner) for owner in owners.get(name, [name])} & available
    }
    assert unknown == {}


def test_this_environment_is_the_locked_one():
    differing = {}
    for name, pinned in pins().items():
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue  # a dependency of another platform
        if installed != pinned:
            differing[name] = f"{installed} installed, {pinned} locked (make setup)"
    assert differing == {}


def test_the_lock_has_no_local_version_and_no_path():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    strange = [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.!]+", line)]
    assert strange == []


def test_lock_turns_a_freeze_into_constraints():
    freeze = (
        "torch==2.13.0+cpu\n# Editable install\n-e git+ssh://x@y#egg=zephyr_lab\nzephyr-lab==0.1.0\nJinja2==3.1.6\n"
    )
    lines = lock.constraints(freeze).splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["Jinja2==3.1.6", "torch==2.13.0"]


def test_lock_pins_a_package_from_a_file_by_its_installed_version():
    assert f"pytest=={version('pytest')}" in lock.constraints("pytest @ file:///somewhere/pytest.whl").splitlines()


def test_lock_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="--find-links"):
        lock.constraints("--find-links somewhere\n")


def test_conda_takes_python_alone_and_the_lock():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    python = next(line.split("=")[1] for line in listed if isinstance(line, str) and line.startswith("python="))
    assert SpecifierSet(project()["project"]["requires-python"]).contains(python)
    from_pip = next(line["pip"] for line in listed if isinstance(line, dict))
    assert from_pip == ["--constraint constraints.txt", "--editable .[test]"]


# --- the two commands, with and without make -----------------------------------------------------------------------


def make(*arguments: str) -> list[str]:
    """What make prints, free of what an outer `make test` has exported."""
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PROFILE", "SEEDS", *bootstrap.environment("tiny")}
    variables = {name: value for name, value in os.environ.items() if name not in outer}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=variables,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def commands_of_make(target: str, *variables: str) -> list[str]:
    """The commands that `make TARGET` would run once .venv stands."""
    lines = make("-n", "-o", ".venv/.installed", target, *variables)
    return [shlex.join(shlex.split(line)) for line in lines if line.startswith(".venv")]


@pytest.mark.parametrize("profile, seeds", [("tiny", 3), ("gpu", 5)])
def test_bootstrap_takes_the_steps_of_make(profile, seeds):
    steps = {target: [shlex.join(c) for c in bootstrap.commands(target, profile, seeds)] for target in ("run", "test")}
    assert commands_of_make("reproduce", f"PROFILE={profile}", f"SEEDS={seeds}") == steps["run"]
    assert commands_of_make("test") == steps["test"]
    for target in ("bench", "bench-check"):
        assert commands_of_make(target) == [shlex.join(c) for c in bootstrap.commands(target, profile, seeds)]


@pytest.mark.parametrize("profile", ["tiny", "paper"])
def test_bootstrap_sets_the_variables_of_make(profile, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    shown = make("-s", "--eval", "show: ; @env", "show", f"PROFILE={profile}")
    of_make = dict(line.split("=", 1) for line in shown if "=" in line)
    wanted = bootstrap.environment(profile)
    assert {name: of_make.get(name) for name in wanted} == wanted
    exported = re.findall(r"^export (\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert sorted(exported) == sorted(wanted)


def test_bootstrap_installs_once_and_again_when_the_lock_changes(tmp_path):
    for name in bootstrap.STAMPED:
        (tmp_path / name).touch()
    first = bootstrap.setup_commands(tmp_path, "python3.11")
    assert first[0] == ("python3.11", "-m", "venv", "--clear", ".venv")
    assert first[1][-5:] == ("-qq", "-c", "constraints.txt", "-e", ".[test]")
    (tmp_path / bootstrap.BIN).mkdir(parents=True)
    (tmp_path / bootstrap.BIN / "pip").touch()
    (tmp_path / bootstrap.STAMP).touch()
    assert bootstrap.setup_commands(tmp_path, "python3.11") == []
    later = (tmp_path / bootstrap.STAMP).stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert bootstrap.setup_commands(tmp_path, "python3.11") == first[1:]


def test_hooks_are_valid_and_local():
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    described = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in described["repos"]] == ["local"]
    assert {hook["language"] for hook in described["repos"][0]["hooks"]} == {"system"}


# --- who wrote it, and under what licence ---------------------------------------------------------------------------


def test_citation_names_this_version_and_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    described = project()["project"]
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == described["version"]
    assert cited["license"] == described["license"] == "Apache-2.0"
    assert {"message", "title", "authors", "type"} <= set(cited)
    people = cited["authors"] + [person for reference in cited["references"] for person in reference["authors"]]
    assert all("name" in person or {"family-names", "given-names"} <= set(person) for person in people)


def test_citation_names_the_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    numbers = [reference["identifiers"][0]["value"] for reference in cited["references"]]
    assert numbers == ["arXiv:2310.16944", "arXiv:2406.19112", "arXiv:2603.09527"]


def test_the_licence_is_the_whole_apache_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text[:200] and "END OF TERMS AND CONDITIONS" in text
    assert len(text.split()) > 1500
