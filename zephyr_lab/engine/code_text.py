"""A piece of code as text in which only what can shape a result is left, and names stand for what they mean.

Left out: layout, comments, docstrings, annotations that nothing reads, the wording of errors and warnings, calls that
report progress. Names of the project's functions, classes and constants become targets (`Target`), so a text does not
say which modules they are in; names of other people's become their full origin, so `from torch import relu as act`
and `from torch import gelu as act` differ.
"""

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from zephyr_lab.engine import syntax

# Errors that carry a text for people and nothing that a handler computes with.
TEXT_ERRORS = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception) and not issubclass(value, StopIteration)
)
IMPORTERS = frozenset(("import_module", "__import__"))
READS_ANNOTATIONS = frozenset(("get_type_hints", "get_annotations", "signature"))
PLAIN_CALLS = frozenset(("float", "int", "len", "round", "str", "item", "tolist", "min", "max", "sum"))
COMPUTES = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom, ast.Starred, ast.comprehension)


@dataclass(frozen=True)
class Target:
    """What a name means. module and name of a definition; name "" for the module as a whole; `annotated` where the
    annotations of the definition are read too."""

    module: str
    name: str
    annotated: bool = False


Resolve = Callable[[tuple[str, ...]], list[Target | str]]  # a chain of names -> what it means; text for other people's
Named = Callable[[str], list[Target | str]]  # a string -> what it names in the project; empty for ordinary strings


@dataclass(frozen=True)
class CodeText:
    """The text as pieces with a target between each two: pieces[0] targets[0] pieces[1] ... pieces[-1]."""

    pieces: tuple[str, ...]
    targets: tuple[Target, ...]

    def filled(self, label: Callable[[Target], str]) -> str:
        """The whole text, with `label(target)` in the place of each target."""
        parts = [self.pieces[0]]
        for target, piece in zip(self.targets, self.pieces[1:], strict=True):
            parts += [label(target), piece]
        return "".join(parts)


def code_text(
    nodes: Iterable[ast.AST], resolve: Resolve, named: Named, modules: Iterable[str], *, annotated: bool
) -> CodeText:
    """The text of `nodes`. `resolve` says what a chain of names means there, `named` what a string names;
    `modules` are those that an import at run time may load. `annotated`: annotations are read, so they count."""
    writer = _Writer(resolve, named, modules, annotated)
    for node in nodes:
        writer.write(node)
    return writer.text()


_TEXT_ERROR_CHAINS = frozenset((name,) for name in TEXT_ERRORS)


