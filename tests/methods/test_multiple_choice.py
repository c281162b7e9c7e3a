"""Log-probabilities of options: against a forward pass by hand, whatever the batch, and within the model's context."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from tiny_models import small_model, small_tokenizer
from zephyr_lab.methods.recipes.evaluate import MultipleChoice
from zephyr_lab.methods.stages import evaluate
from zephyr_lab.models import saved
from zephyr_lab.models.tokenizer import content_ids
from zephyr_lab.world import choices

RECIPE = MultipleChoice(
    world="tiny",
    tasks=("facts", "myths"),
    questions=4,
    models=("ours",),
    folders=("",),
    rows_at_once=5,
    device="cpu",
)


@pytest.fixture(scope="module")
def model():
    return small_model(3)


def asked(model, task="facts"):
    return evaluate.questions_of(small_tokenizer(), model, task, RECIPE)


def test_log_probs_equal_a_forward_pass_of_each_row_alone(model):
    questions = asked(model, "myths")
    for one, scored in zip(questions, evaluate.option_log_probs(model, questions, rows_at_once=3), strict=True):
        for option, found in zip(one.options, scored, strict=True):
            ids = torch.tensor([one.prompt + option])
            with torch.inference_mode():
                log_probs = model(input_ids=ids).logits[0].double().log_softmax(-1)
            places = range(len(one.prompt), ids.shape[1])
            assert found == pytest.approx(sum(log_probs[place - 1, ids[0, place]].item() for place in places), abs=1e-4)


def test_the_batch_changes_nothing(model):
    questions = asked(model)
    alone = evaluate.option_log_probs(model, questions, rows_at_once=1)
    together = evaluate.option_log_probs(model, questions, rows_at_once=100)
    for first, second in zip(alone, together, strict=True):
        assert first == pytest.approx(second, abs=1e-4)


def test_prompt_and_option_together_are_the_text(model):
    (one, *_) = asked(model, "myths")
    item = choices.items("myths", 1)[0]
    whole = f"{choices.prompt(item, [])} {item.options[0]}"
    assert one.prompt + one.options[0] == content_ids(small_tokenizer(), [whole])[0]


def test_examples_are_left_out_from_the_front_until_the_row_fits():
    small, large = small_model(context=80), small_model(context=400)
    for less, more in zip(asked(small), asked(large), strict=True):
        assert less.examples < more.examples == choices.SHOTS["facts"]
        assert more.prompt[-len(less.prompt) :] == less.prompt
        assert len(less.prompt) + max(map(len, less.options)) <= 80


def test_a_question_that_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"facts: the question .* needs"):
        asked(small_model(context=12))


def test_a_stage_writes_one_row_a_model_and_question(tmp_path, model):
    saved.save(model, small_tokenizer(), tmp_path / "base" / "epochs" / "1")
    recipe = dataclasses.replace(RECIPE, folders=("epochs/1",))
    seen = []
    context = SimpleNamespace(checkpoints=tmp_path, progress=lambda *steps, **numbers: seen.append(steps))
    (tmp_path / "out").mkdir()
    metrics = evaluate.build_multiple_choice(
        recipe, seed=0, inputs={"ours": tmp_path / "base"}, out=tmp_path / "out", context=context
    )
    columns = json.loads((tmp_path / "out" / "choices.json").read_text())
    assert columns["model"] == ["ours"] * 8 and columns["task"] == ["facts"] * 4 + ["myths"] * 4
    for task, place, characters in zip(columns["task"], columns["answer"], columns["characters"], strict=True):
        assert len(characters) == (4 if task == "facts" else 2) and 0 <= place < len(characters)
    item = choices.items("facts", 1)[0]
    assert columns["characters"][0] == [len(option) for option in item.options]
    assert metrics["examples_myths"] == 0 and seen == [(1, 1)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tasks": ("chess",)}, "got 'chess'"),
        ({"tasks": ()}, "at least one"),
        ({"models": ("a", "a"), "folders": ("", "")}, "different names"),
        ({"folders": ()}, "needs its folder"),
        ({"questions": 0}, "questions must be at least 1"),
        ({"world": "moon"}, "world must be"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused(change, why):
    with pytest.raises(ValueError, match=why):
        dataclasses.replace(RECIPE, **change)
