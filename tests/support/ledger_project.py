"""A checkout in a temporary folder with the real papers, and notebooks by name, for tests of checks and ledger."""

import shutil
from pathlib import Path

PAPERS = Path(__file__).resolve().parents[2] / "papers"


def write_project(root: Path, *notebooks: str) -> Path:
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    shutil.copytree(PAPERS, root / "papers")
    for name in notebooks:
        (root / "notebooks" / f"{name}.ipynb").write_text("{}")
    return root


def write_product(root: Path, name: str, *, profile: str = "tiny", text: str = "1") -> Path:
    path = root / "build" / profile / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
