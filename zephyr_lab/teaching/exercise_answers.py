"""What the exercises of notebook 44 should give, in numpy, with inputs to try and the values of usual slips."""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Slips = dict[str, Callable[..., Array]]
_DRAWN = np.random.default_rng(44)


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
    return (_picked(logits[:, :-1], ids[:, 1:]) * mask[:, 1:]).sum(1)


def _picked(logits: Array, ids: Array) -> Array:
    return np.take_along_axis(_log_softmax(logits), ids[..., None], -1)[..., 0]


def _tokens(rows: int, positions: int, prompt: int) -> dict[str, Array]:
    mask = np.zeros((rows, positions), dtype=bool)
    mask[:, prompt:] = True
    mask[0, -1] = False  # a padded row
    ids = _DRAWN.integers(0, 5, size=(rows, positions))
    return {"logits": _normal(rows, positions, 5), "ids": ids, "mask": mask}


TOKENS = (_tokens(2, 5, 2), _tokens(3, 7, 3))
RESPONSE_SLIPS: Slips = {
    "when logits and tokens of the same place are paired; the logits at a place predict the token after it": (
        lambda logits, ids, mask: (_picked(logits, ids) * mask).sum(1)
    ),
    "with the mean over tokens in place of the sum": (
        lambda logits, ids, mask: response_log_prob(logits, ids, mask) / mask[:, 1:].sum(1)
    ),
    "when prompt and padding are counted too": (lambda logits, ids, mask: _picked(logits[:, :-1], ids[:, 1:]).sum(1)),
    "from logits that are not normalised (log_softmax is missing)": (
        lambda logits, ids, mask: (np.take_along_axis(logits[:, :-1], ids[:, 1:, None], -1)[..., 0] * mask[:, 1:]).sum(
            1
        )
    ),
}

# --- Bradley and Terry ---


def preference_chance(chosen: Array, rejected: Array) -> Array:
    """sigmoid(r(chosen) - r(rejected)), shape (pair,)."""
    return _sigmoid(chosen - rejected)


REWARD_PAIRS = ({"chosen": _normal(3), "rejected": _normal(3)}, {"chosen": 3 * _normal(4), "rejected": _normal(4)})
CHANCE_SLIPS: Slips = {
    "with chosen and rejected swapped": lambda chosen, rejected: _sigmoid(rejected - chosen),
    "without the sigmoid": lambda chosen, rejected: chosen - rejected,
    "with the logarithm taken": lambda chosen, rejected: np.log(_sigmoid(chosen - rejected)),
}

# --- the best policy ---


def best_policy(rewards: Array, reference: Array, beta: float) -> Array:
    """log pi* = log pi_ref + r / beta - log Z, shape (prompt, answer)."""
    return _log_softmax(reference + rewards / beta)


TABLES = tuple(
    {"rewards": _normal(*shape), "reference": _log_softmax(_normal(*shape)), "beta": beta}
    for shape, beta in (((2, 3), 0.5), ((3, 4), 2.0))
)
BEST_SLIPS: Slips = {
    "without dividing by Z: the probabilities do not sum to 1": (
        lambda rewards, reference, beta: reference + rewards / beta
    ),
    "without the reference": lambda rewards, reference, beta: _log_softmax(rewards / beta),
    "with rewards multiplied by beta instead of divided": (
        lambda rewards, reference, beta: _log_softmax(reference + rewards * beta)
    ),
    "as probabilities; log-probabilities are asked for": (
        lambda rewards, reference, beta: np.exp(best_policy(rewards, reference, beta))
    ),
}

# --- DPO and IPO ---


def _margin(policy_chosen: Array, policy_rejected: Array, reference_chosen: Array, reference_rejected: Array) -> Array:
    return (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)


def dpo_loss(
    policy_chosen: Array, policy_rejected: Array, reference_chosen: Array, reference_rejected: Array, beta: float
) -> Array:
    """-log sigmoid(beta * margin), shape (pair,)."""
    return np.logaddexp(0, -beta * _margin(policy_chosen, policy_rejected, reference_chosen, reference_rejected))


def _log_probs(pairs: int) -> dict[str, Array]:
    names = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
    return {name: -10 - 3 * np.abs(_normal(pairs)) for name in names}


LOG_PROBS = ({**_log_probs(3), "beta": 0.1}, {**_log_probs(4), "beta": 0.5})
DPO_SLIPS: Slips = {
    "with chosen and rejected swapped (or the reference's side and the policy's)": (
        lambda policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta: dpo_loss(
            policy_rejected, policy_chosen, reference_rejected, reference_chosen, beta
        )
    ),
    "without the reference": (
        lambda policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta: dpo_loss(
            policy_chosen, policy_rejected, 0 * reference_chosen, 0 * reference_rejected, beta
        )
    ),
    "with the reference added instead of subtracted": (
        lambda policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta: dpo_loss(
            policy_chosen, policy_rejected, -reference_chosen, -reference_rejected, beta
        )
    ),
    "without beta": (
        lambda policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta: dpo_loss(
            policy_chosen, policy_rejected, reference_chosen, reference_rejected, 1.0
        )
    ),
    "with the sign left out: a loss is minus the log-likelihood": lambda **given: -dpo_loss(**given),
    "without the logarithm": lambda **given: np.exp(-dpo_loss(**given)),
}


