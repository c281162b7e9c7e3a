"""Executed notebooks prepared for the site: safe outputs, links that work, a line that says how they were run.

Outputs hold text that models wrote, so HTML in them passes an allow-list; what needs scripts (an animation, a
precomputed slider) is kept inside a sandboxed frame that can reach neither the page nor any network.
"""

import html
import re
from collections.abc import Callable
from typing import Any

Notebook = dict[str, Any]
Link = Callable[[str], str | None]

SHOWN = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain")
TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details", "div", "dl",
    "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "ol",
    "p", "pre", "q", "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot",
    "th", "thead", "tr", "tt", "u", "ul", "var",
}  # fmt: skip
ATTRIBUTES = {
    "*": ["class", "id", "title", "style", "role", "aria-label"],
    "a": ["href"],
    "img": ["src", "alt", "width", "height"],
    "td": ["colspan", "rowspan", "align"],
    "th": ["colspan", "rowspan", "align", "scope"],
}
# What a style attribute may set: nothing that lays something over the page, nothing that takes an address.
STYLES = {
    "background-color", "border", "border-bottom", "border-collapse", "border-left", "border-right", "border-top",
    "color", "display", "font-size", "font-style", "font-variant-numeric", "font-weight", "height", "line-height",
    "margin", "margin-bottom", "margin-left", "margin-right", "margin-top", "max-width", "min-width", "opacity",
    "overflow-x", "padding", "padding-bottom", "padding-left", "padding-right", "padding-top", "text-align",
    "text-decoration", "vertical-align", "white-space", "width",
}  # fmt: skip
# What a sandboxed frame may do: draw itself. No request of any kind leaves it.
FRAME_POLICY = (
    "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)

_STYLE_BLOCK = re.compile(r"<style\b[^>]*>(.*?)</style\s*>", re.IGNORECASE | re.DOTALL)
_ACTIVE = re.compile(r"<\s*(script|iframe)\b", re.IGNORECASE)
_STYLE_RULE = re.compile(r"([^{}]+)\{[^{}]*\}")
_HARMFUL_STYLE = re.compile(r"[<@\\]|url\s*\(|expression", re.IGNORECASE)
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)")


def prepare(notebook: Notebook, *, header: str, link: Link) -> Notebook:
    """A copy of an executed notebook for the site.

    `header` is HTML, set under the first cell (the title). `link` maps the target of a relative link in prose to
    its address on the site, or to None where it has none: the text then stays without the link.
    """
    cells = [_cell(cell, link) for cell in notebook["cells"]]
    after_title = 1 if cells and cells[0]["cell_type"] == "markdown" else 0
    cells.insert(after_title, {"cell_type": "markdown", "metadata": {}, "source": raw(header)})
    return {
        "cells": cells,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                     "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }  # fmt: skip


def raw(content: str) -> str:
    """Markdown that passes `content` on as HTML, whatever backquotes it holds."""
    longest = max((len(run) for run in re.findall(r"`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{{raw}} html\n{content}\n{fence}\n"


def safe_html(content: str) -> str:
    """HTML of an output, cut down to what a page may hold: tables, text, embedded pictures, plain links.

    Content with scripts or frames becomes a sandboxed frame instead.
    """
    if _ACTIVE.search(content):
        return sandboxed(content)
    kept = "".join(f"<style>{style}</style>" for style in _STYLE_BLOCK.findall(content) if _is_of_a_table(style))
    return kept + _cleaner().clean(_STYLE_BLOCK.sub("", content))


def sandboxed(content: str) -> str:
    """`content` in a frame of its own, without origin and without network."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{FRAME_POLICY}">'
    page = f'<!doctype html><meta charset="utf-8">{policy}{content}'
    return (
        '<div class="zl-frame"><iframe sandbox="allow-scripts" title="interactive figure" '
        f'srcdoc="{html.escape(page, quote=True)}"></iframe></div>'
    )


def markdown_to_html(text: str) -> str:
    """Markdown of an output as HTML; HTML inside it is shown as text, not obeyed."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").render(text)


def rewrite_links(markdown: str, link: Link) -> str:
    """Relative links of a markdown cell brought to the site; links that lead nowhere become plain text."""

    def rewritten(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        address = link(target)
        return f"[{text}]({address})" if address else text

    parts = re.split(r"(```.*?```|`[^`\n]*`)", markdown, flags=re.DOTALL)  # code at odd places
    return "".join(part if index % 2 else _LINK.sub(rewritten, part) for index, part in enumerate(parts))


def _cell(cell: dict[str, Any], link: Link) -> dict[str, Any]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return {"cell_type": "markdown", "metadata": {}, "source": rewrite_links(source, link)}
    return {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "execution_count": cell.get("execution_count"),
        "outputs": [shown for output in cell.get("outputs", []) if (shown := _output(output))],
    }


def _output(output: dict[str, Any]) -> dict[str, Any] | None:
    """An output that the site can show; None for one it cannot (the state of a widget, for example)."""
    if output["output_type"] in ("stream", "error"):
        return output
    data = {kind: _joined(value) for kind, value in output["data"].items()}
    if "text/html" in data:
        data["text/html"] = safe_html(data["text/html"])
    elif "text/markdown" in data:
        data["text/html"] = safe_html(markdown_to_html(data["text/markdown"]))
    data = {kind: data[kind] for kind in SHOWN if kind in data}
    return {"output_type": "display_data", "metadata": {}, "data": data} if data else None


def _is_of_a_table(style: str) -> bool:
    """Whether a style block is one that pandas writes: it speaks of its own table alone and takes no address."""
    selectors = [part.strip() for rule in _STYLE_RULE.findall(style) for part in rule.split(",")]
    return not _HARMFUL_STYLE.search(style) and all(part.startswith(("#T_", ".dataframe")) for part in selectors)


def _joined(value: Any) -> Any:
    return "".join(value) if isinstance(value, list) else value


def _cleaner():
    from bleach.css_sanitizer import CSSSanitizer
    from bleach.sanitizer import Cleaner

    def attribute(tag: str, name: str, value: str) -> bool:
        if name == "src":
            return value.startswith("data:image/")
        return name in ATTRIBUTES["*"] or name in ATTRIBUTES.get(tag, ())

    styles = CSSSanitizer(allowed_css_properties=STYLES)
    return Cleaner(tags=TAGS, attributes=attribute, protocols={"http", "https", "mailto", "data"}, css_sanitizer=styles)
