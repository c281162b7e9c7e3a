"""Batches of like length in an order that can be taken up again, several optimisers that act as one, and progress."""

import random

import pytest
import torch

from any_models import any_model, dialogue_rows, pair_rows
from tiny_models import small_tokenizer
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.optimizers import JoinedOptimizers
from zephyr_lab.methods.reward import train_reward
from zephyr_lab.methods.sft import train_sft
from zephyr_lab.methods.trl_adapters import LengthBuckets
from zephyr_lab.models import reward as reward_models

LENGTHS = random.Random(0).choices(range(10, 101), k=1010)


def batches(order, size=32):
    rows = list(order)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def padded(order):
    return sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches(order))


def test_every_row_comes_once_an_epoch():
    assert sorted(LengthBuckets(LENGTHS, batch=32, seed=0)) == list(range(1010))
    assert sorted(LengthBuckets(LENGTHS[:3], batch=32, seed=0)) == [0, 1, 2]


def test_batches_hold_rows_of_like_length():
    shuffled = random.Random(1).sample(range(1010), 1010)
    tokens = sum(LENGTHS)
    assert padded(shuffled) > 1.7 * tokens
    assert padded(LengthBuckets(LENGTHS, batch=32, seed=0)) < 1.2 * tokens


def test_seed_and_epoch_alone_decide_the_order():
    one, same, other = (LengthBuckets(LENGTHS, batch=32, seed=seed) for seed in (1, 1, 2))
    first = list(one)
    assert first == list(one) == list(same) != list(other)
    one.set_epoch(1)
    assert list(one) != first
    one.set_epoch(0)
    assert list(one) == first


def test_an_epoch_mixes_rows_anew_and_short_batches_come_last():
    sampler = LengthBuckets(LENGTHS, batch=32, seed=0)
    first = {frozenset(batch) for batch in batches(sampler)}
    sampler.set_epoch(1)
    assert not first & {frozenset(batch) for batch in batches(sampler)}
    lengths = [LENGTHS[row] for row in list(sampler)[:960]]
    middle = [sum(lengths[start : start + 32]) / 32 for start in range(0, 960, 32)]
    assert middle != sorted(middle)


def parts():
    """Two parameters with gradients, and an optimiser for each."""
    first, second = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    first.grad, second.grad = torch.tensor([0.5, 1.0]), torch.tensor([1.0, -1.0])
    optimizers = [torch.optim.SGD([first], lr=0.1, momentum=0.9), torch.optim.AdamW([second], lr=0.2)]
    return (first, second), optimizers


def test_joined_optimisers_step_as_they_would_apart():
    apart, optimizers = parts()
    together, joined = parts()
    joined = JoinedOptimizers(joined)
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.step()
        joined.step()
    assert all(torch.equal(one, other) for one, other in zip(apart, together, strict=True))


def test_learning_rates_set_on_the_groups_reach_the_parts_also_after_loading():
    _, optimizers = parts()
    joined = JoinedOptimizers(optimizers)
    joined.step()
    joined.load_state_dict(joined.state_dict())
    schedule = torch.optim.lr_scheduler.LambdaLR(joined, lambda step: 0.5)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.05, 0.1]
    assert schedule.get_last_lr() == [0.05, 0.1]


def test_the_state_of_both_goes_on_after_loading(tmp_path):
    whole, optimizers = parts()
    joined = JoinedOptimizers(optimizers)
    resumed, others = parts()
    fresh = JoinedOptimizers(others)
    joined.step()
    torch.save(joined.state_dict(), tmp_path / "optimizer.pt")
    for before, after in zip(whole, resumed, strict=True):
        after.data.copy_(before.data)
    fresh.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    joined.step()
    fresh.step()
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_gradients_of_all_parts_are_cleared():
    parameters, optimizers = parts()
    JoinedOptimizers(optimizers).zero_grad()
    assert [parameter.grad for parameter in parameters] == [None, None]


def test_a_state_of_other_parts_is_refused():
    _, optimizers = parts()
    with pytest.raises(ValueError, match="zip"):
        JoinedOptimizers(optimizers).load_state_dict({"parts": []})


SIX = dialogue_rows(6)
TRAININGS = {
    "sft": lambda **settings: train_sft(any_model("llama"), small_tokenizer(), SIX, **settings),
    "dpo": lambda **settings: train_dpo(any_model("llama"), small_tokenizer(), pair_rows(6), **settings),
    "kd": lambda **settings: train_kd(
        any_model("llama"), small_tokenizer(), SIX, teacher=any_model("llama", seed=5), **settings
    ),
    "reward": lambda **settings: train_reward(
        reward_models.of_causal(any_model("llama")), small_tokenizer(), pair_rows(6), **settings
    ),
}


@pytest.mark.parametrize("method", TRAININGS)
def test_progress_shows_the_loss_of_the_whole_step_not_of_its_last_part(method):
    shown = []
    log = TRAININGS[method](  # steps of four parts and of the two that are left over
        batch=4, micro_batch=1, epochs=2, learning_rate=1e-3, progress=lambda step, of, loss: shown.append(loss)
    )
    assert shown == pytest.approx(log["loss"].tolist(), rel=1e-5) and len(shown) == 4
