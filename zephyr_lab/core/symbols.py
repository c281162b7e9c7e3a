"""Which functions, classes and constants a piece of code uses, directly or not, each with a digest of its source.

Finer than a module closure: a notebook reruns when something that it uses has changed, not when its neighbour in the
same file has. Read from the syntax trees alone. Wherever the reading is unsure it counts more, never less: a module
used as a value counts whole; top-level statements, and functions behind decorators that may register them, always do.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zephyr_lab.core import source

# Decorators that give back what they were given, changed, and tell nobody else about it.
PURE_DECORATORS = frozenset(
    ("dataclass", "cache", "lru_cache", "contextmanager", "overload", "final", "total_ordering", "jaxtyped", "wraps")
)

_EVERYTHING = "*"
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def used(cells: Iterable[str]) -> dict[str, str]:
    """module:name -> digest of everything in the project that the code `cells` use, taken together.

    "module:" stands for what runs when the module is imported. Plumbing is left out, as in `source.closure`.

    Raises ValueError for a module of the project that does not parse.
    """
    tree = source.parse("\n".join(cells), "notebook")
    walk = _Walk(source.project_modules())
    walk.follow(_parse(tree, "notebook", "", walk.packages), tree.body)
    return dict(sorted(walk.found.items()))


def by_module(uses: dict[str, str]) -> dict[str, str]:
    """module -> one digest of what is used of it."""
    modules: dict[str, dict[str, str]] = {}
    for name, digest in uses.items():
        modules.setdefault(name.partition(":")[0], {})[name] = digest
    return {module: source.combine(digests) for module, digests in modules.items()}


@dataclass(frozen=True)
class _Module:
    """A parsed file: its definitions by name, what always runs, and what its imports are called."""

    name: str
    package: str
    symbols: dict[str, tuple[ast.stmt, ...]]
    body: tuple[ast.stmt, ...]
    imports: dict[str, str]  # local name -> "package.module" or "package.module.name"


class _Walk:
    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self.packages = frozenset(name.partition(".")[0] for name in files)
        self.found: dict[str, str] = {}

    def follow(self, module: _Module, nodes: Iterable[ast.stmt]) -> None:
        """Count everything that `nodes`, standing in `module`, refer to, and what their imports run."""
        for node in nodes:
            for imported in source.imported(node, module.package):
                self._import(imported)
                if imported.endswith(".*"):
                    self._resolve_dotted(tuple(imported.split(".")[:-1]))
            for chain in _chains(node):
                self._resolve(module, chain)

    def _import(self, dotted: str) -> None:
        """Importing runs the bodies of the module and of the packages around it."""
        for name in source.importing(dotted):
            if name in self._files and name not in source.PLUMBING and self._is_new(f"{name}:"):
                module = self._module(name)
                self.found[f"{name}:"] = _digest(module.body)
                self.follow(module, module.body)

    def _resolve(self, module: _Module, chain: tuple[str, ...]) -> None:
        """`chain` ("figures", "radar") as seen from `module`: count the definition that it names."""
        if chain[0] in module.symbols:
            self._count(module, chain[0])
        elif chain[0] in module.imports:
            self._resolve_dotted((*module.imports[chain[0]].split("."), *chain[1:]))

    def _resolve_dotted(self, dotted: tuple[str, ...]) -> None:
        depths = [depth for depth in range(1, len(dotted) + 1) if ".".join(dotted[:depth]) in self._files]
        if not depths:
            return  # not of this project
        name = ".".join(dotted[: depths[-1]])
        if name in source.PLUMBING:
            return
        self._import(name)
        rest = dotted[depths[-1] :]
        module = self._module(name)
        if rest and rest[0] in module.symbols:
            self._count(module, rest[0])
        elif rest and rest[0] in module.imports:  # handed on by a module that imports it
            self._resolve(module, rest)
        elif rest or module.symbols:  # a name made at run time, or the module itself used as a value
            for symbol in module.symbols:
                self._count(module, symbol)

    def _count(self, module: _Module, symbol: str) -> None:
        key = f"{module.name}:{symbol}"
        if module.name in self._files and self._is_new(key):
            self.found[key] = _digest(module.symbols[symbol])
            self.follow(module, module.symbols[symbol])

    def _is_new(self, key: str) -> bool:
        if key in self.found:
            return False
        self.found[key] = ""  # in progress: circles end here
        return True

    def _module(self, name: str) -> _Module:
        status = self._files[name].stat()
        return _read(self._files[name], name, self.packages, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _read(path: Path, name: str, packages: frozenset[str], mtime: int, size: int) -> _Module:
    del mtime, size  # they are the cache key: a saved file is read again
    tree = source.parse(path.read_text(encoding="utf-8"), path.name)
    return _parse(tree, name, source.package_of(name, path), packages)


def _parse(tree: ast.Module, name: str, package: str, packages: frozenset[str]) -> _Module:
    source.drop_docstrings(tree)
    symbols: dict[str, tuple[ast.stmt, ...]] = {}
    body: list[ast.stmt] = []
    for node in tree.body:
        names = _defined(node)
        for defined in names:
            symbols[defined] = (*symbols.get(defined, ()), node)
        if not names:
            body.append(node)
    imports = _import_names(tree, package)
    own = {*symbols, *(local for local, dotted in imports.items() if dotted.partition(".")[0] in packages)}
    body += [node for nodes in symbols.values() for node in nodes if _may_register(node, own)]
    return _Module(name, package, symbols, tuple(body), imports)


def _defined(node: ast.stmt) -> list[str]:
    """Names that a top-level statement defines; none for statements that do something else as well."""
    if isinstance(node, _Definition):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    flat = [item for target in targets for item in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return (
        [item.id for item in flat if isinstance(item, ast.Name)] if all(isinstance(i, ast.Name) for i in flat) else []
    )


def _may_register(node: ast.stmt, own: set[str]) -> bool:
    """Whether defining `node` runs code of the project (`own`: names of it), which may tell somebody of it: a decorator
    not known to be pure, a base class of ours, a call of ours on the right of an assignment."""
    if isinstance(node, ast.ClassDef) and any(chain[0] in own for base in node.bases for chain in _chains(base)):
        return True
    if isinstance(node, _Definition):
        names = [decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in node.decorator_list]
        return not all(ast.unparse(name).rpartition(".")[2] in PURE_DECORATORS for name in names)
    calls = [inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return any(chain[0] in own for call in calls for chain in _chains(call))


def _import_names(tree: ast.AST, package: str) -> dict[str, str]:
    """Local name -> dotted origin, of every import in the file, wherever it stands."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            origin = source.origin(node, package)
            for alias in node.names:
                names[alias.asname or alias.name] = f"{origin}.{alias.name}"
    return names


def _chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every name that `node` uses, with the attributes read off it: ("figures", "radar"), ("x",)."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        yield (node.id, *reversed(parts))
        return
    for inner in ast.iter_child_nodes(node):
        yield from _chains(inner)


def _digest(nodes: Iterable[ast.stmt]) -> str:
    """Imports are left out: what they bring in has digests of its own where it is used."""
    counted = [node for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom)]
    return hashlib.sha256("\n".join(ast.dump(node) for node in counted).encode()).hexdigest()
