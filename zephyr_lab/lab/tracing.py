"""From a number back to its making: figure -> notebook -> stages and inputs -> functions -> equations -> tests."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files, paths
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.engine import freshness, run_records, stages
from zephyr_lab.engine.notebooks import Notebook, all_notebooks
from zephyr_lab.engine.run_records import reasons_kept, stage_groups

SHOWN_ARMS = 10
_TRAINS = re.compile(r"zephyr_lab\.methods\.\w+:train_\w+")
_EQUATION_ROW = re.compile(r"^\|(?P<cells>.+)\|\s*$")


def trace(target: str, profile: str) -> dict[str, Any]:
    """What made `target`: a file below build/<profile>/ or figures/, or an item such as "zephyr/tab1".

    Raises ValueError, naming what exists, where no run made it.
    """
    require_profile(profile)
    name = _product_name(target, profile)
    runs = [(notebook, run_records.load(profile, notebook.name)) for notebook in all_notebooks()]
    runs = [(notebook, record) for notebook, record in runs if record]
    for notebook, record in runs:
        if products := [product for product in record["products"] if _is_of(product, name)]:
            why = freshness.reasons(notebook, record["parameters"])
            record["stages"], record["kept"] = stage_groups(record["stages"]), reasons_kept(record.get("kept", []))
            state = f"stale: {why[0]}" if why else "fresh"
            facts = {"target": target, "source": "build", "state": state, "products": products}
            return facts | _traced(notebook, record, products, paths.build_dir(profile) / "tables")
    for notebook, record in _promoted():
        file = name.removeprefix("figures/")
        if products := [f"figures/{one}" for one in record["files"] if file in (one, one.rpartition(".")[0])]:
            facts = {"target": target, "source": "figures", "state": "committed", "products": products}
            return facts | _traced(notebook, record, products, paths.figures_dir())
    products = {product for _, record in runs for product in record["products"]}
    items = sorted({_item(product) for product in products if product.startswith(("figures/", "tables/"))})
    raise ValueError(f"no run made {target!r}; items of the runs so far: {', '.join(items) or 'none'}")


def lines(trace: dict[str, Any], *, everything: bool = False) -> list[str]:
    """The trace for people, a step a line: what made it, its arms by name, the functions that trained them, equations.

    everything: also each stage, each file that was read, and each module.
    """
    shown = [
        f"{trace['target']}  ({trace['source']}, profile {trace['profile']}, {trace['seeds']} seeds, {trace['state']})",
        f"  made by    notebooks/{trace['notebook']}.ipynb  {trace['title']}",
        f"  files      {', '.join(trace['products'])}",
    ]
    shown += [f"  {line}" for line in _arm_lines(trace["arms"], everything=everything)]
    shown += [f"  function   {name}" for name in trace["functions"]]
    rows = trace["equations"] if everything else _of_losses(trace["equations"])
    shown += [f"  equation   {'  ->  '.join(row[cell] for cell in ('equation', 'function', 'test'))}" for row in rows]
    if not everything:
        reasons = "; ".join(reason["because"] for reason in trace["kept"])
        shown += [f"  kept       {reasons}"] if reasons else []
        rest = ("arms", "stages", "equations", "inputs", "modules")
        return [*shown, f"  and        {', '.join(f'{len(trace[name])} {name}' for name in rest)} (--all)"]
    shown += [f"  kept       {', '.join(reason['stages'])}: {reason['because']}" for reason in trace["kept"]]
    shown += [f"  stage      {line}" for line in _stage_lines(trace["stages"])]
    shown += [f"  read       {name}{'' if digest else '  (absent)'}" for name, digest in trace["inputs"].items()]
    shown += [f"  module     {name}" for name in trace["modules"]]
    return shown


def _arm_lines(arms: dict[str, Any], *, everything: bool) -> list[str]:
    """An arm a line, or, where there are many, how many were made in each way."""
    if everything or len(arms) <= SHOWN_ARMS:
        return [f"arm        {name}: {arm['what']}, {arm['made_by']}" for name, arm in arms.items()]
    ways = Counter(arm["made_by"] for arm in arms.values())
    return [f"arms       {count} of {way}" for way, count in ways.items()]


def _of_losses(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The equations of losses, each with its first function and test; of several rows with one function the first."""
    short = [row | {cell: row[cell].partition("`")[0] for cell in ("function", "test")} for row in rows]
    losses = [row for row in short if row["function"].startswith("losses.")]
    return list({row["function"]: row for row in reversed(losses)}.values())[::-1]


