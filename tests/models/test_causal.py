"""How long a text a model takes, and which texts must not share a batch."""

import pytest
import torch
from transformers import MptConfig, MptForCausalLM

from model_families import family_model
from zephyr_lab.methods import held_out_pairs, rollouts
from zephyr_lab.models import pairing
from zephyr_lab.models.causal import one_by_one, positions_of, require_alike

ROWS = [[5, 6], [7, 8, 9]], [[10], [11] * 20]  # prompts, answers; the second row crosses the limit of 8


def test_positions_have_other_names_in_other_configs_and_some_have_none():
    sizes = {"n_layers": 1, "n_heads": 2, "d_model": 8, "vocab_size": 12}
    assert positions_of(MptForCausalLM(MptConfig(max_seq_len=33, **sizes))) == 33
    assert positions_of(family_model("whisper")) == 128
    assert positions_of(family_model("mamba")) is None
    assert positions_of(family_model("xlnet")) is None  # its config says -1


@pytest.mark.parametrize("family", ["phi3, longrope", "llama, dynamic RoPE"])
def test_log_probabilities_of_a_row_do_not_hang_on_a_longer_row_beside_it(family):
    model = family_model(family)
    prompts, answers = ROWS
    assert one_by_one(model, 23) is not None and one_by_one(model, 3) is None
    together = held_out_pairs.answer_log_probs(model, prompts, answers)
    alone = [held_out_pairs.answer_log_probs(model, [prompt], [one]) for prompt, one in zip(*ROWS, strict=True)]
    assert torch.equal(together, torch.cat(alone))
    given = rollouts.Answered([0, 1], prompts, answers, [True, True])
    assert torch.allclose(rollouts.scored(model, given).sum(dim=1).double(), together, atol=1e-4)
    with pytest.raises(ValueError, match=r"rotary embeddings change for all texts of a row.* one text at a time"):
        require_alike(model, [3, 23])
    require_alike(model, [23, 23])


def test_a_model_without_attention_pairs_with_none_and_says_so():
    mamba = family_model("mamba").config
    with pytest.raises(ValueError, match="a mamba model has no num_attention_heads in its config"):
        pairing.pair(mamba, mamba)
    gemma = family_model("gemma3").config  # its numbers stand in its text part
    assert pairing.pair(gemma, gemma).layers == (0, 1)
