"""What all tests share: one torch thread, long files first, and released files, whose absence skips and is counted."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run in a process a core, and sizes are small

from collections.abc import Callable
from pathlib import Path

import pytest

from zephyr_lab.core.paths import data_dir

ABSENT = "released file absent"
BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


# Files that take a minute or more. They start first, so that no process is left alone with one at the end.
LONGEST = ("tests/test_notebooks.py", "tests/browser/", "tests/lab/", "tests/methods/", "tests/reporting/test_site.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        places = [place for place, name in enumerate(LONGEST) if item.nodeid.startswith(name)]
        return places[0] if places else len(LONGEST)

    items.sort(key=rank)


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
