"""On every causal family and every kind of adapter a fast path is exact, or refused by name: there is no third state.

The committed matrix is benchmarks/model_matrix.json (`make matrix`).
"""

import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

import model_matrix as matrix
from adapter_kinds import ADAPTERS

TABLE = Path(__file__).resolve().parents[2] / "benchmarks" / "model_matrix.json"
# Plain layers; scaled logits; capped logits and scores; sinks and mixed experts; windows that masks alone apply.
TELLING = ("llama", "granite", "gemma2", "gpt_oss", "qwen2_moe")
TELLING_ADAPTERS = ("LoRA", "aLoRA", "PROMPT_TUNING")


@cache
def committed() -> dict[str, dict[str, str]]:
    """The committed state of each cell, by family or adapter and column."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return {
        row.get("family", row.get("adapter")): {column: cell["state"] for column, cell in row["cells"].items()}
        for row in (*table["families"], *table["adapters"])
    }


def require(found: matrix.Cell, row: str, column: str) -> None:
    assert found.state != matrix.FAILED, found.reason
    assert found.state == committed()[row][column], f"the committed cell differs (make matrix): {found}"


@pytest.mark.parametrize("column", matrix.COLUMNS)
@pytest.mark.parametrize("family", TELLING)
def test_telling_families_are_exact_or_refused(family, column):
    require(matrix.cell(family, column), family, column)


@pytest.mark.parametrize("column", matrix.ADAPTER_COLUMNS)
@pytest.mark.parametrize("adapter", TELLING_ADAPTERS)
def test_telling_adapters_are_exact_or_refused(adapter, column):
    require(matrix.adapter_cell(adapter, column), adapter, column)


@pytest.mark.slow
@pytest.mark.parametrize("column", matrix.COLUMNS)
@pytest.mark.parametrize("family", [row for row in matrix.ROWS if row not in TELLING])
def test_every_family_is_exact_or_refused(family, column):
    require(matrix.cell(family, column), family, column)


@pytest.mark.slow
@pytest.mark.parametrize("column", matrix.ADAPTER_COLUMNS)
@pytest.mark.parametrize("adapter", [kind for kind in ADAPTERS if kind not in TELLING_ADAPTERS])
def test_every_adapter_is_exact_or_refused(adapter, column):
    require(matrix.adapter_cell(adapter, column), adapter, column)


def test_the_committed_matrix_is_of_the_installed_libraries_and_has_all_rows():
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert table["versions"] == {name: version(name).partition("+")[0] for name in ("torch", "transformers", "peft")}
    assert [row["family"] for row in table["families"]] == list(matrix.ROWS)
    assert [row["adapter"] for row in table["adapters"]] == list(ADAPTERS)
    states = {cell["state"] for row in (*table["families"], *table["adapters"]) for cell in row["cells"].values()}
    assert states == {matrix.EXACT, matrix.REFUSED, matrix.ABSENT}


# --- the matrix sees what is wrong --------------------------------------------------------------------------------


def test_a_wrong_number_a_break_inside_and_a_late_refusal_are_failures():
    def wrong():
        raise matrix.Wrong("loss is off by 0.3")

    def broken():
        return [][0]

    def late():
        with matrix.no_refusal():
            raise ValueError("no")

    def of_others():
        raise ValueError("one line, but not raised in our code")

    assert [matrix.judged(check).state for check in (wrong, broken, late, of_others)] == [matrix.FAILED] * 4
