"""What a module's results depend on: the source of everything it imports, without comments and docstrings.

Imports are read from the syntax trees of the files that are reached: nothing is imported, a long-open kernel sees
the code as it is on disk, and a file elsewhere that does not parse stops nobody. Prose never counts.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from zephyr_lab.core import paths

# Modules that move, lock, show and record results without shaping them. A change there must not send
# every stage back to training; what they import counts only where something else imports it too.
PLUMBING = frozenset({
    "zephyr_lab.core.files", "zephyr_lab.core.locks", "zephyr_lab.core.paths", "zephyr_lab.core.profiles",
    "zephyr_lab.core.progress", "zephyr_lab.core.provenance", "zephyr_lab.core.session", "zephyr_lab.core.source",
    "zephyr_lab.core.stages", "zephyr_lab.core.store", "zephyr_lab.core.symbols", "zephyr_lab.core.processes",
    "zephyr_lab.lab.progress_view", "zephyr_lab.lab.scheduler", "zephyr_lab.lab.worker", "zephyr_lab.lab.workers",
    "zephyr_lab.lab.fork_server",
})  # fmt: skip


def closure(modules: Iterable[str]) -> dict[str, str]:
    """Digest of each module that `modules` import, directly or not, themselves included: name -> hex.

    Modules outside the project (torch, pandas ...) and plumbing are left out; the lock file stands for the former.
    Raises ValueError for a module of the project that does not exist or does not parse.
    """
    files = project_modules()
    found: dict[str, str] = {}
    queue = [name for name in modules if name.partition(".")[0] in _packages()]
    while queue:
        name = queue.pop()
        if name in found or name in PLUMBING:
            continue
        if name not in files:
            raise ValueError(f"no module named {name!r} in {paths.project_root().name}")
        found[name], imports = _read(files[name], name, *_stamp(files[name]))
        queue += [module for dotted in imports for module in importing(dotted) if module in files]
        queue += [parent for parent in importing(name) if parent in files]
    return dict(sorted(found.items()))


def libraries(modules: Iterable[str]) -> list[str]:
    """Dotted names that the closure of `modules` imports from outside the project: modules, or names in modules."""
    files = project_modules()
    found: set[str] = set()
    for name in closure(modules):
        _, imports = _read(files[name], name, *_stamp(files[name]))
        found.update(dotted for dotted in imports if dotted.partition(".")[0] not in _packages())
    return sorted(found)


def importing(dotted: str) -> list[str]:
    """What importing "a.b.c" may run, outermost first: a, a.b, a.b.c (the last may be a name, not a module)."""
    parts = dotted.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def imported(node: ast.AST, package: str) -> list[str]:
    """Dotted names that the imports in `node` bring in: modules, or names in modules ("package.module.name").

    `package` is the package that relative imports start from.
    """
    names = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            names += [alias.name for alias in inner.names]
        elif isinstance(inner, ast.ImportFrom):
            names += [f"{origin(inner, package)}.{alias.name}" for alias in inner.names]
    return names


def origin(node: ast.ImportFrom, package: str) -> str:
    """The module that `from ... import` takes names from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def package_of(name: str, file: Path) -> str:
    """The package that the relative imports of module `name` start from."""
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def digest(modules: Iterable[str]) -> str:
    """One digest of the whole closure of `modules`."""
    return combine(closure(modules))


def combine(digests: dict[str, str]) -> str:
    """One hex digest of a mapping name -> hex digest, whatever its order."""
    lines = "\n".join(f"{name} {value}" for name, value in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def code_digest(tree: ast.AST) -> str:
    """SHA-256 of Python code as its syntax tree: comments, docstrings and layout do not count."""
    drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def drop_docstrings(tree: ast.AST) -> None:
    """Remove the docstrings of a tree and everything in it, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:]


def _packages() -> dict[str, Path]:
    """Top-level packages of the project: this one, and any other beside the notebooks."""
    packages = {"zephyr_lab": Path(__file__).resolve().parents[1]}
    for init in sorted(paths.project_root().glob("*/__init__.py")):
        packages.setdefault(init.parent.name, init.parent)
    return packages


def project_modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the project's packages."""
    modules: dict[str, Path] = {}
    for package, folder in _packages().items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            modules[".".join((package, *parts)).removesuffix(".__init__")] = file
    return modules


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1024)
def _read(file: Path, name: str, mtime: int, size: int) -> tuple[str, tuple[str, ...]]:
    """Digest of a file and the dotted names it imports, wherever in it the imports stand."""
    del mtime, size  # they are the cache key: a saved file is read again
    text = file.read_text(encoding="utf-8")
    return code_digest(parse(text, file.name)), tuple(imported(parse(text, file.name), package_of(name, file)))


def parse(text: str, name: str) -> ast.Module:
    """Raises ValueError naming file, line and cause where `text` is not Python."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{name}, line {error.lineno}: {error.msg}") from error
