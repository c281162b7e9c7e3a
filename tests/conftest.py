"""Released judgments and annotations for the tests that need them; absent ones skip their tests, and are counted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from zephyr_lab.core.paths import data_dir

ABSENT = "released file absent"
BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def released() -> Callable[[str], Path]:
    """`released("medusa/judgments.jsonl.gz")` is where that file lies; the test is skipped where it lies nowhere."""

    def find(name: str) -> Path:
        path = (data_dir() or BESIDE_THE_CHECKOUT) / name
        if not path.is_file():
            pytest.skip(f"{ABSENT}: {name}")
        return path

    return find


def pytest_terminal_summary(terminalreporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if ABSENT in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests skipped for want of released files (set ZEPHYR_LAB_DATA)")
