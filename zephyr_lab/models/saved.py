"""Models and tokenizers on disk: safetensors and JSON in one folder, or a reference to a model of the hub.

Loading never asks the network: a folder that refers to the hub needs the model in the local hub cache.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from zephyr_lab.core import files
from zephyr_lab.models.own_template import OwnTemplate
from zephyr_lab.models.tokenizer import CHAT_TEMPLATE, writes_zephyrs_turns

REFERENCE = "hub.json"


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write config.json, generation_config.json, model.safetensors, tokenizer.json and tokenizer_config.json.

    The chat template is part of tokenizer_config.json. Equal weights give equal bytes. What ends an answer in a
    template of the tokenizer's own is named in the model's configurations first, so that its answers end.
    """
    _name_the_end(model, tokenizer)
    with _without_progress_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def _name_the_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the token that ends an answer in the tokenizer's own template to those of the model's configurations."""
    if writes_zephyrs_turns(tokenizer):
        return
    try:
        end = OwnTemplate(tokenizer).end_id
    except ValueError:  # a template that cannot serve
        return
    for config in (model.config.get_text_config(), getattr(model, "generation_config", None)):
        if config is None:
            continue
        known = config.eos_token_id
        ids = known if isinstance(known, list) else [known] * (known is not None)
        if end not in ids:
            config.eos_token_id = [*ids, end] if ids else end


def refer(folder: Path, *, model: str, commit: str) -> None:
    """Make `folder` stand for a model of the hub, at one commit."""
    files.write_json(folder / REFERENCE, {"model": model, "commit": commit})


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The causal model that `folder` holds or refers to, on the CPU, ready to answer (evaluation mode)."""
    with _without_progress_bars():
        return AutoModelForCausalLM.from_pretrained(**_source(folder, "config.json"), dtype=dtype)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that `folder` holds or refers to; one without a chat template gets Zephyr's, with a warning."""
    tokenizer = AutoTokenizer.from_pretrained(**_source(folder, "tokenizer.json"))
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHAT_TEMPLATE
        # once a folder: Python shows each text of a warning once
        warnings.warn(f"the tokenizer in {folder} has no chat template; it gets Zephyr's", stacklevel=2)
    return tokenizer


def load_chat_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """As `load_tokenizer`, for a model that is to read or write dialogues.

    Raises ValueError where its own chat template cannot serve: one that shows no end of an answer, or whose prompts
    are not the beginning of its dialogues.
    """
    tokenizer = load_tokenizer(folder)
    if not writes_zephyrs_turns(tokenizer):
        OwnTemplate(tokenizer)
    return tokenizer


def _source(folder: Path, needed: str) -> dict[str, Any]:
    """Arguments of from_pretrained. Raises FileNotFoundError where `folder` holds neither `needed` nor a reference."""
    if (folder / REFERENCE).is_file():
        reference = files.read_json(folder / REFERENCE)
        name, commit = reference["model"], reference["commit"]
        return {"pretrained_model_name_or_path": name, "revision": commit, "local_files_only": True}
    if not (folder / needed).is_file():
        raise FileNotFoundError(f"{folder} holds neither {needed} nor {REFERENCE}")
    return {"pretrained_model_name_or_path": folder, "local_files_only": True}


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keeps bars for a megabyte of weights out of logs and executed notebooks."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
