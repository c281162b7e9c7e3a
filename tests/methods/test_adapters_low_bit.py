"""LoRA on SmolLM2 in 4 and 8 bits: it learns, and the pass that silently stops it elsewhere does not stop it here."""

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import smollm2
from any_models import dialogue_rows, pair_rows
from zephyr_lab.methods import adapters
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.sft import train_sft
from zephyr_lab.models.saved import load_chat_tokenizer

QUIET = {"progress": lambda *steps, **numbers: None}
STEP = {"batch": 4, "learning_rate": 1e-3, "warmup": 0.0, "schedule": "constant", **QUIET}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def folder():
    pytest.importorskip("bitsandbytes", reason=adapters.NEEDS_BITSANDBYTES)
    return smollm2.folder()


def test_without_bitsandbytes_one_line_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    for load in (adapters.load_4bit, adapters.load_8bit):
        with pytest.raises(ImportError, match=r'^bitsandbytes is not installed; pip install "zephyr-lab\[real\]"$'):
            load(tmp_path)


@slow
@smollm2.needs_smollm2
def test_canary_one_pass_without_gradient_repacks_weights_and_training_after_it_is_refused(folder):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32).eval()
    layer = model.model.layers[0].self_attn.q_proj
    if not layer.support_avx512bf16_for_cpu:
        pytest.skip("this processor has no bfloat16 instructions: nothing is repacked here")
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None])
    assert layer.weight.quant_state.packing_format_for_cpu  # a release that no longer repacks needs no guard
    model = adapters.lora(model, 4)
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids).loss.backward()  # no error, and no gradient where there should be one
    with pytest.raises(ValueError, match="gave gate_proj, k_proj, q_proj, up_proj, v_proj no gradient"):
        adapters.require_gradient(model)
    with pytest.raises(ValueError, match=r"was repacked by a pass without gradient .* adapters.load_4bit"):
        train_sft(model, load_chat_tokenizer(folder), dialogue_rows(4), **STEP)


@slow
@smollm2.needs_smollm2
@pytest.mark.parametrize("load", [adapters.load_4bit, adapters.load_8bit])
def test_a_low_bit_base_learns_after_passes_without_gradient(load, folder):
    base, tokenizer = load(folder), load_chat_tokenizer(folder)
    model = adapters.lora(base, 8).eval()
    trained, total = adapters.parameters(model)
    assert total - trained == 134_515_008 and trained == 2_442_240  # SmolLM2's own count; 8 times the layers' sides
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None])
    log = train_sft(model, tokenizer, dialogue_rows(8), epochs=3, **STEP)
    assert log["loss"].iloc[-1] < 0.7 * log["loss"].iloc[0]
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    if adapters.bits(model) == 8:
        with pytest.raises(ValueError, match="a base in 8 bits rounds activations by their batch"):
            train_dpo(model, tokenizer, pair_rows(4), **STEP)
    else:
        log = train_dpo(model, tokenizer, pair_rows(8), epochs=2, **STEP)
        assert log["loss"].iloc[-1] < 0.6
    with pytest.raises(ValueError, match="merging would round its sum"):
        adapters.merged(model)
