"""A training of one's own as a step: the start stays as it is, a copy learns, and a killed one goes on."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.methods import adapters


def trained_copy(
    train: Callable[..., pd.DataFrame],
    start: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    *,
    checkpoints: Path,
    lora_rank: int = 0,
    **settings: Any,
) -> tuple[PreTrainedModel, pd.DataFrame]:
    """A copy of `start` after `train` (`train_sft`, ...) on rows, a plain model in evaluation mode; and the log.

    lora_rank: above 0 an adapter of this rank trains and is merged. checkpoints: each set of settings has a folder of
    its own in there, so a changed knob starts anew.
    """
    key = files.sha256_bytes(json.dumps([train.__name__, lora_rank, plain(settings)]).encode())[:8]
    model = copy.deepcopy(start)
    if lora_rank:
        model = adapters.lora(model, lora_rank)
    log = train(model, tokenizer, rows, seed=0, checkpoints=checkpoints / f"{train.__name__}-{key}", **settings)
    return (adapters.merged(model) if lora_rank else model).eval(), log


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are numbers and words: no models."""
    return {name: value for name, value in settings.items() if isinstance(value, int | float | str)}
