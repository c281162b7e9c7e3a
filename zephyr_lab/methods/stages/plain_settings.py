"""The settings of a training function out of the recipe of its stage, without what is the stage's own.

A stage's recipe may name in words what the function is handed as an object: `reward`, `loss`.
"""

import dataclasses
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def settings_of(recipe: Any, kind: type[Settings]) -> Settings:
    """The fields of `kind`, a dataclass that the class of `recipe` inherits from, with the recipe's values."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in dataclasses.asdict(recipe).items() if name in names})
