"""`train_base` on anybody's model and texts: each document by itself, its first step that of a plain loop."""

import copy
import math
from functools import cache

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from model_families import family_model
from tiny_models import TEXTS, small_tokenizer
from zephyr_lab.methods.optimizers import muon_and_adamw
from zephyr_lab.methods.pretrain import packed_rows, train_base
from zephyr_lab.methods.recipes.pretrain import BaseTraining

FAMILIES = ("llama", "qwen2", "gemma", "gpt2")
DOCUMENTS = ["The sky is red.", "It is late.", "Ann</s> asks why, and Ben says: because."]
FAST = {"steps": 1, "rows": 8, "row_length": 80, "warmup": 0, "clip": 1e9}


@cache
def without_padding():
    """The tokenizer as many are published: the end token pads."""
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_of(family, **changes):
    return family_model(family, vocab_size=len(small_tokenizer()), **changes)


def quiet(step, of, **numbers):
    """A listener that shows nothing."""


def train(model, texts=DOCUMENTS, tokenizer=None, **settings):
    return train_base(model, tokenizer or small_tokenizer(), texts, progress=quiet, **{**FAST, **settings})


def plain_loss(model, texts):
    """The loss by definition: one document at a time."""
    tokenizer = small_tokenizer()
    terms = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ids = torch.tensor([[*ids, tokenizer.eos_token_id]])
        terms.append(cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none"))
    return torch.cat(terms).mean()


@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_loss_and_the_first_step_are_those_of_a_plain_loop(family, pads):
    model = model_of(family).double()
    plain = copy.deepcopy(model)
    optimizers = muon_and_adamw(plain, learning_rate=1e-2, weight_decay=0.1)
    loss = plain_loss(plain, DOCUMENTS)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    log = train(model, tokenizer=None if pads else without_padding())
    assert log["loss"].tolist() == pytest.approx([loss.item()], rel=1e-6)
    assert not model.training
    for (name, found), wanted in zip(model.named_parameters(), plain.parameters(), strict=True):
        sure = wanted.grad.abs() > 1e-6  # AdamW's first step is the gradient's sign, rounding's where that is all
        # Muon orthogonalises in bfloat16: steps of 2e-3 x sqrt(largest side), right to a hundredth.
        assert torch.allclose(found[sure], wanted[sure], atol=3e-4), name


def test_it_learns_and_measures_held_out_text_by_tokens():
    model = model_of("llama", initializer_range=0.02)
    log = train(model, TEXTS[:60], held_out=DOCUMENTS, steps=20, rows=2)
    first, last = log.attrs["held_out"]
    assert log["step"].tolist() == list(range(1, 21)) and log["loss"].iloc[-1] < log["loss"].iloc[0]
    with torch.no_grad():
        assert last["eval_loss"] == pytest.approx(plain_loss(model, DOCUMENTS).item(), rel=1e-5)
    assert (first["step"], last["step"]) == (0, 20) and math.isfinite(first["eval_loss"])
    assert log.attrs["settings"]["steps"] == 20 and log.attrs["rows"]["train"] == {
        "rows": 60.0,
        "used": 60.0,
        "unusable": 0.0,
    }


def test_lora_trains_its_adapters_alone():
    model = get_peft_model(model_of("llama"), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved and all("lora" in name for name in moved)


def test_stopped_and_called_again_it_ends_in_the_same_bits(tmp_path):
    class Stop(Exception):
        pass

    def stop(step, of, **numbers):
        if step == 5:
            raise Stop

    settings = {"steps": 8, "rows": 1, "checkpoint_every": 2}
    whole, again = model_of("llama"), model_of("llama")
    wanted = train(whole, **settings)
    with pytest.raises(Stop):
        train_base(
            model_of("llama"), small_tokenizer(), DOCUMENTS, progress=stop, checkpoints=tmp_path, **{**FAST, **settings}
        )
    assert train(again, checkpoints=tmp_path, **settings)["loss"].tolist() == wanted["loss"].tolist()
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_an_end_token_that_pads_stays_an_end_token():
    end = small_tokenizer().eos_token_id
    (row,) = packed_rows(without_padding(), ["It is late."], length=24).tolist()
    assert row[-1] == end and row.count(end) > 2


# --- bad input ---


def test_texts_that_cannot_be_read_are_named_and_the_rest_trains(capsys):
    log = train(model_of("llama"), ["", *DOCUMENTS, None, "\ud800"])
    assert log.attrs["rows"]["train"] == {"rows": 6.0, "used": 3.0, "unusable": 3.0}
    told = capsys.readouterr().out
    assert "3 unusable: row 1: is empty; row 5: must be a text, got None; row 6: holds '\\ud800' at position 0" in told
    with pytest.raises(ValueError, match="none of 1 texts can be trained on: row 1: is empty"):
        train(model_of("llama"), [""])


def test_what_does_not_belong_together_is_refused_before_the_first_step():
    with pytest.raises(TypeError, match=r"no setting 'step'; did you mean 'steps'\?"):
        train(model_of("llama"), step=3)
    with pytest.raises(ValueError, match="ids up to 639, the model embeddings for 211"):
        train(family_model("llama"))
    with pytest.raises(ValueError, match="row_length 200 exceeds the model's 128 positions"):
        train(model_of("llama"), row_length=200)
    with pytest.raises(ValueError, match="no packing for this model"):
        train(model_of("mamba"))
    with pytest.raises(ValueError, match="weights lie on meta"):
        train(model_of("llama").to("meta"))
    endless = copy.deepcopy(small_tokenizer())
    endless.eos_token = None
    with pytest.raises(ValueError, match="has no end token"):
        train(model_of("llama"), tokenizer=endless)
    with pytest.raises(ValueError, match="warmup must be from 0 to steps - 1 = 9, got 30"):
        BaseTraining(steps=10)


def test_a_nan_halts_and_leaves_no_checkpoint(tmp_path):
    model = model_of("gpt2")
    train(model)  # the trial of packing is over
    model.get_input_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="loss is nan at step 0: training halted"):
        train(model, checkpoints=tmp_path)
    assert list(tmp_path.glob("step-*")) == []


def test_dropout_is_drawn_by_seed_and_step():
    def log(seed):
        model = family_model("gpt2", vocab_size=len(small_tokenizer()))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        return train_base(model, small_tokenizer(), DOCUMENTS, seed=seed, **{**FAST, "steps": 2})["loss"].tolist()

    before = torch.get_rng_state()
    assert log(0) == log(0) != log(1)
    torch.set_rng_state(before)
