"""What a chat model says: dialogues in, texts out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.data.chat import Message, encode_prompts
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.models.tokenizer import decode


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's text; `finished` is False where the limit of new tokens cut it off."""

    text: str
    finished: bool


def reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperatures: float | Sequence[float],
    generator: torch.Generator | None,
) -> list[Reply]:
    """The model's next turn in each dialogue; each must end with a user's turn. See `sampling.sample`."""
    completions = sample(
        model,
        encode_prompts(tokenizer, dialogues),
        max_new_tokens=max_new_tokens,
        temperatures=temperatures,
        generator=generator,
    )
    return [Reply(decode(tokenizer, list(completion.ids)), completion.finished) for completion in completions]
