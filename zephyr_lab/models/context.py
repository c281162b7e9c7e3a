"""How long a text a model takes, whatever its config calls it."""

from transformers import PreTrainedModel

NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len", "max_sequence_length")


def positions_of(model: PreTrainedModel) -> int | None:
    """The most tokens of a text that the model is made for; None where its config names no such number."""
    config = model.config.get_text_config()
    return next((room for name in NAMES if (room := getattr(config, name, None)) is not None), None)

