"""How long a text a model takes, and whether a longer one beside it changes it."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from zephyr_lab.core.packed_rows import rope_fault
from zephyr_lab.models.wrapped import causal_model

NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len", "max_sequence_length")


def positions_of(model: PreTrainedModel) -> int | None:
    """The most tokens of a text that the model is made for; None where its config names no such number."""
    config = model.config.get_text_config()
    return next((room for name in NAMES if (room := getattr(config, name, None)) is not None and room > 0), None)


def require_alike(model: nn.Module, lengths: Sequence[int]) -> None:
    """Raises ValueError where texts of these lengths, padded to one, would change each other (`one_by_one`)."""
    if len(set(lengths)) > 1 and (fault := one_by_one(model, max(lengths))) is not None:
        raise ValueError(f"{fault}; hand {type(causal_model(model)).__name__} one text at a time")


def one_by_one(model: nn.Module, longest: int) -> str | None:
    """Why texts of up to `longest` tokens must not share a batch, or None: rotary embeddings turn by the longest."""
    return rope_fault(causal_model(model).config.get_text_config(), longest)
