"""Reward models: a causal model whose output head is one number, the reward of the text that it has read."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification, PreTrainedModel

from zephyr_lab.core.shapes import RowNumbers
from zephyr_lab.models.causal import one_by_one


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


def of_causal(model: PreTrainedModel) -> PreTrainedModel:
    """A reward model with the body of `model`, a causal LM, and a reward head of zeros; on its device, in its type.

    The weights are copied: no training of the one touches the other. Raises ValueError for a kind of model that has no
    form with a single number as its head.
    """
    config = copy.deepcopy(model.config.get_text_config())
    config.num_labels = 1
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ValueError(f"{type(model).__name__} has no form with one number as its head; take another kind of model")
    made = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)](config).to(dtype=model.dtype, device=model.device)
    if not hasattr(made, "score") or made.base_model is made:
        raise ValueError(f"{type(made).__name__} has no head `score` on a body of its own; take another kind of model")
    made.base_model.load_state_dict(model.base_model.state_dict())
    with torch.no_grad():
        made.score.weight.zero_()
    return made.eval()


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
