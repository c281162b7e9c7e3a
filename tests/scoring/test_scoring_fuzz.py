"""10,000 mutated files of judgments and annotations: no traceback, no good row lost, the bad ones counted.

The mutator knows what it did. Each row is a `Mutant`: its text, and how many good and bad rows a reader must find in
it, None where a random byte may or may not have done harm. Rows that were not touched must come back as they were.
"""

import gzip
import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass

import pandas
import pytest

from zephyr_lab.scoring import alpaca_eval, mt_bench

FILES_A_BATCH = 500
BATCHES = range(5)


@dataclass
class Mutant:
    text: bytes
    good: bool | None  # True: must come back; False: must be counted as bad; None: either
    bad_rows: int = 0
    key: tuple | None = None


def dump(row):
    return json.dumps(row, ensure_ascii=False).encode()


class Judgments:
    """FastChat rows, and the wrong values that a row must not survive."""

    wrong = (
        ("score", 11),
        ("score", -2),
        ("score", "9"),
        ("score", True),
        ("score", [9]),
        ("score", {"value": 9}),
        ("turn", 0),
        ("turn", None),
        ("turn", "1"),
        ("question_id", 1),
        ("question_id", "81"),
        ("question_id", 2**62),
        ("model", ""),
        ("model", None),
        ("model", 5),
        ("judgment", ["text"]),
    )
    needed = ("model", "question_id", "turn")

    @staticmethod
    def row(dice):
        score = dice.choice([1, 2, 5, 7.5, 8, 9, 10, -1])
        text = "no rating, [here] or there" if score == -1 else f"Clear – and naïve 😀. Rating: [[{score}]]"
        return {
            "question_id": dice.randrange(81, 161),
            "model": dice.choice(["m", "modèle", 'm/7b "q" {[}']),
            "judge": ["gpt-4", "single-v1"],
            "judgment": text,
            "score": score,
            "turn": dice.choice([1, 2]),
            "tstamp": 1.7e9 + dice.random(),
        }

    @staticmethod
    def key(row):
        return (row["model"], row["question_id"], row["turn"], float(row["score"]))

    @staticmethod
    def read(path):
        found = mt_bench.read(path)
        return [(row.model, row.question_id, row.turn, row.score) for row in found.judgments], found

    @staticmethod
    def score(found):
        models = mt_bench.score(found.judgments, unparsed="keep", resamples=5)
        return [model.as_json() for model in models.values()]


class Annotations:
    """alpaca_eval rows, and the wrong values that a row must not survive."""

    wrong = (
        ("preference", 3),
        ("preference", -1),
        ("preference", 0.5),
        ("preference", "2"),
        ("preference", False),
        ("preference", [1]),
        ("generator_2", ""),
        ("generator_2", None),
        ("generator_2", 7),
        ("generator_1", 7),
        ("instruction", {"text": "x"}),
        ("output_2", 5),
        ("output_1", ["a"]),
    )
    needed = ("preference", "generator_2")

    @staticmethod
    def row(dice):
        return {
            "instruction": f'Ask {dice.randrange(1000)} – [{{"a": 1}}, {{"b": 2}}]',
            "output_1": "x" * dice.randrange(20),
            "generator_1": "baseline",
            "output_2": "ü" * dice.randrange(20) + '"},\n{"',
            "generator_2": dice.choice(["m", "modèle"]),
            "annotator": "judge",
            "preference": dice.choice([1, 2, 1.5, 0, None, 1.25, 1.999999]),
            "raw_completion": {"ranks": [{"model": "m", "rank": 1}, {"model": "M", "rank": 2}]},
        }

    @staticmethod
    def key(row):
        win = {None: None, 0: 0.5}.get(row["preference"], row["preference"] and row["preference"] - 1)
        return (row["generator_2"], row["instruction"], win, len(row["output_2"]))

    @staticmethod
    def read(path):
        found = alpaca_eval.read(path)
        return [(row.model, row.instruction, row.win, row.length) for row in found.annotations], found

    @staticmethod
    def score(found):
        return [model.as_json() for model in alpaca_eval.score(found.annotations, resamples=5).values()]