def _stage_lines(groups: list[dict[str, Any]]) -> list[str]:
    """`dsft  10 results, seeds 0-4  zephyr_lab.methods.stages.sft:build`."""
    return [
        f"{group['name']}  {group['results']} result{'s' if group['results'] != 1 else ''}, "
        f"seed{'' if group['seeds'].isdecimal() else 's'} {group['seeds']}  {group['code'][0]}"
        for group in groups
    ]


def equations(used: set[str]) -> list[dict[str, str]]:
    """Rows of papers/*/EQUATIONS.md whose function is in `used`, as "module:function"."""
    rows = []
    for path in sorted(paths.papers_dir().glob("*/EQUATIONS.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            match = _EQUATION_ROW.match(line)
            cells = [cell.strip().strip("`") for cell in match["cells"].split("|")] if match else []
            if len(cells) >= 3 and any(_is_used(word, used) for word in re.findall(r"[\w.]+", cells[1])):
                rows.append({"paper": path.parent.name, "equation": cells[0], "function": cells[1], "test": cells[2]})
    return rows


def _is_used(function: str, used: set[str]) -> bool:
    """Whether "losses.dpo.dpo_loss", with or without the package before it, is in `used`; a bare word never is."""
    if "." not in function:
        return False
    module, _, name = f"zephyr_lab.{function.removeprefix('zephyr_lab.')}".rpartition(".")
    return f"{module}:{name}" in used


def _traced(notebook: Notebook, record: dict[str, Any], products: list[str], tables: Path) -> dict[str, Any]:
    """What a notebook's run says of `products`: `record` with its stages in groups, as figures/provenance.json has it,
    and `tables` with the table of each item. The code is what it is now."""
    of_notebook = record.get("arms") or {"named": {}, "ways": {}}
    arms = _arms_in(of_notebook["named"], [tables / f"{_item(product)}.csv" for product in products])
    ways = dict.fromkeys(arm["made_by"] for arm in arms.values())
    groups = record["stages"]
    code = [code for way in ways for code in of_notebook["ways"][way]] or [group["code"] for group in groups]
    reached = set().union(*map(_uses, code)) | (set() if arms else set(notebook.reached.uses))
    used = set(notebook.reached.uses).union(*(_uses(group["code"]) for group in groups))
    return {
        "notebook": notebook.name,
        "title": record["title"],
        "profile": record["parameters"]["profile"],
        "seeds": record["parameters"]["seeds"],
        "parameters": record["parameters"],
        "arms": arms,
        "functions": sorted(name.replace(":", ".") for name in reached if _TRAINS.fullmatch(name)),
        "equations": sorted(equations(reached), key=lambda row: row["paper"] != products[0].split("/")[1]),
        "stages": groups,
        "kept": record.get("kept", []),
        "inputs": record["inputs"],
        "modules": sorted({name.partition(":")[0] for name in used if not name.endswith(":")}),
    }


def _uses(code: Iterable[str]) -> set[str]:
    """What a build function and its recipe reach now; nothing of code that is not in this checkout any more."""
    reached = stages.reached(code)
    return set(reached.uses) if reached else set()


def _arms_in(arms: dict[str, Any], tables: Iterable[Path]) -> dict[str, Any]:
    """The arms that the tables (those that there are) have lines of, by their names; all arms where none is named."""
    names: set[str] = set()
    for path in tables:
        if path.is_file():
            table = pd.read_csv(path, dtype=str)
            names.update(*(table[column].dropna() for column in ("row", "metric", "model") if column in table))
    return {name: arm for name, arm in arms.items() if name in names} or arms


def _item(product: str) -> str:
    """ "zephyr/tab1" of "tables/zephyr/tab1.csv"."""
    return product.partition("/")[2].rpartition(".")[0]


def _product_name(target: str, profile: str) -> str:
    """`target` as run records have it: "figures/zephyr/tab1.svg", or "zephyr/tab1" for an item."""
    absolute = (Path.cwd() / target).resolve()
    for folder in (paths.build_dir(profile), paths.project_root()):
        if absolute.is_file() and absolute.is_relative_to(folder):
            return absolute.relative_to(folder).as_posix()
    return target.removeprefix(f"build/{profile}/")


def _is_of(product: str, name: str) -> bool:
    """Whether a product ("tables/zephyr/tab1.csv") is the file `name` or belongs to the item `name`."""
    return product == name or (product.startswith(("figures/", "tables/")) and _item(product) == name)


def _promoted() -> list[tuple[Notebook, dict[str, Any]]]:
    """Notebooks with their entries in figures/provenance.json."""
    path = paths.figures_dir() / "provenance.json"
    entries = files.read_json(path)["notebooks"] if path.is_file() else {}
    return [(notebook, entries[notebook.name]) for notebook in all_notebooks() if notebook.name in entries]
