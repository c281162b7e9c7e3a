"""Functions of a notebook travel as text: they run the same elsewhere, and what cannot travel is refused by name."""

import json
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import logsigmoid

from zephyr_lab.engine.own_code import captured, restored
from zephyr_lab.losses.dpo import dpo_loss

SCALE = 0.5
TABLE = {"a": (1, [2.5, None]), "b": "text"}


def helper(x):
    return SCALE * x


def twice(x):
    """A docstring that does not count."""
    return helper(x) + helper(x)  # nor does a comment


def with_imports(x: torch.Tensor) -> torch.Tensor:
    return -logsigmoid(torch.relu(x)) * len(TABLE["a"][1])


@pytest.mark.parametrize("function, given", [(helper, 3.0), (with_imports, torch.tensor([1.0, -2.0]))])
def test_what_comes_back_gives_the_same(function, given, monkeypatch):
    text = captured(in_notebook(function))
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 7.0)  # the value of then, not of now
    again = restored(text)
    assert torch.equal(
        torch.as_tensor(again(given)), torch.as_tensor(0.5 * given if function is helper else function(given))
    )


def in_notebook(function):
    function.__module__ = "__main__"
    return function


def test_functions_that_it_calls_come_along_and_run_in_another_process():
    text = captured(_marked())
    assert set(json.loads(text)["values"]) == {"SCALE"}
    program = f"from zephyr_lab.engine.own_code import restored\nprint(restored({text!r})(4.0))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "4.0\n"


def _marked():
    for function in (helper, twice):
        function.__module__ = "__main__"
    return twice


def test_a_comment_or_an_annotation_changes_nothing_and_a_number_does():
    def one(x):
        return x + 1

    first = captured(one)

    def one(x: float) -> float:
        """Said otherwise."""
        return x + 1  # the same

    second = captured(one)

    def one(x):
        return x + 2

    assert first == second != captured(one)


def test_a_value_it_uses_is_part_of_the_text():
    def with_margin(margin):
        def hinge(policy, reference):
            return torch.relu(margin - (policy.chosen - reference.chosen))

        return captured(hinge)

    assert with_margin(1.0) == with_margin(1.0) != with_margin(2.0)


def test_code_of_the_project_that_it_calls_is_part_of_the_text(monkeypatch):
    def own(policy, reference):
        return dpo_loss(policy, reference, beta=0.1)

    content = json.loads(captured(own))
    assert content["imports"] == {"dpo_loss": "zephyr_lab.losses.dpo:dpo_loss"}

    def other(policy, reference):
        return policy

    assert content["reaches"] != json.loads(captured(other))["reaches"]


def test_what_a_worker_cannot_have_is_refused_by_name():
    frame = torch.zeros(2)

    def uses_a_tensor(x):
        return x + frame

    def uses_nothing_known(x):
        return x + absent  # noqa: F821

    with pytest.raises(ValueError, match=r"uses_a_tensor uses 'frame', a Tensor that a worker cannot have; use plain"):
        captured(uses_a_tensor)
    with pytest.raises(ValueError, match=r"uses_nothing_known uses 'absent', which the notebook does not define"):
        captured(uses_nothing_known)
    with pytest.raises(ValueError, match=r"is a lambda or part of a line|is not a definition by itself"):
        captured(lambda x: x)
    with pytest.raises(ValueError, match="is not a function with source of its own"):
        captured(torch.relu)


def test_inner_functions_and_comprehensions_see_what_is_around_them():
    offset = 3

    def outer(values):
        def inner(value):
            return value + offset

        return [inner(value) for value in values if value > SCALE]

    assert restored(captured(outer))([0, 1, 2]) == [4, 5]
