"""Released files of other people: which there are, where they lie on this machine, how to get one.

They are read from the folder that `ZEPHYR_LAB_DATA` names, else from the cache that `download` fills. They are
never part of the repository. Whoever reads one says so to the session, and so does whoever finds it absent:
a notebook that ran without a file is stale once the file arrives.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

from zephyr_lab.core import files, paths, session
from zephyr_lab.data.catalogue import Released, catalogue, entry
from zephyr_lab.data.fetch import content_sha256, fetch


@dataclass(frozen=True)
class Listed:
    """A line of `zephyr-lab list data`. `found` is "ZEPHYR_LAB_DATA", "cache" or "absent"; `same` tells whether
    the file found says what the catalogue recorded (None where absent); `fetchable` whether `download` can get it."""

    name: str
    rows: int
    size: int
    licence: str
    source: str
    about: str
    found: str
    same: bool | None
    fetchable: bool


def path(name: str) -> Path | None:
    """Where the released file `name` lies, or None; registered with the session either way.

    Raises ValueError for a name that the catalogue lacks.
    """
    released = entry(name)
    where = _locate(released)[1]
    session.read_file(where, name=f"data:{released.path}")
    return where


def require(name: str) -> Path:
    """As `path`, but raises FileNotFoundError with the next step where the file is not at hand."""
    where = path(name)
    if where is None:
        raise FileNotFoundError(f"released file {name!r} is not at hand; {how_to_get(name)}")
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


def listing() -> list[Listed]:
    """Every catalogued file and whether it is at hand; reads the files that are, to compare what they say."""
    return [_listed(released) for released in catalogue().values()]


def _listed(released: Released) -> Listed:
    found, where = _locate(released)
    return Listed(
        name=released.name,
        rows=released.rows,
        size=released.size,
        licence=released.licence,
        source=released.source,
        about=released.about,
        found=found,
        same=None if where is None else _says_the_same(released, where),
        fetchable=bool(released.upstream),
    )


def _locate(released: Released) -> tuple[str, Path | None]:
    folders = {"ZEPHYR_LAB_DATA": paths.data_dir(), "cache": _cache()}
    for place, folder in folders.items():
        if folder is not None and (folder / released.path).is_file():
            return place, folder / released.path
    return "absent", None


def _says_the_same(released: Released, where: Path) -> bool:
    if files.sha256(where) == released.sha256:
        return True
    try:
        return content_sha256(released.path, where.read_bytes()) == released.content_sha256
    except (OSError, ValueError, EOFError, zlib.error):  # a broken archive or table says something else
        return False


def _cache() -> Path:
    return paths.cache_dir() / "data"
