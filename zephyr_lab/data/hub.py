"""Sets on the Hugging Face hub, by `datasets`: the one module of the data steps that may use the network.

It does so when `Hub.splits` or `Hub.rows` is called; what is in the library's cache is not fetched again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zephyr_lab.core.rows import BadRow, Row


@dataclass(frozen=True)
class Hub:
    """A set by its id, at one revision. `expected`: rows of a split, where they are published.

    A split with another number of rows is refused: a plain load can give part of a set without a word (of UltraChat's
    1,468,348 dialogues, 773,913 come by way of the automatic conversion).
    """

    id: str
    revision: str | None = None
    config: str | None = None
    expected: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.id} at {self.revision}" if self.revision else self.id

    def splits(self) -> tuple[str, ...]:
        """Raises OSError in one line where the hub or the set cannot be reached."""
        import datasets

        return tuple(self._ask(datasets.get_dataset_split_names, self.id, self.config))

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        """Raises ValueError for an unknown split or another number of rows than expected, OSError as `splits`."""
        import datasets

        loaded = self._ask(datasets.load_dataset, self.id, self.config, split=split)
        wanted = self.expected.get(split, len(loaded))
        if len(loaded) != wanted:
            raise ValueError(f"{self.name} gave {len(loaded)} rows of {split}, published are {wanted}")
        return (Row(number, dict(record)) for number, record in enumerate(loaded, start=1))

    def _ask(self, function: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, revision=self.revision, **named)
        except (OSError, ConnectionError) as error:  # not found, offline, no permission: all are OSError there
            raise OSError(f"cannot load {self.name} from the hub: {_one_line(error)}") from error


# Rows as the cards print them.
ULTRACHAT_200K = Hub(
    "HuggingFaceH4/ultrachat_200k",
    expected={"train_sft": 207_865, "test_sft": 23_110, "train_gen": 256_032, "test_gen": 28_304},
)
ULTRAFEEDBACK_BINARIZED = Hub(
    "HuggingFaceH4/ultrafeedback_binarized",
    expected={"train_prefs": 61_135, "test_prefs": 2_000, "test_sft": 1_000, "test_gen": 1_000},
)
ULTRAFEEDBACK = Hub("openbmb/UltraFeedback", expected={"train": 63_967})


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
