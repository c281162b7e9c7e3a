"""Functions that somebody wrote in a notebook cell, as text that a worker can run and a key can cover.

A worker is another process: it never sees the notebook. So a function travels as its source, with the functions of the
notebook that it calls, the plain values that it uses as they were when it was handed over, and the names of what it
takes from importable modules. What cannot travel is refused by name. Comments, docstrings and annotations do not count.
"""

import ast
import builtins
import inspect
import json
import math
import symtable
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from zephyr_lab.engine.symbols import reading_now

NEXT_STEP = "use plain numbers, strings, tuples, lists and dicts of them, functions of the notebook, and imports"


def captured(function: Callable[..., Any]) -> str:
    """`function` as JSON text: name, source of it and of the notebook's functions that it calls, values, imports, and
    the digest of the project's code that it reaches.

    Equal text, equal function. Raises ValueError naming what a worker could not have.
    """
    capture = _Capture()
    name = capture.add(function)
    source = "\n\n".join(text for _, text in sorted(capture.sources.items()))
    lines = [_import_line(local, origin) for local, origin in sorted(capture.imports.items())]
    content = {
        "name": name,
        "source": source,
        "values": capture.values,
        "imports": capture.imports,
        "reaches": reading_now().of_cells([*lines, source]).digest,
    }
    return json.dumps(content, sort_keys=True)


def restored(text: str) -> Callable[..., Any]:
    """The function that `captured` made the text of."""
    content = json.loads(text)
    names: dict[str, Any] = {"__name__": "own_code"}
    for name, origin in content["imports"].items():
        exec(_import_line(name, origin), names)
    names |= {name: _value(encoded) for name, encoded in content["values"].items()}
    exec(compile(content["source"], f"<{content['name']} of a notebook>", "exec"), names)
    return names[content["name"]]


def name_of(text: str) -> str:
    """What the function is called."""
    return json.loads(text)["name"]


@dataclass
class _Capture:
    """What a function and those that it calls need."""

    sources: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    _functions: dict[str, FunctionType] = field(default_factory=dict)

    def add(self, function: Callable[..., Any]) -> str:
        """The function's name, after it and all it uses are noted."""
        if not isinstance(function, FunctionType):
            raise ValueError(f"{function!r} is not a function with source of its own; write `def` in the notebook")
        name = function.__name__
        if name in self._functions:
            self._require_same(name, self._functions[name] is function)
            return name
        self._functions[name] = function
        tree = _definition(function)
        self.sources[name] = ast.unparse(tree)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        around = {**function.__globals__, **{name: cell.cell_contents for name, cell in cells}}
        for used in sorted(_free_names(tree)):
            if used in around:
                self._note(name, used, around[used])
            elif not hasattr(builtins, used):
                raise ValueError(f"{name} uses {used!r}, which the notebook does not define")
        return name

    def _note(self, function: str, name: str, value: Any) -> None:
        if _is_of_notebook(value):
            if value.__name__ != name:
                raise ValueError(f"{function} uses {name!r}, another name of the function {value.__name__}; use that")
            self.add(value)
        elif origin := _origin(value):
            self._require_same(name, self.imports.setdefault(name, origin) == origin)
        elif encoded := _encoded(value):
            self._require_same(name, self.values.setdefault(name, encoded) == encoded)
        else:
            kind = type(value).__name__
            raise ValueError(f"{function} uses {name!r}, a {kind} that a worker cannot have; {NEXT_STEP}")

    @staticmethod
    def _require_same(name: str, same: bool) -> None:
        if not same:
            raise ValueError(f"{name!r} means two things in functions that call each other; rename one of them")


def _definition(function: FunctionType) -> ast.FunctionDef:
    """The function's `def`, without docstring and annotations."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise ValueError(f"the source of {function.__name__} is not known; define it in a cell or a file") from error
    try:
        (tree,) = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{function.__name__} is not a definition by itself; write it as `def`") from error
    if not isinstance(tree, ast.FunctionDef):
        raise ValueError(f"{function.__name__} is a lambda or part of a line; write it as `def name(...):`")
    return ast.fix_missing_locations(_Bare().visit(tree))


class _Bare(ast.NodeTransformer):
    """Drops what does not run: docstrings, annotations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node


def _free_names(tree: ast.FunctionDef) -> set[str]:
    """Names that the definition takes from around it, those of its inner functions included."""
    names: set[str] = set()
    tables = [symtable.symtable(ast.unparse(tree), "cell", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            of_module = table.get_type() == "module" and not symbol.is_assigned()
            if symbol.is_referenced() and (symbol.is_global() or of_module):
                names.add(symbol.get_name())
    return names - {tree.name}


def _is_of_notebook(value: Any) -> bool:
    """Whether a function is in no module that a worker could import: in a cell, or inside another function."""
    if not isinstance(value, FunctionType):
        return False
    return value.__module__ in ("__main__", None) or "<locals>" in value.__qualname__


def _origin(value: Any) -> str | None:
    """ "module" or "module:name" of what a worker can import itself; None for anything else."""
    if isinstance(value, ModuleType):
        return None if value.__name__ == "__main__" else value.__name__
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    if "." in name or (not isinstance(value, type | FunctionType) and not callable(value)):
        return None
    return f"{module}:{name}"


def _import_line(name: str, origin: str) -> str:
    module, colon, attribute = origin.partition(":")
    return f"from {module} import {attribute} as {name}" if colon else f"import {module} as {name}"


def _encoded(value: Any) -> dict[str, Any] | None:
    """A value in a form that JSON holds exactly; None where there is none."""
    if value is None or isinstance(value, bool | str):
        return {"plain": value}
    if isinstance(value, int | float):
        return {"plain": value} if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        items = [_encoded(item) for item in value]
        kind = "tuple" if isinstance(value, tuple) else "list"
        return None if None in items else {kind: items}
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        entries = {name: _encoded(item) for name, item in value.items()}
        return None if None in entries.values() else {"dict": entries}
    return None


def _value(encoded: dict[str, Any]) -> Any:
    """The value that `_encoded` made the form of."""
    ((kind, content),) = encoded.items()
    if kind == "dict":
        return {name: _value(item) for name, item in content.items()}
    if kind in ("tuple", "list"):
        return (tuple if kind == "tuple" else list)(map(_value, content))
    return content
