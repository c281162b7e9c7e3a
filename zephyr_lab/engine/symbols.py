"""Which functions, classes and constants a piece of code reaches, directly or not, and one digest of them all.

One reading serves stages and notebooks: a result is made again when something that it uses has changed, not when its
neighbour in the same file has. Read from the syntax trees alone. Wherever the reading is unsure it counts more, never
less: a module used as a value counts whole; top-level statements, and definitions that may register themselves, count
wherever their module is imported.

The digest knows no paths. What is reached is numbered in the order in which it is met, and the texts name those
numbers, so a function that moves to another module, or a module that is renamed, leaves it as it was.
"""

import ast
import hashlib
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zephyr_lab.engine import syntax
from zephyr_lab.engine.code_text import CodeText, Target, code_text

# Modules that move, lock, show and record results without shaping them. A change there must not send
# every stage back to training; what they import counts only where something else imports it too.
PLUMBING_PACKAGE = __name__.rpartition(".")[0]
PLUMBING = frozenset(f"zephyr_lab.core.{name}" for name in ("files", "paths", "profiles", "provenance", "session"))

RUN_TIME_NAMES = frozenset(("globals", "eval", "exec"))  # their text does not show what they reach


@dataclass(frozen=True)
class Closure:
    """What a piece of code reaches.

    uses: "module:name" -> digest of each definition, "module:" for what runs when the module is imported; it shows what
    changed. digest: one hex digest of everything, without paths. libraries: dotted names imported from elsewhere.
    """

    uses: dict[str, str]
    digest: str
    libraries: list[str]


@dataclass(frozen=True)
class _Walk:
    """What is met from some roots by following names: a digest, the definitions, and what importing them runs."""

    digest: str
    targets: tuple[Target, ...]
    loads: frozenset[str]  # dotted names


def reading_now() -> "Reading":
    """The project's source as it is on disk now; the last reading is used again where no file has changed."""
    global _latest
    files = syntax.project_modules()
    marks = {name: (path, *syntax.stamp(path)) for name, path in files.items()}
    if _latest is None or _latest[0] != marks:
        _latest = (marks, Reading(files))
    return _latest[1]


_latest: tuple[dict[str, tuple[Path, int, int]], "Reading"] | None = None


