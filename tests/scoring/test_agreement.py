"""Agreement of judges against worked tables and the published figures of PandaLM."""

import csv
from collections import Counter

import pytest

from zephyr_lab.scoring.agreement import agreement, cohen_kappa, majority


def test_kappa_worked_by_hand():
    # 50 items: 20 both yes, 15 both no, 5 and 10 apart; observed 0.7, chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert agreement(first, second) == pytest.approx(0.7)
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_kappa_at_its_ends():
    assert cohen_kappa([1, 2, 1, 2], [1, 2, 1, 2]) == 1
    assert cohen_kappa([1, 2, 1, 2], [1, 1, 2, 2]) == 0
    assert cohen_kappa([1, 2], [2, 1]) == -1


def test_what_has_no_kappa_is_refused():
    with pytest.raises(ValueError, match="only ever say 1"):
        cohen_kappa([1, 1], [1, 1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        agreement([], [])
    with pytest.raises(ValueError, match="got 1 and 2"):
        agreement([1], [1, 2])


def test_majority_needs_more_than_half():
    assert majority([1, 1, 1], [1, 2, 2], [1, 2, 3]) == [1, 2, None]
    assert majority([1], [2]) == [None]


def test_the_published_kappas_of_pandalm(released):
    with released("pandalm/labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    votes = {name: [row[name] for row in rows] for name in rows[0]}
    first, second, third = (votes[f"annotator{number}"] for number in (1, 2, 3))
    kappas = [cohen_kappa(*pair) for pair in ((first, second), (first, third), (second, third))]
    assert kappas == pytest.approx([0.852023, 0.878944, 0.861661], abs=1e-6)
    assert [round(kappa, 2) for kappa in kappas] == [0.85, 0.88, 0.86]
    labels = majority(first, second, third)
    assert Counter(labels) == {"0": 105, "1": 422, "2": 472}
    assert agreement(votes["pandalm_7b"], labels) == pytest.approx(0.667668, abs=1e-6)
