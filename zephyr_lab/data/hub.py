"""Sets on the Hugging Face hub, by `datasets`: the one module of the data steps that may use the network.

It does so when `Hub.rows` is called; what is in the library's cache is not fetched again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from zephyr_lab.core.rows import BadRow, Row, one_line


@dataclass(frozen=True)
class Hub:
    """A set by its id, at one revision."""

    id: str
    revision: str | None = None
    config: str | None = None

    @property
    def name(self) -> str:
        return f"{self.id} at {self.revision}" if self.revision else self.id

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        """The rows of a split. Raises ValueError for an unknown split, OSError where hub or set cannot be reached."""
        import datasets

        try:
            loaded = datasets.load_dataset(self.id, self.config, split=split, revision=self.revision)
        except (OSError, ConnectionError) as error:  # not found, offline, no permission: all are OSError there
            raise OSError(f"cannot load {self.name} from the hub: {one_line(error)}") from error
        return (Row(number, dict(record)) for number, record in enumerate(loaded, start=1))