class _Writer:
    def __init__(self, resolve: Resolve, named: Named, modules: Iterable[str], annotated: bool) -> None:
        self._resolve = resolve
        self._named = named
        self._modules = modules
        self._annotated = annotated
        self._parts: list[str] = []
        self._pieces: list[str] = []
        self._targets: list[Target] = []

    def text(self) -> CodeText:
        return CodeText((*self._pieces, "".join(self._parts)), tuple(self._targets))

    def write(self, node: ast.AST) -> None:
        """Append one syntax tree."""
        special = self._SPECIAL.get(type(node))
        if special is not None:
            special(self, node)
        else:
            self._plain(node, node._fields)

    def _plain(self, node: ast.AST, fields: Iterable[str]) -> None:
        self._parts.append(f"{type(node).__name__}(")
        for field in fields:
            if field not in ("ctx", "kind", "type_comment"):
                self._parts.append(f"{field}=")
                self._value(getattr(node, field, None))
                self._parts.append(",")
        self._parts.append(")")

    def _value(self, value: object) -> None:
        if isinstance(value, ast.AST):
            self.write(value)
        elif isinstance(value, list):
            self._many(value)
        else:
            self._parts.append(repr(value))

    def _many(self, values: Iterable[object]) -> None:
        self._parts.append("[")
        for value in values:
            self._value(value)
            self._parts.append(",")
        self._parts.append("]")

    def _target(self, target: Target) -> None:
        self._pieces.append("".join(self._parts))
        self._parts = []
        self._targets.append(target)

    # names

    def _name(self, node: ast.Name | ast.Attribute) -> None:
        chain = syntax.attribute_chain(node)
        if not chain or not isinstance(node.ctx, ast.Load):
            self._plain(node, node._fields)
            return
        self._meant(self._resolve(chain), ".".join(chain))
        if chain[-1] == "__annotations__" and chain[1:]:
            self._annotations_of([chain[:-1]])

    def _annotations_of(self, chains: Iterable[tuple[str, ...]]) -> None:
        for meaning in (meaning for chain in chains for meaning in self._resolve(chain)):
            if isinstance(meaning, Target):
                self._target(Target(meaning.module, meaning.name, annotated=True))

    def _constant(self, node: ast.Constant) -> None:
        self._parts.append(f"{type(node.value).__name__} ")
        self._meant(self._named(node.value) if isinstance(node.value, str) else [], repr(node.value))

    def _meant(self, meanings: list[Target | str], otherwise: str) -> None:
        for meaning in meanings:
            if isinstance(meaning, Target):
                self._target(meaning)
            else:
                self._parts.append(f"<{meaning}>")
        if not meanings:
            self._parts.append(otherwise)

    # what does not count

    def _import(self, node: ast.AST) -> None:
        """What it brings in counts where it is used."""

    def _statements(self, node: ast.AST) -> None:
        """Any node with suites: strings that are statements and reports of progress are left out of them."""
        fields = [field for field in node._fields if field not in ("body", "orelse", "finalbody")]
        self._plain(node, fields)
        for field in ("body", "orelse", "finalbody"):
            self._suite(getattr(node, field, None) or [])

    def _suite(self, statements: list[ast.stmt]) -> None:
        self._many(inner for inner in syntax.without_docstring(statements) if not self._reports(inner))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        keeps = self._annotated
        self._annotated = keeps or not all(map(syntax.is_pure_decorator, node.decorator_list))
        self._parts.append(f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}{node.name}")
        self._many(node.decorator_list)
        self.write(node.args)
        if self._annotated and node.returns is not None:
            self.write(node.returns)
        self._suite(node.body)
        self._annotated = keeps

    def _reports(self, node: ast.stmt) -> bool:
        """Whether a statement reports progress to the engine, and calls no function or method of ours to do so."""
        if not _reports_progress(node):
            return False
        chains = {syntax.attribute_chain(inner.func) for inner in ast.walk(node) if isinstance(inner, ast.Call)}
        ours = any(isinstance(one, Target) for chain in chains if chain for one in self._resolve(chain))
        return not ours and chains.isdisjoint({("self", "progress"), ("cls", "progress")})

    def _arg(self, node: ast.arg) -> None:
        self._parts.append(node.arg)
        if self._annotated and node.annotation is not None:
            self.write(node.annotation)

    def _class(self, node: ast.ClassDef) -> None:
        """Annotations of a class's fields are read by dataclasses; they count."""
        self._parts.append(f"class {node.name}")
        self._many([*node.bases, *node.keywords])
        self._many(node.decorator_list)
        for inner in syntax.without_docstring(node.body):
            if isinstance(inner, ast.AnnAssign):
                self.write(inner.annotation)
            self.write(inner)
            self._parts.append(";")

    def _annotated_assignment(self, node: ast.AnnAssign) -> None:
        """Without its annotation: outside a class nothing reads it."""
        self.write(node.target)
        if node.value is not None:
            self._parts.append("=")
            self.write(node.value)

    def _raise(self, node: ast.Raise) -> None:
        self._parts.append("raise ")
        if isinstance(node.exc, ast.Call) and self._is_text_error(node.exc.func):
            self.write(node.exc.func)
            self._many([argument for argument in node.exc.args if not _is_text(argument)])
            self._many(node.exc.keywords)
        elif node.exc is not None:
            self.write(node.exc)
        if node.cause is not None:
            self._parts.append(" from ")
            self.write(node.cause)

    def _is_text_error(self, func: ast.expr) -> bool:
        chain = syntax.attribute_chain(func)
        return chain in _TEXT_ERROR_CHAINS and not self._resolve(chain)  # none of ours under a builtin's name

    def _assert(self, node: ast.Assert) -> None:
        self._parts.append("assert ")
        self.write(node.test)

    def _call(self, node: ast.Call) -> None:
        chain = syntax.attribute_chain(node.func)
        if chain == ("warnings", "warn") and node.args and _is_text(node.args[0]):
            self._plain(ast.Call(node.func, node.args[1:], node.keywords), ast.Call._fields)
            return
        self._plain(node, node._fields)
        last = chain[-1] if chain else ""
        if chain in (("vars",), ("locals",)) and not node.args:  # of a module, as globals()
            self._meant(self._resolve(("globals",)), "")
        if last in READS_ANNOTATIONS or READS_ANNOTATIONS & self._last_names(chain):
            arguments = (*node.args, *(keyword.value for keyword in node.keywords))
            self._annotations_of(filter(None, map(syntax.attribute_chain, arguments)))
        if last in IMPORTERS or IMPORTERS & self._last_names(chain):
            first = next(iter([*node.args, *(keyword.value for keyword in node.keywords)]), None)
            for module in _named_at_run_time(first, self._modules):
                self._target(Target(module, ""))

    def _last_names(self, chain: tuple[str, ...]) -> set[str]:
        meanings = self._resolve(chain) if chain else []
        return {meaning.rpartition(".")[2] for meaning in meanings if isinstance(meaning, str)}

    _SPECIAL: ClassVar[dict[type, Callable[..., None]]] = {
        ast.Name: _name,
        ast.Attribute: _name,
        ast.Constant: _constant,
        ast.Import: _import,
        ast.ImportFrom: _import,
        ast.FunctionDef: _function,
        ast.AsyncFunctionDef: _function,
        ast.arg: _arg,
        ast.ClassDef: _class,
        ast.AnnAssign: _annotated_assignment,
        ast.Raise: _raise,
        ast.Assert: _assert,
        ast.Call: _call,
        **dict.fromkeys((ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try), _statements),
        ast.ExceptHandler: _statements,
    }


def _is_text(node: ast.expr) -> bool:
    """Whether an expression is a text written here: a string, an f-string, strings joined or formatted."""
    if isinstance(node, ast.JoinedStr) or syntax.is_string(node):
        return True
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_text(node.func.value)


def _reports_progress(node: ast.AST) -> bool:
    """Whether a statement is `progress(...)` or `context.progress(...)` and computes nothing beside."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    call = node.value
    if syntax.attribute_chain(call.func)[-1:] != ("progress",):
        return False
    inner = [part for argument in (*call.args, *call.keywords) for part in ast.walk(argument)]
    called = [part.func for part in inner if isinstance(part, ast.Call)]
    names = {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in called}
    return names <= PLAIN_CALLS and not any(isinstance(part, COMPUTES) for part in inner)


def _named_at_run_time(argument: ast.expr | None, modules: Iterable[str]) -> Iterator[str]:
    """Modules that `import_module(argument)` may load: all that begin as the f-string does; all where nothing is said.
    A plain string is a target already."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and "." in argument.value.strip("."):
        return
    first = argument.values[0] if isinstance(argument, ast.JoinedStr) and argument.values else argument
    begin = first.value if syntax.is_string(first) else ""
    if begin.startswith("."):  # relative to a package that the call does not name
        begin = ""
    yield from (module for module in sorted(modules) if module.startswith(begin))
