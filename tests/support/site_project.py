"""A small hand-made project for the site: two executed notebooks with records, figures, tables, fragments.

Used by the tests of the report, with and without a browser.
"""

import base64
import csv
import json
from pathlib import Path
from typing import Any

# One red pixel.
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000003010100c9fe92ef"
        "0000000049454e44ae426082"
    )
).decode()
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="340" height="200"><circle cx="170" cy="100" r="80"/></svg>'
COLUMNS = ["row", "metric", "kind", "value", "low", "high", "n", "seeds", "interval", "source"]
HOSTILE = "<script>window.forged = true</script><img src=https://example.invalid/x.png onerror=alert(1)>"


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: str, *outputs: dict[str, Any], count: int = 1) -> dict[str, Any]:
    return {
        "cell_type": "code", "metadata": {"papermill": {"duration": 0.1}}, "source": source,
        "execution_count": count, "outputs": list(outputs),
    }  # fmt: skip


def shown(**data: str) -> dict[str, Any]:
    """An output with data by kind: html=..., png=..., markdown=..., plain=..."""
    kinds = {"html": "text/html", "png": "image/png", "markdown": "text/markdown", "plain": "text/plain"}
    data_by_kind = {kinds.get(name, name): value for name, value in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": data_by_kind}


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {"papermill": {"version": "2.7"}}, "nbformat": 4, "nbformat_minor": 5}


def record(name: str, title: str, **changed: Any) -> dict[str, Any]:
    """A run.json of the lab's schema."""
    return {
        "schema": 2, "notebook": name, "title": title, "profile": "tiny", "seeds": 3, "parameters": {"beta": 0.1},
        "code": "c" * 64, "source": "d" * 64, "uses": {}, "lock": "e" * 64,
        "stages": [{"name": "base", "key": "f" * 64, "seed": 0, "code": ["small:build", "small:Recipe"]}],
        "inputs": {"papers/zephyr/published.yaml": "a" * 64, "data:mt_bench_scores.csv": None},
        "products": {}, "started": 1795173600.0, "finished": 1795173652.4, "seconds": 52.4,
        "provenance": {"git": {"commit": "0123456789abcdef", "changed": True}, "python": "3.11.7", "system": "Linux",
                       "cpu": "a processor", "packages": {"numpy": "2.4.6"}},
    } | changed  # fmt: skip


def number(row: str, kind: str, value: float, low: Any = "", high: Any = "", **more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(COLUMNS, "")
    return blank | {"row": row, "metric": "mt_bench", "kind": kind, "value": value, "low": low, "high": high} | more


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_run(root: Path, name: str, title: str, executed: dict[str, Any], **changed: Any) -> None:
    """An executed notebook with its record, and the notebook itself, which is what makes the run count."""
    folder = root / "build" / "tiny" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "notebooks" / f"{name}.ipynb").touch()
    (folder / f"{name}.ipynb").write_text(json.dumps(executed), encoding="utf-8")
    (folder / f"{name}.run.json").write_text(json.dumps(record(name, title, **changed)), encoding="utf-8")


def write_items_and_claims(root: Path) -> None:
    """papers/items.toml with three items, and one claim a paper: Z6 measured, the others not testable."""
    described = [
        ("zephyr/tab1", "Table 1: chat benchmarks", "recomputed+retrained+quoted", "13"),
        ("zephyr/fig2", "Figure 2: the three steps", "recomputed", "11"),
        ("eda/math_t0", "Math target, greedy", "retrained+quoted", "31"),
    ]
    entries = (
        f'[[items]]\nid = "{name}"\ntitle = "{title}"\nkind = "{kind}"\nnotebook = "{number}"\n'
        for name, title, kind, number in described
    )
    for paper in ("zephyr", "kd_dae", "eda", "overview"):
        (root / "papers" / paper).mkdir(parents=True)
        stated = 'kind = "absolute"\ntest = "by hand"\nsource = "Section 5"\n'
        claim = f'id = "{paper}-1"\nstatement = "Unmeasured"\n{stated}not_testable = "no device"\n'
        if paper == "zephyr":
            claim = f'id = "Z6"\nstatement = "Zephyr scores above its teacher\'s student"\n{stated}published = "7.34"\n'
            claim += 'metric = "difference"\ndirection = "higher"\nmargin = 0.0\nmargin_reason = "none"\n'
        (root / "papers" / paper / "claims.toml").write_text(f"[[claims]]\n{claim}", encoding="utf-8")
    (root / "papers/items.toml").write_text("\n".join(entries), encoding="utf-8")


