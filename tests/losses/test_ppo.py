"""PPO's parts against sums written as loops, algebra, and the limits that GAE must have."""

import pytest
import torch

from zephyr_lab.losses import ppo


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


MASK = torch.tensor([[True, True, True], [True, False, False]])
REWARDS = tensor([[0.5, -1.0, 2.0], [3.0, 0.0, 0.0]])
VALUES = tensor([[0.2, 0.4, -0.6], [1.5, 9.0, 9.0]])


def by_brute_force(rewards, values, discount, trace_decay):
    """eq. 16 as it stands, of one row without padding."""
    after = [*values[1:], 0.0]
    deltas = [reward + discount * later - value for reward, later, value in zip(rewards, after, values, strict=True)]
    return [
        sum((discount * trace_decay) ** step * delta for step, delta in enumerate(deltas[place:]))
        for place in range(len(deltas))
    ]


@pytest.mark.parametrize(("discount", "trace_decay"), [(1.0, 1.0), (0.9, 0.7), (1.0, 0.0)])
def test_gae_is_the_discounted_sum_of_residuals(discount, trace_decay):
    advantages = ppo.generalised_advantages(REWARDS, VALUES, MASK, discount=discount, trace_decay=trace_decay)
    assert advantages[0].tolist() == pytest.approx(
        by_brute_force(REWARDS[0].tolist(), VALUES[0].tolist(), discount, trace_decay)
    )


def test_gae_of_trace_decay_1_is_the_reward_to_come_less_the_value():
    advantages = ppo.generalised_advantages(REWARDS, VALUES, MASK, discount=1.0, trace_decay=1.0)
    assert advantages[0].tolist() == pytest.approx([1.5 - 0.2, 1.0 - 0.4, 2.0 + 0.6])


def test_gae_does_not_look_at_padding():
    advantages = ppo.generalised_advantages(REWARDS, VALUES, MASK, discount=0.9, trace_decay=0.9)
    assert advantages[1].tolist() == pytest.approx([3.0 - 1.5, 0.0, 0.0])


def test_true_values_leave_no_advantage_on_a_sure_path():
    rewards = tensor([[1.0, 2.0, 3.0]])
    values = tensor([[6.0, 5.0, 3.0]])  # the rewards still to come
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages = ppo.generalised_advantages(rewards, values, mask, discount=1.0, trace_decay=0.3)
    assert advantages.tolist()[0] == pytest.approx([0.0, 0.0, 0.0])


def test_token_rewards_sum_to_the_penalised_score():
    log_probs, reference = tensor([[-1.0, -2.0, -0.5], [-1.0, -7.0, -7.0]]), tensor([[-1.5, -1.0, -2.0], [-3.0, 0, 0]])
    rewards = ppo.token_rewards(tensor([4.0, -1.0]), log_probs, reference, MASK, beta=0.1)
    # log-ratios: 0.5 - 1 + 1.5 = 1 and 2
    assert rewards.sum(dim=1).tolist() == pytest.approx([4.0 - 0.1, -1.0 - 0.2])
    assert rewards[0].tolist() == pytest.approx([-0.05, 0.1, 4.0 - 0.15])
    assert rewards[1].tolist() == pytest.approx([-1.2, 0.0, 0.0])


def test_an_answer_without_tokens_is_refused():
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="no tokens"):
        ppo.token_rewards(tensor([1.0]), torch.zeros(1, 2), torch.zeros(1, 2), nothing, beta=0.1)


def test_the_surrogate_at_equal_policies_is_minus_the_advantage():
    same = tensor([-1.0, -3.0])
    assert ppo.clipped_surrogate_loss(same, same, tensor([2.0, -1.0]), clip=0.2).tolist() == [-2.0, 1.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.1, 1.0, True)],
)
def test_the_gradient_stops_only_where_the_step_would_go_too_far(ratio, advantage, moves):
    log_probs = tensor([ratio]).log().requires_grad_()
    ppo.clipped_surrogate_loss(log_probs, tensor([0.0]), tensor([advantage]), clip=0.2).sum().backward()
    # unclipped: d(-ratio * A) / d log pi = -ratio * A
    assert log_probs.grad.item() == pytest.approx(-ratio * advantage if moves else 0.0)


def test_the_value_loss_has_the_error_as_its_gradient():
    values = tensor([1.0, 2.0]).requires_grad_()
    ppo.value_loss(values, tensor([0.5, 4.0])).sum().backward()
    assert values.grad.tolist() == pytest.approx([0.5, -2.0])


def test_the_clipped_value_loss_is_never_the_smaller_one():
    values, old, returns = tensor([1.0, 0.05]), tensor([0.0, 0.0]), tensor([1.0, 1.0])
    # first: 0 unclipped, (0.2 - 1)^2 / 2 held; second: inside the band, both alike
    losses = ppo.clipped_value_loss(values, old, returns, clip=0.2)
    assert losses.tolist() == pytest.approx([0.32, 0.95**2 / 2])


def test_whitening_counts_only_the_mask():
    scores = tensor([[1.0, 3.0, 100.0]])
    mask = torch.tensor([[True, True, False]])
    assert ppo.whitened(scores, mask).tolist() == [[-1.0, 1.0, 0.0]]


def test_equal_scores_whiten_to_zero():
    assert ppo.whitened(tensor([[2.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", ["discount", "trace_decay"])
def test_a_share_outside_0_to_1_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 1, got 1.5"):
        ppo.generalised_advantages(REWARDS, VALUES, MASK, **{"discount": 1.0, "trace_decay": 1.0, name: 1.5})


def test_a_clip_of_zero_is_refused():
    with pytest.raises(ValueError, match="clip must be positive"):
        ppo.clipped_surrogate_loss(tensor([0.0]), tensor([0.0]), tensor([1.0]), clip=0.0)
