"""A stage: one computing step, known by the hash of everything that shapes its result.

The key covers the recipe, the keys of the inputs, the seed, the functions, classes and constants that the build
function reaches, and the versions of the libraries whose arithmetic shows. Hardware, progress and storage are not in
it, nor the module that the code is in: a module that moves keeps the keys of its stages. Keys are computed from files;
neither the build function nor a library is imported.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any

from zephyr_lab.core.libraries import COUNTED_VERSIONS
from zephyr_lab.engine.symbols import Closure, Reading, reading_now

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
    """A stage with its key and what the key is made of."""

    stage: Stage
    key: str
    description: dict[str, Any]

    @property
    def inputs(self) -> dict[str, str]:
        """The keys of its inputs by role."""
        return self.description["inputs"]


def key(stage: Stage) -> str:
    """24 hex digits that name the result of `stage`; equal keys, equal artefacts (same machine, one thread)."""
    return Resolution().add(stage)


class Resolution:
    """Keys of stages and of all their inputs; `ordered` (key -> stage) holds each after its inputs, each key once.

    Each Resolution reads the source from disk, so a long-open kernel gets the keys of the code as it is now.
    """

    def __init__(self) -> None:
        self.ordered: dict[str, Resolved] = {}
        self._keys: dict[int, str] = {}  # by identity; `ordered` or the caller keeps the objects alive
        self._reading = reading_now()

    def add(self, stage: Stage) -> str:
        """The key of `stage`; it and its inputs join `ordered`."""
        if id(stage) not in self._keys:
            inputs = {role: self.add(other) for role, other in sorted(stage.inputs.items())}
            description = {
                "schema": SCHEMA,
                "name": stage.name,
                "build": stage.build,
                "recipe": {"class": recipe_class(stage.recipe), **dataclasses.asdict(stage.recipe)},
                "seed": stage.seed,
                "inputs": inputs,
                "source": self._reading.of(*stage.code).digest,
                "versions": counted_versions(),
            }
            name = key_of(description)
            self._keys[id(stage)] = name
            self.ordered.setdefault(name, Resolved(stage, name, description))
        return self._keys[id(stage)]


def key_of(description: Mapping[str, Any]) -> str:
    """The key of a stage with this description. The modules that its code is in do not count."""
    recipe = description["recipe"]
    content = {
        **description,
        "build": description["build"].partition(":")[2],
        "recipe": {**recipe, "class": recipe["class"].partition(":")[2]},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def code_of(description: Mapping[str, Any]) -> tuple[str, str]:
    """Build function and recipe class that a description names."""
    return description["build"], description["recipe"]["class"]


def reached(code: Iterable[str]) -> Closure | None:
    """What a build function and its recipe reach on disk now; None where one is gone or a module does not parse."""
    try:
        return reading_now().of(*code)
    except ValueError:
        return None


def renewed(description: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """The description under the source and the libraries of now, with the modules that its code is in now.

    Raises ValueError where the build function or the recipe class is gone, where it moved and it is not clear where to,
    and where a module does not parse.
    """
    build, recipe = _code_now(description, reading)
    return {
        **description,
        "schema": SCHEMA,
        "build": build,
        "recipe": {**description["recipe"], "class": recipe},
        "source": reading.of(build, recipe).digest,
        "versions": counted_versions(),
    }


def _code_now(description: Mapping[str, Any], reading: Reading) -> tuple[str, str]:
    """Build function and recipe class as recorded, or, where the recorded module lacks one, of the same name elsewhere
    in the package: a pair with the recorded source, else the only pair."""
    candidates = {recorded: reading.defining(recorded) for recorded in code_of(description)}
    pairs = list(itertools.product(*candidates.values()))
    if len(pairs) > 1:
        pairs = [pair for pair in pairs if reading.of(*pair).digest == description["source"]][:1] or pairs
    if len(pairs) == 1:
        return pairs[0]
    recorded, others = next((recorded, others) for recorded, others in candidates.items() if len(others) != 1)
    module, _, name = recorded.partition(":")
    elsewhere = f"several others do: {', '.join(others)}"
    nowhere = f"no other module of {module.partition('.')[0]} does"
    raise ValueError(f"module {module} defines no {name!r}; {elsewhere if others else nowhere}")


def recipe_class(recipe: Any) -> str:
    return f"{type(recipe).__module__}:{type(recipe).__qualname__}"


@lru_cache(maxsize=1)
def counted_versions() -> dict[str, str]:
    """Installed versions that the key covers, without local build marks ("2.13.0+cpu" counts as "2.13.0")."""
    versions = {}
    for name in COUNTED_VERSIONS:
        try:
            versions[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions
