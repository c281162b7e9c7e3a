"""Settings of a profile: defaults and what a profile changes, in TOML, read into a frozen dataclass.

papers/<paper>/settings.toml holds a table of defaults, [ddpo], and below each profile what differs there, [paper.ddpo].
Where profiles of the world and of the hub take recipes of two kinds, each group has its own defaults: [world.base],
[hub.base]. Every field is written down: the defaults of a dataclass are for a call of one's own and never fill in here.
A key that the dataclass lacks, a key that is missing, and a value of another type are refused, so that a typing error
never becomes a default.
"""

import dataclasses
import numbers
import tomllib
import types
import typing
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from zephyr_lab.core import paths, session
from zephyr_lab.core.profiles import GROUPS, PROFILES, group_of, require_profile

Settings = TypeVar("Settings")
ALONE = "of_one_profile"  # the key of a file that names its tables without defaults


def load(paper: str, profile: str, sections: str | tuple[str, ...], cls: type[Settings], /, **fields: Any) -> Settings:
    """The table `sections` of `profile`, or several side by side, as an instance of the frozen dataclass `cls`.

    fields: those that the caller decides and the tables do not hold, e.g. models="...". Each field of `cls` comes from
    exactly one place.

    Raises ValueError for an unknown profile, an absent table, keys that are unknown, missing or given twice; TypeError
    for a value of another type; FileNotFoundError for a paper without settings.
    """
    require_profile(profile)
    path = paths.papers_dir() / paper / "settings.toml"
    file = f"papers/{paper}/settings.toml"
    session.read_file(path, name=file)
    names = (sections,) if isinstance(sections, str) else sections
    tables = [_layers(_tables(path), profile, name, file) for name in names]
    values, places = _merged(tables, file)
    read_from = ", ".join(name for layers in tables for name in layers)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name in fields:
            raise ValueError(f"{file} {places[name]}: key {name!r} is decided by the code that reads it; take it out")
        if name not in known:
            left = ", ".join(one for one in known if one not in fields)
            raise ValueError(f"{file} {places[name]}: unknown key {name!r}; known: {left}")
    missing = [name for name in known if name not in values and name not in fields]
    if missing:
        raise ValueError(f"{file} {read_from}: key {missing[0]!r} is missing")
    hints = typing.get_type_hints(cls)
    typed = {name: _typed(value, hints[name], f"{file} {places[name]}: {name}") for name, value in values.items()}
    try:
        return cls(**typed, **fields)
    except ValueError as error:
        raise ValueError(f"{error} ({file} {read_from})") from error


def _layers(tables: dict[str, Any], profile: str, section: str, file: str) -> dict[str, dict[str, Any]]:
    """The tables that make up `section` in `profile` by name, "[ddpo]": the defaults, then the profile's own."""
    scopes = (group_of(profile), profile)
    found = {f"[{section}]": tables.get(section)}
    found |= {f"[{scope}.{section}]": tables.get(scope, {}).get(section) for scope in scopes}
    layers = {name: table for name, table in found.items() if table is not None}
    if not layers:
        raise ValueError(f"{file}: profile {profile!r} has no table {section!r}: one of {', '.join(found)} is needed")
    return layers


def _merged(tables: list[dict[str, dict[str, Any]]], file: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Each key's value, a later layer before an earlier one, and the table it comes from."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for layers in tables:
        own = {key: (value, name) for name, table in layers.items() for key, value in table.items()}
        for key, (value, name) in own.items():
            if key in values:
                raise ValueError(f"{file}: key {key!r} stands both in {places[key]} and in {name}")
            values[key], places[key] = value, name
    return values, places


def from_table(table: dict[str, Any], cls: type[Settings], where: str) -> Settings:
    """`table` as an instance of `cls`, whose defaults fill in what it lacks; `where` names the table in errors."""
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


def of_type(field: Any, value: Any, where: str) -> Any:
    """`value`, a list as a tuple, a whole number of NumPy's as an int. Raises TypeError for another type than the
    field's, ValueError for NaN."""
    options = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    for option in options:
        wanted = typing.get_origin(option) or option
        if wanted is tuple and isinstance(value, list | tuple):
            return tuple(value)
        if wanted in (int, float) and isinstance(value, numbers.Real) and not isinstance(value, bool):
            if value != value:
                raise ValueError(f"{where}: {field.name} is NaN")
            if wanted is float:
                return float(value) if not isinstance(value, int) else value
            if isinstance(value, numbers.Integral):
                return int(value)
        elif wanted is not int and wanted is not float and isinstance(value, wanted):
            return value
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise TypeError(f"{where}: {field.name} must be of type {names}, got {value!r}")


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
    file = f"papers/{path.parent.name}/settings.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not TOML: {error}") from error
    _require_readable(tables, file)
    return tables


def _require_readable(tables: dict[str, Any], file: str) -> None:
    """Raises ValueError for a table that no profile would read, which would be a setting without effect."""
    alone = tables.pop(ALONE, [])
    scopes = (*GROUPS, *PROFILES)
    defaults = {name for name in tables if name not in scopes}
    for name in defaults:
        if not isinstance(tables[name], dict) or any(isinstance(value, dict) for value in tables[name].values()):
            raise ValueError(f"{file} [{name}]: neither a table of values nor one of {', '.join(scopes)}")
    for scope in (one for one in scopes if one in tables):
        inherited = defaults | (set() if scope in GROUPS else set(tables.get(group_of(scope), {})))
        for name in tables[scope]:
            if scope in GROUPS and name in inherited:
                raise ValueError(f"{file}: [{name}] and [{scope}.{name}] are both tables of defaults; keep one kind")
            if scope in PROFILES and name not in inherited and f"{scope}.{name}" not in alone:
                raise ValueError(
                    f"{file} [{scope}.{name}]: there are no defaults, [{name}] or [{group_of(scope)}.{name}], that it "
                    f'changes; a table that one profile alone has is named in {ALONE} = ["{scope}.{name}"]'
                )


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
            if value != value:
                raise ValueError(f"{where} is NaN")
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
