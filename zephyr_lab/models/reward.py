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

    `pad_id`: the id of padding in batches of the library's own; the reward is read off the last token that is not
    padding. None where the trainer names it.
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
    reward = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)](config).to(dtype=model.dtype, device=model.device)
    if not hasattr(reward, "score") or reward.base_model is reward:
        raise ValueError(
            f"{type(reward).__name__} has no head `score` on a body of its own; take another kind of model"
        )
    reward.base_model.load_state_dict(model.base_model.state_dict())
    with torch.no_grad():
        reward.score.weight.zero_()
    return reward.eval()


def load(folder: Path) -> PreTrainedModel:
    """The reward model in `folder`, on the CPU, ready to score. Raises FileNotFoundError where there is none."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no reward model (config.json is missing)")
    return AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()


def rewards(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, rows_at_once: int
) -> RowNumbers:
    """The reward of each answer to its prompt, on the CPU in float64, read off the row's last token."""
    scores = torch.zeros(len(prompts), dtype=torch.float64)
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    by_length = sorted(range(len(prompts)), key=lengths.__getitem__)  # little padding
    if one_by_one(model, max(lengths, default=0)) is not None:
        rows_at_once = 1
    with torch.inference_mode():
        for start in range(0, len(by_length), rows_at_once):
            rows = by_length[start : start + rows_at_once]
            texts = [torch.tensor([*prompts[row], *answers[row]]) for row in rows]
            ids = pad_sequence(texts, batch_first=True, padding_value=0).to(model.device)
            # Padding on the right, of any id: no token that counts sees it.
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            last = torch.tensor([lengths[row] - 1 for row in rows], device=model.device)
            picked = hidden[torch.arange(len(rows), device=model.device), last]
            scores[rows] = model.score(picked).squeeze(-1).double().cpu()
    return scores
