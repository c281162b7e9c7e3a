"""Tokens as they come: those of `sample`, and a text that no later token changes."""

import pytest
import torch

from chat_templates import chatting
from tiny_models import small_model, small_tokenizer
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.streaming import spelled, stream, text_of


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_tokens_are_those_of_sample(temperature):
    model = small_model(seed=2)
    model.config.eos_token_id = list(range(0, model.config.vocab_size, 12))  # random models hardly ever end
    ended = []
    for seed, length in enumerate((1, 7, 20, 33)):  # past the window of 16
        prompt = torch.randint(262, 640, (length,), generator=generator(seed)).tolist()
        settings = {"max_new_tokens": 12, "generator": generator(seed) if temperature else None}
        given = list(stream(model, prompt, temperature=temperature, **settings))
        settings["generator"] = generator(seed) if temperature else None
        (expected,) = sample(model, [prompt], temperatures=temperature, **settings)
        assert tuple(given) == expected.ids
        ended.append(expected.finished)
    assert any(ended)  # else no end was ever met


def test_other_ends_can_be_named_or_none():
    model = small_model()
    whole = list(stream(model, [300], max_new_tokens=9, ends=()))
    assert len(whole) == 9
    assert list(stream(model, [300], max_new_tokens=9, ends={whole[4]})) == whole[: whole.index(whole[4]) + 1]


def test_between_two_tokens_gradients_and_mode_are_the_callers():
    model = small_model().train()
    for _ in stream(model, [300], max_new_tokens=3, ends=()):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled() and model.training


def test_what_sample_refuses_is_refused():
    model = small_model()
    for wrong, message in (
        ({"max_new_tokens": 500}, "exceed the model's 128 positions"),
        ({"max_new_tokens": 2, "temperature": 0.5}, "need a generator"),
        ({"max_new_tokens": 2, "temperature": -1.0}, "not negative"),
    ):
        with pytest.raises(ValueError, match=message):
            next(stream(model, [300], **wrong))


@pytest.mark.parametrize("kind", ["own", "breaks", "gpt2"])
def test_pieces_join_to_the_whole_text_whatever_the_tokens(kind):
    tokenizer = small_tokenizer() if kind == "own" else chatting("chatml", kind)
    for seed in range(60):
        tokens = torch.randint(0, len(tokenizer), (25,), generator=generator(seed)).tolist()
        if seed % 3 == 0:  # mostly single bytes, of which few make a character
            tokens = torch.randint(0, min(270, len(tokenizer)), (25,), generator=generator(seed)).tolist()
        pieces = list(spelled(tokenizer, iter(tokens)))
        assert "".join(pieces) == text_of(tokenizer, tokens) and all(pieces)


def test_a_character_of_several_tokens_comes_whole():
    tokenizer = small_tokenizer()
    ids = tokenizer("a é日 b", add_special_tokens=False)["input_ids"]
    assert len(ids) > 6  # the bytes of two characters
    pieces = list(spelled(tokenizer, ids))
    assert "".join(pieces) == "a é日 b" and not any("\ufffd" in piece for piece in pieces) and len(pieces) > 2
