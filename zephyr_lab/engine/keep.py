"""Carry finished results over a change of source that moves no number: `zephyr-lab keep`.

A reworded line in a stage's function changes its key, and a store that only looked at keys would train for days to get
the same bytes. Somebody who knows that the change moves nothing can say so. The claim is theirs: it is written, with
both digests of the source, into the provenance of each result, and shown wherever the result is. Code may have moved to
another module as well.

Nothing but source may differ. A recipe with other fields, another library version, an input that was built again and
came out different, a damaged or unfinished result: each is refused by name.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from zephyr_lab.core import files, provenance
from zephyr_lab.engine import freshness, notebooks, processes, run_records, stages, store, worker
from zephyr_lab.engine.notebooks import Notebook
from zephyr_lab.engine.symbols import reading_now


class Refused(ValueError):
    """Why a result cannot be carried over."""


@dataclass(frozen=True)
class Outcome:
    """What became of one result: kept, or current (nothing to do), or refused, with the reason."""

    stage: str
    seed: int
    old: str
    new: str
    state: str
    why: str = ""


def keep(profile: str, names: Iterable[str], because: str) -> list[Outcome]:
    """Carry the results of the named stages, or of the stages that the numbered notebooks used, with all their inputs.

    A notebook's own record goes along where nothing but source changed for it. Raises ValueError for a blank reason and
    for a name that no finished result and no notebook has.
    """
    if not because.strip():
        raise ValueError("a reason is needed: --because says why the change of source moves no number")
    carrier = _Carrier(profile, because.strip())
    known = notebooks.all_notebooks()
    for name in names:
        notebook = next((one for one in known if name in (one.number, one.name)), None)
        if notebook is None:
            carrier.carry_stage(name)
        else:
            carrier.carry_notebook(notebook)
    return list(carrier.outcomes.values())


def lines(outcomes: Iterable[Outcome]) -> list[str]:
    """What was kept, for people: a line a stage, a line a refusal, the sum."""
    outcomes = list(outcomes)
    kept = [outcome for outcome in outcomes if outcome.state == "kept"]
    shown = []
    for name in sorted({outcome.stage for outcome in kept}):
        seeds = [outcome.seed for outcome in kept if outcome.stage == name]
        results = f"{len(seeds)} result{'s' if len(seeds) != 1 else ''}"
        shown.append(f"kept     {name}: {results}, seeds {' '.join(map(str, sorted(set(seeds))))}")
    refused = [outcome for outcome in outcomes if outcome.state == "refused"]
    shown += [f"refused  {one.stage} seed {one.seed} ({one.old}): {one.why}" for one in refused]
    current = len(outcomes) - len(kept) - len(refused)
    return [*shown, f"{len(kept)} kept, {current} current already, {len(refused)} refused"]


class _Carrier:
    def __init__(self, profile: str, because: str) -> None:
        self.outcomes: dict[str, Outcome] = {}  # by old key
        self._profile = profile
        self._because = because
        self._finished = store.finished(profile)
        self._reading = reading_now()

    def carry_stage(self, name: str) -> None:
        keys = [key for key, record in self._finished.items() if record["stage"]["name"] == name]
        if not keys:
            known = ", ".join(sorted({record["stage"]["name"] for record in self._finished.values()})) or "none"
            raise ValueError(
                f"no finished result of a stage named {name!r} at profile {self._profile}, and no notebook of that "
                f"number; finished stages: {known}"
            )
        for key in reversed(keys):  # the newest first: where several differ only in source, it is the one that is kept
            self._carry(key, self._finished[key]["stage"])

    def carry_notebook(self, notebook: Notebook) -> None:
        path = run_records.record_path(self._profile, notebook.name)
        if not path.is_file():
            raise ValueError(f"notebook {notebook.number} has no finished run at profile {self._profile}; run it first")
        record = files.read_json(path)
        for used in record["stages"]:
            self._carry(used["key"], used)
        if record.get("schema") == run_records.SCHEMA:
            self._carry_record(notebook, record)

    def _carry(self, key: str, used: Mapping[str, Any]) -> None:
        """Carry the result `key` of the stage that `used` names, or note why not."""
        try:
            self._carried(key)
        except Refused as refusal:
            self.outcomes[key] = Outcome(used["name"], used["seed"], key, "", "refused", str(refusal))

    def _carried(self, key: str) -> str:
        """The key of the result under the present source. Raises Refused where it, or an input, cannot be carried."""
        if key in self.outcomes:
            outcome = self.outcomes[key]
            if outcome.state == "refused":
                raise Refused(outcome.why)
            return outcome.new
        record = self._finished.get(key)
        if record is None:
            raise Refused("it is not finished: run it again")
        description = self._described_now(key, record["stage"])
        name, new = record["stage"]["name"], stages.key_of(description)
        old_slot, new_slot = (store.Slot(self._profile, name, one) for one in (key, new))
        state = "current" if new == key else self._copied(old_slot, new_slot, record, description)
        self.outcomes[key] = Outcome(name, record["stage"]["seed"], key, new, state)
        return new

    def _described_now(self, key: str, old: Mapping[str, Any]) -> dict[str, Any]:
        """The description of the stage under the present source. Raises Refused where more than source differs."""
        if old.get("schema") == stages.SCHEMA and stages.key_of(old) != key:
            raise Refused("its end.json was changed by hand: it no longer describes this key")
        try:
            new = stages.renewed(old, self._reading)
        except ValueError as error:
            raise Refused(f"its code cannot be read: {error}") from error
        _refuse_another_recipe(new["recipe"])
        for name, version in new["versions"].items():
            if old["versions"].get(name) != version:
                raise Refused(f"it was made with {name} {old['versions'].get(name)}, here is {version}: run it again")
        return {**new, "inputs": {role: self._input(role, key) for role, key in old["inputs"].items()}}

    def _input(self, role: str, key: str) -> str:
        try:
            return self._carried(key)
        except Refused as refusal:
            raise Refused(f"its input {role} cannot be kept: {refusal}") from refusal

    def _copied(self, old: store.Slot, new: store.Slot, record: Mapping[str, Any], description: dict[str, Any]) -> str:
        """Put the bytes under the new key, with the reason. Raises Refused for damaged bytes, here or there."""
        if not store.is_intact(old.final):
            raise Refused("it is damaged (a file has other bytes than it was finished with): run it again")
        try:
            lock = processes.locked(new.lock, wait=False).acquire()
        except Timeout:
            raise Refused("it is being built at this moment") from None
        with lock:
            if store.is_intact(new.final):
                if store.end_record(new.final)["files"] != record["files"]:
                    raise Refused("it was built again under the present source and came out different")
                return "current"
            store.discard(new.out)
            _link(old.final, new.out, record["files"])
            reason = {
                "because": self._because,
                "from": old.key,
                "source": [record["stage"]["source"], description["source"]],
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "git": provenance.git_state(),
            }
            kept = [*record.get("kept", []), reason]
            store.finish(new, {**record, "stage": description, "key": new.key, "kept": kept})
        return "kept"

    def _carry_record(self, notebook: Notebook, record: dict[str, Any]) -> None:
        """The record of a run that only source has overtaken is brought up to the present source, with the reason."""
        used = [self._used_now(stage) for stage in record["stages"]]
        if None in used:
            return
        shaped = run_records.shaped_by(notebook)
        number = f"notebook {notebook.number}"
        reason = {"stage": number, "because": self._because, "source": [record["source"], shaped["source"]]}
        before = [entry for entry in record.get("kept", []) if entry["stage"] == number]
        renewed = {
            **record,
            "source": shaped["source"],
            "uses": shaped["uses"],
            "stages": used,
            "kept": [*run_records.kept_stages(used), *before, reason],
        }
        overtaken = renewed["source"] != record["source"] or renewed["stages"] != record["stages"]
        if overtaken and not freshness.differences(notebook, renewed, record["parameters"]):
            files.write_json(run_records.record_path(self._profile, notebook.name), renewed)

    def _used_now(self, stage: dict[str, Any]) -> dict[str, Any] | None:
        outcome = self.outcomes.get(stage["key"])
        if outcome is None or outcome.state == "refused":
            return None
        end = store.end_record(store.Slot(self._profile, stage["name"], outcome.new).final)
        if end is None:
            return None
        return run_records.used_stage(stages.renewed(end["stage"], self._reading), outcome.new, end.get("kept", []))


def _refuse_another_recipe(table: Mapping[str, Any]) -> None:
    """Raises Refused where the recipe class of now makes anything else of the recorded fields."""
    try:
        recipe = worker.load_recipe(dict(table))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise Refused(f"its recipe is another one now: {error}") from error
    fields = {"class": table["class"], **dataclasses.asdict(recipe)}
    now = json.loads(json.dumps(fields))  # tuples become the lists that the table has
    for name in sorted({*now, *table}):
        if (name in now) != (name in table) or now.get(name) != table.get(name):
            raise Refused(f"its recipe is another one now: {name} is {now.get(name)!r}, it was {table.get(name)!r}")


def _link(old: Path, new: Path, names: Iterable[str]) -> None:
    """The files `names` of `old` in `new` too, without taking their room twice where the file system can."""
    for name in names:
        target = new / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(old / name, target)
        except OSError:
            shutil.copy2(old / name, target)
