"""The published repair of overall scores, at its borders."""

import pytest

from zephyr_lab.data.pairs import repaired_score
from zephyr_lab.data.schemas import Completion


@pytest.mark.parametrize(
    "score, ratings, repaired",
    [
        (10.0, (2.0, 2.0, 2.0, 2.0), 1.0),
        (10.0, (2.0, 2.0, 2.0, 3.0), None),
        (10.0, (4.0, 4.0, None, 4.0), None),
        (10.0, (4.0, 4.0, 4.0, 5.0), 10.0),
        (10.0, (), 10.0),
        (9.5, (1.0, 1.0, 1.0, 1.0), 9.5),
        (None, (1.0, 1.0, 1.0, 1.0), None),
    ],
)
def test_only_a_doubtful_ten_is_touched(score, ratings, repaired):
    assert repaired_score(Completion("m", "text", score, ratings)) == repaired
