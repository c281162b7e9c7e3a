"""The pages of the site as Markdown, from the templates in assets/*.j2, where words and layout are.

Nothing is read here but templates. Text comes in plain and leaves escaped.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import zephyr_lab
from zephyr_lab.engine.run_records import kept_lines
from zephyr_lab.reporting.ledger import effect_text, finding_word, half_width_text, other_seeds, p_text, required
from zephyr_lab.reporting.site import model_matrix, pages
from zephyr_lab.reporting.site.content import Item, Number, Run, SiteContent
from zephyr_lab.reporting.site.model_matrix import Matrix
from zephyr_lab.reporting.site.notebooks import raw
from zephyr_lab.scoring.intervals import Estimate, Interval

PAPERS = {"zephyr": "Zephyr", "kd_dae": "KD + DAE", "eda": "EDA", "teaching": "Teaching", "overview": "Documents"}
# From good news to no news; the order in which counts are shown.
VERDICTS = (
    "reproduced", "direction only", "right", "not resolved", "imprecise", "unsupported", "ruled out", "contradicted",
    "wrong", "not testable here", "not measured yet",
)  # fmt: skip
SUMMARY = (
    "Published tables and figures of alignment by distillation, each value beside the one measured here, with an "
    "interval and a verdict that a program reached."
)
GUIDE = "papers/overview/VERDICTS"  # the page on how to read a verdict
SYMBOLS = {"exact": "✓", "refused": "✕", "absent": "–"}  # of each state of a model family, in the order of counts
MEANINGS = {
    "exact": "the same numbers as the model's own forward pass, gradients included",
    "refused": "one line says why, before anything runs",
    "absent": "nothing to measure there; the reason says why",
}
LINE_END = "\ue000"  # of preformatted text, whose lines and indents stay
NONE = Markup('<span class="zl-none">–</span>')


def index_page(content: SiteContent, papers: Sequence[str]) -> str:
    """The front page: state of the run, a card for each item, the notebooks. `papers` are pages of notes."""
    by_paper: dict[str, list[Item]] = {}
    for item in content.items:
        by_paper.setdefault(item.paper, []).append(item)
    return _page(
        "index",
        content=content,
        papers=papers,
        by_paper=by_paper,
        summary=SUMMARY,
        statuses=Counter(item.status for item in content.items).most_common(),
        verdicts=_verdict_counts(content),
        families=model_matrix.summary(content.families) if content.families else "",
    )


def ledger_page(content: SiteContent, papers: Sequence[str] = ()) -> str:
    """All items and all claims with their verdicts; findings and integrity checks of this run's notebooks.

    papers: pages of notes, that on reading a verdict among them.
    """
    return _page(
        "ledger",
        content=content,
        guide=GUIDE if GUIDE in papers else None,
        verdicts=_verdict_counts(content),
        before={claim["id"]: claim for claim in (content.committed or {"claims": []})["claims"]},
        now={claim["id"]: claim for claim in content.ledger["claims"]},
        other_seeds=other_seeds(content.ledger, content.committed),
        kept=kept_lines(run.record for run in content.runs),
    )


def item_page(item: Item) -> str:
    """One table or figure: the picture, the numbers side by side, and where each comes from."""
    return _page("item", item=item)


def families_page(matrix: Matrix) -> str:
    """Which method is exact on which model family: counts, one line a family, and the reasons, each once, numbered."""
    parts = [("Families", "family", matrix.families), ("Adapters", "adapter", matrix.adapters)]
    parts = [part for part in parts if part[2].rows or part[1] == "family"]
    reasons = dict.fromkeys(
        row.cells[column].reason for _, _, part in parts for row in part.rows for column in part.columns
    )
    return _page(
        "families",
        parts=parts,
        reasons={reason: number for number, reason in enumerate(filter(None, reasons), start=1)},
        summary=model_matrix.summary(matrix),
        versions=", ".join(f"{name} {version}" for name, version in matrix.versions.items()),
        symbols=SYMBOLS,
        meanings=MEANINGS,
        columns=[f"{symbol} {state}" for state, symbol in SYMBOLS.items()],
    )


def api_page() -> str:
    """The public functions, with signature and docstring."""
    return _page("api", packages=pages.packages())


def notebook_header(run: Run) -> str:
    """The line under a notebook's title: parameters, time, end; the full record on demand."""
    return _page("header", run=run)


