"""The sweep behind the comparison of DPO with RLHF: learning rate and beta of each method, equally many trials each."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import rlhf_stages, sweeps
from zephyr_lab.lab.rlhf_stages import PAPER
from zephyr_lab.lab.sweeps import Trial

NAME = "comparison"


@dataclass(frozen=True, kw_only=True)
class Grids:
    """Rates, then betas, of each method; methods without beta have more rates, so that all have equally many trials."""

    dpo_rates: tuple[float, ...]
    dpo_betas: tuple[float, ...]
    online_dpo_rates: tuple[float, ...]
    online_dpo_betas: tuple[float, ...]
    ppo_rates: tuple[float, ...]
    ppo_betas: tuple[float, ...]
    rloo_rates: tuple[float, ...]
    rloo_betas: tuple[float, ...]
    rloo_true_rates: tuple[float, ...]
    rloo_true_betas: tuple[float, ...]
    longer_dsft_rates: tuple[float, ...]
    sft_on_chosen_rates: tuple[float, ...]

    def __post_init__(self) -> None:
        sweeps.require_equal_counts(self.trials)

    @property
    def trials(self) -> dict[str, list[tuple[float, ...]]]:
        """(rate, beta), or (rate,) for a method without beta, of each trial, by method."""
        found: dict[str, list[tuple[float, ...]]] = {}
        for field in fields(rlhf_stages.Tuned):
            rates = getattr(self, f"{field.name}_rates")
            betas = getattr(self, f"{field.name}_betas", None)
            found[field.name] = [(r,) for r in rates] if betas is None else [(r, b) for r in rates for b in betas]
        return found


def sweep(profile: str, *, again: bool) -> pd.DataFrame:
    """The committed sweep of the profile, or one that is run now; see `sweeps.committed`."""
    return sweeps.run(profile, NAME, trials(profile)) if again else sweeps.committed(profile, NAME)


def trials(profile: str) -> list[Trial]:
    """Every trial of the profile's grids."""
    made = makers(profile, sweeps.SEED)
    grids = settings.load(PAPER, profile, "sweep", Grids)
    return [
        Trial(method, one, made[method](**dict(zip(("learning_rate", "beta"), one, strict=False))))
        for method, values in grids.trials.items()
        for one in values
    ]


def makers(profile: str, seed: int) -> dict[str, Callable[..., Stage]]:
    """How a trial of each method is trained: with its learning rate and, where it has one, beta as keywords."""
    reward = rlhf_stages.reward(profile, seed)
    return {
        "dpo": lambda **knobs: rlhf_stages.dpo(profile, seed, **knobs),
        "online_dpo": lambda **knobs: rlhf_stages.online_dpo(profile, seed, **knobs),
        "ppo": lambda **knobs: rlhf_stages.ppo(profile, seed, reward_model=reward, **knobs),
        "rloo": lambda **knobs: rlhf_stages.policy_gradient(profile, seed, reward_model=reward, **knobs),
        "rloo_true": lambda **knobs: rlhf_stages.policy_gradient(profile, seed, **knobs),
        "longer_dsft": lambda **knobs: rlhf_stages.sft(profile, seed, on_chosen=False, **knobs),
        "sft_on_chosen": lambda **knobs: rlhf_stages.sft(profile, seed, on_chosen=True, **knobs),
    }


def set_values(profile: str) -> dict[str, tuple[float, ...]]:
    """What the settings say, as `sweeps.winners` gives it."""
    rates = rlhf_stages.tuned(profile)
    return {field.name: getattr(rates, field.name) for field in fields(rates)}


def differing(profile: str) -> int:
    """How many methods are set otherwise than the committed sweep found best; 0 where none is committed."""
    best = sweeps.winners(sweeps.committed(profile, NAME))
    given = set_values(profile)
    return sum(tuple(given[method]) != values for method, values in best.items())
