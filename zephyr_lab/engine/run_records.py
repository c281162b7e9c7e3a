"""run.json: the end-of-run record of an executed notebook, written last, and the only proof that it ran to its end.

A killed kernel leaves a saved notebook whose metadata claims success; so nothing but this record is trusted.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths, provenance
from zephyr_lab.engine import notebooks, stages, syntax
from zephyr_lab.engine.notebooks import Notebook

SCHEMA = 2
KEYS = frozenset({
    "notebook", "title", "profile", "seeds", "parameters", "code", "source", "uses", "lock", "stages",
    "inputs", "products", "seconds",
})  # fmt: skip


def record_path(profile: str, name: str) -> Path:
    return paths.build_dir(profile) / "notebooks" / f"{name}.run.json"


def executed_path(profile: str, name: str) -> Path:
    return paths.build_dir(profile) / "notebooks" / f"{name}.ipynb"


def load(profile: str, name: str) -> dict[str, Any] | None:
    """The record of the last whole run; None where there is none (or it is of another schema, or broken)."""
    path = record_path(profile, name)
    if not path.is_file():
        return None
    try:
        record = files.read_json(path)
    except ValueError:
        return None
    whole = isinstance(record, dict) and record.get("schema") == SCHEMA and set(record) >= KEYS
    return record if whole else None


def all_records(profile: str) -> list[dict[str, Any]]:
    """The records of all notebooks that have run to their end, in order."""
    files_of_records = sorted(record_path(profile, "any").parent.glob("*.run.json"))
    records = (load(profile, path.name.removesuffix(".run.json")) for path in files_of_records)
    return [record for record in records if record]


def shaped_by(notebook: Notebook) -> dict[str, Any]:
    """What shapes a run that starts now: cells, the code that they lead to, the lock file."""
    reached = notebook.reached
    return {
        "code": notebook.code_digest,
        "source": reached.digest,
        "uses": reached.uses,
        "lock": provenance.lock_digest(),
    }


def compose(
    notebook: Notebook,
    parameters: Mapping[str, Any],
    shaped: Mapping[str, Any],
    events: list[dict[str, Any]],
    *,
    started: float,
    finished: float,
) -> dict[str, Any]:
    """The record of a run that ended well: what shaped it (`shaped_by` at its start) and what it made.

    Raises ValueError where the code changed meanwhile (nobody knows which one ran), or where a product of the run is
    missing or no longer has the bytes it was written with.
    """
    profile = parameters["profile"]
    if shaped_by(notebooks.read(notebook.path)) != shaped:
        raise ValueError("code that it uses changed while it ran; run again")
    products = {event["path"]: event["sha256"] for event in events if event["event"] == "product"}
    products[f"notebooks/{notebook.name}.ipynb"] = files.sha256(executed_path(profile, notebook.name))
    for path, digest in products.items():
        target = paths.build_dir(profile) / path
        if not target.is_file() or files.sha256(target) != digest:
            raise ValueError(f"product {path} is missing or was changed while it ran; run again")
    by_key = {event["key"]: event for event in events if event["event"] == "stage"}
    used = [{name: value for name, value in event.items() if name != "event"} for event in by_key.values()]
    kept = kept_stages(used)
    return {
        "schema": SCHEMA,
        "notebook": notebook.name,
        "title": notebook.title,
        "profile": profile,
        "seeds": parameters["seeds"],
        "parameters": dict(parameters),
        **shaped,
        "stages": used,
        **({"kept": kept} if kept else {}),
        "arms": _arms(events),
        "inputs": {event["name"]: event["sha256"] for event in events if event["event"] == "input"},
        "products": products,
        "started": round(started, 3),
        "finished": round(finished, 3),
        "seconds": round(finished - started, 3),
        "provenance": provenance.describe(),
    }


def _arms(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The arms of the notebook, of one name the first: "named", name -> "what" and "made_by"; "ways", the code behind
    each "made_by"."""
    named: dict[str, dict[str, str]] = {}
    ways: dict[str, list[list[str]]] = {}
    for event in events:
        if event["event"] == "arm":
            named.setdefault(event["name"], {"what": event["what"], "made_by": event["made_by"]})
            ways.setdefault(event["made_by"], event["code"])
    return {"named": named, "ways": ways} if named else {}


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines that the session wrote, in order; empty where the notebook registered nothing."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def products_digest(record: Mapping[str, Any]) -> str:
    """One digest of a run's products, the executed notebook (which holds timings) left out."""
    return syntax.combine({path: digest for path, digest in record["products"].items() if not path.endswith(".ipynb")})


def used_stage(description: Mapping[str, Any], key: str, kept: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run's record holds of a stage that it used: enough to see later that its code changed, and the reasons
    for which its result was carried over a change of source."""
    used = {name: description[name] for name in ("name", "seed", "source", "versions")}
    return {**used, "key": key, "code": list(stages.code_of(description)), **({"kept": kept} if kept else {})}


def kept_stages(used: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was carried over a change of source: {"stage", "seeds", "because", "source": [before, after]}, each reason
    of each stage once."""
    seeds_of: dict[tuple[str, ...], set[int]] = {}
    for stage in used:
        for reason in stage.get("kept", []):
            seeds_of.setdefault((stage["name"], reason["because"], *reason["source"]), set()).add(stage["seed"])
    return [
        {"stage": name, "seeds": sorted(seeds), "because": because, "source": source}
        for (name, because, *source), seeds in sorted(seeds_of.items())
    ]


def reasons_kept(kept: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each reason once: {"because", "stages": names of the stages that it carried over}."""
    names: dict[str, set[str]] = {}
    for entry in kept:
        names.setdefault(entry["because"], set()).add(entry["stage"])
    return [{"because": because, "stages": sorted(of_reason)} for because, of_reason in names.items()]


def kept_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each reason for which results behind these runs were carried over a change of source."""
    reasons = reasons_kept(entry for record in records for entry in record.get("kept", []))
    return [f"kept over a change of source ({', '.join(one['stages'])}): {one['because']}" for one in reasons]


def stage_groups(used: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stages by name and code: {"name", "code", "results": count, "seeds": "0-4 7", "keys": a digest of all keys}."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for stage in used:
        groups.setdefault((stage["name"], *stage["code"]), []).append(stage)
    return [
        {
            "name": name,
            "code": code,
            "results": len(group),
            "seeds": ranges(stage["seed"] for stage in group),
            "keys": syntax.combine({stage["key"]: "" for stage in group})[:24],
        }
        for (name, *code), group in sorted(groups.items())
    ]


def ranges(numbers: Iterable[int]) -> str:
    """ "0-4 7" of 0, 1, 2, 3, 4 and 7."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
