"""A stage: one computing step, known by the hash of everything that shapes its result.

The key covers the recipe, the keys of the inputs, the seed, the functions, classes and constants that the build
function reaches, and the versions of the libraries whose arithmetic shows. Hardware, progress and storage are not in
it, nor where the code stands: a module that moves keeps the keys of its stages. Keys are computed from files; neither
the build function nor a library is imported.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any

from zephyr_lab.core.libraries import COUNTED_VERSIONS
from zephyr_lab.engine.symbols import Closure, reading_now

SCHEMA = 2  # of a description; 1 counted whole modules and named them


@dataclass(frozen=True)
class Stage:
    """What to build, not how it went.

    name: folder in the store ("base"); build: "package.module:function", imported in a worker alone;
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
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", self.name):
            raise ValueError(f"stage {self.name!r}: a name is one folder: letters, digits, _ . + -")
        if not (dataclasses.is_dataclass(self.recipe) and self.recipe.__dataclass_params__.frozen):  # type: ignore[attr-defined]
            raise TypeError(f"stage {self.name}: recipe must be a frozen dataclass, got {type(self.recipe).__name__}")

    @property
    def code(self) -> tuple[str, str]:
        """The definitions whose source the key covers, with all they reach: build function and recipe."""
        return self.build, recipe_class(self.recipe)


@dataclass(frozen=True)
class Resolved:
    """A stage with its key, what the key is made of, and the keys of its inputs by role."""

    stage: Stage
    key: str
    description: dict[str, Any]
    inputs: dict[str, str]


def key(stage: Stage) -> str:
    """24 hex digits that name the result of `stage`; equal keys, equal artefacts (same machine, one thread)."""
    return Resolution().add(stage)


class Resolution:
    """Keys of stages and of all their inputs; `ordered` (key -> stage) holds each after its inputs, each key once.

    The source is read from disk anew by each Resolution: a long-open kernel gets the keys of the code as it is now.
    """

    def __init__(self) -> None:
        self.ordered: dict[str, Resolved] = {}
        self._keys: dict[int, str] = {}  # by identity; `ordered` or the caller keeps the objects alive
        self._reading = reading_now()

    def add(self, stage: Stage) -> str:
        """The key of `stage`; it and its inputs join `ordered`."""
        if id(stage) not in self._keys:
            inputs = {role: self.add(other) for role, other in sorted(stage.inputs.items())}
            description = _describe(stage, inputs, self._reading.of(*stage.code))
            name = key_of(description)
            self._keys[id(stage)] = name
            self.ordered.setdefault(name, Resolved(stage, name, description, inputs))
        return self._keys[id(stage)]


def source_digest(description: Mapping[str, Any]) -> str:
    """The digest, on disk now, of the source that a stage of this description reaches.

    Raises ValueError where its build function or recipe is gone or a module does not parse.
    """
    return reading_now().of(*code_of(description)).digest


def is_moved(description: Mapping[str, Any]) -> bool:
    """Whether code of the same names and digest stands elsewhere now; the key of the stage is the same there."""
    reading = reading_now()
    build, recipe = (name.partition(":")[2] for name in code_of(description))
    pairs = [(one, other) for one in reading.defining(build) for other in reading.defining(recipe)]
    return any(reading.of(*pair).digest == description["source"] for pair in pairs)


def code_of(description: Mapping[str, Any]) -> tuple[str, str]:
    """Build function and recipe class that a description names."""
    return description["build"], description["recipe"]["class"]


def key_of(description: Mapping[str, Any]) -> str:
    """The key of a stage with this description. Where its code stands is told, but does not count."""
    recipe = description["recipe"]
    content = {
        **description,
        "build": description["build"].partition(":")[2],
        "recipe": {**recipe, "class": recipe["class"].partition(":")[2]},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _describe(stage: Stage, inputs: dict[str, str], closure: Closure) -> dict[str, Any]:
    """Everything the key is made of, as plain JSON."""
    return {
        "schema": SCHEMA,
        "name": stage.name,
        "build": stage.build,
        "recipe": {"class": recipe_class(stage.recipe), **dataclasses.asdict(stage.recipe)},
        "seed": stage.seed,
        "inputs": inputs,
        "source": closure.digest,
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
