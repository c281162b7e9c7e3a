"""No stage trains, asks or measures a model in turns that its tokenizer's own chat template does not write."""

import ast
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import zephyr_lab.methods
import zephyr_runs
from tiny_models import small_tokenizer
from zephyr_lab.methods.recipes.evaluate import Evaluation
from zephyr_lab.methods.stages import evaluate, kd, world_data
from zephyr_lab.models import saved
from zephyr_runs import DDPO, DIALOGUES, DSFT, PAIRS, Stage

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
REFUSED = "has a chat template of its own, which writes .*im_start"
EVALUATION = Evaluation(
    world="tiny", questions=8, max_new_tokens=4, temperature=0.7, models=("ours", "theirs"), folders=("", ""),
    system_turns=(False, False), device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, build, recipe in (
        ("pairs", world_data.build_pairs, PAIRS),
        ("dialogues", world_data.build_dialogues, DIALOGUES),
    ):
        (folder / name).mkdir()
        build(recipe, seed=0, inputs={}, out=folder / name, context=None)
    zephyr_runs.save_start(folder / "theirs")
    tokenizer = saved.load_tokenizer(folder / "theirs")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder / "theirs", save_jinja_files=False)
    zephyr_runs.save_start(folder / "ours")
    return folder


def context_in(folder):
    return SimpleNamespace(checkpoints=folder, progress=lambda *steps, **numbers: None)


@pytest.mark.parametrize("recipe, role", [(DSFT, "base"), (DDPO, "policy")])
def test_a_training_refuses_another_template_before_it_starts(inputs, tmp_path, recipe, role):
    stage = Stage(tmp_path, {name: inputs / name for name in ("pairs", "dialogues")} | {role: inputs / "theirs"})
    with pytest.raises(ValueError, match=REFUSED):
        stage.build(replace(recipe, epochs=1))
    assert not [*stage.checkpoints.iterdir(), *stage.out.iterdir()]


def test_an_evaluation_refuses_another_template_before_the_first_model_is_asked(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "ask", lambda *given, **options: pytest.fail("a model was asked"))
    given = {name: inputs / name for name in ("ours", "theirs")}
    with pytest.raises(ValueError, match=REFUSED):
        evaluate.build(EVALUATION, seed=0, inputs=given, out=tmp_path, context=context_in(tmp_path))


def test_a_teacher_with_another_template_is_refused(inputs, tmp_path):
    from kd_runs import KD

    given = {"student": inputs / "ours", "teacher": inputs / "theirs", "dialogues": inputs / "dialogues"}
    with pytest.raises(ValueError, match=REFUSED):
        kd.build(KD, seed=0, inputs=given, out=tmp_path / "out", context=context_in(tmp_path))


def test_a_tokenizer_without_a_template_is_given_zephyrs(inputs, tmp_path):
    tokenizer = saved.load_tokenizer(inputs / "ours")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    assert saved.load_chat_tokenizer(tmp_path).chat_template == small_tokenizer().chat_template


# What loads a tokenizer without asking for its template, and why it may.
PLAIN = {
    "mixtures": "reads dialogues only for routers from hidden states, and `encode_dialogues` refuses there",
    "metered": "measures the speed of a model that a training here has just written",
    "multiple_choice": "asks in plain text",
    "probe": "asks in plain text",
}


def test_every_stage_that_reads_dialogues_asks_for_the_template_first():
    (folder,) = map(Path, zephyr_lab.methods.__path__)
    plain = {
        path.stem
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "load_tokenizer"
    }
    assert plain == set(PLAIN)
