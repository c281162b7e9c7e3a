"""A stage: one training or computing step, known by the hash of everything that shapes its result.

The key covers the recipe, the keys of the inputs, the seed, the source of the build function's module with all it
imports, and the versions of the libraries whose arithmetic shows. Hardware, progress and storage are not in it.
Keys are computed from files; neither the build function nor torch is imported.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any

from zephyr_lab.core import source

COUNTED_VERSIONS = ("torch", "transformers", "trl", "tokenizers", "numpy")


@dataclass(frozen=True)
class Stage:
    """What to build, not how it went.

    name: folder in the store ("base", "dsft"); build: "package.module:function", imported in a worker alone;
    recipe: a frozen dataclass of plain values (numbers, strings, tuples); inputs: role -> stage.
    """

    name: str
    build: str
    recipe: Any
    seed: int = 0
    inputs: Mapping[str, "Stage"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, colon, function = self.build.partition(":")
        if not (module and colon and function):
            raise ValueError(f"stage {self.name}: build must be 'package.module:function', got {self.build!r}")
        if not (dataclasses.is_dataclass(self.recipe) and self.recipe.__dataclass_params__.frozen):  # type: ignore[attr-defined]
            raise TypeError(f"stage {self.name}: recipe must be a frozen dataclass, got {type(self.recipe).__name__}")

    @property
    def module(self) -> str:
        return self.build.partition(":")[0]


def key(stage: Stage) -> str:
    """24 hex digits that name the result of `stage`; equal keys, equal artefacts (same machine, one thread)."""
    content = json.dumps(description(stage), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def description(stage: Stage) -> dict[str, Any]:
    """Everything the key is made of, as plain JSON."""
    return {
        "name": stage.name,
        "build": stage.build,
        "recipe": {"class": recipe_class(stage.recipe), **dataclasses.asdict(stage.recipe)},
        "seed": stage.seed,
        "inputs": {role: key(other) for role, other in sorted(stage.inputs.items())},
        "source": source.digest([stage.module, type(stage.recipe).__module__]),
        "versions": counted_versions(),
    }


def recipe_class(recipe: Any) -> str:
    return f"{type(recipe).__module__}:{type(recipe).__qualname__}"


@lru_cache(maxsize=1)
def counted_versions() -> dict[str, str]:
    """Installed versions that the key covers, without local build marks ("2.13.0+cpu" counts as "2.13.0")."""
    found = {}
    for name in COUNTED_VERSIONS:
        try:
            found[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def in_order(stages: Iterable[Stage]) -> dict[str, Stage]:
    """key -> stage of `stages` and all their inputs, each after its inputs, each key once."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        name = key(stage)
        if name not in ordered:
            for other in stage.inputs.values():
                visit(other)
            ordered[name] = stage

    for stage in stages:
        visit(stage)
    return ordered
