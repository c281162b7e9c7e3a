"""Python files of the project as syntax trees: which there are, what they define, what their imports are called.

Nothing is imported: a kernel that has been open for hours sees the code as it is on disk, and a file elsewhere that
does not parse stops nobody.
"""

import ast
import builtins
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zephyr_lab.core import paths

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Names = Mapping[str, tuple[str, ...]]  # local name -> dotted origins ("package.module" or "package.module.name")

# Decorators that return what they decorate, changed, and register it nowhere.
PURE_DECORATORS = frozenset((
    "dataclass", "cache", "lru_cache", "contextmanager", "overload", "final", "total_ordering", "jaxtyped", "wraps",
    "no_grad", "inference_mode", "runtime_checkable", "once_differentiable",
))  # fmt: skip


@dataclass(frozen=True)
class Module:
    """A parsed file. symbols: the top-level statements that define each name; body: what runs whenever the file is
    imported, definitions that may register themselves somewhere included; imports: names that its top level imports;
    loads: dotted names that importing it imports in turn; stars: modules of which it imports everything."""

    name: str
    package: str
    symbols: Mapping[str, tuple[ast.stmt, ...]]
    body: tuple[ast.stmt, ...]
    imports: Names
    loads: tuple[str, ...]
    stars: tuple[str, ...]
    imports_inside: bool  # whether a definition imports something on the spot


def project_modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the project's packages: this one, and any other beside the notebooks."""
    packages = {"zephyr_lab": Path(__file__).resolve().parents[1]}
    for init in sorted(paths.project_root().glob("*/__init__.py")):
        packages.setdefault(init.parent.name, init.parent)
    modules: dict[str, Path] = {}
    for package, folder in packages.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            modules[".".join((package, *parts)).removesuffix(".__init__")] = file
    return modules


def read(path: Path, name: str, packages: frozenset[str]) -> Module:
    """The module `name` in the file `path`, of a project with these top-level packages.

    Raises ValueError naming file, line and cause where it does not parse.
    """
    return _read(path, name, packages, *stamp(path))


def stamp(path: Path) -> tuple[int, int]:
    """Time and size: another pair, another content."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=2048)
def _read(path: Path, name: str, packages: frozenset[str], mtime: int, size: int) -> Module:
    del mtime, size  # they are the cache key: a saved file is read again
    tree = parse(path.read_text(encoding="utf-8"), path.name)
    return module_of(tree, name, name if path.name == "__init__.py" else name.rpartition(".")[0], packages)


def parse(text: str, name: str) -> ast.Module:
    """Raises ValueError naming file, line and cause where `text` is not Python."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{name}, line {error.lineno}: {error.msg}") from error


def module_of(tree: ast.Module, name: str, package: str, packages: frozenset[str]) -> Module:
    """`tree` sorted into definitions and what always runs; `package` is where relative imports start from."""
    tree = _as_it_runs(tree)
    statements = without_docstring(tree.body)
    symbols: dict[str, tuple[ast.stmt, ...]] = {}
    for node in statements:
        for symbol in defined(node):
            symbols[symbol] = (*symbols.get(symbol, ()), node)
    running = [node for node in tree.body if not isinstance(node, Definition)]
    imports = import_names(running, package)
    loads = tuple(dotted for node in running for dotted in imported(node, package))
    stars = tuple(dotted.removesuffix(".*") for dotted in loads if dotted.endswith(".*"))
    ours = {*symbols, *(local for local, origins in imports.items() if _is_of(origins, packages))}
    ours |= {inner.name for inner in _inside(running) if isinstance(inner, Definition)}
    if _is_of(stars, packages):  # any name may be the project's
        ours |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(imports) - set(dir(builtins))
    definitions = [node for node in tree.body if isinstance(node, Definition)]
    inside = any(isinstance(inner, ast.Import | ast.ImportFrom) for inner in _inside(definitions))
    return Module(name, package, symbols, _always_run(statements, symbols, ours), imports, loads, stars, inside)


