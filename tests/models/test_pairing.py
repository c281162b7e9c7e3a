"""Teacher and student that do not fit are refused, saying what to do; maps may lead from one to the other."""

import pytest
from transformers import MistralConfig

from tiny_models import small_tokenizer
from zephyr_lab.models.pairing import Pairing, pair, require_same_tokenizer, require_same_vocabulary
from zephyr_lab.models.tokenizer import train
from zephyr_lab.world import corpus


def config(layers=3, heads=4, entries=10):
    return MistralConfig(num_hidden_layers=layers, num_attention_heads=heads, vocab_size=entries)


def test_equal_numbers_pair_one_to_one():
    assert pair(config(), config()) == Pairing((0, 1, 2), (0, 1, 2, 3))


def test_maps_lead_from_a_deeper_teacher_with_more_heads():
    found = pair(config(), config(6, 8), layer_map=[1, 3, 5], head_map=[0, 2, 4, 6])
    assert found == Pairing((1, 3, 5), (0, 2, 4, 6))


def test_unlike_numbers_without_a_map_are_refused_with_a_proposal():
    message = (
        r"^the student has 3 layers and the teacher 6: set layer_map .*, e.g. \[1, 3, 5\], or attention_weight to 0$"
    )
    with pytest.raises(ValueError, match=message):
        pair(config(), config(6))
    with pytest.raises(ValueError, match=r"^the student has 4 heads and the teacher 2: set head_map"):
        pair(config(), config(3, 2))


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^layer_map must name one layer for each of the student's 3, got 2$"):
        pair(config(), config(6), layer_map=[1, 3])
    with pytest.raises(ValueError, match=r"^layer_map names layer 6, but the teacher has 6 \(0 to 5\)$"):
        pair(config(), config(6), layer_map=[1, 3, 6])


def test_other_tokenizers_and_vocabularies_are_refused():
    require_same_tokenizer(student=small_tokenizer(), teacher=small_tokenizer())
    other = train(corpus.documents(2, 300), entries=640)
    with pytest.raises(
        ValueError, match=r"^student and expert have different tokenizers: 640 and 640 entries, .* own answers$"
    ):
        require_same_tokenizer(student=small_tokenizer(), teacher=small_tokenizer(), expert=other)
    with pytest.raises(ValueError, match=r"^student and teacher have different vocabularies: 10 and 12 entries"):
        require_same_vocabulary(student=config(), teacher=config(entries=12))
