"""Folders with models of one's own: what is refused before anything is loaded, and how much memory is foreseen."""

import json
import shutil

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from zephyr_lab.methods import adapters
from zephyr_lab.models import own_folder, saved
from zephyr_lab.models.example import example_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    saved.save(*example_model(), folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "m")


def changed(folder, **config):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def test_the_parameters_of_a_whole_folder_are_counted(folder):
    assert own_folder.inspect(folder).parameters == example_model()[0].num_parameters()


def test_shards_count_together_and_a_missing_one_is_named(folder):
    model, _ = example_model()
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert own_folder.inspect(folder).parameters == model.num_parameters()
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(FileNotFoundError, match="lacks model-00002"):
        own_folder.inspect(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1, -2000])
def test_safetensors_cut_short_are_refused(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is (cut short|no safetensors file)"):
        own_folder.inspect(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_pickle_is_refused_unread(folder, name):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / name)
    with pytest.raises(ValueError, match=r"as a pickle .* can run code; .* safetensors"):
        own_folder.inspect(folder)


def test_code_of_a_repository_is_refused(folder):
    changed(folder, model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Mine"})
    with pytest.raises(ValueError, match="asks for code of its own"):
        own_folder.inspect(folder)


def test_an_encoder_is_refused(tmp_path):
    tiny = {
        "vocab_size": 32,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    BertForMaskedLM(BertConfig(**tiny)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"BertForMaskedLM, an encoder .* takes a causal language model"):
        own_folder.inspect(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
        ({"model_type": "nobody's"}, "is unknown here"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "a model of another kind"),
    ],
)
def test_what_cannot_train_is_said(folder, change, problem):
    changed(folder, **change)
    with pytest.raises(ValueError, match=problem):
        own_folder.inspect(folder)


def test_a_folder_without_a_model_a_file_and_broken_json_are_said(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        own_folder.inspect(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        own_folder.inspect(folder / "config.json")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        own_folder.inspect(folder)


def test_a_model_that_is_nowhere_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match="nobody/nothing is no folder here"):
        own_folder.located("nobody/nothing")


def test_memory_is_four_numbers_a_weight_and_an_adapter_takes_less(folder):
    contents = own_folder.inspect(folder)
    number = contents.parameters
    parts = own_folder.memory(contents, rows=1, tokens=10).parts
    assert parts["weights"] + parts["gradients"] + parts["AdamW"] == 16 * number
    adapted = own_folder.memory(contents, rows=1, tokens=10, lora_rank=3).parts
    trained = adapters.parameters(adapters.lora(example_model()[0], 3)).trained
    foreseen = adapted["weights"] // 4 - number  # a little more where few heads have keys of their own
    assert trained <= foreseen <= 1.1 * trained and adapted["gradients"] + adapted["AdamW"] == 12 * foreseen
    assert own_folder.memory(contents, rows=1, tokens=10, kept=2).parts["other models"] == 8 * number
    assert own_folder.memory(contents, rows=2, tokens=10).parts["activations"] == 2 * parts["activations"]
