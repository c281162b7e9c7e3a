"""Checks of the exercises in notebook 44: what is wrong with an answer, in one sentence, and never an exception.

An answer is a function. It is called on two small inputs in float64 and compared with the solution in
`exercise_answers`; the wrong values that a usual slip would give are known, so a check can name the slip.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zephyr_lab.teaching.exercise_answers import EXERCISES, Exercise


@dataclass(frozen=True)
class Verdict:
    """What a check says: whether the exercise is done, and one sentence."""

    exercise: str
    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'done' if self.passed else 'not yet'}  {self.exercise}: {self.message}"


def check(exercise: str, answer: Any) -> Verdict:
    """The verdict on `answer`, a function; whatever it does or returns, nothing is raised but for an unknown exercise.

    Raises ValueError for a name that is no exercise.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"no exercise named {exercise!r}; known: {', '.join(EXERCISES)}")
    if not callable(answer):
        return Verdict(exercise, False, f"expected a function, got {type(answer).__name__}.")
    wrong = None
    for inputs in EXERCISES[exercise].inputs:
        wrong = wrong or _wrong(EXERCISES[exercise], answer, inputs)
    return Verdict(exercise, wrong is None, wrong or "right on both inputs.")


def overview(answers: Mapping[str, Any]) -> list[Verdict]:
    """The verdicts on all exercises; `answers` holds the functions by name (globals() of a notebook serves)."""
    return [check(name, answers.get(name)) for name in EXERCISES]


def _wrong(exercise: Exercise, answer: Callable[..., Any], inputs: Mapping[str, Any]) -> str | None:
    """One sentence on what is wrong with `answer` on `inputs`; None where nothing is."""
    tensors = {name: _tensor(value) for name, value in inputs.items()}
    try:
        got = answer(**tensors)
    except (Exception, SystemExit) as error:
        return _error(error)
    for name, value in inputs.items():
        if isinstance(value, np.ndarray) and not torch.equal(tensors[name], _tensor(value)):
            return f"it changes its argument {name} in place; work on a copy: others use it too."
    expected = torch.from_numpy(np.asarray(exercise.solution(**inputs)))
    return _wrong_form(got, expected) or _wrong_values(exercise, got.detach(), expected, inputs)


def _error(error: BaseException) -> str:
    """The student's error, with the line of the student's code where there is one."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    where = f" in line {frames[0].lineno} of your cell" if frames and frames[0].lineno else ""
    text = str(error).splitlines()
    return f"it stops with {type(error).__name__}{where}{': ' + text[0] if text else ''}."


def _wrong_form(got: Any, expected: Tensor) -> str | None:
    if got is None or got is Ellipsis:
        return "still open: it returns nothing; replace the ... and return a tensor."
    if not isinstance(got, Tensor):
        return f"it returns {_article(type(got).__name__)}; expected a tensor."
    if got.shape != expected.shape:
        return f"the shape is {tuple(got.shape)}, expected {tuple(expected.shape)}{_reduced(got, expected)}."
    if got.dtype != expected.dtype:
        return (
            f"the dtype is {got.dtype}, expected {expected.dtype}: compute in the dtype of the inputs, convert nothing."
        )
    not_finite = ~torch.isfinite(got)
    if not_finite.any():
        kind = "NaN" if got.isnan().any() else "infinite"
        return f"{int(not_finite.sum())} of {got.numel()} values are {kind}."
    return None


def _wrong_values(exercise: Exercise, got: Tensor, expected: Tensor, inputs: Mapping[str, Any]) -> str | None:
    if torch.allclose(got, expected, rtol=1e-6, atol=1e-9):
        return None
    for slip, wrong in exercise.slips.items():
        value = np.asarray(wrong(**inputs))
        if value.shape == got.shape and np.allclose(got.numpy(), value, rtol=1e-6, atol=1e-9):
            return f"these are the values that one gets {slip}."
    off = (got - expected).abs()
    position = tuple(int(one) for one in np.unravel_index(int(off.argmax()), got.shape))
    return f"values are off by up to {off.max().item():.3g}{f' at position {position}' if position else ''}."


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def _reduced(got: Tensor, expected: Tensor) -> str:
    return " (one number for each, not their mean)" if got.ndim == 0 and expected.ndim else ""


def _article(name: str) -> str:
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
