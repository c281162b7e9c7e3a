"""Is an executed notebook still what running it now would make? If not, why not.

Compared are contents, never dates: code cells without prose, parameters, the lock file, the code reached, the stages
used, every file read and every product written. So prose reruns nothing, and a product changed by hand is seen.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from zephyr_lab.core import files, paths, provenance
from zephyr_lab.engine import run_records, stages
from zephyr_lab.engine.notebooks import Notebook, all_notebooks
from zephyr_lab.engine.symbols import changed_names, reading_now


def reasons(notebook: Notebook, parameters: Mapping[str, Any]) -> list[str]:
    """Why `notebook` must run at these parameters, in plain words; empty where its last run still stands."""
    record = run_records.load(parameters["profile"], notebook.name)
    return ["never run to its end"] if record is None else differences(notebook, record, parameters)


def differences(notebook: Notebook, record: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """Why a run of `notebook` with this record no longer stands at these parameters."""
    profile = parameters["profile"]
    return [
        *_parameter_changes(record, parameters),
        *(["its code cells changed"] if record["code"] != notebook.code_digest else []),
        *_code_used_changes(record, notebook),
        *(["constraints.txt changed"] if record["lock"] != provenance.lock_digest() else []),
        *_stage_changes(record),
        *_input_changes(record),
        *_product_changes(record, profile),
        *_earlier_changes(record, notebook, profile),
    ]


def stale_notebooks(profile: str) -> set[str]:
    """Names of notebooks whose products lie in build/<profile>/ but do not stand any more (or never did: a run that
    was broken off). Judged at the parameters of their own last run."""
    stale = set()
    for notebook in all_notebooks():
        record = run_records.load(profile, notebook.name)
        if record is None:
            fragment = paths.build_dir(profile) / "ledger" / f"{notebook.name}.json"
            if fragment.is_file():
                stale.add(notebook.name)
        elif reasons(notebook, record["parameters"]):
            stale.add(notebook.name)
    return stale


def earlier(notebook: Notebook, known: Iterable[Notebook]) -> list[Notebook]:
    """The notebooks that run before `notebook`: those it names by number, or all others for "*"."""
    return [
        other
        for other in known
        if other.name != notebook.name and ("*" in notebook.after or other.number in notebook.after)
    ]


def earlier_digests(notebook: Notebook, profile: str) -> dict[str, str]:
    """Digest of the products of each notebook that runs before this one, as far as they have run."""
    records = {other.name: run_records.load(profile, other.name) for other in earlier(notebook, all_notebooks())}
    return {name: run_records.products_digest(record) for name, record in records.items() if record}


def _parameter_changes(record: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    old = record["parameters"]
    names = sorted(set(old) | set(parameters))
    return [
        f"parameter {name} {old.get(name)!r} -> {parameters.get(name)!r}"
        for name in names
        if old.get(name) != parameters.get(name)
    ]


def _code_used_changes(record: Mapping[str, Any], notebook: Notebook) -> list[str]:
    now = notebook.reached
    if now.digest == record["source"]:
        return []
    return [f"{name} changed" for name in changed_names(record["uses"], now.uses)] or ["the code it uses changed"]


def _stage_changes(record: Mapping[str, Any]) -> list[str]:
    for stage in record["stages"]:
        if _digest_or_none(stage["code"]) != stage["source"]:
            return [f"the code of stage {stage['name']} changed"]
        if stage["versions"] != stages.counted_versions():
            return [f"library versions of stage {stage['name']} changed"]
    return []


def _digest_or_none(code: Iterable[str]) -> str | None:
    try:
        return reading_now().of(*code).digest
    except ValueError:  # a module or name that is gone, or does not parse any more
        return None


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


def _earlier_changes(record: Mapping[str, Any], notebook: Notebook, profile: str) -> list[str]:
    if not notebook.after:
        return []
    old, now = record.get("earlier", {}), earlier_digests(notebook, profile)
    return [f"results of {name} changed" for name in sorted(set(old) | set(now)) if old.get(name) != now.get(name)]
