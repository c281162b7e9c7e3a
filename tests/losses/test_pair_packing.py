"""Packed rows hold every token once, and name which token stands before each target."""

import pytest
import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference

from packed_models import random_pairs
from zephyr_lab.losses.fast.pair_packing import from_padded, pack

PAIR = ([10, 11, 12], [20, 21], [30, 31, 32])


def test_a_pair_by_hand():
    packed = pack([PAIR, ([13], [22], [33])])
    assert packed.ids.tolist() == [[10, 11, 12, 20, 21, 30, 31, 32, 13, 22, 33]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 1]]
    assert packed.targets().tolist() == [20, 21, 30, 31, 32, 22, 33]
    selected = packed.ids[0][packed.selected()]
    assert selected.tolist() == [12, 20, 30, 31, 13]
    assert selected[packed.before_targets()].tolist() == [12, 20, 12, 30, 31, 13, 13]
    assert packed.lengths.chosen.tolist() == [2, 1] and packed.lengths.rejected.tolist() == [3, 1]


def test_trl_s_batch_packs_to_the_same_row():
    pairs = random_pairs(0, 5)
    rows = [{"prompt_ids": prompt, "chosen_ids": good, "rejected_ids": bad} for prompt, good, bad in pairs]
    batch = DataCollatorForPreference(pad_token_id=0)(rows)
    found = from_padded(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    expected = pack(pairs)
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.positions, expected.positions)
    assert found.shapes == expected.shapes


def test_rows_cut_from_the_left_are_refused():
    rows = [{"prompt_ids": PAIR[0], "chosen_ids": PAIR[1], "rejected_ids": PAIR[2]}]
    batch = DataCollatorForPreference(pad_token_id=0, max_length=4, truncation_mode="keep_end")(rows)
    with pytest.raises(ValueError, match=r"have different prompts, so none can be shared"):
        from_padded(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])


@pytest.mark.parametrize(
    "name, pair", [("prompt", ([], [1], [2])), ("chosen", ([1], [], [2])), ("rejected", ([1], [2], []))]
)
def test_a_pair_without_one_of_its_parts_is_refused(name, pair):
    with pytest.raises(ValueError, match=rf"^a pair's {name} has no tokens"):
        pack([pair])


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match=r"^there are no pairs to pack$"):
        pack([])
