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
    for notebook in all_notebooks():
        record = run_records.load(profile, notebook.name)
        made = [product for product in (record or {}).get("products", {}) if _is_of(product, name)]
        if record and made:
            return _traced(target, notebook, record, made, "build")
    promoted = _promoted(name)
    if promoted:
        notebook, record, made = promoted
        return _traced(target, notebook, record, made, "figures")
    raise ValueError(f"nothing made {target!r}; items that were made: {', '.join(_known(profile)) or 'none yet'}")


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


def _own_first(rows: list[dict[str, str]], paper: str) -> list[dict[str, str]]:
    """The rows of the product's own paper before those of others."""
    return sorted(rows, key=lambda row: row["paper"] != paper)


def _is_used(function: str, used: set[str]) -> bool:
    """Whether "losses.dpo.dpo_loss", with or without the package before it, is in `used`; a bare word never is."""
    if "." not in function:
        return False
    module, _, name = f"zephyr_lab.{function.removeprefix('zephyr_lab.')}".rpartition(".")
    return f"{module}:{name}" in used


def _traced(target: str, notebook: Notebook, record: dict[str, Any], made: list[str], place: str) -> dict[str, Any]:
    """`record` is a run record, or the entry of a notebook in figures/provenance.json; the code is what it is now."""
    why = freshness.reasons(notebook, record["parameters"]) if place == "build" else []
    groups = stage_groups(record["stages"]) if place == "build" else record["stages"]
    asked = record.get("arms") or {"named": {}, "ways": {}}
    arms = _arms_in(asked["named"], [_table_of(product, place, record) for product in made])
    ways = dict.fromkeys(arm["made_by"] for arm in arms.values())
    made_with = [code for way in ways for code in asked["ways"][way]] or [group["code"] for group in groups]
    reached = set().union(*map(_uses, made_with)) | (set() if arms else set(notebook.reached.uses))
    used = set(notebook.reached.uses).union(*(_uses(group["code"]) for group in groups))
    return {
        "target": target,
        "source": place,
        "state": f"stale: {why[0]}" if why else "fresh" if place == "build" else "committed",
        "notebook": notebook.name,
        "title": record["title"],
        "profile": record["parameters"]["profile"],
        "seeds": record["parameters"]["seeds"],
        "parameters": record["parameters"],
        "products": made,
        "arms": arms,
        "functions": sorted(name.replace(":", ".") for name in reached if _TRAINS.fullmatch(name)),
        "equations": _own_first(equations(reached), made[0].split("/")[1]),
        "stages": groups,
        "kept": reasons_kept(record.get("kept", [])) if place == "build" else record.get("kept", []),
        "inputs": record["inputs"],
        "modules": sorted({name.partition(":")[0] for name in used if not name.endswith(":")}),
    }


def _uses(code: Iterable[str]) -> set[str]:
    """What a build function and its recipe reach now; nothing of code that is not in this checkout any more."""
    reached = stages.reached(code)
    return set(reached.uses) if reached else set()


def _arms_in(arms: dict[str, Any], tables: Iterable[Path | None]) -> dict[str, Any]:
    """The arms that the tables have lines of, by their names; all of the notebook where none is named."""
    names: set[str] = set()
    for path in tables:
        if path is not None:
            table = pd.read_csv(path, dtype=str)
            names.update(*(table[column].dropna() for column in ("row", "metric", "model") if column in table))
    return {name: arm for name, arm in arms.items() if name in names} or arms


def _table_of(product: str, place: str, record: dict[str, Any]) -> Path | None:
    """The table of a product, or of the picture's own name, where there is one."""
    item = product.partition("/")[2].rpartition(".")[0]
    build = paths.build_dir(record["parameters"]["profile"])
    path = build / "tables" / f"{item}.csv" if place == "build" else paths.figures_dir() / f"{item}.csv"
    return path if path.is_file() else None


def _product_name(target: str, profile: str) -> str:
    """`target` as it stands in run records: "figures/zephyr/tab1.svg", or "zephyr/tab1" for an item."""
    absolute = (Path.cwd() / target).resolve()
    for folder in (paths.build_dir(profile), paths.project_root()):
        if absolute.is_file() and absolute.is_relative_to(folder):
            return absolute.relative_to(folder).as_posix()
    return target.removeprefix(f"build/{profile}/")


def _is_of(product: str, name: str) -> bool:
    """Whether a product ("tables/zephyr/tab1.csv") is the file `name` or belongs to the item `name`."""
    kind, _, rest = product.partition("/")
    return product == name or (kind in ("figures", "tables") and rest.rpartition(".")[0] == name)


def _promoted(name: str) -> tuple[Notebook, dict[str, Any], list[str]] | None:
    path = paths.figures_dir() / "provenance.json"
    if not path.is_file():
        return None
    promoted = files.read_json(path)["notebooks"]
    wanted = name.removeprefix("figures/")
    for notebook in all_notebooks():
        record = promoted.get(notebook.name, {"files": {}})
        made = [f"figures/{file}" for file in record["files"] if wanted in (file, file.rpartition(".")[0])]
        if made:
            return notebook, record, made
    return None


def _known(profile: str) -> list[str]:
    records = [run_records.load(profile, notebook.name) for notebook in all_notebooks()]
    products = [path for record in records if record for path in record["products"]]
    items = {path.partition("/")[2].rpartition(".")[0] for path in products if path.startswith(("figures/", "tables/"))}
    return sorted(items)
