"""What a DPO trainer needs of rows that come as ids: tokens of both answers, after the trainer's own cut."""

from datasets import Dataset

SHOWN = 5
NEXT_STEP = "take these rows out, or raise max_length (None: no cut)"


def require_answers(rows: Dataset, *, max_length: int | None, truncation_mode: str) -> None:
    """Raises ValueError, naming rows from 1 and their columns, where a prompt or an answer has no token left.

    `truncation_mode` is TRL's: of a prompt with its answer "keep_start" keeps the first `max_length` ids, "keep_end"
    the last. In the middle of a training such a row would stop it, or count as an answer of probability 1.
    """
    bare: list[str] = []
    columns = zip(rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"], strict=True)
    for number, (prompt, *answers) in enumerate(columns, start=1):
        if not prompt:
            bare.append(f"row {number}: prompt_ids is empty")
        for name, answer in zip(("chosen_ids", "rejected_ids"), answers, strict=True):
            if not answer:
                bare.append(f"row {number}: {name} is empty")
            elif max_length is not None and truncation_mode == "keep_start" and len(prompt) >= max_length:
                bare.append(f"row {number}: {name} is cut off whole, {len(prompt)} ids of prompt fill the limit")
            elif max_length is not None and truncation_mode == "keep_end" and len(answer) >= max_length:
                bare.append(f"row {number}: prompt_ids is cut off whole, {len(answer)} ids of {name} fill the limit")
    if bare:
        more = "; ..." if len(bare) > SHOWN else ""
        raise ValueError(
            f"{len(bare)} prompts or answers have no token within max_length {max_length} ({truncation_mode}): "
            f"{'; '.join(bare[:SHOWN])}{more}; {NEXT_STEP}"
        )
