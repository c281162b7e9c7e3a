"""Packed texts are read as if each were alone, windows included."""

import pytest
import torch

from tiny_models import small_model
from zephyr_lab.models.packed_attention import packed, packed_row

TEXTS = [torch.tensor(ids) for ids in ([5, 6, 7, 8, 9], [10, 11], [12], [13, 14, 15, 16])]
LENGTHS = [len(text) for text in TEXTS]


@pytest.mark.parametrize("window", [None, 3])
def test_each_text_is_read_as_if_alone_and_so_are_its_gradients(window):
    model = small_model(window=window)
    with packed(model, LENGTHS):
        together = model(**packed_row(TEXTS), use_cache=False).logits[0]
    alone = torch.cat([model(input_ids=text[None], use_cache=False).logits[0] for text in TEXTS])
    assert torch.allclose(together, alone, atol=1e-4)
    weights = torch.randn(together.shape, generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad((together * weights).sum(), parameters),
        torch.autograd.grad((alone * weights).sum(), parameters),
        strict=True,
    ):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_the_model_is_as_it_was_afterwards():
    model = small_model()
    before = model.config._attn_implementation
    with packed(model, LENGTHS):
        pass
    assert model.config._attn_implementation == before
    assert not any(hasattr(module, "packed_lengths") for module in model.modules())


def test_other_rows_than_the_lengths_say_are_refused():
    model = small_model()
    with packed(model, [2, 2]), pytest.raises(ValueError, match="given 1 rows of 12 tokens, packed are 4 in one"):
        model(**packed_row(TEXTS), use_cache=False)


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match=r"got lengths \[1, 0\]"):
        packed_row([torch.tensor([1]), torch.tensor([], dtype=torch.long)])


def test_dropout_and_models_without_the_interface_are_refused():
    model = small_model().train()
    model.config.attention_dropout = 0.1
    with pytest.raises(ValueError, match="attention_dropout is 0"), packed(model, LENGTHS):
        pass
    model._supports_attention_backend = False
    with pytest.raises(ValueError, match="no replaceable attention; pad the texts"), packed(model, LENGTHS):
        pass


def test_gradient_checkpointing_is_refused():
    model = small_model().train()
    model.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="with their usual attention; switch it off"), packed(model, LENGTHS):
        pass
