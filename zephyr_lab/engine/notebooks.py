"""The numbered notebooks as files: their title, code, typed parameters, imports. Nothing is run, no kernel starts."""

import ast
import io
import math
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.engine import syntax
from zephyr_lab.engine.symbols import Closure, reading_now

PARAMETER_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
RUN_SIZES = ("profile", "seeds")
OR_NONE = " | None"  # of a parameter that is left to the settings where it is None


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `seeds: int = 3  # seeds 0 to N-1`."""

    name: str
    type: str
    default: Any
    help: str

    def parse(self, text: str) -> Any:
        """`text` from the command line as a value of this type. Raises ValueError naming parameter, type and text."""
        kind = self.type.removesuffix(OR_NONE)
        if self.type != kind and text.lower() == "none":
            return None
        try:
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            value = PARAMETER_TYPES[kind](text)
            if kind == "float" and not math.isfinite(value):  # no record, which is JSON, could hold it
                raise ValueError
            return value
        except (ValueError, KeyError):
            allowed = self.type.replace("bool", "true or false").replace(" |", " or")
            raise ValueError(f"parameter {self.name} must be {allowed}, got {text!r}") from None


@dataclass(frozen=True)
class Notebook:
    """A source notebook. name: file name without ending; after: numbers that run before it, "*" for all others."""

    path: Path
    title: str
    cells: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    after: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name.partition("_")[0]

    @property
    def code_digest(self) -> str:
        """Digest of the code cells but the parameters cell (its values are recorded as values)."""
        trees = [syntax.parse(_plain(cell), self.name) for cell in self.cells]
        return files.sha256_bytes("\n".join(ast.dump(_without_strings(tree)) for tree in trees).encode())

    @property
    def reached(self) -> Closure:
        """Every function, class and constant of the project that the cells lead to."""
        return reading_now().of_cells(_plain(cell) for cell in self.cells)

    def is_standard(self, values: Mapping[str, Any]) -> bool:
        """Whether all parameters but profile and seeds have their defaults."""
        return all(values[name] == one.default for name, one in self.parameters.items() if name not in RUN_SIZES)

    def resolve(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """All parameters with their values, those in `texts` read from text. Raises ValueError for a name or value that
        is not allowed, before any kernel starts (papermill alone would only warn)."""
        for name in texts:
            if name not in self.parameters:
                known = ", ".join(self.parameters)
                raise ValueError(f"notebook {self.number} has no parameter named {name!r}; known: {known}")
        values = {name: parameter.default for name, parameter in self.parameters.items()}
        values |= {name: self.parameters[name].parse(text) for name, text in texts.items()}
        require_profile(values["profile"])
        if values["seeds"] < 1:
            raise ValueError(f"parameter seeds must be at least 1, got {values['seeds']} (a count: seeds 0 to N-1)")
        return values


def read(path: Path) -> Notebook:
    """Raises ValueError naming the notebook where it is not one, or its parameters cell is missing or ill-formed."""
    content = files.read_json(path)
    try:
        cells = [(cell["cell_type"], "".join(cell["source"]), cell["metadata"]) for cell in content["cells"]]
        own = content["metadata"].get("zephyr_lab", {})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a notebook: {error}") from error
    code = [text for kind, text, metadata in cells if kind == "code" and "parameters" not in metadata.get("tags", [])]
    declared = [text for _, text, metadata in cells if "parameters" in metadata.get("tags", [])]
    if len(declared) != 1:
        raise ValueError(f"{path.name} has {len(declared)} cells tagged 'parameters'; exactly one is needed")
    headings = [text.splitlines()[0] for kind, text, _ in cells if kind == "markdown" and text.startswith("# ")]
    title = headings[0].removeprefix("# ").strip() if headings else path.stem
    return Notebook(path, title, tuple(code), _parameters(declared[0], path), tuple(own.get("after", ())))


def all_notebooks() -> list[Notebook]:
    """The numbered notebooks of the project, in order."""
    return [read(path) for path in sorted(paths.notebooks_dir().glob("[0-9][0-9]_*.ipynb"))]


def select(numbers: list[str]) -> list[Notebook]:
    """The notebooks with these numbers ("13") or names ("13_zephyr_chat_benchmarks"); all where none is named.

    Raises ValueError for one that does not exist.
    """
    known = all_notebooks()
    for number in numbers:
        if not any(number in (one.number, one.name) for one in known):
            raise ValueError(f"no notebook numbered {number!r}; known: {', '.join(one.number for one in known)}")
    return [one for one in known if not numbers or one.number in numbers or one.name in numbers]


def _parameters(cell: str, path: Path) -> dict[str, Parameter]:
    tree = syntax.parse(cell, f"{path.name}, parameters cell")
    tokens = tokenize.generate_tokens(io.StringIO(cell).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    parameters = {}
    for node in tree.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ValueError(f"{path.name}: a parameters cell holds lines `name: type = value  # help` only")
        name, kind = node.target.id, ast.unparse(node.annotation)
        plain = kind.removesuffix(OR_NONE)
        if plain not in PARAMETER_TYPES:
            known = ", ".join(PARAMETER_TYPES) + f", each with{OR_NONE}"
            raise ValueError(f"{path.name}: parameter {name} has type {kind}; known: {known}")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"{path.name}: parameter {name} needs a literal as default") from None
        if type(default) is not PARAMETER_TYPES[plain] and (default is not None or plain == kind):
            raise ValueError(f"{path.name}: parameter {name} is {kind}, but its default is {default!r}")
        parameters[name] = Parameter(name, kind, default, comments.get(node.lineno, ""))
    missing = set(RUN_SIZES) - set(parameters)
    if missing:
        raise ValueError(f"{path.name}: the parameters cell lacks {' and '.join(sorted(missing))}")
    return parameters


def _without_strings(tree: ast.Module) -> ast.Module:
    """A cell without docstrings and other statements that are strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | syntax.Definition):
            node.body = syntax.without_docstring(node.body)
    return tree


def _plain(cell: str) -> str:
    """A cell as plain Python; IPython's magics are rewritten as the calls that they mean."""
    try:
        ast.parse(cell)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # 0.3 s, for the rare cell with a magic

        return TransformerManager().transform_cell(cell)
    return cell
