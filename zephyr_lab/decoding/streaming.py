"""An answer token by token, each as soon as it is chosen, and its text as far as later tokens cannot change it."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.decoding.sampling import choose, require_prompts, stop_tokens
from zephyr_lab.models.causal import evaluating

INCOMPLETE = "\ufffd"  # stands for a character whose other bytes are to come
BYTE = "<0x"  # how a token of a single byte begins where a tokenizer falls back to bytes


def stream(
    model: PreTrainedModel,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    ends: Collection[int] | None = None,
) -> Iterator[int]:
    """The tokens of `sampling.sample`'s completion of one prompt, the one that ends it included.

    ends: the tokens that end it; by default those of the model's configuration. Raises as `sample`, when the first
    token is asked for.
    """
    require_prompts(model, [prompt], max_new_tokens)
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be finite and not negative, got {temperature}")
    uniforms = torch.zeros(1, max_new_tokens, dtype=torch.float64)
    if generator is not None:
        uniforms.uniform_(generator=generator)
    elif temperature > 0:
        raise ValueError("temperatures above 0 need a generator")
    stops = set(stop_tokens(model).tolist() if ends is None else ends)
    device, cache = model.device, DynamicCache(config=model.config)
    heat, uniforms = torch.tensor([float(temperature)], device=device), uniforms.to(device)
    ids = torch.tensor([list(prompt)], device=device)
    for step in range(max_new_tokens):
        read = len(prompt) + step
        with torch.inference_mode(), evaluating(model):  # inside the loop: what runs between two tokens is not ours
            logits = model(
                input_ids=ids,
                attention_mask=torch.ones(1, read, dtype=torch.bool, device=device),
                position_ids=torch.arange(read - ids.shape[1], read, device=device)[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            token = int(choose(logits, heat, uniforms[:, step]))
        yield token
        if token in stops:
            return
        ids = torch.tensor([[token]], device=device)


def spelled(tokenizer: PreTrainedTokenizerBase, tokens: Iterable[int]) -> Iterator[str]:
    """The text of `tokens`, special ones left out, in pieces as they come; joined, it is the text of all at once.

    A character of several tokens comes when it is whole.
    """
    special, ids, said = set(tokenizer.all_special_ids), [], 0
    for token in tokens:
        ids.append(token)
        if token in special or str(tokenizer.convert_ids_to_tokens(token)).startswith(BYTE):
            continue  # bytes are read together with those that follow
        text = text_of(tokenizer, ids)
        if len(text) > said and not text.endswith(INCOMPLETE):
            yield text[said:]
            said = len(text)
    if rest := text_of(tokenizer, ids)[said:]:
        yield rest


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of an answer's tokens, special ones left out."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
