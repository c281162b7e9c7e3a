"""Settings of a profile: one TOML table a profile and section, read into a frozen dataclass.

papers/<paper>/settings.toml holds [smoke.base], [tiny.base], ...; a key that the dataclass lacks, a key
that is missing, and a value of another type are refused, so that a typing error never becomes a default.
"""

import dataclasses
import tomllib
import types
import typing
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from zephyr_lab.core import paths, session
from zephyr_lab.core.profiles import require_profile

Settings = TypeVar("Settings")


def load(paper: str, profile: str, section: str, cls: type[Settings]) -> Settings:
    """The settings of `section` in `profile`, as an instance of the frozen dataclass `cls`.

    Raises ValueError for an unknown profile, an absent table, unknown or missing keys; TypeError for a value
    of another type; FileNotFoundError for a paper without settings.
    """
    require_profile(profile)
    path = paths.papers_dir() / paper / "settings.toml"
    session.read_file(path, name=f"papers/{paper}/settings.toml")
    table = _tables(path).get(profile, {}).get(section)
    where = f"papers/{paper}/settings.toml [{profile}.{section}]"
    if table is None:
        raise ValueError(f"{where} is missing; every profile needs the table")
    return from_table(table, cls, where)


def from_table(table: dict[str, Any], cls: type[Settings], where: str) -> Settings:
    """`table` as an instance of `cls`; `where` names the table in errors."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(fields)}")
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    missing = sorted(set(required) - set(table))
    if missing:
        raise ValueError(f"{where}: key {missing[0]!r} is missing")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _typed(value, hints[name], f"{where}: {name}") for name, value in table.items()})


def _tables(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = sorted(p.parent.name for p in path.parent.parent.glob("*/settings.toml"))
        raise FileNotFoundError(f"no settings for paper {path.parent.name!r}; known: {', '.join(known)}")
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _parsed(path: Path, mtime: int, size: int) -> dict[str, Any]:
    """A study names hundreds of stages, each from its table; nobody changes what comes back."""
    del mtime, size  # they are the cache key: a saved file is read again
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"papers/{path.parent.name}/settings.toml is not TOML: {error}") from error


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` if it is of type `hint` (an int serves as a float, a list as a tuple), else TypeError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        for option in options:
            if _fits(value, option):
                return _typed(value, option, where)
    elif _fits(value, hint):
        if hint is float:
            return float(value)
        if origin is tuple:
            return tuple(_typed(item, arguments[0], where) for item in value)
        return value
    wanted = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise TypeError(f"{where} must be {wanted}, got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return isinstance(value, list)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
