"""What the exercises of notebook 44 should give, in numpy, with inputs to try and the values of usual slips."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
_DRAWN = np.random.default_rng(44)


@dataclass(frozen=True)
class Exercise:
    """solution and slips: functions of the same arguments; inputs: these arguments by name, two sets. A slip's name
    ends the sentence "these are the values that one gets ..."."""

    solution: Callable[..., Array]
    inputs: tuple[Mapping[str, Any], Mapping[str, Any]]
    slips: Mapping[str, Callable[..., Array]]


def _normal(*shape: int) -> Array:
    return _DRAWN.standard_normal(shape)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


# --- log-probability of a response ---


def response_log_prob(logits: Array, ids: Array, mask: Array) -> Array:
    """Sum over the response's tokens of log p(token | tokens before it), shape (row,)."""
    return (_picked(_log_softmax(logits[:, :-1]), ids[:, 1:]) * mask[:, 1:]).sum(1)


def _picked(log_probs: Array, ids: Array) -> Array:
    return np.take_along_axis(log_probs, ids[..., None], -1)[..., 0]


def _tokens(rows: int, positions: int, prompt: int) -> dict[str, Array]:
    mask = np.zeros((rows, positions), dtype=bool)
    mask[:, prompt:] = True
    mask[0, -1] = False  # a padded row
    ids = _DRAWN.integers(0, 5, size=(rows, positions))
    return {"logits": _normal(rows, positions, 5), "ids": ids, "mask": mask}


RESPONSE_LOG_PROB = Exercise(response_log_prob, (_tokens(2, 5, 2), _tokens(3, 7, 3)), {
    "when logits and tokens of the same position are paired; the logits at a position predict the token after it":
        lambda logits, ids, mask: (_picked(_log_softmax(logits), ids) * mask).sum(1),
    "with the mean over tokens instead of the sum":
        lambda logits, ids, mask: response_log_prob(logits, ids, mask) / mask[:, 1:].sum(1),
    "when prompt and padding are counted too":
        lambda logits, ids, mask: _picked(_log_softmax(logits[:, :-1]), ids[:, 1:]).sum(1),
    "from logits that are not normalised (log_softmax is missing)":
        lambda logits, ids, mask: (_picked(logits[:, :-1], ids[:, 1:]) * mask[:, 1:]).sum(1),
})  # fmt: skip

# --- Bradley and Terry ---


def preference_chance(chosen: Array, rejected: Array) -> Array:
    """sigmoid(r(chosen) - r(rejected)), shape (pair,)."""
    return _sigmoid(chosen - rejected)


_REWARDS = ({"chosen": _normal(3), "rejected": _normal(3)}, {"chosen": 3 * _normal(4), "rejected": _normal(4)})
PREFERENCE_CHANCE = Exercise(preference_chance, _REWARDS, {
    "with chosen and rejected swapped": lambda chosen, rejected: _sigmoid(rejected - chosen),
    "without the sigmoid": lambda chosen, rejected: chosen - rejected,
    "with the logarithm taken": lambda chosen, rejected: np.log(_sigmoid(chosen - rejected)),
})  # fmt: skip

# --- the best policy ---


def best_policy(rewards: Array, reference: Array, beta: float) -> Array:
    """log pi* = log pi_ref + r / beta - log Z, shape (prompt, answer)."""
    return _log_softmax(reference + rewards / beta)


def _table(prompts: int, answers: int, beta: float) -> dict[str, Any]:
    rewards = _normal(prompts, answers)
    return {"rewards": rewards, "reference": _log_softmax(_normal(prompts, answers)), "beta": beta}


BEST_POLICY = Exercise(best_policy, (_table(2, 3, 0.5), _table(3, 4, 2.0)), {
    "without dividing by Z: the probabilities do not sum to 1":
        lambda rewards, reference, beta: reference + rewards / beta,
    "without the reference": lambda rewards, reference, beta: _log_softmax(rewards / beta),
    "with rewards multiplied by beta instead of divided":
        lambda rewards, reference, beta: _log_softmax(reference + rewards * beta),
    "as probabilities; log-probabilities are expected": lambda **inputs: np.exp(best_policy(**inputs)),
})  # fmt: skip

# --- DPO and IPO ---


def _margin(policy_chosen: Array, policy_rejected: Array, reference_chosen: Array, reference_rejected: Array) -> Array:
    return (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)


def dpo_loss(*, beta: float, **log_probs: Array) -> Array:
    """-log sigmoid(beta * margin), shape (pair,)."""
    return np.logaddexp(0, -beta * _margin(**log_probs))


def ipo_loss(*, tau: float, **log_probs: Array) -> Array:
    """(margin - 1 / (2 tau))^2, shape (pair,)."""
    return (_margin(**log_probs) - 1 / (2 * tau)) ** 2


def _log_probs(pairs: int, **knob: float) -> dict[str, Any]:
    names = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
    return {name: -10 - 3 * np.abs(_normal(pairs)) for name in names} | knob


def _swapped(inputs: Mapping[str, Any]) -> dict[str, Any]:
    other = {"policy_chosen": "policy_rejected", "reference_chosen": "reference_rejected"}
    other |= {rejected: chosen for chosen, rejected in other.items()}
    return {other.get(name, name): value for name, value in inputs.items()}


def _with_reference(inputs: Mapping[str, Any], times: float) -> dict[str, Any]:
    return {name: times * value if name.startswith("reference") else value for name, value in inputs.items()}


