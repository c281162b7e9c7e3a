"""How many rows the published data sets have: quoted beside what our own steps do (notebooks 02 and 03)."""

from collections.abc import Iterator

import pandas as pd

from zephyr_lab.data import released
from zephyr_lab.lab.numbers import Known
from zephyr_lab.reporting import published, tables

COUNTS = "ultra_published_counts"  # name in the catalogue of released files
ULTRACHAT = "HuggingFaceH4/ultrachat_200k"
RAW_ULTRACHAT = "stingning/ultrachat (now openbmb/UltraChat)"
ULTRAFEEDBACK = "openbmb/UltraFeedback"
FIRST_RELEASE = "HuggingFaceH4/ultrafeedback_binarized, first release"
REPAIRED_RELEASE = "HuggingFaceH4/ultrafeedback_binarized, repaired release"
_SPLITS = ("train_prefs", "test_prefs", "test_sft")


def rows_of(*data_sets: str) -> pd.DataFrame:
    """Quoted row counts of `data_sets`: as many as papers/zephyr/published.yaml knows, and all that the list of
    published counts has where it is at hand."""
    known = {key: (count, "data card") for key, count in _of_the_papers().items()}
    known |= {key: (count, source) for key, count, source in _of_the_cards()}
    rows = [
        {"row": f"{data_set}, {part}", "metric": "rows", "kind": "quoted", "value": count, "source": source}
        for (data_set, part), (count, source) in known.items()
        if data_set in data_sets
    ]
    order = [line for data_set in data_sets for line in rows if line["row"].startswith(f"{data_set}, ")]
    return tables.frame(order)


def known_figures() -> Iterator[Known]:
    """Where both speak, the list of published counts and published.yaml must agree; so must sums and differences."""
    papers, cards = _of_the_papers(), {key: count for key, count, _ in _of_the_cards()}
    for key in sorted(papers.keys() & cards.keys()):
        yield Known(f"rows of {', '.join(key)}", cards[key], papers[key], 0)
    if not cards:
        return
    prompts = cards[ULTRAFEEDBACK, "all prompts"]
    yield Known("prompts less pairs of the first release", prompts - _pairs(papers, FIRST_RELEASE), 1, 0)
    truthful = cards[ULTRAFEEDBACK, "source truthful_qa"]
    left = prompts - truthful - _pairs(papers, REPAIRED_RELEASE)
    yield Known("prompts left out of the repaired release beside truthful_qa", left, 21, 0)


def absent() -> dict[str, str]:
    """How to get the list of published counts, empty where it is at hand."""
    return {} if released.path(COUNTS) else {COUNTS: released.how_to_get(COUNTS)}


def _of_the_papers() -> dict[tuple[str, str], int]:
    entries = published.load("zephyr").entries
    chat, feedback = entries["ultrachat"].values, entries["ultrafeedback"].values
    counts = {(ULTRACHAT, part): count for part, count in chat.items()}
    for data_set, release in ((FIRST_RELEASE, "first_release"), (REPAIRED_RELEASE, "repaired_release")):
        counts |= {(data_set, part): feedback[release][part] for part in _SPLITS}
    return counts


def _of_the_cards() -> list[tuple[tuple[str, str], int, str]]:
    """(data set, part), rows, where it is published; empty where the list is not at hand."""
    path = released.path(COUNTS)
    if path is None:
        return []
    listed = pd.read_csv(path)
    places = zip(listed["dataset"], listed["part"], strict=True)
    return list(zip(places, map(int, listed["rows"]), listed["where_it_is_published"], strict=True))


def _pairs(counts: dict[tuple[str, str], int], data_set: str) -> int:
    return counts[data_set, "train_prefs"] + counts[data_set, "test_prefs"]
