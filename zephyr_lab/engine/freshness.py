"""Is an executed notebook still what running it now would make? If not, why not.

Compared are contents, never dates: code cells without prose, parameters, the lock file, the code reached, the stages
used, every file read and every product written. So prose reruns nothing, and a product changed by hand is noticed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from zephyr_lab.core import files, paths, provenance
from zephyr_lab.engine import run_records, stages
from zephyr_lab.engine.notebooks import Notebook, all_notebooks
from zephyr_lab.engine.symbols import changed_names


def reasons(notebook: Notebook, parameters: Mapping[str, Any]) -> list[str]:
    """Why `notebook` must run at these parameters, in plain words; empty where its last run still stands."""
    record = run_records.load(parameters["profile"], notebook.name)
    return ["never run to its end"] if record is None else differences(notebook, record, parameters)


def differences(notebook: Notebook, record: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """Why a run of `notebook` with this record no longer stands at these parameters."""
    profile, old, reached = parameters["profile"], record["parameters"], notebook.reached
    why = [f"parameter {name} {old.get(name)!r} -> {parameters.get(name)!r}" for name in _unequal(old, parameters)]
    if record["code"] != notebook.code_digest:
        why.append("its code cells changed")
    if record["source"] != reached.digest:
        names = changed_names(record["uses"], reached.uses)
        why += [f"{name} changed" for name in names] or ["the code it uses changed"]
    if record["lock"] != provenance.lock_digest():
        why.append("constraints.txt changed")
    why += [*_stage_changes(record), *_input_changes(record), *_product_changes(record, profile)]
    if notebook.after:
        before, now = record.get("earlier", {}), earlier_digests(notebook, profile)
        why += [f"results of {name} changed" for name in _unequal(before, now)]
    return why


def stale_notebooks(profile: str) -> set[str]:
    """Names of notebooks whose products lie in build/<profile>/ but do not stand any more (or never did: a run that
    was broken off). Judged at the parameters of their own last run."""
    stale = set()
    for notebook in all_notebooks():
        record = run_records.load(profile, notebook.name)
        fragment = paths.build_dir(profile) / "ledger" / f"{notebook.name}.json"
        if differences(notebook, record, record["parameters"]) if record else fragment.is_file():
            stale.add(notebook.name)
    return stale


def earlier(notebook: Notebook, known: Iterable[Notebook]) -> list[Notebook]:
    """The notebooks that run before `notebook`: those it names by number, or all others for "*"."""
    others = [other for other in known if other.name != notebook.name]
    return [other for other in others if "*" in notebook.after or other.number in notebook.after]


def earlier_digests(notebook: Notebook, profile: str) -> dict[str, str]:
    """Digest of the products of each notebook that runs before this one, as far as they have run."""
    records = {other.name: run_records.load(profile, other.name) for other in earlier(notebook, all_notebooks())}
    return {name: run_records.products_digest(record) for name, record in records.items() if record}


def _unequal(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names whose values differ, in order."""
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def _stage_changes(record: Mapping[str, Any]) -> list[str]:
    """What changed for the first stage that something changed for."""
    for stage in record["stages"]:
        reached = stages.reached(stage["code"])
        if reached is None or reached.digest != stage["source"]:
            return [f"the code of stage {stage['name']} changed"]
        if stage["versions"] != stages.counted_versions():
            return [f"library versions of stage {stage['name']} changed"]
    return []


def _input_changes(record: Mapping[str, Any]) -> list[str]:
    changes = []
    for name, digest in record["inputs"].items():
        path = paths.input_file(name)
        now = files.sha256(path) if path else None
        if now != digest:
            changes.append(f"input {name} {'arrived' if digest is None else 'is gone' if now is None else 'changed'}")
    return changes


def _product_changes(record: Mapping[str, Any], profile: str) -> list[str]:
    changes = []
    for name, digest in record["products"].items():
        path = paths.build_dir(profile) / name
        if not path.is_file():
            changes.append(f"product {name} is gone")
        elif files.sha256(path) != digest:
            changes.append(f"product {name} was changed by hand")
    return changes
