"""Columns of a row, checked: the value in the type asked for, or one plain statement of what is wrong with it."""

import math
from typing import Any

from zephyr_lab.core.row_types import BadColumn


def required(data: dict[str, Any], column: str) -> Any:
    """The value of a column that must be there; it may be None. Raises BadColumn."""
    if column not in data:
        raise BadColumn(column, f"is missing; the row has {', '.join(list(data)[:8]) or 'no columns'}")
    return data[column]


def text(data: dict[str, Any], column: str) -> str:
    """A text that is not blank. Raises BadColumn."""
    value = required(data, column)
    if not isinstance(value, str) or not value.strip():
        raise BadColumn(column, f"must be a text that is not blank, got {shown(value)}")
    return value


def optional_text(data: dict[str, Any], column: str) -> str | None:
    """A text, blank or not; None where the column is missing or null. Raises BadColumn."""
    value = data.get(column)
    if value is not None and not isinstance(value, str):
        raise BadColumn(column, f"must be a text, got {shown(value)}")
    return value


def number(data: dict[str, Any], column: str) -> float:
    """A finite number; true and false are none. Raises BadColumn."""
    value = required(data, column)
    if not is_number(value):
        raise BadColumn(column, f"must be a number, got {shown(value)}")
    return float(value)


def whole_number(data: dict[str, Any], column: str) -> int:
    """A whole number, 81 or 81.0. Raises BadColumn."""
    value = required(data, column)
    if not is_number(value) or value != int(value):
        raise BadColumn(column, f"must be a whole number, got {shown(value)}")
    return int(value)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def shown(value: Any) -> str:
    """A value as a message may carry it: one line, 40 signs at most."""
    spelled = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return spelled if len(spelled) <= 40 else f"{spelled[:37]}..."