DPO_LOSS = Exercise(dpo_loss, (_log_probs(3, beta=0.1), _log_probs(4, beta=0.5)), {
    "with chosen and rejected swapped (or the reference's side and the policy's)":
        lambda **inputs: dpo_loss(**_swapped(inputs)),
    "without the reference": lambda **inputs: dpo_loss(**_with_reference(inputs, 0.0)),
    "with the reference added instead of subtracted": lambda **inputs: dpo_loss(**_with_reference(inputs, -1.0)),
    "without beta": lambda **inputs: dpo_loss(**{**inputs, "beta": 1.0}),
    "with the sign left out: a loss is minus the log-likelihood": lambda **inputs: -dpo_loss(**inputs),
    "without the logarithm": lambda **inputs: np.exp(-dpo_loss(**inputs)),
})  # fmt: skip
IPO_LOSS = Exercise(ipo_loss, (_log_probs(3, tau=0.1), _log_probs(4, tau=0.4)), {
    "with the target 1 / tau; it is half of that": lambda **inputs: ipo_loss(**{**inputs, "tau": inputs["tau"] / 2}),
    "with chosen and rejected swapped": lambda **inputs: ipo_loss(**_swapped(inputs)),
    "without the square": lambda tau, **log_probs: _margin(**log_probs) - 1 / (2 * tau),
    "with the margin multiplied by tau": lambda tau, **log_probs: (tau * _margin(**log_probs) - 1 / (2 * tau)) ** 2,
})  # fmt: skip

# --- policy gradient ---


def rloo_advantages(rewards: Array) -> Array:
    """Reward less the mean of the other samples of the prompt, shape (prompt, sample)."""
    return rewards - (rewards.sum(1, keepdims=True) - rewards) / (rewards.shape[1] - 1)


RLOO_ADVANTAGES = Exercise(rloo_advantages, ({"rewards": _normal(2, 3)}, {"rewards": _normal(3, 4)}), {
    "with the answer's own reward in the mean; leave it out": lambda rewards: rewards - rewards.mean(1, keepdims=True),
    "with the mean over prompts (dim 0); the samples of a prompt are dim 1":
        lambda rewards: rewards - rewards.mean(0, keepdims=True),
    "without a baseline": lambda rewards: rewards,
    "with a division by the standard deviation: that is GRPO":
        lambda rewards: (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, ddof=1, keepdims=True),
})  # fmt: skip


def clipped_loss(log_probs: Array, old_log_probs: Array, advantages: Array, clip: float) -> Array:
    """-min(ratio A, clip(ratio) A), shape (answer,)."""
    return -np.minimum(*_products(log_probs, old_log_probs, advantages, clip))


def _products(log_probs: Array, old_log_probs: Array, advantages: Array, clip: float) -> tuple[Array, Array]:
    """ratio A and clip(ratio) A."""
    ratio = np.exp(log_probs - old_log_probs)
    return ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages


def _ratios(moves: tuple[float, ...], advantages: tuple[float, ...], clip: float) -> dict[str, Any]:
    old = np.full(len(moves), -3.0)
    return {"log_probs": np.array(moves) - 3.0, "old_log_probs": old, "advantages": np.array(advantages), "clip": clip}


CLIPPED_LOSS = Exercise(
    clipped_loss,
    (
        _ratios((0.5, 0.5, -0.5, -0.5, 0.05), (1.0, -1.0, 1.0, -1.0, 2.0), 0.2),
        _ratios((0.9, -0.9, 0.3, -0.1), (-0.5, -2.0, 1.5, 1.0), 0.1),
    ),
    {
        "with max instead of min": lambda **inputs: -np.maximum(*_products(**inputs)),
        "from the clipped ratio alone; the smaller of both products counts": lambda **inputs: -_products(**inputs)[1],
        "without clipping": lambda **inputs: -_products(**inputs)[0],
        "with the sign left out: PPO climbs, a loss is descended": lambda **inputs: -clipped_loss(**inputs),
        "with the ratio upside down": lambda log_probs, old_log_probs, advantages, clip: clipped_loss(
            old_log_probs, log_probs, advantages, clip
        ),
    },
)


def kl_estimate(policy: Array, reference: Array) -> Array:
    """k3: pi_ref / pi - 1 - log(pi_ref / pi), shape (draw,)."""
    return np.expm1(reference - policy) - (reference - policy)


_DRAWS = tuple({"policy": -2 + 0.5 * _normal(count), "reference": -2 + 0.5 * _normal(count)} for count in (3, 5))
KL_ESTIMATE = Exercise(kl_estimate, _DRAWS, {
    "from the log-ratio alone: that is k1, which can be negative": lambda policy, reference: policy - reference,
    "from half the square: that is k2, which is biased": lambda policy, reference: (policy - reference) ** 2 / 2,
    "with policy and reference swapped": lambda policy, reference: kl_estimate(reference, policy),
})  # fmt: skip

EXERCISES = {
    "response_log_prob": RESPONSE_LOG_PROB,
    "preference_chance": PREFERENCE_CHANCE,
    "best_policy": BEST_POLICY,
    "dpo_loss": DPO_LOSS,
    "ipo_loss": IPO_LOSS,
    "rloo_advantages": RLOO_ADVANTAGES,
    "clipped_loss": CLIPPED_LOSS,
    "kl_estimate": KL_ESTIMATE,
}
