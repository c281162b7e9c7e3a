"""What a module's results depend on: the source of everything it imports, without comments and docstrings.

The import graph is read from the files (grimp), so nothing is imported and a long-open kernel sees the
code as it is on disk. Prose never counts: a digest is taken over the syntax tree.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from zephyr_lab.core import paths

# Modules that move, lock, show and record results without shaping them. A change there must not send
# every stage back to training; what they import counts only where something else imports it too.
PLUMBING = frozenset({
    "zephyr_lab.core.files", "zephyr_lab.core.locks", "zephyr_lab.core.paths", "zephyr_lab.core.profiles",
    "zephyr_lab.core.progress", "zephyr_lab.core.provenance", "zephyr_lab.core.session", "zephyr_lab.core.source",
    "zephyr_lab.core.stages", "zephyr_lab.core.store", "zephyr_lab.lab.processes", "zephyr_lab.lab.progress_view",
    "zephyr_lab.lab.scheduler", "zephyr_lab.lab.worker",
})  # fmt: skip


def closure(modules: Iterable[str]) -> dict[str, str]:
    """Digest of each module that `modules` import, directly or not, themselves included: name -> hex.

    Modules outside the project (torch, pandas ...) and plumbing are left out; the lock file stands for the former.
    Raises ValueError for a module of the project that does not exist.
    """
    files = _project_modules()
    graph = _graph(_fingerprint(files))
    found: dict[str, str] = {}
    queue = [name for name in modules if name.partition(".")[0] in _packages()]
    while queue:
        name = queue.pop()
        if name in found or name in PLUMBING:
            continue
        if name not in files:
            raise ValueError(f"no module named {name!r} in {paths.project_root().name}")
        found[name] = _digest(files[name], *_stamp(files[name]))
        queue += graph[name]
        queue += [parent for parent in _parents(name) if parent in files]  # its __init__ runs first
    return dict(sorted(found.items()))


def digest(modules: Iterable[str]) -> str:
    """One digest of the whole closure of `modules`."""
    return combine(closure(modules))


def combine(digests: dict[str, str]) -> str:
    """One hex digest of a mapping name -> hex digest, whatever its order."""
    lines = "\n".join(f"{name} {value}" for name, value in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def code_digest(source: str) -> str:
    """SHA-256 of Python code as its syntax tree: comments, docstrings and layout do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def imported_modules(source: str) -> list[str]:
    """Names of the modules that a piece of code imports, `from package import module` resolved to the module."""
    names: set[str] = set()
    known = _project_modules()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in known else node.module)
    return sorted(names)


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


def _project_modules() -> dict[str, Path]:
    modules: dict[str, Path] = {}
    for package, folder in _packages().items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            modules[".".join((package, *parts)).removesuffix(".__init__")] = file
    return modules


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _fingerprint(files: dict[str, Path]) -> tuple[tuple[str, str, int, int], ...]:
    return tuple((name, str(file), *_stamp(file)) for name, file in files.items())


@lru_cache(maxsize=1024)
def _digest(file: Path, mtime: int, size: int) -> str:
    del mtime, size  # they are the cache key: a saved file is read again
    try:
        return code_digest(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{file.name}, line {error.lineno}: {error.msg}") from error


@lru_cache(maxsize=2)
def _graph(fingerprint: tuple[tuple[str, str, int, int], ...]) -> dict[str, tuple[str, ...]]:
    """module -> modules of the project it imports directly."""
    import grimp  # 0.1 s, needed only where freshness is asked for

    packages = sorted({name.partition(".")[0] for name, *_ in fingerprint})
    root = str(paths.project_root())
    added = root not in sys.path
    if added:  # grimp finds packages as an import would
        sys.path.insert(0, root)
    try:
        graph = grimp.build_graph(*packages, include_external_packages=False, cache_dir=None)
    finally:
        if added:
            sys.path.remove(root)
    return {name: tuple(sorted(graph.find_modules_directly_imported_by(name))) for name in graph.modules}
