"""Acceptance of transformers' own assisted generation, counted from outside, to hold ours against.

Its defaults stop a draft at the first token that the draft gives less than 0.4, and change the draft's length as it
goes: the acceptance length then says as much of these rules as of the draft. Both are switched off here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from zephyr_lab.decoding.drafting import require_pair
from zephyr_lab.decoding.sampling import require_prompts

RULES = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")


@dataclass(frozen=True, slots=True)
class AssistedAnswer:
    """Tokens of an answer, and the target passes that assisted generation took, the one that reads the prompt too."""

    ids: tuple[int, ...]
    passes: int


def assisted(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    length: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    confidence_threshold: float = 0.0,
) -> list[AssistedAnswer]:
    """Answers of transformers' assisted generation, one prompt at a time, with drafts of `length` tokens.

    temperature 0: greedy, else sampling; `seed` is set for the call and the global generator put back. Its first pass
    reads the prompt and verifies a draft at once, so passes compare with those of `speculate`. Raises ValueError as
    `speculate` does.
    """
    require_pair(draft, target)
    require_prompts(target, prompts, max_new_tokens, least=1)
    answers = []
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
    with _rules(draft, length, confidence_threshold), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for prompt in prompts:
            ids = torch.tensor([prompt], device=target.device)
            with _counting(target) as passes:
                found = target.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    assistant_model=draft,
                    max_new_tokens=max_new_tokens,
                    **sampling,
                )
            answers.append(AssistedAnswer(tuple(found[0, len(prompt) :].tolist()), len(passes)))
    return answers


@contextmanager
def _rules(draft: PreTrainedModel, length: int, confidence_threshold: float) -> Iterator[None]:
    """The draft's generation settings with a constant length, as they were afterwards."""
    settings = draft.generation_config
    before = {name: getattr(settings, name) for name in RULES}
    new = dict(zip(RULES, (length, "constant", confidence_threshold), strict=True))
    try:
        for name, value in new.items():
            setattr(settings, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)


@contextmanager
def _counting(model: PreTrainedModel) -> Iterator[list[int]]:
    """Grows by one entry with each forward pass of `model`."""
    passes: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, args: passes.append(1))
    try:
        yield passes
    finally:
        hook.remove()