def mutate(kind, row, dice):
    """A row that stays good (half of them), or one way of breaking it."""
    text, key = dump(row), kind.key(row)
    good = Mutant(text, True, key=key)
    if dice.random() < 0.5:
        return good
    inside = text.index(b": ") + 2
    middle = dice.randrange(1, len(text) - 1)
    column, value = dice.choice(kind.wrong)
    needed = dice.choice(kind.needed)
    ways = {
        "other order and extra columns": lambda: Mutant(dump(dict(reversed(row.items())) | {"more": 1}), True, key=key),
        "spaces": lambda: Mutant(b" " + json.dumps(row, separators=(" ,\t", " :  ")).encode() + b" \t", True, key=key),
        "escaped": lambda: Mutant(json.dumps(row).encode(), True, key=key),
        "wrong value": lambda: Mutant(dump(row | {column: value}), False, 1),
        "missing column": lambda: Mutant(dump({name: row[name] for name in row if name != needed}), False, 1),
        "cut": lambda: Mutant(text[:middle], False, 1),
        "no UTF-8": lambda: Mutant(text[:inside] + b"\xff" + text[inside:], False, 1),
        "NaN": lambda: Mutant(text[:-1] + b', "more": NaN}', False, 1),
        "huge number": lambda: Mutant(text[:-1] + b', "more": 1e999}', False, 1),
        "huge whole number": lambda: Mutant(text[:-1] + b', "more": ' + b"9" * 5000 + b"}", False, 1),
        "key twice": lambda: Mutant(text[:-1] + b", " + text[1:], False, 1),
        "deep": lambda: Mutant(text[:-1] + b', "more": ' + b"[" * 2000 + b"]" * 2000 + b"}", False, 1),
        "raw control sign": lambda: Mutant(text[:-1] + b', "more": "\0"}', False, 1),
        "half a surrogate": lambda: Mutant(text[:-1] + b', "more": "\\udc00"}', False, 1),
        "another value": lambda: Mutant(dice.choice([b"null", b"12", b"true", b'"text"', b"[]", b"[{}]"]), False, 1),
        "garbage": lambda: Mutant(bytes(dice.randrange(33, 256) for _ in range(dice.randrange(1, 60))), None),
        "a random byte": lambda: Mutant(text[:middle] + bytes([dice.randrange(256)]) + text[middle + 1 :], None),
        "a lost stretch": lambda: Mutant(text[:middle] + text[middle + dice.randrange(1, 30) :], None),
        "a doubled stretch": lambda: Mutant(text[:middle] + text[middle // 2 :], None),
    }
    return ways[dice.choice(list(ways))]()


def as_lines(mutants, dice):
    """A .jsonl file; line ends, blank lines and byte order marks are as they may be."""
    mark = b"\xef\xbb\xbf"
    end = dice.choice([b"\n", b"\r\n", b"\n\n"])
    head = dice.choice([b"", mark])
    return head + end.join(mutant.text for mutant in mutants) + dice.choice([b"", end])


def as_list(mutants, dice):
    """A .json file, with more or fewer signs between the elements than there should be."""
    between = dice.choice([b", ", b",", b",\n    ", b" ", b", ,", b"\n"])
    head, tail = dice.choice([(b"[", b"]"), (b"[\n", b"\n]\n"), (b"[", b""), (b"\xef\xbb\xbf[", b"]"), (b"", b"")])
    return head + between.join(mutant.text for mutant in mutants) + tail


def lost(mutants, found):
    """The keys of rows that had to come back and did not."""
    return Counter(mutant.key for mutant in mutants if mutant.good) - Counter(found)


def check(kind, path, mutants, *, exact):
    """Read and score a file; with `exact`, the bad rows are counted one by one."""
    doubtful = any(mutant.good is None for mutant in mutants)
    expected = [mutant.key for mutant in mutants if mutant.good]
    try:
        found, read = kind.read(path)
    except ValueError as error:
        # A file that holds no row at all: said in one line, and nothing good was in it.
        assert not expected, error
        assert "\n" not in str(error)
        return
    assert not lost(mutants, found), path.read_bytes()
    if not doubtful:
        assert Counter(found) == Counter(expected)
        bad = sum(mutant.bad_rows for mutant in mutants)
        assert (len(read.bad) == bad) if exact else (bool(read.bad) or not bad)
    for bad in read.bad:
        assert bad.problem
        assert "\n" not in str(bad)
    json.dumps(kind.score(read), allow_nan=False)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", [Judgments, Annotations])
def test_mutated_lines(tmp_path, kind, batch):
    dice = random.Random(f"lines {kind.__name__} {batch}")
    for _ in range(FILES_A_BATCH):
        mutants = [mutate(kind, kind.row(dice), dice) for _ in range(dice.randrange(1, 8))]
        content = as_lines(mutants, dice)
        packed = dice.random() < 0.2
        path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
        path.write_bytes(gzip.compress(content, compresslevel=1) if packed else content)
        # A mutant with a line end in it is several rows.
        check(kind, path, mutants, exact=not any(b"\n" in mutant.text for mutant in mutants))


@pytest.mark.parametrize("batch", BATCHES)
def test_mutated_lists(tmp_path, batch):
    dice = random.Random(f"lists {batch}")
    path = tmp_path / "alpaca_eval.json"
    for _ in range(FILES_A_BATCH):
        mutants = [mutate(Annotations, Annotations.row(dice), dice) for _ in range(dice.randrange(1, 8))]
        content = as_list(mutants, dice)
        path.write_bytes(content)
        # Broken elements side by side, or no whole one to tell rows from fragments, may be counted as more or fewer.
        bad = sum(mutant.bad_rows for mutant in mutants)
        whole = content.lstrip(b"\xef\xbb\xbf").startswith(b"[") and content.endswith((b"]", b"]\n"))
        check(Annotations, path, mutants, exact=whole and bad <= 1 and any(mutant.good for mutant in mutants))


@pytest.mark.parametrize("batch", BATCHES)
def test_files_with_damage_at_random_places(tmp_path, batch):
    """Bytes changed, lost or put in anywhere, gzip data cut: every row that the damage did not touch comes back."""
    dice = random.Random(f"damage {batch}")
    for number in range(FILES_A_BATCH):
        kind, name = ((Judgments, "a.jsonl"), (Annotations, "a.jsonl"), (Annotations, "a.json"))[number % 3]
        rows = [kind.row(dice) for _ in range(dice.randrange(2, 8))]
        texts = [dump(row) for row in rows]
        content = b"\n".join(texts) if name == "a.jsonl" else b"[" + b", ".join(texts) + b"]"
        spans = []
        for text in texts:
            start = content.index(text, spans[-1][1] if spans else 0)
            spans.append((start, start + len(text)))
        cut = name == "a.jsonl" and dice.random() < 0.3
        if cut:
            packed = gzip.compress(content, compresslevel=1)
            packed = packed[: dice.randrange(20, len(packed) - 8)]
            first, last = len(zlib.decompressobj(wbits=31).decompress(packed)), len(content)
            damaged, name = packed, "a.jsonl.gz"
        else:
            first = dice.randrange(len(content))
            last = first + dice.choice([0, 1, 1, 1, dice.randrange(40)])
            put = bytes(dice.choice(b'{}[]",:\\\n 1a\xff\x00') for _ in range(dice.choice([0, 1, 1, 3])))
            damaged = content[:first] + put + content[last:]
        (tmp_path / name).write_bytes(damaged)
        # A row is untouched where the damage ends before it, or starts behind it; lines need their line ends too.
        margin = name != "a.json"
        untouched = [
            Mutant(text, True, key=kind.key(row))
            for text, row, (start, end) in zip(texts, rows, spans, strict=True)
            if last < start + (not margin) or first >= end + margin
        ]
        check(kind, tmp_path / name, [*untouched, Mutant(b"", None)], exact=False)


def test_damaged_tables_are_read_as_far_as_they_go_or_refused_in_one_line(tmp_path):
    dice = random.Random("tables")
    rows = [Annotations.row(dice) | {"preference": 1.5, "raw_completion": "x"} for _ in range(40)]
    path = tmp_path / "alpaca_eval.parquet"
    pandas.DataFrame(rows).to_parquet(path, row_group_size=10)
    whole, outcomes = path.read_bytes(), Counter()
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(dice.choice([1, 1, 3, 10])):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            _, read = Annotations.read(path)
        except ValueError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
        else:
            json.dumps(Annotations.score(read), allow_nan=False)
            outcomes["bad rows" if read.bad else "read"] += 1
    assert set(outcomes) == {"refused", "bad rows", "read"}
