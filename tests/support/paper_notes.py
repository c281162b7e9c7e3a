"""The notes that the published values were taken from: `shared/papers` beside the checkout, where it is there."""

from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "papers"
needs_notes = pytest.mark.skipif(not FOLDER.is_dir(), reason="the notes on the papers are not beside this checkout")


def note(name: str) -> dict:
    """The content of one YAML file of the notes."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
