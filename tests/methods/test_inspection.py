"""What is looked up in a single model: attention maps, bytes of its cache, and which skills a base has."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiny_models import small_model, small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.methods.recipes.inspection import AttentionMaps, KVCache, Probe
from zephyr_lab.methods.stages import inspection
from zephyr_lab.models import saved
from zephyr_lab.world import catalogue, corpus
from zephyr_lab.world.facts import TINY
from zephyr_lab.world.task import is_held_out

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
    return inspection.build_attention_maps(recipe, seed=0, inputs=inputs, out=out, context=context), read_json(
        out / "maps.json"
    )


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


def test_one_window_cannot_be_compared():
    with pytest.raises(ValueError, match="windows must be at least 2"):
        KVCache(windows=1, full_attention_tokens=8, device="cpu")


def test_the_layout_is_one_of_the_corpus():
    head = inspection.QUESTION.format("").partition("\n")[0]
    documents = corpus.documents(0, 200)
    assert any(text.startswith(head) and "\nAnswer: " in text for text in documents)


def test_tasks_are_the_benchmark_side_and_always_the_same():
    tasks = inspection.draw_tasks("math", 20, TINY)
    assert tasks == inspection.draw_tasks("math", 20, TINY)
    assert all(is_held_out(task.key) for task in tasks)


def test_the_second_turn_follows_the_right_answer_to_the_first():
    (task,) = inspection.draw_tasks("stem", 1, TINY)
    first, second = inspection.raw_prompt(task, 0), inspection.raw_prompt(task, 1)
    assert first == f"Question: {task.turns[0].prompt}\nAnswer:"
    assert second == f"{first} {task.turns[0].core}\nQuestion: {task.turns[1].prompt}\nAnswer:"


def graded(monkeypatch, speaker):
    """Skills of a model that says what `speaker(task, turn)` returns."""
    spoken = {
        inspection.raw_prompt(task, turn): speaker(task, turn)
        for category in catalogue.MAKERS
        for task in inspection.draw_tasks(category, 3, TINY)
        for turn in (0, 1)
    }
    monkeypatch.setattr(inspection, "answer", lambda model, tokenizer, prompts: [spoken[prompt] for prompt in prompts])
    return inspection.probe(small_model(), small_tokenizer(), tasks=3, size=TINY)


def test_a_model_that_knows_all_has_1_and_one_that_errs_at_most_half(monkeypatch):
    right = graded(monkeypatch, lambda task, turn: task.turns[turn].core)
    assert set(right) == set(catalogue.MAKERS)
    assert all(skill == inspection.Skill(1.0, 1.0, 3) for skill in right.values())
    wrong = graded(monkeypatch, lambda task, turn: task.turns[turn].wrong_core)
    assert all(skill.core <= 0.5 for skill in wrong.values())


def test_turns_are_counted_apart(monkeypatch):
    skills = graded(monkeypatch, lambda task, turn: task.turns[turn].core if turn else "")
    assert all((skill.first_turn, skill.second_turn, skill.core) == (0.0, 1.0, 0.5) for skill in skills.values())


def test_build_writes_each_skill_and_returns_their_mean(tmp_path):
    saved.save(small_model(context=512), small_tokenizer(), tmp_path / "base")
    (tmp_path / "out").mkdir()
    context = SimpleNamespace(checkpoints=tmp_path / "checkpoints", progress=lambda *steps, **numbers: None)
    recipe = Probe(world="tiny", tasks=1)
    metrics = inspection.build_probe(
        recipe, seed=0, inputs={"base": tmp_path / "base"}, out=tmp_path / "out", context=context
    )
    assert set(metrics) == {"all", *catalogue.MAKERS}
    assert metrics["all"] == pytest.approx(sum(metrics[name] for name in catalogue.MAKERS) / len(catalogue.MAKERS))
    assert (tmp_path / "out" / "skills.json").is_file()
