"""Recipe of an evaluation that also asks the e-commerce questions and measures how far models went from a start."""

from dataclasses import dataclass

from zephyr_lab.training.recipes.evaluate import Evaluation

DIALOGUES = "dialogues"  # the input whose held-out split the divergence is measured on; every other input is a model


@dataclass(frozen=True, kw_only=True)
class KDEvaluation(Evaluation):
    """An `Evaluation`, and beside it the domain set and retention.

    per_group: e-commerce questions for each of the twenty groups, 0 for none. start: the model among `models` that
    divergences are measured from, on held-out general dialogues; "" for none.
    """

    per_group: int
    start: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_group < 0:
            raise ValueError(f"per_group must not be negative, got {self.per_group}")
        if DIALOGUES in self.models:
            raise ValueError(f"a model cannot be called {DIALOGUES!r}: that input holds the held-out dialogues")
        if self.start and self.start not in self.models:
            raise ValueError(f"start must be one of the models ({', '.join(self.models)}) or empty, got {self.start!r}")
