"""Ten thousand mutated rows through every source and both steps; prints what came of them as JSON.

Run as a script, in a process where nothing checks types at every call: with checks the same takes ten times as long.
"""

import gzip
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow.parquet import write_table

from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import Row, Rows
from zephyr_lab.data import file_steps, filters, schemas
from zephyr_lab.data.filters_overlap import Benchmarks
from zephyr_lab.data.pairs import REJECTED, SCORES, Binarisation, NoPair, binarise
from zephyr_lab.data.schemas import ScoredPrompt
from zephyr_lab.data.sources import Folder
from zephyr_lab.world import completions, dialogues

ROWS = 10_000
UNTOUCHED = 5  # one row in five stays as it is
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 7, 2**62, 1.5, "", "N/A", "  ", "\x00", "né 日本 \U0001f600", [], [[]], {}, {"role": "user"},
    "x" * 5000, ["", ""], [None], {"": None}, "</s>", [{"role": "user", "content": "Hi"}],
)  # fmt: skip


def bent(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """`value` with one thing in it changed: a column gone, new, doubled or replaced by junk."""
    if depth and rng.random() < 0.3:
        return rng.choice(JUNK)
    if isinstance(value, dict) and value:
        key = rng.choice(sorted(value))
        kind = rng.randrange(4)
        if kind == 0:
            return {name: inner for name, inner in value.items() if name != key}
        if kind == 1:
            return {**value, rng.choice(("data", "messages", "completions", "x")): rng.choice(JUNK)}
        return {**value, key: bent(rng, value[key], depth + 1)}
    if isinstance(value, list) and value:
        place = rng.randrange(len(value))
        kind = rng.randrange(4)
        if kind == 0:
            return value[:place]
        if kind == 1:
            return [*value[:place], value[place], *value[place:]]
        return [*value[:place], bent(rng, value[place], depth + 1), *value[place + 1 :]]
    return rng.choice(JUNK)


def torn(rng: random.Random, line: bytes) -> bytes:
    """A line with bytes changed, cut, or put in; never a line end, so that lines still count rows."""
    place = rng.randrange(len(line))
    put_in = rng.choice(
        (b"\xff\xfe", b"\x80", b"\x00", b'"', b"}", b"{", b"\\u d800", b"\\ud800", b"NaN", b",", b"[" * 200)
    )
    kind = rng.randrange(4)
    if kind == 0:
        return line[:place] or b"{"
    if kind == 1:
        return line[:place] + put_in + line[place:]
    if kind == 2:
        return line[:place] + bytes([rng.choice((1, 9, 13, 34, 92, 123, 125, 200, 255))]) + line[place + 1 :]
    return rng.choice((b"null", b"[]", b'"text"', b"{}", b"5", line + line, b"\xef\xbb\xbf" + line))


@cache
def lines(kind: str) -> tuple[tuple[bytes, ...], frozenset[str]]:
    """Mutated rows as lines, and the names of the untouched ones; the mutated ones bear other names."""
    rng = random.Random(f"fuzz {kind}")
    made: list[bytes] = []
    untouched = set()
    rows = {"dialogues": dialogues.dialogues, "completions": completions.completions}[kind](0, ROWS).rows
    for number, row in enumerate(rows):
        if number % UNTOUCHED == 0:
            name = f"good-{number}"
            untouched.add(name)
            made.append(json.dumps({**row, "id": name}).encode())
            continue
        row = {**row, "id": f"bent-{number}"}
        if kind == "dialogues" and rng.random() < 0.5:
            roles = ("user", "assistant")
            row["messages"] = [{"role": roles[i % 2], "content": text} for i, text in enumerate(row.pop("data"))]
        line = json.dumps(bent(rng, row) if rng.random() < 0.7 else row, ensure_ascii=False).encode()
        made.append(torn(rng, line) if rng.random() < 0.4 else line)
    return tuple(made), frozenset(untouched)


def as_lines(rows: tuple[bytes, ...], folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(rows))
    return path


def as_gzip(rows: tuple[bytes, ...], folder: Path) -> Path:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(rows), 1))
    return path


def as_parquet(rows: tuple[bytes, ...], folder: Path) -> Path:
    """What of the rows a table can hold: one type a column, so lists of texts, and no broken line."""
    held = []
    for line in rows:
        try:
            row = json.loads(line.decode("utf-8"))
        except ValueError:
            continue
        if isinstance(row, dict) and b"\\ud800" not in line:
            data = row.get("data")
            texts = data if isinstance(data, list) and all(isinstance(text, str | None) for text in data) else None
            held.append({"id": str(row.get("id")), "data": texts})
    path = folder / "rows.parquet"
    write_table(pyarrow.Table.from_pylist(held), path)
    return path


