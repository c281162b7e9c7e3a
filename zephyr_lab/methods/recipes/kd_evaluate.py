"""Recipe of an evaluation that also asks the e-commerce questions and measures how far models went from a start."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.evaluate import Evaluation

START, DIALOGUES = "start", "dialogues"  # inputs that retention needs; every other input but the pairs is a model


@dataclass(frozen=True, kw_only=True)
class KDEvaluation(Evaluation):
    """An `Evaluation`, and beside it the domain set and retention.

    per_group: e-commerce questions for each of the twenty groups, 0 for none. hot: whether there is the second run, at
    `temperature` in all categories. start: folder inside the input "start",
    the model that divergences are measured from, on the held-out general dialogues of the input "dialogues".
    """

    per_group: int
    hot: bool
    start: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_group < 0:
            raise ValueError(f"per_group must not be negative, got {self.per_group}")
        for name in (START, DIALOGUES):
            if name in self.models:
                raise ValueError(f"a model cannot be called {name!r}: that input is what retention needs")
