"""From a number back to its making: figure -> notebook -> stages and inputs -> functions -> equations -> tests."""

import re
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.engine import freshness, run_records
from zephyr_lab.engine.notebooks import Notebook, all_notebooks
from zephyr_lab.engine.run_records import reasons_kept, stage_groups
from zephyr_lab.engine.symbols import reading_now

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
            return _told(target, notebook, record, made, "build")
    promoted = _promoted(name)
    if promoted:
        notebook, record, made = promoted
        return _told(target, notebook, record, made, "figures")
    raise ValueError(f"nothing made {target!r}; items that were made: {', '.join(_known(profile)) or 'none yet'}")


def lines(found: dict[str, Any]) -> list[str]:
    """The trace for people, a step a line."""
    told = [
        f"{found['target']}  ({found['source']}, profile {found['profile']}, {found['seeds']} seeds, {found['state']})",
        f"  made by    notebooks/{found['notebook']}.ipynb  {found['title']}",
    ]
    told += [f"  product    {path}" for path in found["products"]]
    told += [f"  stage      {line}" for line in _stage_lines(found["stages"])]
    told += [f"  kept       {', '.join(reason['stages'])}: {reason['because']}" for reason in found["kept"]]
    told += [f"  read       {name}{'' if digest else '  (absent)'}" for name, digest in found["inputs"].items()]
    told += [f"  equation   {row['equation']}  ->  {row['function']}  ->  {row['test']}" for row in found["equations"]]
    told += [f"  module     {name}" for name in found["modules"]]
    return told


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


def _told(target: str, notebook: Notebook, record: dict[str, Any], made: list[str], place: str) -> dict[str, Any]:
    """`record` is a run record, or the entry of a notebook in figures/provenance.json; the code is what it is now."""
    why = freshness.reasons(notebook, record["parameters"]) if place == "build" else []
    groups = stage_groups(record["stages"]) if place == "build" else record["stages"]
    used = set(notebook.reached.uses)
    for group in groups:
        used.update(reading_now().of(*group["code"]).uses)
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
        "stages": groups,
        "kept": reasons_kept(record.get("kept", [])) if place == "build" else record.get("kept", []),
        "inputs": record["inputs"],
        "equations": equations(used),
        "modules": sorted({name.partition(":")[0] for name in used if not name.endswith(":")}),
    }


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
    told = files.read_json(path)["notebooks"]
    wanted = name.removeprefix("figures/")
    for notebook in all_notebooks():
        record = told.get(notebook.name, {"files": {}})
        made = [f"figures/{file}" for file in record["files"] if wanted in (file, file.rpartition(".")[0])]
        if made:
            return notebook, record, made
    return None


def _known(profile: str) -> list[str]:
    records = [run_records.load(profile, notebook.name) for notebook in all_notebooks()]
    products = [path for record in records if record for path in record["products"]]
    items = {path.partition("/")[2].rpartition(".")[0] for path in products if path.startswith(("figures/", "tables/"))}
    return sorted(items)
