"""The probe grades what a model says, not what it was built from."""

from types import SimpleNamespace

import pytest

from tiny_models import small_model, small_tokenizer
from zephyr_lab.methods.recipes.probe import Probe
from zephyr_lab.methods.stages import probe
from zephyr_lab.models import saved
from zephyr_lab.world import catalogue, corpus
from zephyr_lab.world.facts import TINY
from zephyr_lab.world.task import is_held_out


def test_the_layout_is_one_of_the_corpus():
    head = probe.QUESTION.format("").partition("\n")[0]
    documents = corpus.documents(0, 200)
    assert any(text.startswith(head) and "\nAnswer: " in text for text in documents)


def test_tasks_are_the_benchmark_side_and_always_the_same():
    tasks = probe.draw_tasks("math", 20, TINY)
    assert tasks == probe.draw_tasks("math", 20, TINY)
    assert all(is_held_out(task.key) for task in tasks)


def test_the_second_turn_follows_the_right_answer_to_the_first():
    (task,) = probe.draw_tasks("stem", 1, TINY)
    first, second = probe.raw_prompt(task, 0), probe.raw_prompt(task, 1)
    assert first == f"Question: {task.turns[0].prompt}\nAnswer:"
    assert second == f"{first} {task.turns[0].core}\nQuestion: {task.turns[1].prompt}\nAnswer:"


def graded(monkeypatch, speaker):
    """Skills of a model that says what `speaker(task, turn)` returns."""
    spoken = {
        probe.raw_prompt(task, turn): speaker(task, turn)
        for category in catalogue.MAKERS
        for task in probe.draw_tasks(category, 3, TINY)
        for turn in (0, 1)
    }
    monkeypatch.setattr(probe, "answer", lambda model, tokenizer, prompts: [spoken[prompt] for prompt in prompts])
    return probe.probe(small_model(), small_tokenizer(), tasks=3, size=TINY)


def test_a_model_that_knows_all_has_1_and_one_that_errs_at_most_half(monkeypatch):
    right = graded(monkeypatch, lambda task, turn: task.turns[turn].core)
    assert set(right) == set(catalogue.MAKERS)
    assert all(skill == probe.Skill(1.0, 1.0, 3) for skill in right.values())
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
    metrics = probe.build(recipe, seed=0, inputs={"base": tmp_path / "base"}, out=tmp_path / "out", context=context)
    assert set(metrics) == {"all", *catalogue.MAKERS}
    assert metrics["all"] == pytest.approx(sum(metrics[name] for name in catalogue.MAKERS) / len(catalogue.MAKERS))
    assert (tmp_path / "out" / "skills.json").is_file()
