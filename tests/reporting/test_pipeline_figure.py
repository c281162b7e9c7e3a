"""Figure 2: what is in the rows stands in the figure, boxes stay inside their columns, and bytes repeat."""

import dataclasses
import itertools

from zephyr_lab.reporting.paper_figures import Answer, Moved, PipelineRows, pipeline

ROWS = PipelineRows(
    dialogue=[("user", "What is the symbol of gold?"), ("assistant", "Gold has the symbol Au.")],
    dialogues=3945,
    prompt="Compute 3 plus 4.",
    chosen=Answer("The answer is 7. We have 3 + 4 = 7.", 4.25),
    rejected=Answer("the answer is 9.", 2.5),
    writers=4,
    pairs=1000,
    moved_chosen=Moved(-4.97, -4.86),
    moved_rejected=Moved(-8.12, -9.12),
    beta=0.1,
    epochs=3,
)


def texts(figure) -> str:
    return " ".join(text.get_text().replace("\n", " ") for ax in figure.axes for text in ax.texts)


def test_every_row_is_told():
    told = texts(pipeline(ROWS))
    wanted = [
        "What is the symbol of gold?",
        "one of 3,945 dialogues",
        "4 writers",
        "chosen, rated 4.25",
        "rejected, rated 2.5",
        "We have 3 + 4 = 7.",
        "1,000 preference pairs",
        "-8.12  →  -9.12 nats",
        "beta 0.1, 3 epochs",
    ]
    assert [one for one in wanted if one not in told] == []


def test_other_rows_another_figure():
    other = dataclasses.replace(ROWS, moved_chosen=Moved(-254.2, -299.5))
    assert "-254.20  →  -299.50 nats" in texts(pipeline(other))
    assert pipeline(other).encode("svg") != pipeline(ROWS).encode("svg")


def test_boxes_stay_within_their_column_and_apart():
    for ax in pipeline(ROWS).axes:
        boxes = sorted((box.get_y(), box.get_y() + box.get_height()) for box in ax.patches if hasattr(box, "get_y"))
        assert boxes[0][0] >= 0 and boxes[-1][1] <= 1
        assert all(low[1] < high[0] for low, high in itertools.pairwise(boxes))


def test_the_same_rows_give_the_same_bytes():
    assert pipeline(ROWS).encode("png") == pipeline(ROWS).encode("png")
