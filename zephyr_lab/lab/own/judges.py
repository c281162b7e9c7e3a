"""Judges of two answers that a user names, and the embedded world's exact one: (question, a, b) -> 0, 0.5 or 1."""

import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path

from zephyr_lab.data.splits import Prompt
from zephyr_lab.lab.own.measures import Judge
from zephyr_lab.world.judge import PairJudge
from zephyr_lab.world.task import Turn


def load(name: str) -> Judge:
    """The function that `judges.py:brief` names: a file of your own, which is run, and a function of three texts in it.

    Raises ValueError for another form or another number of arguments, FileNotFoundError where there is no such file.
    """
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise ValueError(f"a judge is named as FILE.py:FUNCTION, got {name!r}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path} for the judge {function}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    judge = getattr(module, function, None)
    if not callable(judge):
        known = ", ".join(sorted(one for one, value in vars(module).items() if inspect.isfunction(value)))
        raise ValueError(f"{path} has no function {function!r}; known: {known or 'none'}")
    try:
        inspect.signature(judge).bind("question", "a", "b")
    except TypeError as error:
        raise ValueError(f"{name} must take (question, answer_a, answer_b): {error}") from None
    return judge


def of_world(turns: Sequence[Turn]) -> Judge:
    """The exact judge of the world's questions, without error. It raises KeyError for a question of another kind."""
    by_prompt = {turn.prompt: turn for turn in turns}
    exact = PairJudge()

    def judge(question: str, first: str, second: str) -> float:
        return 2 - exact.compare(by_prompt[question], first, second).preference

    return judge


def question_of(prompt: Prompt) -> str:
    """A prompt as a judge reads it: a text or a lone question as it is, else a paragraph a message with its role."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
