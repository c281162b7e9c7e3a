"""Packing keeps every document whole, once, and apart from the others."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import small_model
from zephyr_lab.data.packing import document_positions, pack, predictable

EOS, PAD = 2, 0
DOCUMENTS = st.lists(st.lists(st.integers(5, 90), min_size=1, max_size=30).map(tuple), max_size=40)


def split(rows):
    """The documents of packed rows, read back: what stands before each EOS; padding left out."""
    found = []
    for row in rows.tolist():
        current = []
        for token in row:
            if token == EOS:
                found.append(tuple(current))
                current = []
            elif token != PAD:
                current.append(token)
        found += [tuple(current)] if current else []
    return found


@given(documents=DOCUMENTS)
@settings(max_examples=200, deadline=None)
def test_every_document_that_fits_stands_in_one_row_once(documents):
    rows = pack(documents, length=32, eos_id=EOS, pad_id=PAD)
    assert rows.shape[1] == 32
    assert sorted(split(rows)) == sorted(documents)


def test_a_long_document_is_cut_and_loses_nothing():
    rows = pack([tuple(range(10, 30))], length=8, eos_id=EOS, pad_id=PAD)
    assert rows.tolist() == [
        list(range(10, 18)),
        list(range(18, 26)),
        [26, 27, 28, 29, EOS, PAD, PAD, PAD],
    ]


def test_a_document_goes_where_the_least_room_is_left():
    # With their ends, 5, 6, 3 and 2 tokens: rows of 8 hold 5 + 3 and 6 + 2.
    rows = pack([(5,) * 4, (6,) * 5, (7,) * 2, (8,)], length=8, eos_id=EOS, pad_id=PAD)
    assert rows.tolist() == [[5, 5, 5, 5, EOS, 7, 7, EOS], [6, 6, 6, 6, 6, EOS, 8, EOS]]


def test_positions_start_again_after_each_end():
    rows = torch.tensor([[5, 5, EOS, 6, EOS, PAD, PAD], [7, 7, 7, 7, 7, 7, EOS]])
    positions = document_positions(rows, eos_id=EOS)
    assert positions.tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 6]]
    assert predictable(rows, positions, pad_id=PAD).tolist() == [
        [False, True, True, False, True, False, False],
        [False, True, True, True, True, True, True],
    ]


def test_a_model_reads_packed_documents_as_it_reads_each_alone():
    model = small_model()
    first, second = [300, 301, 302, 303], [310, 311, 312]
    rows = pack([first, second], length=10, eos_id=EOS, pad_id=PAD)
    with torch.inference_mode():
        places = document_positions(rows, eos_id=EOS)
        packed = model(input_ids=rows, position_ids=places, use_cache=False).logits[0]
        alone = [model(input_ids=torch.tensor([[*document, EOS]])).logits[0] for document in (first, second)]
    assert torch.allclose(packed[:5], alone[0], atol=1e-4)
    assert torch.allclose(packed[5:9], alone[1], atol=1e-4)


def test_no_rows_come_of_no_documents():
    assert pack([], length=8, eos_id=EOS, pad_id=PAD).shape == (0, 8)


def test_a_row_of_one_token_is_refused():
    with pytest.raises(ValueError, match="length must be at least 2, got 1"):
        pack([(5,)], length=1, eos_id=EOS, pad_id=PAD)
