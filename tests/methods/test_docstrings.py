"""The examples in the docstrings of the training functions run as they are printed."""

import doctest
import importlib
import pkgutil

import pytest

import zephyr_lab.methods
from zephyr_lab.models import example


def train_functions():
    """Every public training function, by name."""
    found = {}
    for module in pkgutil.iter_modules(zephyr_lab.methods.__path__):
        if not module.ispkg:
            names = vars(importlib.import_module(f"zephyr_lab.methods.{module.name}"))
            found |= {
                name: one
                for name, one in names.items()
                if name.startswith("train_") and one.__module__ == f"zephyr_lab.methods.{module.name}"
            }
    return found


FUNCTIONS = train_functions()
BY_ANOTHER = {  # whose example is that of the function named, or runs in a test of its own
    "train_policy_gradient": "train_rloo", "train_grpo": "train_rloo", "train_kto": "train_preference",
    "train_draft": "tests/methods/test_train_draft.py",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_example_runs_as_it_is_printed(name):
    function = FUNCTIONS[name]
    globs = dict(vars(importlib.import_module(function.__module__)))
    (found,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=globs)
    if name in BY_ANOTHER:
        assert not found.examples
        return
    assert found.examples, f"{name} has no example"
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(found).failed == 0


def test_the_example_model_is_as_small_as_it_says():
    (found,) = doctest.DocTestFinder(recurse=False).find(example.example_model, globs=vars(example))
    assert doctest.DocTestRunner().run(found).failed == 0


def test_the_functions_are_those_of_the_readme():
    from zephyr_lab.core import paths

    text = (paths.project_root() / "README.md").read_text(encoding="utf-8")
    assert [name for name in FUNCTIONS if f"{name}`" not in text and name != "train_policy_gradient"] == []