def in_a_folder(rows: tuple[bytes, ...], folder: Path) -> Path:
    half = len(rows) // 2
    (folder / "set").mkdir()
    for place, part in enumerate((rows[:half], rows[half:])):
        (folder / "set" / f"train-{place:05}-of-00002.jsonl").write_bytes(b"\n".join(part))
    return folder / "set"


def names(rows: Iterable[Row]) -> set[str]:
    return {name for row in rows if isinstance(name := row.data.get("id"), str)}


def through_a_source(lay_out: Callable[..., Path], folder: Path) -> dict[str, Any]:
    rows, untouched = lines("dialogues")
    path = lay_out(rows, folder)
    source = Folder(path).rows("train") if path.is_dir() else iter_rows(path)
    read = Rows.of(source, schemas.dialogue)
    lost = untouched - names(talk.row for talk in read.good)
    unnamed = sum(not row.problem or row.row < 1 for row in read.bad)
    return {"rows": len(read.good) + len(read.bad), "bad": len(read.bad), "lost": len(lost), "unnamed": unnamed}


def through_the_filter(folder: Path) -> dict[str, Any]:
    """With the one rule that drops nothing: a row that is gone was lost."""
    rows, untouched = lines("dialogues")
    out = folder / "kept.jsonl"
    done = file_steps.filter_dialogues(as_lines(rows, folder), filters.named_rules(["truecase"]), out=out)
    lost = untouched - names(row for row in iter_rows(out) if isinstance(row, Row))
    aside = [json.loads(line)["row"] for line in done.rejected.read_text(encoding="utf-8").splitlines()]
    return {
        "rows": done.counts.rows,
        "kept": done.counts.kept,
        "bad": len(done.bad),
        "lost": len(lost),
        "aside": len(aside),
        "aside in order": aside == sorted(aside),
    }


def through_every_rule(folder: Path) -> dict[str, Any]:
    rows, _ = lines("dialogues")
    rules = filters.named_rules(filters.RULES, benchmarks=Benchmarks({"b": ["What is gold?"]}))
    counts = file_steps.filter_dialogues(as_lines(rows, folder), rules, out=folder / "clean.jsonl").counts
    return {
        "rows": counts.rows,
        "kept": counts.kept,
        "rules that hit": sum(c.dialogues > 0 for c in counts.rules.values()),
    }


def through_binarise(folder: Path) -> dict[str, Any]:
    rows, untouched = lines("completions")
    out = folder / "pairs.jsonl"
    how = Binarisation(chosen="overall_score", rejected="random")
    done = file_steps.binarise_completions(as_lines(rows, folder), how, seed=0, out=out)
    return {
        "prompts": done.statistics.prompts,
        "pairs": done.statistics.pairs,
        "written": sum(1 for _ in iter_rows(out)),
        "bad": len(done.bad),
        "aside": len(done.rejected.read_text(encoding="utf-8").splitlines()),
        "untouched": len(untouched),
    }


def through_every_pairing(folder: Path) -> dict[str, Any]:
    rows, untouched = lines("completions")
    read = list(schemas.scored_prompts(iter_rows(as_lines(rows, folder))))
    prompts = [one for one in read if isinstance(one, ScoredPrompt)]
    lost = {}
    for chosen, rejected in product(SCORES, REJECTED):
        outcomes = binarise(prompts, Binarisation(chosen=chosen, rejected=rejected), seed=0)
        without = names(one.prompt.row for one in outcomes if isinstance(one, NoPair))
        lost[f"{chosen} {rejected}"] = len(untouched & without)
    return {"rows": len(read), "lost": len(untouched - names(prompt.row for prompt in prompts)), "pairs lost": lost}


def main(folder: Path) -> None:
    os.environ["ZEPHYR_LAB_ROOT"] = str(folder)  # build/rejected/ of the checkout stays as it is
    started = time.process_time()
    told: dict[str, Any] = {
        f"source {lay_out.__name__}": through_a_source(lay_out, folder)
        for lay_out in (as_lines, as_gzip, as_parquet, in_a_folder)
    }
    for step in (through_the_filter, through_every_rule, through_binarise, through_every_pairing):
        told[step.__name__] = step(folder)
    print(json.dumps(told | {"seconds": time.process_time() - started}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
