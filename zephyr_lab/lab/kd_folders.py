"""Folders of a user's own domain data, as stages see them: named below the data folder, known by their contents."""

import dataclasses
import hashlib
from pathlib import Path
from typing import TypeVar

from zephyr_lab.core import files, paths
from zephyr_lab.methods.recipes.kd_data import FolderMix, FolderPairs

Recipe = TypeVar("Recipe", FolderMix, FolderPairs)
UNREAD = ""  # the digest of a recipe whose folder was not looked at yet


def with_digest(recipe: Recipe) -> Recipe:
    """`recipe` with the digest of its folder as it is now; "absent" where there is none, and its build will say so."""
    return dataclasses.replace(recipe, digest=_digest(recipe.folder))


def _digest(name: str) -> str:
    data = paths.data_dir()
    folder = None if data is None else data / name
    if folder is None or not folder.is_dir():
        return "absent"
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256("\n".join(_line(path, folder) for path in found).encode()).hexdigest()


def _line(path: Path, folder: Path) -> str:
    return f"{path.relative_to(folder).as_posix()} {files.sha256(path)}"
