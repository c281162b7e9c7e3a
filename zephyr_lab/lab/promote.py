"""`make figures`: from a finished build to the committed figures/, with where each file comes from.

Nothing is promoted from a stale or half-finished build. A file whose bytes did not change is left as it is, and so is
the provenance of a notebook whose results did not: a changed file in figures/ is a changed result.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.engine import freshness, run_records
from zephyr_lab.engine.notebooks import Notebook, select
from zephyr_lab.engine.run_records import reasons_kept, stage_groups
from zephyr_lab.reporting import ledger, registered

REAL = "real"  # figures/real/: by tools/figures_real.py


def promote(profile: str, seeds: int, numbers: list[str]) -> list[str]:
    """Copy figures and tables of build/<profile>/ to figures/, with ledger and provenance; names of what changed.

    `numbers` are the notebooks to promote, all for none; what others made before is removed from figures/, so that
    no file in it is older than its code. Raises ValueError where one of them is not fresh at `seeds` seeds, or where
    the build holds a ledger of another one (its claims would enter with it), and where a claim was measured over other
    questions than it is registered for; then nothing is written.
    """
    records = _fresh_records(profile, seeds, select(numbers))
    for fragment in sorted((paths.build_dir(profile) / "ledger").glob("*.json")):
        if fragment.stem not in records:
            raise ValueError(f"build/{profile} holds results of {fragment.stem} too; promote it as well or remove them")
    collected = ledger.collect(profile, committed=False)
    registered.require(collected)
    wanted = {target: product for record in records.values() for target, product in _promotable(record).items()}
    changed = [name for name, (_, path) in sorted(wanted.items()) if _copy(path, paths.figures_dir() / name)]
    changed += _remove_others(set(wanted))
    changed += _write_if_changed(paths.figures_dir() / "ledger.json", collected)
    _write_provenance({name: _entry(record, wanted) for name, record in records.items()})
    return changed


def _fresh_records(profile: str, seeds: int, chosen: list[Notebook]) -> dict[str, dict[str, Any]]:
    records = {}
    for notebook in chosen:
        parameters = notebook.resolve({"profile": profile, "seeds": str(seeds)})
        why = freshness.reasons(notebook, parameters)
        record = run_records.load(profile, notebook.name)
        if why or record is None:
            raise ValueError(
                f"notebook {notebook.number} is not fresh at profile {profile}, {seeds} seeds ({why[0]}); "
                f"run zephyr-lab run --profile {profile} --seeds {seeds} first"
            )
        records[notebook.name] = record
    return records


def _promotable(record: dict[str, Any]) -> dict[str, tuple[str, Path]]:
    """paper/file -> (notebook, file in build) of the figures and tables of one run."""
    promoted = {}
    for product in record["products"]:
        kind, _, name = product.partition("/")
        if kind in ("figures", "tables"):
            promoted[name] = (record["notebook"], paths.build_dir(record["profile"]) / product)
    return promoted


def _copy(source: Path, target: Path) -> bool:
    content = source.read_bytes()
    if target.is_file() and target.read_bytes() == content:
        return False
    files.write_bytes(target, content)
    return True


def _remove_others(wanted: set[str]) -> list[str]:
    """Delete committed figures that no notebook makes any more; those of real models are made apart."""
    removed = []
    for path in sorted(paths.figures_dir().glob("*/*")):
        name = path.relative_to(paths.figures_dir()).as_posix()
        if path.is_file() and name not in wanted and path.parent.name != REAL:
            path.unlink()
            removed.append(f"{name} (removed)")
    return removed


def _write_if_changed(path: Path, content: dict[str, Any]) -> list[str]:
    if path.is_file() and files.read_json(path) == content:
        return []
    files.write_json(path, content)
    return [path.name]


def _entry(record: dict[str, Any], wanted: Mapping[str, tuple[str, Path]]) -> dict[str, Any]:
    """What identifies the results of one notebook: their bytes, and all that shaped them as digests."""
    own = sorted((name, path) for name, (owner, path) in wanted.items() if owner == record["notebook"])
    return {
        **{name: record[name] for name in ("title", "parameters", "code", "source")},
        "stages": stage_groups(record["stages"]),
        **({"arms": record["arms"]} if record.get("arms") else {}),
        **({"kept": reasons_kept(record["kept"])} if record.get("kept") else {}),
        "inputs": record["inputs"],
        "files": {name: files.sha256(path) for name, path in own},
        "made_with": record["provenance"],
    }


def _write_provenance(entries: dict[str, dict[str, Any]]) -> None:
    """A notebook whose files are what they were keeps its entry, which names the code, machine and commit that made
    them first; its arms are those of now, by which a table is traced. Machines are listed once."""
    path = paths.figures_dir() / "provenance.json"
    old = _unpacked(files.read_json(path)) if path.is_file() else {}
    unchanged = {name for name, entry in entries.items() if old.get(name, {}).get("files") == entry["files"]}
    kept = {
        name: {**old[name], **({"arms": entries[name]["arms"]} if "arms" in entries[name] else {})}
        for name in unchanged
    }
    content = _packed({name: kept.get(name, entry) for name, entry in sorted(entries.items())})
    _write_if_changed(path, content)


def _packed(entries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Entries whose `made_with` is a number in the list of machines and commits."""
    listed = []
    for entry in entries.values():
        if entry["made_with"] not in listed:
            listed.append(entry["made_with"])
    numbered = {name: {**entry, "made_with": listed.index(entry["made_with"])} for name, entry in entries.items()}
    return {"notebooks": numbered, "made_with": listed}


def _unpacked(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries as they were before `_packed`; none of a file of another form."""
    if not isinstance(content.get("made_with"), list):
        return {}
    listed = content["made_with"]
    return {name: {**entry, "made_with": listed[entry["made_with"]]} for name, entry in content["notebooks"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="promote build/<profile>/ to the committed figures/")
    parser.add_argument("notebooks", nargs="*", help="numbers; all where none is given")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    try:
        changed = promote(arguments.profile, arguments.seeds, arguments.notebooks)
    except (ValueError, OSError) as error:
        sys.exit(f"promote: {error}")
    print(f"figures/: {len(changed)} changed" + "".join(f"\n  {name}" for name in changed))


if __name__ == "__main__":
    main()
