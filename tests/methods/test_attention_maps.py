"""Attention maps that are written are those of the models, of one dialogue, and triangles whose rows sum to 1."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiny_models import small_model, small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.methods.recipes.attention_maps import AttentionMaps
from zephyr_lab.methods.stages import attention_maps
from zephyr_lab.models import saved

LONG = "Ida took a train from the bridge to the fox and back again to the bridge."


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, seed in (("student", 0), ("teacher", 1)):
        saved.save(small_model(seed), small_tokenizer(), folder / name)
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "It is gold."}]}
        for asked in (LONG, "What is Au?", "Who?")
    ]
    (folder / "dialogues").mkdir()
    (folder / "dialogues" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: folder / name for name in ("student", "teacher", "dialogues")}


def build(inputs, out, longest=24):
    recipe = AttentionMaps(models=("student", "teacher"), folders=("", ""), longest=longest, device="cpu")
    context = SimpleNamespace(checkpoints=out, progress=lambda *_, **__: None)
    return attention_maps.build(recipe, seed=0, inputs=inputs, out=out, context=context), read_json(out / "maps.json")


def test_the_first_dialogue_that_fits_is_read_by_every_model(inputs, tmp_path):
    metrics, found = build(inputs, tmp_path)
    text = "".join(found["tokens"])
    assert "What is Au?" in text and LONG not in text
    assert metrics["tokens"] == len(found["tokens"]) == len(found["answer"])
    answer = "".join(token for token, own in zip(found["tokens"], found["answer"], strict=True) if own)
    assert answer == "It is gold.</s>"


def test_rows_sum_to_1_and_no_token_looks_ahead_or_beyond_the_window(inputs, tmp_path):
    _, found = build(inputs, tmp_path)
    maps = np.array(list(found["maps"].values()))  # model, layer, head, row, column
    length = len(found["tokens"])
    assert maps.shape == (2, 2, 4, length, length)
    assert maps.sum(-1) == pytest.approx(1, abs=1e-5)
    rows, columns = np.indices((length, length))
    assert (maps[..., (columns > rows) | (columns <= rows - 16)] == 0).all()  # the window of the test's models is 16


def test_the_maps_are_those_of_the_model_that_is_named(inputs, tmp_path):
    _, found = build(inputs, tmp_path)
    model = small_model(1)
    model.set_attn_implementation("eager")
    ids = small_tokenizer()("".join(found["tokens"]), add_special_tokens=False)["input_ids"]
    expected = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions[1][0].detach().numpy()
    assert np.array(found["maps"]["teacher"][1]) == pytest.approx(expected, abs=1e-6)


def test_where_all_dialogues_are_longer_the_first_is_read_as_far_as_it_may_be(inputs, tmp_path):
    metrics, found = build(inputs, tmp_path, longest=6)
    assert metrics["tokens"] == 6
    whole = small_tokenizer().apply_chat_template([{"role": "user", "content": LONG}], tokenize=False)
    assert whole.startswith("".join(found["tokens"]))
    assert np.array(found["maps"]["student"]).shape == (2, 4, 6, 6)
