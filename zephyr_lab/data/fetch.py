"""Download a released file from its publisher and derive from it the columns that the notebooks read.

The network is used only when somebody calls `fetch`. What comes back must say exactly what the catalogue
promises (`content_sha256`); anything else is refused and nothing is kept. `mirror` sends the same requests to
another server: for a site behind a wall, and for the tests.
"""

import gzip
import hashlib
import http.client
import io
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.data.catalogue import Released
from zephyr_lab.scoring.mt_bench import category

LARGEST = 200_000_000  # bytes; the largest publisher's file here has about 60 million
PATIENCE = 60  # seconds without a byte before a connection is given up


def fetch(released: Released, folder: Path, *, mirror: str | None = None) -> Path:
    """Download `released` into `folder` under its catalogued path; returns where it lies.

    Beside it goes `<file>.source.json` with the address and SHA-256 of every file it was derived from.
    Raises ValueError where no download exists or the content is not the catalogued one, OSError where the
    network or the disk fails; in each case nothing half-written is left.
    """
    if not released.upstream:
        raise ValueError(
            f"{released.name} cannot be downloaded: it was put together by hand from {released.source}; "
            f"set ZEPHYR_LAB_DATA to a folder that holds {released.path}"
        )
    fetched = [get(address, mirror=mirror) for address in released.upstream]
    content = derive(released, fetched)
    got = content_sha256(released.path, content)
    if got != released.content_sha256:
        raise ValueError(
            f"{released.name}: the publisher's file no longer says what the catalogue recorded (content SHA-256 "
            f"{got[:12]}…, expected {released.content_sha256[:12]}…); nothing was kept. From: {released.upstream[0]}"
        )
    target = folder / released.path
    origin = [
        {"address": address, "sha256": files.sha256_bytes(body)}
        for address, body in zip(released.upstream, fetched, strict=True)
    ]
    try:
        files.write_json(target.with_name(target.name + ".source.json"), {"recipe": released.recipe, "from": origin})
        files.write_bytes(target, content)
    except OSError as error:
        raise OSError(f"{released.name} was downloaded but could not be kept: {error}") from error
    return target


def get(address: str, *, mirror: str | None = None) -> bytes:
    """The body behind `address`, whole. Raises OSError in one line that names the address and the reason."""
    where = address if mirror is None else at_mirror(address, mirror)
    request = urllib.request.Request(where, headers={"User-Agent": "zephyr-lab"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            body = reply.read(LARGEST + 1)
            promised = reply.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        raise OSError(f"cannot fetch {where}: the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise OSError(f"cannot fetch {where}: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"cannot fetch {where}: the connection broke off ({type(error).__name__})") from error
    if promised is not None and len(body) < int(promised):
        raise OSError(f"cannot fetch {where}: the connection broke off after {len(body)} of {promised} bytes")
    if len(body) > LARGEST:
        raise OSError(f"cannot fetch {where}: more than {LARGEST:,} bytes came")
    return body


def at_mirror(address: str, mirror: str) -> str:
    """`address` with scheme and host of `mirror`. Raises ValueError for a mirror that is not http(s)."""
    parts = urllib.parse.urlsplit(mirror)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"mirror must be an http(s) address such as http://127.0.0.1:8000, got {mirror!r}")
    path = urllib.parse.urlsplit(address).path
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, "", ""))


def derive(released: Released, fetched: list[bytes]) -> bytes:
    """The bytes of our file from the publisher's, one of them for each address of `released.upstream`.

    Raises ValueError where a publisher's file has another form than the recipe knows.
    """
    try:
        return _RECIPES[released.recipe](released, fetched)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{released.name}: the publisher's file has another form than expected "
            f"({type(error).__name__}: {error}); nothing was kept. From: {released.upstream[0]}"
        ) from error


def content_sha256(name: str, content: bytes) -> str:
    """SHA-256 of what a file says: unpacked bytes of .gz, rows of .parquet as JSON lines, else its bytes."""
    if name.endswith(".gz"):
        content = gzip.decompress(content)
    elif name.endswith(".parquet"):
        frame = pd.read_parquet(io.BytesIO(content))
        rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        content = _json_lines(rows)
    return hashlib.sha256(content).hexdigest()


def _copy(released: Released, fetched: list[bytes]) -> bytes:
    return fetched[0]


def _judgments(released: Released, fetched: list[bytes]) -> bytes:
    """FastChat's judgements of the wanted models, less the judge's prompt, which repeats question and answer."""
    columns = ("question_id", "model", "judge", "judgment", "score", "turn", "tstamp")
    wanted = (row for row in _rows(fetched[0]) if row["model"] in released.models)
    return _packed({column: row[column] for column in columns} for row in wanted)


def _scores(released: Released, fetched: list[bytes]) -> bytes:
    """Model, question, turn, category and score of each parsed judgement (-1 marks an unparsed one)."""
    order = {model: place for place, model in enumerate(released.models)}
    kept = [row for row in _rows(fetched[0]) if row["model"] in order and row["score"] != -1]
    kept.sort(key=lambda row: (order[row["model"]], row["question_id"], row["turn"]))
    lines = ["model,question_id,turn,category,score"]
    for row in kept:
        name = category(row["question_id"])
        lines.append(f"{row['model']},{row['question_id']},{row['turn']},{name},{row['score']:g}")
    return ("\n".join(lines) + "\n").encode()


def _annotations(released: Released, fetched: list[bytes]) -> bytes:
    """AlpacaEval's preferences, one row an instruction, with the lengths in place of the two answers."""
    rows = [
        {
            "model": annotation["generator_2"],
            "row": number,
            "dataset": annotation["dataset"],
            "instruction": annotation["instruction"],
            "generator_1": annotation["generator_1"],
            "generator_2": annotation["generator_2"],
            "preference": annotation["preference"],
            "len_1": len(annotation["output_1"]),
            "len_2": len(annotation["output_2"]),
        }
        for body in fetched
        for number, annotation in enumerate(json.loads(body))
    ]
    frame = pd.DataFrame(rows).astype({"preference": "float64", "row": "int32", "len_1": "int32", "len_2": "int32"})
    packed = io.BytesIO()
    frame.to_parquet(packed, index=False)
    return packed.getvalue()


def _outputs(released: Released, fetched: list[bytes]) -> bytes:
    columns = ("dataset", "instruction", "output", "generator")
    return _packed({column: row[column] for column in columns} for row in json.loads(fetched[0]))


_RECIPES: dict[str, Callable[[Released, list[bytes]], bytes]] = {
    "copy": _copy,
    "judgments": _judgments,
    "scores": _scores,
    "annotations": _annotations,
    "outputs": _outputs,
}


def _rows(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.decode("utf-8").split("\n") if line.strip()]


def _json_lines(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()


def _packed(rows: Iterable[Any]) -> bytes:
    return gzip.compress(_json_lines(rows), mtime=0)  # no time stamp: the same rows, the same bytes
