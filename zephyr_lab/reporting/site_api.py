"""The reference of public functions, from their source: signature and docstring, read and never imported."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zephyr_lab

ROOT = Path(zephyr_lab.__file__).parent
# What somebody calls: package -> what it is for, in the order of the page.
PACKAGES = {
    "methods": "Training functions: a model, a tokenizer and rows in, the log out",
    "losses": "Losses, one value a pair, token or position",
    "losses/fast": "Lean twins of the losses, tested equal to them",
    "scoring": "Scores with intervals",
    "data": "Filters, preference pairs, chat templates",
    "lab": "The words of notebooks",
}
WORDS = {"Laboratory", "Arm", "Rows", "ComparedArms", "Answers", "Claims"}  # of lab/, whose methods a notebook calls


@dataclass(frozen=True)
class Described:
    """A public function or method: its dotted name below zephyr_lab, its signature and its docstring."""

    name: str
    signature: str
    text: str


def packages() -> dict[str, tuple[str, list[Described]]]:
    """By package: what it is for, and its public functions in the order of files and lines."""
    return {name.replace("/", "."): (purpose, list(_functions(name))) for name, purpose in PACKAGES.items()}


def _functions(package: str) -> Iterator[Described]:
    for path in sorted((ROOT / package).glob("**/*.py" if package == "lab" else "*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = f"{package.replace('/', '.')}.{path.stem}"
        for node in tree.body:
            if package == "lab":
                if isinstance(node, ast.ClassDef) and (node.name in WORDS or node.name.endswith("Lab")):
                    yield from (_described(f"lab.{node.name}", one) for one in node.body if _is_public(one))
            elif _is_public(node) and (package != "methods" or node.name.startswith("train_")):
                yield _described(module, node)


def _is_public(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and bool(ast.get_docstring(node))


def _described(owner: str, node: ast.FunctionDef) -> Described:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
    return Described(f"{owner}.{node.name}", f"{node.name}({arguments}){returns}", ast.get_docstring(node) or "")
