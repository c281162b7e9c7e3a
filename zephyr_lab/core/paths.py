"""Where things lie: the project's root and the folders below it.

Nothing here creates a folder; the writer of a file does.
"""

import os
from pathlib import Path

CHECKOUT = ("pyproject.toml", "notebooks", "papers/items.toml")


def project_root() -> Path:
    """The checkout: `ZEPHYR_LAB_ROOT`, else the nearest folder above the working directory, else above
    this package, that holds `pyproject.toml`, `notebooks/` and `papers/items.toml` (many a project has the first two).

    Raises FileNotFoundError where there is none (an installed package used far from a checkout).
    """
    named = os.environ.get("ZEPHYR_LAB_ROOT")
    if named:
        return Path(named).resolve()
    starts = [Path.cwd(), Path(__file__).resolve().parent]
    for start in starts:
        for folder in [start, *start.parents]:
            if all((folder / name).exists() for name in CHECKOUT):
                return folder
    raise FileNotFoundError(
        f"no checkout of zephyr_lab above this folder (looked for {', '.join(CHECKOUT)}); "
        "run the command inside a clone or set ZEPHYR_LAB_ROOT"
    )


def notebooks_dir() -> Path:
    return project_root() / "notebooks"


def papers_dir() -> Path:
    return project_root() / "papers"


def figures_dir() -> Path:
    """The committed figures, written by `make figures` alone."""
    return project_root() / "figures"


def build_dir(profile: str) -> Path:
    """Everything a run of `profile` makes for people: figures, tables, ledger, notebooks, site."""
    return project_root() / "build" / profile


def runs_dir(profile: str) -> Path:
    """The run store of `profile`: one folder a finished stage."""
    return project_root() / "runs" / profile


def data_dir() -> Path | None:
    """The user's folder of released files, `ZEPHYR_LAB_DATA`; None where it is not set."""
    named = os.environ.get("ZEPHYR_LAB_DATA")
    return Path(named).resolve() if named else None


def cache_dir() -> Path:
    """Where downloads are kept: `ZEPHYR_LAB_CACHE`, else `~/.cache/zephyr-lab`."""
    named = os.environ.get("ZEPHYR_LAB_CACHE")
    return Path(named).resolve() if named else Path.home() / ".cache" / "zephyr-lab"


def released_file(relative: str) -> Path | None:
    """A released file by its place below the data folder: the user's folder first, then the cache; None if absent."""
    folders = [folder for folder in (data_dir(), cache_dir() / "data") if folder is not None]
    return next((folder / relative for folder in folders if (folder / relative).is_file()), None)


def input_file(name: str) -> Path | None:
    """The file behind a logical input name: "data:medusa/judgments.jsonl.gz", "papers/zephyr/published.yaml"."""
    if name.startswith("data:"):
        return released_file(name.removeprefix("data:"))
    path = project_root() / name
    return path if path.is_file() else None
