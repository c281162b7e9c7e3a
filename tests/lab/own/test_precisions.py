"""A model in several precisions: what is rounded, what it weighs, how often it still says the same."""

import pytest
import torch

from any_models import any_model
from tiny_models import small_model, small_tokenizer
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.answer_scores import SCORE
from zephyr_lab.lab.arms import Arm
from zephyr_lab.lab.own import precisions
from zephyr_lab.lab.own.precisions import HALF, INT4, INT8, TORCH_INT8, WHOLE, Cost
from zephyr_lab.methods import adapters
from zephyr_lab.methods.stages.evaluate import ask
from zephyr_lab.models import saved
from zephyr_lab.world.benchmark import mt_bench

PROMPTS = ([300, 301, 302], [400], [500, 501])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    saved.save(small_model(seed=4, context=512), small_tokenizer(), path)
    return path


def test_torchs_8_bits_are_the_rounding_by_hand(folder):
    whole, rounded = small_model(seed=4, context=512), precisions.torch_int8(folder)
    for name in adapters.linear_layers(whole):
        weight = whole.get_submodule(name).weight.detach()
        step = weight.abs().amax(dim=1, keepdim=True) / 127.5
        by_hand = step * (weight * (1 / step)).round().clamp(-128, 127)
        torch.testing.assert_close(rounded.get_submodule(name).weight().dequantize(), by_hand, rtol=1e-6, atol=0)
    assert type(rounded.lm_head) is torch.nn.Linear and torch.equal(rounded.lm_head.weight, whole.lm_head.weight)


def test_a_model_without_torchs_linear_layers_is_named(tmp_path):
    model = any_model("gpt2")
    model.save_pretrained(tmp_path)
    assert "torch has no 8-bit form of transformer.h.0" in precisions.absent(model)[TORCH_INT8]
    with pytest.raises(ValueError, match=r"torch has no 8-bit form of transformer\.h\.0.*take 'int8, bitsandbytes'"):
        precisions.torch_int8(tmp_path)


def test_what_is_absent_says_which_extra_and_has_a_row_without_a_number(monkeypatch, folder):
    monkeypatch.setattr(precisions, "find_spec", lambda name: None if name == "bitsandbytes" else True)
    absent = precisions.absent(saved.load_model(folder))
    assert set(absent) == {INT8, INT4} and all("zephyr-lab[real]" in reason for reason in absent.values())
    table = precisions.cost_table({WHOLE: Cost(4_000_000, 8e6, (10.0, 30.0, 20.0))}, absent).to_dict("records")
    assert table[0] == {
        "precision": "fp32",
        precisions.DISK: "4.00",
        precisions.MEMORY: "8.0",
        precisions.SPEED: "20.0 (10.0 to 30.0 of 3)",
    }
    assert [row["precision"] for row in table[1:]] == [INT8, INT4]
    assert all("not measured: bitsandbytes is not installed" in row[precisions.DISK] for row in table[1:])
    (speed,) = precisions.speeds({WHOLE: Cost(0, 0.0, (10.0, 30.0, 20.0))}).to_dict("records")
    assert (speed["value"], speed["low"], speed["high"]) == (20.0, 10.0, 30.0)


def test_a_file_of_weights_has_four_two_and_one_bytes_a_number(folder):
    whole = saved.load_model(folder)
    numbers, linear = (
        whole.num_parameters(),
        sum(whole.get_submodule(name).weight.numel() for name in adapters.linear_layers(whole)),
    )
    sizes = {name: precisions.file_bytes(precisions.LOADERS[name](folder)) for name in (WHOLE, HALF, TORCH_INT8)}
    head = 10_000  # names and shapes
    assert 4 * numbers <= sizes[WHOLE] <= 4 * numbers + head
    assert 2 * numbers <= sizes[HALF] <= 2 * numbers + head
    tied = whole.lm_head.weight.numel() * 4  # torch writes the tied head once
    assert 4 * (numbers - linear) + linear <= sizes[TORCH_INT8] <= 4 * (numbers - linear) + linear + tied + 4 * head


def test_a_cost_has_the_repeats_asked_for(folder):
    cost = precisions.cost(folder, HALF, [300, 301], 6, 3)
    assert len(cost.rates) == 3 and min(cost.rates) > 0 and cost.disk > 0 and cost.memory >= 0


def test_agreement_is_counted_along_the_other_models_answer(folder):
    whole, other = saved.load_model(folder), small_model(seed=5)
    answered = precisions.greedy(whole, PROMPTS, max_new_tokens=7)
    assert [prompt for prompt, _ in answered] == [list(prompt) for prompt in PROMPTS]
    assert precisions.agreement(whole, answered).value == 1.0
    same = []
    for prompt, answer in answered:
        for place, token in enumerate(answer):
            ids = torch.tensor([prompt + answer[:place]])
            same.append(other(input_ids=ids).logits[0, -1].argmax().item() == token)
    estimate = precisions.agreement(other, answered)
    assert estimate.value == pytest.approx(sum(same) / len(same)) and estimate.n == len(same)


def test_the_world_asks_and_grades_each_precision_as_its_evaluation_does(folder, monkeypatch):
    monkeypatch.setattr(Arm, "folder", lambda arm, seed=0: folder)
    arm = Arm("dSFT", "smoke", 1, lambda seed: zephyr_stages.base("smoke"))
    answers = precisions.world_answers(arm, [WHOLE, HALF], questions=8)
    recipe = zephyr_stages.evaluation("smoke", 0, arm.of(0), questions=8).recipe
    graded = ask(small_model(seed=4, context=512), small_tokenizer(), mt_bench(8), recipe, system_turn=False, seed=0)
    whole = answers.frame[answers.frame["model"] == WHOLE]
    for column in ("question_id", "run", "turn", "text", "score"):
        assert whole[column].tolist() == [row[column] for row in graded]
    assert answers.arms == [WHOLE, HALF] and len(answers.frame) == 2 * len(graded) == 2 * 2 * 2 * 8
    (gain,) = answers.differences({"bf16 - fp32": (HALF, WHOLE)}, SCORE).to_dict("records")
    assert gain["n"] == 8
