"""Keys: what moves them and what does not, and that they cost no torch."""

import subprocess
import sys
from dataclasses import dataclass, replace

import pytest

from zephyr_lab.engine import stages
from zephyr_lab.engine.stages import Resolution, Stage, key
from zephyr_lab.engine.symbols import reading_now


@dataclass(frozen=True)
class Recipe:
    steps: int = 3


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the package `small`: two modules, one of which imports the other and a plumbing module."""
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(
        "from small import maths\nfrom zephyr_lab.core import files\n\ndef build():\n    return maths.one()\n"
    )
    (package / "maths.py").write_text('"""One."""\n\ndef one():\n    """It."""\n    return 1\n')
    (package / "recipes.py").write_text("class Recipe:\n    steps: int = 3\n")
    (package / "unused.py").write_text("x = 1\n")
    return package


@pytest.fixture
def stage(project, monkeypatch):
    monkeypatch.setattr(Recipe, "__module__", "small.recipes")
    return Stage("base", "small.train:build", Recipe())


def test_recipe_seed_inputs_and_name_move_the_key(stage):
    keys = {
        key(stage),
        key(replace(stage, recipe=Recipe(4))),
        key(replace(stage, seed=1)),
        key(replace(stage, name="other")),
        key(replace(stage, inputs={"base": stage})),
        key(replace(stage, inputs={"reference": stage})),
    }
    assert len(keys) == 6


def test_comments_docstrings_and_unrelated_modules_do_not(stage, project):
    before = key(stage)
    (project / "maths.py").write_text('"""Another text."""\ndef one():\n    # the first number\n    return 1\n')
    (project / "unused.py").write_text("x = 2\n")
    assert key(stage) == before


def test_code_of_an_imported_module_does(stage, project):
    before = key(stage)
    (project / "maths.py").write_text("def one():\n    return 2\n")
    assert key(stage) != before


def test_library_versions_do(stage, monkeypatch):
    before = key(stage)
    monkeypatch.setattr(stages, "counted_versions", lambda: {"torch": "0.0"})
    assert key(stage) != before


def test_libraries_of_a_closure_are_the_names_it_imports_from_outside(project):
    (project / "maths.py").write_text(
        "import torch.nn\nfrom trl import DPOTrainer\nfrom small import unused\n\ndef one():\n    return 1\n"
    )
    assert reading_now().of("small.train:build").libraries == ["torch.nn", "trl.DPOTrainer"]


def test_a_file_elsewhere_that_does_not_parse_stops_nobody(stage, project):
    (project / "unused.py").write_text("x = = 2\n")
    assert key(stage)
    (project / "maths.py").write_text("def one(:\n")
    with pytest.raises(ValueError, match=r"maths\.py, line 1: invalid syntax"):
        key(stage)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("small.gone:build", "no module named 'small.gone' in the project"),
        ("small.train:gone", "module small.train defines no 'gone'"),
    ],
)
def test_what_does_not_exist_is_named(project, name, said):
    with pytest.raises(ValueError, match=said):
        reading_now().of(name)


def test_inputs_come_before_their_users_and_once(stage):
    left, right = replace(stage, name="l", inputs={"b": stage}), replace(stage, name="r", inputs={"b": stage})
    top = replace(stage, name="top", inputs={"l": left, "r": right})
    resolution = Resolution()
    resolution.add(top)
    assert [item.stage.name for item in resolution.ordered.values()] == ["base", "l", "r", "top"]


def test_a_recipe_that_could_change_after_its_key_was_taken_is_refused():
    @dataclass
    class Loose:
        steps: int = 3

    with pytest.raises(TypeError, match="recipe must be a frozen dataclass, got Loose"):
        Stage("base", "small.train:build", Loose())
    with pytest.raises(ValueError, match="a name is one folder"):
        Stage("arm/base", "small.train:build", Recipe())
    with pytest.raises(ValueError, match=r"build must be 'package\.module:function', got 'small\.train'"):
        Stage("base", "small.train", Recipe())


def test_keys_and_settings_and_the_command_line_need_no_torch():
    code = (
        "import sys\n"
        "from zephyr_lab.core import settings\n"
        "from zephyr_lab.engine import stages, store\n"
        "import zephyr_lab.engine.runner, zephyr_lab.engine.scheduler, zephyr_lab.cli.lab\n"
        "from zephyr_lab.engine.symbols import reading_now\n"
        "print(reading_now().of('zephyr_lab.methods.stages.sft:build').digest)\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'transformers', 'papermill', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