def write_project(root: Path) -> None:
    """A checkout with one item made by notebook 13, one only committed, one missing."""
    (root / "pyproject.toml").touch()
    for name in ("notebooks", "figures/zephyr", "build/tiny/figures/zephyr", "build/tiny/ledger"):
        (root / name).mkdir(parents=True)
    write_items_and_claims(root)
    (root / "papers/zephyr/NOTES.md").write_text("# Zephyr: notes\n\nBeta is $\\beta = 0.1$.\n", encoding="utf-8")
    (root / "build/tiny/figures/zephyr/tab1.svg").write_text(SVG, encoding="utf-8")
    (root / "build/tiny/figures/zephyr/tab1.png").write_bytes(base64.b64decode(PNG))
    (root / "figures/zephyr/fig2.svg").write_text(SVG, encoding="utf-8")
    published = number("llama-2-70b-chat", "quoted", 6.86, source="Table 1")
    ours = number(
        "llama-2-70b-chat", "recomputed", 6.856, 6.43, 7.26, n=80, interval="80 questions", source="scores.csv"
    )
    was = ours | {"value": 6.85, "low": 6.42, "high": 7.25}
    write_table(root / "build/tiny/tables/zephyr/tab1.csv", [published, ours])
    write_table(root / "figures/zephyr/tab1.csv", [published, was])
    fragment = {
        "notebook": "13_scores", "profile": "tiny", "seeds": 3,
        "items": [{"id": "zephyr/tab1", "kind": "recomputed+retrained+quoted", "present": ["recomputed", "quoted"],
                   "lacking": {"retrained": "comes with the trained models"},
                   "files": ["figures/zephyr/tab1.png", "figures/zephyr/tab1.svg", "tables/zephyr/tab1.csv"]}],
        "claims": [{"id": "Z6", "verdict": "reproduced", "effect": 0.42, "interval": [0.1, 0.74], "n": 80,
                    "seeds": None,
                    "why": "the interval lies above 0", "facts": ["6.86 > 6.41 (Table 1)"]}],
        "exact": [{"what": "mean of gpt-4", "got": 8.990625, "expected": 8.990625, "holds": True}],
        "findings": [{"what": "mpt-7b-chat", "ours": 5.46, "interval": [4.91, 5.98], "published": 5.42,
                      "source": "Table 1", "agrees": False}],
    }  # fmt: skip
    was_items = [
        {
            "id": "zephyr/tab1",
            "kind": "recomputed+retrained+quoted",
            "status": "partial",
            "files": ["figures/zephyr/tab1.csv"],
        },
        {"id": "zephyr/fig2", "kind": "recomputed", "status": "ok", "files": ["figures/zephyr/fig2.svg"]},
    ]
    was_claim = {
        "id": "Z6",
        "verdict": "direction only",
        "effect": 0.3,
        "interval": [0.01, 0.6],
        "n": 80,
        "seeds": None,
    }
    old = {"profile": "tiny", "seeds": 5, "source": "figures", "items": was_items, "claims": [was_claim]}
    (root / "figures/ledger.json").write_text(json.dumps(old), encoding="utf-8")
    (root / "build/tiny/ledger/13_scores.json").write_text(json.dumps(fragment), encoding="utf-8")
    write_run(
        root, "13_scores", "13 · Chat scores",
        notebook(
            markdown("# 13 · Chat scores\n\nBack to [the start](00_start.ipynb#map), to [a file](../pyproject.toml) "
                     "and the [notes](../papers/zephyr/NOTES.md)."),
            markdown("The loss is\n\n$$-\\log \\sigma(\\beta \\Delta)$$\n\nwith $\\beta > 0$."),
            code("print('scores')", printed("gpt-4 8.99\n"), shown(html="<table><tr><td>8.99</td></tr></table>")),
            code("draw()", shown(png=PNG), count=2),
            code("say()", shown(html=f"<p>{HOSTILE}</p>"), printed(HOSTILE), shown(markdown=HOSTILE), count=3),
        ),
    )  # fmt: skip
    start = notebook(markdown("# 00 · Start here\n\n## Map\n\nGo to [13](13_scores.ipynb) or [12](12_absent.ipynb)."))
    write_run(root, "00_start", "00 · Start here", start, seconds=130.0, parameters={}, stages=[])