def number(shown: Number | None) -> str:
    """`6.86 [6.43, 7.26]`, with as many digits as the width of the interval gives sense to; a dash for None."""
    if shown is None or shown.number.value is None:
        return NONE
    spread = shown.number.spread
    return shown.number.text(f".{decimals(spread)}f" if spread else ".6g")


def decimals(width: float) -> int:
    """Digits after the point that show an interval of this width to two figures; at least 2 and at most 6."""
    return min(6, max(2, 1 - int(f"{width:e}".partition("e")[2])))


def plain(value: Any) -> str:
    """A number to four figures, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float | None) -> str:
    """`52 s` or `12 min`, unbreakable; empty for None."""
    if seconds is None:
        return ""
    return f"{seconds:.0f}\u00a0s" if seconds < 120 else f"{seconds / 60:.0f}\u00a0min"


def _page(template: str, **values: Any) -> str:
    return _templates().get_template(f"{template}.j2").render(values)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    folder = Path(__file__).with_name("assets")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals["raw"] = _raw
    environment.filters |= {
        "commit": _commit,
        "duration": duration,
        "effect": effect_text,
        "entry": lambda item: f"{item.described.title} <{item.page}>",
        "finding_word": finding_word,
        "finding": _finding,
        "half_width": half_width_text,
        "keep_lines": lambda text: Markup(str(escape(text)).replace("\n", LINE_END)),
        "machine": _machine,
        "number": number,
        "p": p_text,
        "paper": lambda name: PAPERS.get(name, name),
        "parameters": _parameters,
        "plain": plain,
        "required": required,
        "run_page": lambda run: f"notebooks/{run.name}",
        "seeds": lambda ledger: "no seeds yet" if ledger["seeds"] is None else f"{ledger['seeds']} seeds",
        "slug": lambda word: re.sub("[^a-z]+", "-", word.lower()),
        "title": lambda item: f"{PAPERS.get(item.paper, item.paper)} · {item.described.title}",
        "when": _when,
        "whole": lambda value: NONE if value is None else str(value),
    }
    return environment


def _raw(caller: Callable[[], str]) -> Markup:
    """What a template writes between `call raw()` and its end, passed on by Markdown as HTML."""
    lines = (line.strip() for line in str(caller()).splitlines())
    return Markup(raw("\n".join(filter(None, lines)).replace(LINE_END, "\n")))


def _finding(finding: Mapping[str, Any]) -> str:
    """Our number of a finding, with its interval."""
    ends = finding.get("interval")
    return Estimate(finding["ours"], Interval(*ends) if ends else None, None).text(".4g")


def _verdict_counts(content: SiteContent) -> list[tuple[str, int]]:
    counts = Counter(claim["verdict"] for claim in content.ledger["claims"])
    return [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]]


def _parameters(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The parameters of a run, profile and seeds first."""
    values = {"profile": record.get("profile"), "seeds": record.get("seeds"), **record.get("parameters", {})}
    return [(name, value) for name, value in values.items() if value is not None]


def _commit(provenance: Mapping[str, Any]) -> str:
    git = provenance.get("git") or {}
    commit = git["commit"][:12] if git.get("commit") else "not a git checkout"
    return commit + (" with uncommitted changes" if git.get("changed") else "")


def _machine(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run was made on and with: names and values of the record's list."""
    machine = ", ".join(str(provenance[key]) for key in ("cpu", "system") if provenance.get(key))
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("packages", {}).items())
    lines = [("machine", machine), ("Python", provenance.get("python", "")), ("versions", versions)]
    return [line for line in lines if line[1]]


def _when(run: Run) -> str:
    finished = run.record.get("finished")
    return f"{datetime.fromtimestamp(finished, UTC):%Y-%m-%d %H:%M} UTC" if finished else ""


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