def _inside(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    return (inner for node in nodes for inner in ast.walk(node))


def _always_run(
    statements: list[ast.stmt], symbols: Mapping[str, tuple[ast.stmt, ...]], ours: set[str]
) -> tuple[ast.stmt, ...]:
    """What counts whenever the module is imported, in order, since a later statement sees what an earlier one did.

    That is: statements that define nothing, definitions that may register themselves, and assignments of names that are
    assigned again or used by such a statement: there the order matters.
    """
    bare = [node for node in statements if not (defined(node) or isinstance(node, ast.Import | ast.ImportFrom))]
    again = {name for name, nodes in symbols.items() if len(nodes) > 1}
    again |= {inner.id for inner in _inside(bare) if isinstance(inner, ast.Name)} & set(symbols)

    def runs(node: ast.stmt) -> bool:
        assigns = not isinstance(node, Definition) and (not again.isdisjoint(defined(node)) or _uses(node, again))
        return node in bare or (bool(defined(node)) and (assigns or _may_register(node, ours)))

    return tuple(filter(runs, statements))


def imported(node: ast.AST, package: str) -> list[str]:
    """Dotted names that the imports in `node` bring in: modules, or names in modules ("package.module.name")."""
    return [dotted for origins in import_names([node], package, stars=True).values() for dotted in origins]


def import_names(nodes: Iterable[ast.AST], package: str, *, stars: bool = False) -> dict[str, tuple[str, ...]]:
    """Local name -> every origin that an import in `nodes` gives it, however deep inside.

    With `stars`, "m.*" -> ("m.*",) for `from m import *`, and "import a.b" counts as a.b, not as the name a.
    """
    names: dict[str, tuple[str, ...]] = {}
    for inner in _inside(nodes):
        for local, dotted in _import_pairs(inner, package, stars):
            names[local] = tuple(dict.fromkeys((*names.get(local, ()), dotted)))
    return names


def _import_pairs(node: ast.AST, package: str, stars: bool) -> list[tuple[str, str]]:
    if isinstance(node, ast.Import):
        if stars:
            return [(alias.asname or alias.name, alias.name) for alias in node.names]
        tops = [(alias, alias.name.partition(".")[0]) for alias in node.names]  # `import a.b` binds a
        return [(alias.asname, alias.name) if alias.asname else (top, top) for alias, top in tops]
    if isinstance(node, ast.ImportFrom):
        origin = _origin(node, package)
        pairs = [(alias.asname or alias.name, f"{origin}.{alias.name}") for alias in node.names]
        return [(f"{origin}.*" if local == "*" else local, dotted) for local, dotted in pairs if stars or local != "*"]
    return []


def _origin(node: ast.ImportFrom, package: str) -> str:
    """The module that `from ... import` takes names from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def importing(dotted: str) -> list[str]:
    """What importing "a.b.c" may run, outermost first: a, a.b, a.b.c (the last may be a name, not a module)."""
    parts = dotted.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """A suite without the statements that are strings: docstrings, and comments that some write as strings."""
    return [node for node in body if not (isinstance(node, ast.Expr) and is_string(node.value))]


def is_string(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def attribute_chain(node: ast.AST) -> tuple[str, ...]:
    """("figures", "radar") of the expression figures.radar; empty where it starts with anything but a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()


def is_pure_decorator(decorator: ast.expr) -> bool:
    """Whether a decorator is known to register what it decorates nowhere."""
    chain = attribute_chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return bool(chain) and chain[-1] in PURE_DECORATORS


def defined(node: ast.stmt) -> list[str]:
    """Names that a top-level statement defines; none for statements that do something else as well."""
    if isinstance(node, Definition):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    flat = [item for target in targets for item in (target.elts if isinstance(target, ast.Tuple) else [target])]
    names = [item.id for item in flat if isinstance(item, ast.Name)]
    return names if len(names) == len(flat) else []


def _as_it_runs(tree: ast.Module) -> ast.Module:
    """`tree` with the `else` of each `if TYPE_CHECKING` in place of the statement."""
    body: list[ast.stmt] = []
    for node in tree.body:
        for_type_checkers = isinstance(node, ast.If) and attribute_chain(node.test)[-1:] == ("TYPE_CHECKING",)
        body += node.orelse if for_type_checkers else [node]
    return ast.Module(body, tree.type_ignores)


def _may_register(node: ast.stmt, own: set[str]) -> bool:
    """Whether defining `node` runs code of the project (`own`: names of it), which may register it: a decorator
    not known to be pure, a base class or metaclass of ours, a call of ours on the right of an assignment."""
    if not isinstance(node, Definition):
        return _calls_ours(node, own)
    if any(not is_pure_decorator(decorator) or _uses(decorator, own) for decorator in node.decorator_list):
        return True
    if not isinstance(node, ast.ClassDef):
        return False
    if any(_uses(base, own) for base in (*node.bases, *node.keywords)):
        return True
    return any(_runs_ours(inner, own) for inner in without_docstring(node.body))  # a class's suite runs


def _runs_ours(node: ast.stmt, own: set[str]) -> bool:
    """Whether a statement in a class's suite may register it: a method with a decorator of ours, a call of ours, any
    statement but a definition or an assignment."""
    if isinstance(node, Definition):
        return any(_uses(one, own) for one in node.decorator_list)
    if isinstance(node, ast.Pass | ast.Import | ast.ImportFrom):
        return False
    return not defined(node) or _calls_ours(node, own)


def _calls_ours(node: ast.AST, own: set[str]) -> bool:
    """Whether a call in `node` is of ours, or hands something of ours to `map` or `filter`."""
    calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    maps = [call for call in calls if attribute_chain(call.func) in (("map",), ("filter",))]
    return any(_uses(node, own) for node in (*(call.func for call in calls), *maps))


def _uses(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(inner, ast.Name) and inner.id in names for inner in ast.walk(node))


def _is_of(origins: Iterable[str], packages: frozenset[str]) -> bool:
    return any(origin.partition(".")[0] in packages for origin in origins)


def combine(digests: Mapping[str, str]) -> str:
    """One hex digest of a mapping name -> hex digest, whatever its order."""
    lines = "\n".join(f"{name} {value}" for name, value in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
