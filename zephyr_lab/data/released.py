"""Released files of other people: which there are, where they are on this machine, how to get one.

The catalogue is `released.toml`. Files are read from the folder that `ZEPHYR_LAB_DATA` names, else from the cache that
`download` fills; they are never part of the repository. A reader registers each file with the session, absent or not:
a notebook that ran without a file is stale once the file arrives.

The network is used by `fetch` alone. What comes back must have the content that the catalogue records; anything else
is refused and nothing is kept. `mirror` sends the same requests to another server: for a site without access to the
publisher, and for the tests.
"""

import gzip
import hashlib
import http.client
import io
import json
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from zephyr_lab.core import files, paths, session
from zephyr_lab.scoring.mt_bench import category

TABLE = Path(__file__).with_name("released.toml")
LARGEST = 200_000_000  # bytes; the largest publisher's file here has about 60 million
PATIENCE = 60  # seconds without a byte before a connection is given up


@dataclass(frozen=True)
class Released:
    """One released file; the columns are explained at the top of `released.toml`.

    `path` is relative to the data folder. Of `upstream` (https addresses) the `recipe` (of `_RECIPES`) makes the file.
    """

    name: str
    path: str
    about: str
    repository: str
    licence: str
    rows: int
    size: int
    sha256: str
    commit: str = ""
    content: str = ""
    recipe: str = ""
    upstream: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def content_sha256(self) -> str:
        """SHA-256 of the file's content, however it is packed (see `content_sha256` below)."""
        return self.content or self.sha256

    @property
    def source(self) -> str:
        return f"{self.repository} at {self.commit[:7]}" if self.commit else self.repository


@cache
def catalogue() -> dict[str, Released]:
    """All entries by name, in the catalogue's order."""
    with TABLE.open("rb") as file:
        tables = tomllib.load(file)
    return {name: msgspec.convert({"name": name, **table}, Released) for name, table in tables.items()}


def entry(name: str) -> Released:
    """Raises ValueError, naming what is known, for a name that the catalogue lacks."""
    known = catalogue()
    if name not in known:
        raise ValueError(f"no released file named {name!r}; known: {', '.join(known)} (zephyr-lab list data)")
    return known[name]


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
            f"{released.name}: the publisher's file no longer has the content that the catalogue recorded (SHA-256 "
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
    """SHA-256 of a file's content: unpacked bytes of .gz, rows of .parquet as JSON lines, else its bytes."""
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


def path(name: str) -> Path | None:
    """Where the released file `name` lies, or None; registered with the session either way.

    Raises ValueError for a name that the catalogue lacks.
    """
    released = entry(name)
    where = _locate(released)[1]
    session.read_file(where, name=f"data:{released.path}")
    return where


def how_to_get(name: str) -> str:
    """The next step for a reader who lacks the file, as the end of a sentence."""
    released = entry(name)
    by_hand = f"set ZEPHYR_LAB_DATA to a folder that holds {released.path}"
    if not released.upstream:
        return f"{by_hand} ({released.source})"
    return f"{by_hand}, or fetch it from its publisher: zephyr-lab list data --fetch {name}"


def download(name: str, *, mirror: str | None = None) -> Path:
    """Fetch the released file `name` into the cache and return where it lies. Errors as in `fetch.fetch`."""
    return fetch(entry(name), _cache(), mirror=mirror)


@dataclass(frozen=True)
class Listed:
    """A line of `zephyr-lab list data`. `found` is "ZEPHYR_LAB_DATA", "cache" or "absent"; `same` says whether the
    file has the catalogued content (None where absent); `fetchable` whether `download` can get it."""

    name: str
    rows: int
    size: int
    licence: str
    source: str
    about: str
    found: str
    same: bool | None
    fetchable: bool


def listing() -> list[Listed]:
    """Every catalogued file and whether it is at hand; reads those that are, to compare their content."""
    lines = []
    for one in catalogue().values():
        found, where = _locate(one)
        same = None if where is None else _has_the_content(one, where)
        lines.append(
            Listed(one.name, one.rows, one.size, one.licence, one.source, one.about, found, same, bool(one.upstream))
        )
    return lines


def _locate(released: Released) -> tuple[str, Path | None]:
    folders = {"ZEPHYR_LAB_DATA": paths.data_dir(), "cache": _cache()}
    for place, folder in folders.items():
        if folder is not None and (folder / released.path).is_file():
            return place, folder / released.path
    return "absent", None


def _has_the_content(released: Released, where: Path) -> bool:
    if files.sha256(where) == released.sha256:
        return True
    try:
        return content_sha256(released.path, where.read_bytes()) == released.content_sha256
    except (OSError, ValueError, EOFError, zlib.error):  # a broken archive or table has other content
        return False


def _cache() -> Path:
    return paths.cache_dir() / "data"
