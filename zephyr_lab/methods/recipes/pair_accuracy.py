"""Recipe of the accuracy of DPO's implicit reward, on the pairs it was trained on and on held-out ones."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PairAccuracy:
    """Models of one dDPO run against their reference.

    start: folder of the reference inside its stage; folders: of the models inside theirs, "" for the final one,
    "epochs/1" for that after one epoch. The other fields cut rows as the run did; see `recipes.dpo.DDPORecipe`.
    """

    start: str
    folders: tuple[str, ...]
    max_length: int
    max_prompt_length: int
    long_prompts: str
    system_turn: bool
    rows_at_once: int
    device: str

    def __post_init__(self) -> None:
        if not self.folders or len(set(self.folders)) < len(self.folders):
            raise ValueError(f"folders must be different, at least one, got {', '.join(self.folders) or 'none'}")
        if self.rows_at_once < 1:
            raise ValueError(f"rows_at_once must be at least 1, got {self.rows_at_once}")
