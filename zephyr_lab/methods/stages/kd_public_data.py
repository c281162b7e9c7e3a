"""Real data of KD and DAE as stages: the six public sets mixed, and a folder of one's own domain data beside them.

Files and layouts are those of `world_data` and `kd_data`, so the trainings do not tell them from the world's.
"""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.core.rows import BadColumn, Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import public_sets, schemas
from zephyr_lab.data.hub import Hub
from zephyr_lab.data.schemas import Dialogue, message_list, prompt_id
from zephyr_lab.data.sources import Folder, usable
from zephyr_lab.data.splits import Preference, preference, row_messages, stage_rows
from zephyr_lab.methods.recipes.kd_data import FolderMix, FolderPairs, PublicMix

TRAIN, TEST = "train", "test"
Rows = list[dict[str, Any]]


def build(recipe: PublicMix, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write rows of the public sets in random order, each with its "source".

    Metrics: rows, unusable, and rows_<set>. Raises OSError where the hub cannot be reached, ValueError for an unknown
    set or one without a usable row.
    """
    del inputs, context
    rows: Rows = []
    unusable = 0
    for name, count in zip(recipe.sets, recipe.rows, strict=True):
        known = public_sets.named(name)
        good, bad = usable(Hub(known.id, config=known.config), known.split, known.dialogue)
        drawn = random.Random(derive(seed, "public", name)).sample(good, min(count, len(good)))
        rows += [{"messages": message_list(dialogue.messages), "source": name} for dialogue in drawn]
        unusable += len(bad)
    random.Random(derive(seed, "public order")).shuffle(rows)
    if len(rows) <= recipe.held_out:
        raise ValueError(f"the sets gave {len(rows)} rows, none beyond the {recipe.held_out} held out")
    train = rows[recipe.held_out :]
    _write(out / f"{TEST}.jsonl", rows[: recipe.held_out])
    _write(out / f"{TRAIN}.jsonl", train)
    shares = {f"rows_{name}": float(sum(row["source"] == name for row in train)) for name in recipe.sets}
    return {"rows": float(len(train)), "unusable": float(unusable), **shares}


def build_mix(recipe: FolderMix, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write domain rows of the recipe's folder and general rows of `inputs["general"]`, each with "is_domain".

    The share is exact. Metrics, of training: rows, domain_rows, and domain_<kind> for each task kind; unusable rows of
    the folder. Raises FileNotFoundError where the folder is not there, ValueError where it, or the general data, has
    too few rows of the asked kinds.
    """
    del context
    folder = domain_folder(recipe.folder)
    metrics: dict[str, dict[str, float]] = {}
    for split, count in ((TRAIN, recipe.rows), (TEST, recipe.held_out)):
        wanted = round(count * recipe.domain_share)
        domain, unusable = _domain_rows(folder, split, recipe.kinds) if wanted else ([], 0)
        general = _general_rows(inputs["general"], split) if count > wanted else []
        rng = random.Random(derive(seed, "mix", split))
        rows = [
            *_drawn(rng, domain, wanted, f"domain rows of {', '.join(recipe.kinds)} in {recipe.folder}"),
            *_drawn(rng, general, count - wanted, "general rows"),
        ]
        rng.shuffle(rows)
        _write(out / f"{split}.jsonl", rows)
        kinds = {f"domain_{kind}": float(sum(row.get("kind") == kind for row in rows)) for kind in recipe.kinds}
        metrics[split] = {
            "rows": float(count), "domain_rows": float(wanted), "unusable": float(unusable), **kinds
        }  # fmt: skip
    return metrics[TRAIN]


def build_pairs(
    recipe: FolderPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write the preference pairs of the recipe's folder, split anew. Metrics: pairs, held_out, unusable.

    Rows are of H4's layout: chosen and rejected messages. No prompt stands in both splits. Raises as `build_mix`.
    """
    del inputs, context
    pairs, bad = usable(Folder(domain_folder(recipe.folder)), TRAIN, preference)
    random.Random(derive(seed, "pairs")).shuffle(pairs)
    rows = [_pair_row(pair) for pair in pairs]
    held_out = rows[: recipe.held_out]
    asked = {row["prompt_id"] for row in held_out}
    train = [row for row in rows[recipe.held_out :] if row["prompt_id"] not in asked]
    if not train:
        raise ValueError(f"{recipe.folder} gave {len(rows)} pairs, none beyond the {recipe.held_out} held out")
    _write(out / f"{TRAIN}.jsonl", train)
    _write(out / f"{TEST}.jsonl", held_out)
    return {"pairs": float(len(train)), "held_out": float(len(held_out)), "unusable": float(len(bad))}


def _pair_row(pair: Preference) -> dict[str, Any]:
    sides = {
        side: [*pair.prompt, {"role": "assistant", "content": answer}]
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    text = "\n".join(message["content"] for message in pair.prompt)
    return {"prompt": pair.prompt[-1]["content"], "prompt_id": prompt_id(text), **sides, "messages": sides["chosen"]}


def domain_folder(name: str) -> Path:
    """The folder of domain data below the data folder. Raises FileNotFoundError, saying what to put where."""
    data = paths.data_dir()
    folder = None if data is None else data / name
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {name!r} of domain data; set ZEPHYR_LAB_DATA to a folder that holds it, with train.jsonl and "
            'test.jsonl of {"messages": [...], "kind": "extraction", "reasoning", "qna" or "summary"}'
        )
    return folder


def _domain_rows(folder: Path, split: str, kinds: Sequence[str]) -> tuple[Rows, int]:
    def read(row: Row) -> tuple[str, Dialogue]:
        kind = row.data.get("kind")
        if kind not in kinds:
            raise BadColumn("kind", f"must be one of {', '.join(kinds)}, got {kind!r}")
        return kind, schemas.dialogue(row)

    good, bad = usable(Folder(folder), split, read)
    return [
        {"messages": message_list(dialogue.messages), "kind": kind, "is_domain": True} for kind, dialogue in good
    ], len(bad)


def _general_rows(folder: Path, split: str) -> Rows:
    return [{"messages": _turns(row), "is_domain": False} for row in stage_rows(folder, split)]


def _turns(row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"content": turn["content"], "role": turn["role"]} for turn in row_messages(row)]


def _drawn(rng: random.Random, rows: Rows, count: int, what: str) -> Rows:
    if len(rows) < count:
        raise ValueError(f"{count} {what} are asked for, but there are {len(rows)}: lower rows or domain_share")
    return rng.sample(rows, count)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