def ipo_loss(
    policy_chosen: Array, policy_rejected: Array, reference_chosen: Array, reference_rejected: Array, tau: float
) -> Array:
    """(margin - 1 / (2 tau))^2, shape (pair,)."""
    return (_margin(policy_chosen, policy_rejected, reference_chosen, reference_rejected) - 1 / (2 * tau)) ** 2


IPO_LOG_PROBS = ({**_log_probs(3), "tau": 0.1}, {**_log_probs(4), "tau": 0.4})
IPO_SLIPS: Slips = {
    "with the target 1 / tau; it is half of that": lambda **given: ipo_loss(**{**given, "tau": given["tau"] / 2}),
    "with chosen and rejected swapped": (
        lambda policy_chosen, policy_rejected, reference_chosen, reference_rejected, tau: ipo_loss(
            policy_rejected, policy_chosen, reference_rejected, reference_chosen, tau
        )
    ),
    "without the square": (
        lambda policy_chosen, policy_rejected, reference_chosen, reference_rejected, tau: (
            _margin(policy_chosen, policy_rejected, reference_chosen, reference_rejected) - 1 / (2 * tau)
        )
    ),
    "with the margin multiplied by tau": (
        lambda policy_chosen, policy_rejected, reference_chosen, reference_rejected, tau: (
            (tau * _margin(policy_chosen, policy_rejected, reference_chosen, reference_rejected) - 1 / (2 * tau)) ** 2
        )
    ),
}

# --- policy gradient ---


def rloo_advantages(rewards: Array) -> Array:
    """Reward less the mean of the other samples of the prompt, shape (prompt, sample)."""
    return rewards - (rewards.sum(1, keepdims=True) - rewards) / (rewards.shape[1] - 1)


GROUPS = ({"rewards": _normal(2, 3)}, {"rewards": _normal(3, 4)})
RLOO_SLIPS: Slips = {
    "with the answer's own reward in the mean; leave it out": lambda rewards: rewards - rewards.mean(1, keepdims=True),
    "with the mean over prompts (dim 0); the samples of a prompt are dim 1": (
        lambda rewards: rewards - rewards.mean(0, keepdims=True)
    ),
    "without a baseline": lambda rewards: rewards,
    "with a division by the standard deviation: that is GRPO": (
        lambda rewards: (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, ddof=1, keepdims=True)
    ),
}


def clipped_loss(log_probs: Array, old_log_probs: Array, advantages: Array, clip: float) -> Array:
    """-min(ratio A, clip(ratio) A), shape (answer,)."""
    ratio = np.exp(log_probs - old_log_probs)
    return -np.minimum(ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages)


RATIOS = tuple(
    {
        "log_probs": np.array(moves) - 3.0,
        "old_log_probs": np.full(len(moves), -3.0),
        "advantages": np.array(advantages),
        "clip": clip,
    }
    for moves, advantages, clip in (
        ((0.5, 0.5, -0.5, -0.5, 0.05), (1.0, -1.0, 1.0, -1.0, 2.0), 0.2),
        ((0.9, -0.9, 0.3, -0.1), (-0.5, -2.0, 1.5, 1.0), 0.1),
    )
)
CLIPPED_SLIPS: Slips = {
    "with max in place of min": (
        lambda log_probs, old_log_probs, advantages, clip: (
            -np.maximum(
                np.exp(log_probs - old_log_probs) * advantages,
                np.clip(np.exp(log_probs - old_log_probs), 1 - clip, 1 + clip) * advantages,
            )
        )
    ),
    "from the clipped ratio alone; the smaller of both products counts": (
        lambda log_probs, old_log_probs, advantages, clip: (
            -np.clip(np.exp(log_probs - old_log_probs), 1 - clip, 1 + clip) * advantages
        )
    ),
    "without clipping": lambda log_probs, old_log_probs, advantages, clip: (
        -np.exp(log_probs - old_log_probs) * advantages
    ),
    "with the sign left out: PPO climbs, a loss is descended": lambda **given: -clipped_loss(**given),
    "with the ratio upside down": (
        lambda log_probs, old_log_probs, advantages, clip: clipped_loss(old_log_probs, log_probs, advantages, clip)
    ),
}


def kl_estimate(policy: Array, reference: Array) -> Array:
    """k3: pi_ref / pi - 1 - log(pi_ref / pi), shape (draw,)."""
    return np.expm1(reference - policy) - (reference - policy)


DRAWS = tuple({"policy": -2 + 0.5 * _normal(count), "reference": -2 + 0.5 * _normal(count)} for count in (3, 5))
KL_SLIPS: Slips = {
    "from the log-ratio alone: that is k1, which can be negative": lambda policy, reference: policy - reference,
    "from half the square: that is k2, which is biased": lambda policy, reference: (policy - reference) ** 2 / 2,
    "with policy and reference swapped": lambda policy, reference: kl_estimate(reference, policy),
}
