"""Notebook 44: solutions pass, holes fail, every usual slip is named, and no answer, however broken, raises."""

import json
import math
from pathlib import Path

import pytest
import torch

from zephyr_lab.core import session
from zephyr_lab.losses import dpo, ipo, kl_estimators, policy_gradient, ppo, reward_model
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.teaching import exercises
from zephyr_lab.teaching.exercises import EXERCISES

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
HOLES, SOLUTIONS = NOTEBOOKS / "44_exercises.ipynb", NOTEBOOKS / "solutions" / "44_exercises.ipynb"


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run(path, monkeypatch):
    """The namespace after all code cells of a notebook, run in order in this process."""
    monkeypatch.setattr(session, "_current", session.current())
    names = {}
    before = torch.get_default_dtype()
    try:
        for cell in cells(path):
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    finally:
        torch.set_default_dtype(before)
    return names


def tensors(inputs):
    return {name: exercises._tensor(value) for name, value in inputs.items()}


def test_the_solutions_pass(monkeypatch):
    verdicts = exercises.overview(run(SOLUTIONS, monkeypatch))
    assert [verdict.exercise for verdict in verdicts] == list(EXERCISES)
    assert [repr(verdict) for verdict in verdicts if not verdict.passed] == []


def test_the_holes_fail_and_the_notebook_runs_on(monkeypatch):
    verdicts = exercises.overview(run(HOLES, monkeypatch))
    assert not any(verdict.passed for verdict in verdicts)
    assert {verdict.message for verdict in verdicts} == {
        "still open: it returns nothing; replace the ... and return a tensor."
    }


def test_both_notebooks_are_one_but_for_the_answers():
    ours, theirs = cells(HOLES), cells(SOLUTIONS)
    assert [cell["id"] for cell in ours] == [cell["id"] for cell in theirs]
    differing = [a["id"] for a, b in zip(ours, theirs, strict=True) if a["source"] != b["source"]]
    answers = [cell["id"] for cell in ours if "answer" in cell["metadata"].get("tags", [])]
    assert differing == answers and len(answers) == len(EXERCISES)


def library(name, given):
    """What the library's own loss says of an exercise's inputs."""
    if name in ("dpo_loss", "ipo_loss"):
        sides = [PairLogProbs(given[f"{who}_chosen"], given[f"{who}_rejected"]) for who in ("policy", "reference")]
        return dpo.dpo_loss(*sides, beta=given["beta"]) if "beta" in given else ipo.ipo_loss(*sides, tau=given["tau"])
    return {
        "preference_chance": reward_model.preference_probabilities,
        "rloo_advantages": policy_gradient.rloo_advantages,
        "clipped_loss": ppo.clipped_surrogate_loss,
        "kl_estimate": kl_estimators.k3,
    }[name](**given)


@pytest.mark.parametrize("name", sorted(set(EXERCISES) - {"response_log_prob", "best_policy"}))
def test_what_is_right_here_is_the_library_s(name):
    for inputs in EXERCISES[name].inputs:
        expected = torch.from_numpy(EXERCISES[name].solution(**inputs))
        torch.testing.assert_close(library(name, tensors(inputs)), expected)


def test_the_log_probability_of_a_response_by_a_loop():
    for inputs in EXERCISES["response_log_prob"].inputs:
        found = EXERCISES["response_log_prob"].solution(**inputs)
        logits, ids, mask = (inputs[name] for name in ("logits", "ids", "mask"))
        for row in range(len(ids)):
            total = 0.0
            for place in range(1, ids.shape[1]):
                if mask[row, place]:
                    weights = [math.exp(one) for one in logits[row, place - 1]]
                    total += math.log(weights[ids[row, place]] / sum(weights))
            assert found[row] == pytest.approx(total)


@pytest.mark.parametrize(("name", "slip"), [(name, slip) for name, one in EXERCISES.items() for slip in one.slips])
def test_every_usual_slip_is_called_by_its_name(name, slip):
    wrong = EXERCISES[name].slips[slip]

    def answer(**given):
        arrays = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in given.items()}
        return torch.from_numpy(wrong(**arrays))

    verdict = exercises.check(name, answer)
    assert not verdict.passed
    assert verdict.message == f"these are the values that one gets {slip}."


def raises_in_its_third_line(chosen, rejected):
    difference = chosen - rejected
    return difference["reward"]


BROKEN = {
    "no function": (torch.zeros(3), "expected a function, got Tensor."),
    "ellipsis": (lambda chosen, rejected: ..., "still open"),
    "a float": (lambda chosen, rejected: 0.5, "it returns a float; expected a tensor."),
    "shape": (lambda chosen, rejected: torch.zeros(2, dtype=torch.float64), r"the shape is (2,), expected (3,)."),
    "a mean": (
        lambda chosen, rejected: torch.sigmoid(chosen - rejected).mean(),
        "the shape is (), expected (3,) (one number for each, not their mean).",
    ),
    "dtype": (
        lambda chosen, rejected: torch.sigmoid(chosen - rejected).float(),
        "the dtype is torch.float32, expected torch.float64: compute in the dtype of the inputs, convert nothing.",
    ),
    "NaN": (lambda chosen, rejected: (chosen - rejected) * math.nan, "3 of 3 values are NaN."),
    "infinite": (lambda chosen, rejected: chosen / 0.0, "3 of 3 values are infinite."),
    "an error": (raises_in_its_third_line, "it stops with IndexError in line"),
    "wrong arguments": (lambda chosen: chosen, "it stops with TypeError"),
    "leaving Python": (lambda chosen, rejected: exit(1), "it stops with SystemExit"),
    "endless recursion": (lambda **given: BROKEN["endless recursion"][0](**given), "it stops with RecursionError"),
    "changes what it is given": (
        lambda chosen, rejected: torch.sigmoid(chosen.sub_(rejected)),
        "it changes its argument chosen in place; work on a copy: others use it too.",
    ),
    "other values": (lambda chosen, rejected: torch.sigmoid(chosen - rejected) ** 2, "values are off by up to 0."),
    "a tensor that needs a gradient": (
        lambda chosen, rejected: torch.sigmoid((chosen + 1).requires_grad_() - rejected),
        "values are off by up to 0.",
    ),
    "a constant that fits the first input alone": (
        lambda chosen, rejected: torch.from_numpy(
            EXERCISES["preference_chance"].solution(**EXERCISES["preference_chance"].inputs[0])
        ),
        "the shape is (3,), expected (4,).",
    ),
}


@pytest.mark.parametrize("answer", BROKEN)
def test_a_broken_answer_gets_one_sentence_and_nothing_is_raised(answer):
    given, expected = BROKEN[answer]
    verdict = exercises.check("preference_chance", given)
    assert not verdict.passed
    assert verdict.message.startswith(expected)
    assert "\n" not in repr(verdict) and repr(verdict).startswith("not yet  preference_chance: ")


def test_the_line_of_an_error_is_the_student_s():
    line = raises_in_its_third_line.__code__.co_firstlineno + 2
    assert f"in line {line} of your cell" in exercises.check("preference_chance", raises_in_its_third_line).message


def test_an_answer_that_is_missing_is_open_and_an_unknown_exercise_an_error():
    assert exercises.overview({})[0].message == "expected a function, got NoneType."
    with pytest.raises(ValueError, match="no exercise named 'grpo'; known: response_log_prob, preference_chance"):
        exercises.check("grpo", None)
