"""Functions of a notebook as stages call them: a fault names the function and the row that it was given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zephyr_lab.engine import own_code


@dataclass(frozen=True)
class OwnFunction:
    """A function from a notebook, under its name."""

    name: str
    function: Callable[..., Any]

    @classmethod
    def of(cls, text: str) -> "OwnFunction":
        """The function that `engine.own_code.captured` made the text of."""
        return cls(own_code.name_of(text), own_code.restored(text))

    def call(self, row: str, *arguments: Any) -> Any:
        """What the function says of a row; ValueError naming both where it raises."""
        try:
            return self.function(*arguments)
        except Exception as error:
            raise ValueError(f"{self.name} failed on {row}: {type(error).__name__}: {error}") from error

    def wrong(self, row: str, got: Any, allowed: str) -> ValueError:
        """The error of an answer that the function must not give."""
        return ValueError(f"{self.name} gave {_shown(got)} for {row}; allowed: {allowed}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
