"""The site's page of model families and adapters: which method is exact on which, refused by name, or absent."""

from zephyr_lab.reporting.model_matrix import Cell, Matrix, Part, summary
from zephyr_lab.reporting.site_html import table, text
from zephyr_lab.reporting.site_notebooks import raw

SYMBOLS = {"exact": "✓", "refused": "✕", "absent": "–"}  # of each state, in the order of counts
MEANINGS = {
    "exact": "the same numbers as the model's own forward pass, gradients included",
    "refused": "one line says why, before anything runs",
    "absent": "nothing to measure there; the reason says why",
}


def page(matrix: Matrix) -> str:
    """The page as Markdown: counts, one line a family, and the reasons, each told once and numbered."""
    reasons = _reasons(matrix)
    versions = ", ".join(f"{name} {version}" for name, version in matrix.versions.items())
    meanings = "".join(f"<li>{_state(state)}: {text(meaning)}</li>" for state, meaning in MEANINGS.items())
    parts = [
        "# Model families\n",
        f"Causal language models of other people: {summary(matrix)}. Measured with {versions} on small random models "
        "of each family; some stand there in several forms (`benchmarks/model_matrix.json`).\n",
        raw(f"<ul>{meanings}</ul>"),
        "A number behind a state is the largest difference that was measured; brackets name the reason below.\n",
        *_part("Families", "family", matrix.families, reasons),
        *(_part("Adapters", "adapter", matrix.adapters, reasons) if matrix.adapters.rows else ()),
    ]
    if reasons:
        parts += ["## Reasons\n", raw(_listed(reasons))]
    return "\n".join(parts)


def _reasons(matrix: Matrix) -> dict[str, int]:
    """Reason -> its number on the page, in order of appearance."""
    parts = (matrix.families, matrix.adapters)
    told = dict.fromkeys(row.cells[column].reason for part in parts for row in part.rows for column in part.columns)
    return {reason: number for number, reason in enumerate(filter(None, told), start=1)}


def _part(title: str, name: str, part: Part, reasons: dict[str, int]) -> list[str]:
    """A heading, the counts and a line a row."""
    return [f"## {title}\n", raw(_counts_table(part)), raw(_table(name, part, reasons))]


def _counts_table(part: Part) -> str:
    rows = ([text(column), *(str(count[state]) for state in SYMBOLS)] for column, count in part.counts().items())
    return table(["method", *(f"{sign} {state}" for state, sign in SYMBOLS.items())], rows)


def _table(name: str, part: Part, reasons: dict[str, int]) -> str:
    rows = (
        [
            f"<b>{text(row.name)}</b><br><small>{text(row.model)}</small>",
            *(_cell(row.cells[column], reasons) for column in part.columns),
        ]
        for row in part.rows
    )
    return table([name, *part.columns], rows, "zl-families")


def _cell(cell: Cell, reasons: dict[str, int]) -> str:
    error = "" if cell.error is None else f" <small>{cell.error:.1g}</small>"
    number = reasons.get(cell.reason)
    link = f' <a href="#reason-{number}" title="{text(cell.reason)}">[{number}]</a>' if number else ""
    return _state(cell.state) + error + link


def _state(state: str) -> str:
    return f'<span class="zl-state-{state}">{SYMBOLS[state]}&nbsp;{text(state)}</span>'


def _listed(reasons: dict[str, int]) -> str:
    listed = "".join(f'<li id="reason-{number}">{text(reason)}</li>' for reason, number in reasons.items())
    return f"<ol>{listed}</ol>"
