"""Settings of a profile: defaults and what a profile changes, in TOML, read into a frozen dataclass.

papers/<paper>/settings.toml holds a table of defaults, [ddpo], and below each profile what differs there, [paper.ddpo].
Where profiles of the world and of the hub take recipes of two kinds, each group has its own defaults: [world.base],
[hub.base]. Every field is written down: the defaults of a dataclass are for calls from a prompt and never fill in here.
An unknown key, a missing key and a value of another type are refused, so that a typing error never becomes a default.
"""

import dataclasses
import numbers
import tomllib
import typing
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from zephyr_lab.core import paths, session
from zephyr_lab.core.profiles import GROUPS, PROFILES, group_of, require_profile

Settings = TypeVar("Settings")
ALONE = "of_one_profile"  # the key of a file that names its tables without defaults


def load(paper: str, profile: str, sections: str | tuple[str, ...], cls: type[Settings], /, **fields: Any) -> Settings:
    """The table `sections` of `profile`, or several side by side, as an instance of the frozen dataclass `cls`.

    fields: those that the caller decides and the tables do not hold, e.g. models="...". Each field of `cls` comes from
    exactly one table.

    Raises ValueError for an unknown profile, an absent table, keys that are unknown, missing or in two tables;
    TypeError for a value of another type; FileNotFoundError for a paper without settings.
    """
    require_profile(profile)
    path = paths.papers_dir() / paper / "settings.toml"
    file = f"papers/{paper}/settings.toml"
    session.read_file(path, name=file)
    names = (sections,) if isinstance(sections, str) else sections
    layers = [_layers(_tables(path), profile, name, file) for name in names]
    values, origins = _merged(layers)
    for name in values:
        if name in fields:
            raise ValueError(f"{origins[name]}: key {name!r} is decided by the code that reads it; take it out")
    where = f"{file} " + ", ".join(table.removeprefix(f"{file} ") for tables in layers for table in tables)
    known = [field.name for field in dataclasses.fields(cls) if field.name not in fields]  # type: ignore[arg-type]
    typed = _typed_fields(values, cls, origins, known=known, required=known, where=where)
    try:
        return cls(**typed, **fields)
    except ValueError as error:
        raise ValueError(f"{error} ({where})") from error


def from_table(table: dict[str, Any], cls: type[Settings], where: str) -> Settings:
    """`table` as an instance of `cls`, whose defaults fill in what it lacks; `where` names the table in errors.

    Raises as `load`.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    known, origins = [field.name for field in fields], dict.fromkeys(table, where)
    return cls(**_typed_fields(table, cls, origins, known=known, required=required, where=where))


def of_type(field: Any, value: Any, where: str) -> Any:
    """`value` in the type of the dataclass's field; a number of NumPy's counts. Raises as `load`."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        value = int(value) if isinstance(value, numbers.Integral) else float(value)
    return _typed(value, field.type, f"{where}: {field.name}")


def _layers(tables: dict[str, Any], profile: str, section: str, file: str) -> dict[str, dict[str, Any]]:
    """The tables that make up `section` in `profile` by name, "<file> [ddpo]": defaults, then the profile's own."""
    layers = {f"[{section}]": tables.get(section)}
    layers |= {f"[{scope}.{section}]": tables.get(scope, {}).get(section) for scope in (group_of(profile), profile)}
    if not any(table is not None for table in layers.values()):
        raise ValueError(f"{file}: profile {profile!r} has no table {section!r}: one of {', '.join(layers)} is needed")
    return {f"{file} {name}": table for name, table in layers.items() if table is not None}


def _merged(tables: list[dict[str, dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Each key's value, a later layer before an earlier one, and the name of the table that it is from."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layers in tables:
        own = {key: name for name, table in layers.items() for key in table}
        for key, name in own.items():
            if key in values:
                raise ValueError(f"key {key!r} is in two tables, {origins[key]} and {name}; keep one")
            values[key], origins[key] = layers[name][key], name
    return values, origins


def _typed_fields(
    values: dict[str, Any], cls: type, origins: dict[str, str], *, known: list[str], required: list[str], where: str
) -> dict[str, Any]:
    """The values in the types of the fields. Raises ValueError for an unknown and for a missing key."""
    for name in values:
        if name not in known:
            raise ValueError(f"{origins[name]}: unknown key {name!r}; known: {', '.join(known)}")
    for name in required:
        if name not in values:
            raise ValueError(f"{where}: key {name!r} is missing")
    hints = typing.get_type_hints(cls)
    return {name: _typed(value, hints[name], f"{origins[name]}: {name}") for name, value in values.items()}


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` in the type `hint`: an int serves as a float, a list as a tuple. Raises TypeError, ValueError for NaN."""
    try:
        typed = msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")
        within = f" ({error})" if " - at `" in str(error) else ""
        raise TypeError(f"{where} must be of type {wanted}, got {value!r}{within}") from error
    if any(item != item for item in (typed if isinstance(typed, tuple) else [typed])):
        raise ValueError(f"{where} is NaN")
    return typed


def _tables(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = sorted(p.parent.name for p in path.parent.parent.glob("*/settings.toml"))
        raise FileNotFoundError(f"no settings for paper {path.parent.name!r}; known: {', '.join(known)}")
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _parsed(path: Path, mtime: int, size: int) -> dict[str, Any]:
    """Read once: a study has hundreds of stages, each from its table. Nobody changes what comes back."""
    del mtime, size  # they are the cache key: a saved file is read again
    file = f"papers/{path.parent.name}/settings.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not TOML: {error}") from error
    _require_readable(tables, file)
    return tables


def _require_readable(tables: dict[str, Any], file: str) -> None:
    """Raises ValueError for a table that no profile reads: a setting without effect."""
    alone = tables.pop(ALONE, [])
    scopes = (*GROUPS, *PROFILES)
    defaults = {name for name in tables if name not in scopes}
    for name in defaults:
        if not isinstance(tables[name], dict) or any(isinstance(value, dict) for value in tables[name].values()):
            raise ValueError(f"{file} [{name}]: neither a table of values nor one of {', '.join(scopes)}")
    for group in GROUPS:
        for name in sorted(defaults.intersection(tables.get(group, {}))):
            raise ValueError(f"{file}: [{name}] and [{group}.{name}] are both tables of defaults; keep one kind")
    for profile in PROFILES:
        inherited = defaults.union(tables.get(group_of(profile), {}))
        for name in tables.get(profile, {}):
            if name not in inherited and f"{profile}.{name}" not in alone:
                raise ValueError(
                    f"{file} [{profile}.{name}]: there are no defaults, [{name}] or [{group_of(profile)}.{name}], that "
                    f'it changes; a table that one profile alone has is named in {ALONE} = ["{profile}.{name}"]'
                )
