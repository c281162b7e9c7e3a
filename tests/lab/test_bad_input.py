"""Wrong names and values: one plain line on stderr, exit code 2, and no kernel started."""

import time

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--profile", "huge"], "no profile named 'huge'; known: smoke, tiny, world-gpu, gpu, paper"),
        (["run", "77"], "no notebook numbered '77'; known: 10, 11, 12, 90"),
        (["run", "10", "-p", "beta=0.1"], "notebook 10 has no parameter named 'beta'; known: profile, seeds, pause"),
        (["run", "10", "-p", "pause=soon"], "parameter pause must be float, got 'soon'"),
        (["run", "10", "--seeds", "0"], "parameter seeds must be at least 1, got 0"),
        (["run", "10", "-p", "seeds"], "-p takes name=value, got 'seeds'"),
        (["run", "10", "--jobs", "-1"], "jobs must be at least 1, got -1"),
        (["list", "cakes"], "nothing to list under 'cakes'; known: notebooks, data"),
        (["trace", "build/tiny/figures/none.svg"], "no run made 'build/tiny/figures/none.svg'"),
    ],
)
def test_one_line_and_exit_code_2(toy, arguments, said):
    began = time.monotonic()
    result = toy.run(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert not (toy.root / "build").exists() and not (toy.root / "runs").exists()
    assert time.monotonic() - began < 10  # 2 s on an idle machine: no kernel, no torch


def test_a_broken_notebook_is_named(toy):
    (toy.root / "notebooks" / "13_broken.ipynb").write_text("{")
    result = toy.run("list")
    assert result.returncode == 2
    assert "13_broken.ipynb is not JSON" in result.stderr


def test_a_notebook_without_a_parameters_cell_is_named(toy):
    toy.edit("notebooks/11_two.ipynb", '"parameters"', '"parameter"')
    assert "11_two.ipynb has 0 cells tagged 'parameters'; exactly one is needed" in toy.run("run").stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seeds: int = ", "11_two.ipynb, parameters cell, line 2: invalid syntax"),
        ('seeds: int = "3', "11_two.ipynb, parameters cell, line 2: unterminated string literal"),
        ('seeds: int = "3"', "11_two.ipynb: parameter seeds is int, but its default is '3'"),
        ("seeds: list = 3", "11_two.ipynb: parameter seeds has type list; known: str, int, float, bool"),
        ("seeds = 3", "11_two.ipynb: a parameters cell holds lines `name: type = value # help` only"),
    ],
)
def test_a_broken_parameters_cell_is_named(toy, line, said):
    path = toy.root / "notebooks" / "11_two.ipynb"
    path.write_text(path.read_text().replace("seeds: int = 3", line.replace('"', '\\"')))
    result = toy.run("list")
    assert result.returncode == 2
    assert said in result.stderr


def test_a_module_that_does_not_parse_is_named(toy):
    toy.edit("toy_recipes/other.py", "return 2", "return return 2")
    result = toy.run("run", "12")
    assert (result.returncode, result.stderr) == (2, "zephyr-lab: other.py, line 5: invalid syntax\n")


def test_a_full_disk_is_told_in_one_line(toy):
    code = """
import builtins, errno, os, sys
from zephyr_lab.core import files
def refuse(*arguments, **keywords):
    raise OSError(errno.ENOSPC, "No space left on device", "build/tiny/x")
files.tempfile.mkstemp = refuse
from zephyr_lab.cli.main import main
sys.argv = ["zephyr-lab", "run", "10"]
main()
"""
    result = toy.python(code)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("zephyr-lab: [Errno 28] No space left on device")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--beta"], "No such option: --beta"),
        (["run", "--seeds", "many"], "Invalid value for '--seeds'"),
        (["score"], "Missing command."),
        (["cook"], "No such command 'cook'."),
    ],
)
def test_a_wrong_option_or_command_is_one_line_too(toy, arguments, said):
    result = toy.run(*arguments)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