class Reading:
    """The project's source at one moment: each file is parsed once, each definition is read once."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._packages = frozenset(name.partition(".")[0] for name in self._files)
        self._names = frozenset(self._files)
        self._modules: dict[str, syntax.Module] = {}
        self._texts: dict[Target, CodeText] = {}
        self._inner_loads: dict[Target, list[str]] = {}
        self._bodies: dict[str, list[_Walk]] = {}
        self._closures: dict[tuple[str, ...], Closure] = {}

    def of(self, *names: str) -> Closure:
        """What the definitions "module:name" reach, together.

        Raises ValueError for a module or name that does not exist, and for a module that does not parse.
        """
        if names not in self._closures:
            self._closures[names] = self._close([one for name in names for one in self._existing(name)], ())
        return self._closures[names]

    def of_cells(self, cells: Iterable[str]) -> Closure:
        """What the code `cells` of a notebook reach, together. Raises ValueError where something does not parse."""
        text = "\n".join(cells)
        name = f"cells {text}"  # a module of their own, which nobody can import
        if (name,) not in self._closures:
            tree = syntax.parse(text, "notebook")
            read = syntax.module_of(tree, name, "", self._packages)
            self._modules[name] = syntax.Module(name, "", {}, tuple(tree.body), read.imports, (), read.stars, True)
            self._closures[(name,)] = self._close([Target(name, "")], read.loads)
        return self._closures[(name,)]

    def defining(self, recorded: str) -> list[str]:
        """`recorded` ("module:name") where its module still defines the name, else every one of the package that does.

        Raises ValueError where the recorded module does not parse; another one that does not is left out.
        """
        module, _, symbol = recorded.partition(":")
        if self._definitions(module, symbol):
            return [recorded]
        others = []
        for name in sorted(self._names):
            with suppress(ValueError):
                if name.startswith(f"{module.partition('.')[0]}.") and symbol in self._module(name).symbols:
                    self.of(f"{name}:{symbol}")
                    others.append(f"{name}:{symbol}")
        return others

    def _existing(self, name: str) -> list[Target]:
        module, _, symbol = name.partition(":")
        if module not in self._names:
            raise ValueError(f"no module named {module!r} in the project")
        if targets := self._definitions(module, symbol):
            return targets
        raise ValueError(f"module {module} defines no {symbol!r}")

    def _definitions(self, module: str, name: str) -> list[Target]:
        """What whoever asks `module` for `name` gets; nothing where that is a whole module or not of the project."""
        meanings = self._meanings((*module.split("."), name)) if module in self._names else []
        return [meaning for meaning in meanings if isinstance(meaning, Target) and meaning.name]

    def _close(self, roots: list[Target], loads: Iterable[str]) -> Closure:
        walk = self._walk(roots)
        targets, bodies = dict.fromkeys(walk.targets), []
        numbers = {target: number for number, target in enumerate(walk.targets)}
        queue, loaded = [*walk.loads, *loads], set()
        while queue:
            dotted = queue.pop()
            if dotted in loaded:
                continue
            loaded.add(dotted)
            runs = self._run_by(dotted)
            for body in runs:
                targets.update(dict.fromkeys(body.targets))
                queue += body.loads
            if runs:  # in their order, with the places at which they meet what the roots reach
                met = [[(at, numbers[one]) for at, one in enumerate(body.targets) if one in numbers] for body in runs]
                bodies.append(_sha256("\n".join(f"{body.digest} {at}" for body, at in zip(runs, met, strict=True))))
            queue += self._module(dotted).loads if dotted in self._names and not is_plumbing(dotted) else ()
            queue += [name for name in syntax.importing(dotted)[:-1] if name in self._names]  # the packages around it
        libraries = {name.removesuffix(".*") for name in loaded if name.partition(".")[0] not in self._packages}
        ran = [name for name in loaded if name in self._names and not is_plumbing(name)]
        digest = _sha256("\n".join([walk.digest, *sorted(bodies)]))
        return Closure(self._uses(targets, ran), digest, sorted(libraries - {""}))

    def _run_by(self, dotted: str) -> list[_Walk]:
        """What importing `dotted` alone runs: the statements of a module; everything of one after a star."""
        module = dotted.removesuffix(".*")
        if module not in self._names or is_plumbing(module):
            return []
        starred = [self._walk([Target(module, "")])] if module != dotted else []
        return [*starred, *self._body_walks(module)]

    def _uses(self, targets: Iterable[Target], ran: Iterable[str]) -> dict[str, str]:
        uses = {f"{name}:": syntax.combine({walk.digest: "" for walk in self._body_walks(name)}) for name in ran}
        for target in targets:
            if target.name in self._module(target.module).symbols:
                text = self._text(Target(target.module, target.name))
                uses[f"{target.module}:{target.name}"] = _sha256(text.filled(lambda other: f"<{other.name}>"))
        return dict(sorted(uses.items()))

    def _walk(self, roots: list[Target]) -> _Walk:
        """Breadth first. Each text names the numbers under which its targets were met."""
        numbers = {target: number for number, target in enumerate(roots)}
        queue, texts, loads = deque(roots), [], set()
        while queue:
            target = queue.popleft()
            text = self._text(target)
            for other in text.targets:
                if other not in numbers:
                    numbers[other] = len(numbers)
                    queue.append(other)
            texts.append(text.filled(lambda other: f"<{numbers[other]}>"))
            loads.update([target.module] if target.module in self._names else [])
            loads.update(self._inner_loads[target])
        return _Walk(_sha256("\n".join(texts)), tuple(numbers), frozenset(loads))

    def _body_walks(self, name: str) -> list[_Walk]:
        """A walk from each statement that runs whenever the module is imported."""
        if name not in self._bodies:
            count = len(self._module(name).body)
            self._bodies[name] = [self._walk([Target(name, f"statement {number}")]) for number in range(count)]
        return self._bodies[name]

    def _text(self, target: Target) -> CodeText:
        if target not in self._texts:
            module, nodes = self._module(target.module), self._nodes(target)
            inside = nodes if module.imports_inside else ()
            inner = syntax.import_names(inside, module.package)
            self._inner_loads[target] = [name for node in inside for name in syntax.imported(node, module.package)]

            def resolve(chain: tuple[str, ...]) -> list[Target | str]:
                return self._seen_from(module, inner, chain)

            if nodes:
                text = code_text(nodes, resolve, self._named, self._names, annotated=target.annotated)
            else:
                names = sorted({*module.symbols, *module.imports})
                pairs = [(name, meant) for name in names for meant in self._definitions(module.name, name)]
                text = CodeText(("", *(f"{name}," for name, _ in pairs)), tuple(meant for _, meant in pairs))
            if len({name for node in nodes for name in syntax.defined(node)}) > 1:  # which of them is meant
                text = CodeText((f"{target.name} of {text.pieces[0]}", *text.pieces[1:]), text.targets)
            self._texts[target] = text
        return self._texts[target]

    def _named(self, text: str) -> list[Target | str]:
        """What a string names: "package.module:name", as stages write it, or "package.module"; nothing else does."""
        module, colon, name = text.partition(":")
        if module not in self._names or not (name.isidentifier() if colon else "." in module):
            return []
        return self._meanings((*module.split("."), *([name] if colon else [])))

    def _nodes(self, target: Target) -> tuple[ast.stmt, ...]:
        """The statements behind a target; none for a module as a whole: its text is the list of what it defines."""
        module = self._module(target.module)
        if target.name.startswith("statement "):
            return (module.body[int(target.name.removeprefix("statement "))],)
        return module.symbols[target.name] if target.name else () if module.name in self._names else module.body

    def _seen_from(self, module: syntax.Module, inner: syntax.Names, chain: tuple[str, ...]) -> list[Target | str]:
        """What `chain` ("figures", "radar") means in `module`, where `inner` names are imported on the spot."""
        first, rest = chain[0], chain[1:]
        origins = dict.fromkeys((*inner.get(first, ()), *module.imports.get(first, ())))
        meanings = [Target(module.name, first), *_attributes(rest)] if first in module.symbols else []
        meanings += [meaning for origin in origins for meaning in self._meanings((*origin.split("."), *rest))]
        if "sys.modules" in meanings and module.name in self._names:
            meanings.append(Target(module.name, ""))
        if meanings:
            return meanings
        if first in RUN_TIME_NAMES:
            return [*self._at_hand(module, inner), first]
        starred = [meaning for star in module.stars for meaning in self._meanings((*star.split("."), *chain))]
        return [meaning for meaning in starred if not isinstance(meaning, Target) or meaning.name]

    def _at_hand(self, module: syntax.Module, inner: syntax.Names) -> list[Target | str]:
        """All that a name made at run time may mean in `module`: what it defines, and what it imports."""
        own = [Target(module.name, "")] if module.name in self._names else []
        every = (*inner.values(), *module.imports.values())
        distinct = dict.fromkeys(origin for origins in every for origin in origins)
        meanings = [meaning for origin in distinct for meaning in self._meanings(tuple(origin.split(".")))]
        return [*own, *(meaning for meaning in meanings if isinstance(meaning, Target))]

    def _meanings(self, dotted: tuple[str, ...], depth: int = 0) -> list[Target | str]:
        """What a dotted path means: a definition, a module as a whole (also where the name is made at run time), or a
        text where it is plumbing or not of this project."""
        depths = [length for length in range(1, len(dotted) + 1) if ".".join(dotted[:length]) in self._names]
        if not depths or depth > len(self._names):
            return [".".join(dotted)]
        name, rest = ".".join(dotted[: depths[-1]]), dotted[depths[-1] :]
        if is_plumbing(name):
            return [".".join(rest) or dotted[depths[-1] - 1]]
        module = self._module(name)
        shadow, _, last = name.rpartition(".")  # a package that defines a name as one of its modules is called
        if len(depths) > 1 and shadow in self._names and not is_plumbing(shadow) and depth <= len(self._names):
            around = self._module(shadow)
            other = [Target(shadow, last), *_attributes(rest)] if last in around.symbols else []
            for origin in around.imports.get(last, ()):
                if origin != name:
                    other += self._meanings((*origin.split("."), *rest), depth + 1)
            if other:
                return [Target(name, ""), *other]
        own = [Target(name, rest[0]), *_attributes(rest[1:])] if rest and rest[0] in module.symbols else []
        origins = module.imports.get(rest[0], ()) if rest else ()
        if own and not origins:
            return own
        origins = origins or [f"{star}.{rest[0]}" for star in module.stars if rest]
        if origins:  # a module that imports it passes it on
            passed = [self._meanings((*origin.split("."), *rest[1:]), depth + 1) for origin in origins]
            return [*own, *(meaning for meanings in passed for meaning in meanings)]
        return [Target(name, ""), *_attributes(rest)]

    def _module(self, name: str) -> syntax.Module:
        if name not in self._modules:
            self._modules[name] = syntax.read(self._files[name], name, self._packages)
        return self._modules[name]


def is_plumbing(module: str) -> bool:
    """Whether a module moves, locks, shows and records results without shaping them."""
    return module in PLUMBING or module == PLUMBING_PACKAGE or module.startswith(f"{PLUMBING_PACKAGE}.")


def changed_names(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What differs between the `uses` of two closures, as dotted names."""
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return [name.replace(":", ".").rstrip(".") for name in names]


def _attributes(names: tuple[str, ...]) -> list[str]:
    return [f".{'.'.join(names)}"] if names else []


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
