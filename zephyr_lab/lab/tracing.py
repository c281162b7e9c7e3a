"""From a number back to its making: figure -> notebook -> stages and inputs -> functions -> equations -> tests."""

import re
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths, source
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.lab import freshness, provenance_file, run_records
from zephyr_lab.lab.notebooks import Notebook, all_notebooks

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
    told += [f"  stage      {stage['name']} seed {stage['seed']}  {stage['key']}" for stage in found["stages"]]
    told += [f"  read       {name}{'' if digest else '  (absent)'}" for name, digest in found["inputs"].items()]
    told += [f"  equation   {row['equation']}  ->  {row['function']}  ->  {row['test']}" for row in found["equations"]]
    told += [f"  module     {name}" for name in found["modules"]]
    return told


def equations(used: set[str]) -> list[dict[str, str]]:
    """Rows of papers/*/EQUATIONS.md whose function is in `used`: "module:function" of one, "module" of all in it."""
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
    return f"{module}:{name}" in used or module in used


def _told(target: str, notebook: Notebook, record: dict[str, Any], made: list[str], place: str) -> dict[str, Any]:
    trained = {name for stage in record["stages"] for name in source.closure(stage["modules"])}
    why = freshness.reasons(notebook, record["parameters"]) if place == "build" else []
    return {
        "target": target,
        "source": place,
        "state": f"stale: {why[0]}" if why else "fresh" if place == "build" else "committed",
        "notebook": record["notebook"],
        "title": record["title"],
        "profile": record["profile"],
        "seeds": record["seeds"],
        "parameters": record["parameters"],
        "products": made,
        "stages": [{name: stage[name] for name in ("name", "seed", "key")} for stage in record["stages"]],
        "inputs": record["inputs"],
        "equations": equations({*record.get("uses", record["modules"]), *trained}),
        "modules": sorted(name for name in {*record["modules"], *trained} if "." in name),
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
    record = files.read_json(path)
    wanted = name.removeprefix("figures/")
    made = [file for file in record["files"] if wanted in (file, file.rpartition(".")[0])]
    by_name = {notebook.name: notebook for notebook in all_notebooks()}
    owner = record["files"][made[0]]["notebook"] if made else None
    if owner not in by_name:
        return None
    return by_name[owner], provenance_file.record_of(record, owner), [f"figures/{file}" for file in made]


def _known(profile: str) -> list[str]:
    records = [run_records.load(profile, notebook.name) for notebook in all_notebooks()]
    products = [path for record in records if record for path in record["products"]]
    items = {path.partition("/")[2].rpartition(".")[0] for path in products if path.startswith(("figures/", "tables/"))}
    return sorted(items)
