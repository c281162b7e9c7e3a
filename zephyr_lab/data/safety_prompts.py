"""Prompts that show where a model of real language holds back: safety_prompts.toml, beside this file."""

import tomllib
from functools import cache
from importlib import resources

KINDS = ("harmless", "harmful", "unanswerable", "answerable")


@cache
def _all() -> dict[str, list[str]]:
    return tomllib.loads((resources.files(__package__) / "safety_prompts.toml").read_text("utf-8"))


def prompts(kind: str) -> list[str]:
    """The prompts of one of `KINDS`, which the file describes: 30 each harmless and harmful, 20 each of the others.

    >>> [len(prompts(kind)) for kind in KINDS]
    [30, 30, 20, 20]

    Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no prompts of kind {kind!r}; known: {', '.join(KINDS)}")
    return list(_all()[kind])
