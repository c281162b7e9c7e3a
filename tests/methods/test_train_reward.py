"""A reward model of anybody's model: it starts undecided, and its first step is a plain loop's."""

import copy
import math
import statistics

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model

import plain_steps
from plain_steps import FAMILIES, ONE_STEP, PAIRS, examples, small
from tiny_models import small_tokenizer
from zephyr_lab.methods.reward import train_reward
from zephyr_lab.models import reward as reward_models


def train(model, rows=PAIRS, tokenizer=None, **settings):
    settings = {**ONE_STEP, "micro_batch": 3, "schedule": "constant", **settings}
    return train_reward(model, tokenizer or small_tokenizer(), rows, **settings)


def fresh(family, *, drawn=True):
    model = reward_models.of_causal(small(family))
    if drawn:
        torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_of_zeros_starts_at_ln_2(family):
    causal = small(family)
    model = reward_models.of_causal(causal)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model.base_model(ids).last_hidden_state, causal.base_model(ids).last_hidden_state)
    log = train(model, held_out=PAIRS)
    assert log["loss"].tolist() == [pytest.approx(math.log(2), abs=1e-6)]
    assert log.attrs["held_out_metrics"]["pairs"] == 3 and not model.training


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("pads", [True, False])
def test_a_step_is_a_plain_loops_whatever_pads(family, pads):
    model, rows, tokenizer = fresh(family), examples(), copy.deepcopy(small_tokenizer())
    if not pads:
        tokenizer.pad_token = None  # the trainer would pad with the end token, and read each answer short of its end
    start = copy.deepcopy(model)
    log = train(model, tokenizer=tokenizer)

    def loss(plain):
        good, bad = (
            torch.cat(
                [plain(input_ids=torch.tensor([one.prompt_ids + getattr(one, side)])).logits[:, 0] for one in rows]
            )
            for side in ("chosen_ids", "rejected_ids")
        )
        return -(good - bad).sigmoid().log().mean()

    expected, first, clear = plain_steps.step(start, loss, learning_rate=1e-3)
    assert log["loss"].tolist() == [pytest.approx(first, rel=1e-5)]
    plain_steps.require_same(model, expected, clear, tolerance=5e-5)
    assert (tokenizer.pad_token is None) == (not pads)


def test_held_out_numbers_are_those_of_single_rows():
    model = fresh("llama")
    log = train(model, held_out=PAIRS[:2], centring=0.1)
    sides = [
        [model(input_ids=torch.tensor([one.prompt_ids + getattr(one, side)])).logits.item() for one in examples()[:2]]
        for side in ("chosen_ids", "rejected_ids")
    ]
    found = log.attrs["held_out_metrics"]
    assert found["reward_chosen"] == pytest.approx(statistics.mean(sides[0]), rel=1e-4)
    assert found["accuracy"] == statistics.mean(good > bad for good, bad in zip(*sides, strict=True))


def test_adapters_and_head_learn():
    model = get_peft_model(
        fresh("llama"), LoraConfig(r=2, target_modules=["q_proj"], task_type=TaskType.SEQ_CLS)
    )  # fmt: skip
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    train(model, epochs=2, held_out=PAIRS)
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert any("lora_" in name for name in moved) and any("score" in name for name in moved)
    assert all("lora_" in name or "score" in name for name in moved)


def test_most_takes_the_first_usable_pairs():
    rows = [{"prompt": "Hi", "chosen": "a"}, *PAIRS]
    assert train(fresh("llama"), rows, most=2, batch=2, micro_batch=2).attrs["pairs"] == 2


def test_a_causal_model_is_refused_with_the_next_step():
    with pytest.raises(ValueError, match=r"got LlamaForCausalLM; make one of a causal LM by models.reward.of_causal"):
        train(small("llama"))


def test_a_curve_needs_held_out_pairs():
    with pytest.raises(ValueError, match="there are no held_out rows"):
        train(fresh("llama"), evaluate_every=1)


def test_fewer_than_one_pair_is_refused():
    for most in (0, -1):
        with pytest.raises(ValueError, match=f"most must be at least 1, got {most}"):
            train(fresh("llama"), most=most)
