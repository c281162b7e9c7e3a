"""The catalogue of released files, `released.toml`, as typed entries.

Nothing here touches a data file or the network: see `released` for finding files, `fetch` for downloads.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("released.toml")
RECIPES = ("copy", "judgments", "scores", "annotations", "outputs")


@dataclass(frozen=True)
class Released:
    """One released file; the columns are explained at the top of `released.toml`.

    `path` is relative to the data folder. Raises ValueError for a download without a known recipe, a recipe
    without a download, and an address that is not https.
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

    def __post_init__(self) -> None:
        if bool(self.upstream) != bool(self.recipe):
            raise ValueError(f"{self.name}: upstream and recipe belong together")
        if self.recipe and self.recipe not in RECIPES:
            raise ValueError(f"{self.name}: no recipe named {self.recipe!r}; known: {', '.join(RECIPES)}")
        for address in self.upstream:
            if not address.startswith("https://"):
                raise ValueError(f"{self.name}: upstream must be https, got {address!r}")

    @property
    def content_sha256(self) -> str:
        """SHA-256 of what the file says, however it is packed (`fetch.content_sha256` computes it)."""
        return self.content or self.sha256

    @property
    def source(self) -> str:
        return f"{self.repository} at {self.commit[:7]}" if self.commit else self.repository


def from_table(name: str, table: dict[str, Any]) -> Released:
    """An entry from its TOML table. Raises TypeError for a missing or unknown key, naming it."""
    lists = {key: tuple(table[key]) for key in ("upstream", "models") if key in table}
    return Released(name=name, **{**table, **lists})


@cache
def catalogue() -> dict[str, Released]:
    """All entries by name, in the catalogue's order."""
    with TABLE.open("rb") as file:
        tables = tomllib.load(file)
    return {name: from_table(name, table) for name, table in tables.items()}


def entry(name: str) -> Released:
    """Raises ValueError, naming what is known, for a name that the catalogue lacks."""
    known = catalogue()
    if name not in known:
        raise ValueError(f"no released file named {name!r}; known: {', '.join(known)} (zephyr-lab list data)")
    return known[name]
