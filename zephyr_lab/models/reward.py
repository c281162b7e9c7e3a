"""Reward models: a causal model whose output head is one number, the reward of the text that it has read."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.shapes import RowNumbers
from zephyr_lab.models.context import one_by_one
from zephyr_lab.models.own_template import OwnTemplate, serves
from zephyr_lab.models.tokenizer import writes_zephyrs_turns


def padding_apart(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy that pads with another token where it has none or its answers end with it.

    The library reads the reward off the last token that is no padding. Raises ValueError where every special token ends
    answers.
    """
    own = not writes_zephyrs_turns(tokenizer) and serves(tokenizer)
    ends = {tokenizer.eos_token_id, OwnTemplate(tokenizer).end_id if own else tokenizer.eos_token_id}
    named = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token, *tokenizer.all_special_tokens)
    for token in named:
        if token is not None and tokenizer.convert_tokens_to_ids(token) not in ends:
            padded = tokenizer if token == tokenizer.pad_token else copy.deepcopy(tokenizer)
            padded.pad_token = token
            return padded
    raise ValueError(
        f"the tokenizer {tokenizer.name_or_path!r} has no special token that could pad: its answers end with the only "
        "one, off which the reward is read; add one: tokenizer.add_special_tokens({'pad_token': '<pad>'})"
    )


def from_causal(folder: Path, *, pad_id: int | None) -> PreTrainedModel:
    """The model in `folder` with a reward head of zeros, in float32 on the CPU: every reward is 0, no pair decided.

    `pad_id`: the id that stands for padding in batches of the library's own; the reward is read off the last token
    that is none. None where the trainer names it.
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, local_files_only=True, dtype=torch.float32
    )
    model.config.pad_token_id = pad_id
    with torch.no_grad():
        model.score.weight.zero_()
    return model


def load(folder: Path) -> PreTrainedModel:
    """The reward model in `folder`, on the CPU, ready to score. Raises FileNotFoundError where there is none."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no reward model (config.json is missing)")
    return AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()


def rewards(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, rows_at_once: int
) -> RowNumbers:
    """The reward of each answer to its prompt, on the CPU in float64, read off the row's last token."""
    found = torch.zeros(len(prompts), dtype=torch.float64)
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    by_length = sorted(range(len(prompts)), key=lengths.__getitem__)  # little padding
    if one_by_one(model, max(lengths, default=0)) is not None:
        rows_at_once = 1
    with torch.inference_mode():
        for start in range(0, len(by_length), rows_at_once):
            places = by_length[start : start + rows_at_once]
            rows = [torch.tensor([*prompts[place], *answers[place]]) for place in places]
            ids = pad_sequence(rows, batch_first=True, padding_value=0).to(model.device)
            # Padding on the right, of any id: no token that counts sees it.
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            last = torch.tensor([lengths[place] - 1 for place in places], device=model.device)
            picked = hidden[torch.arange(len(places), device=model.device), last]
            found[places] = model.score(picked).squeeze(-1).double().cpu()
    return found
