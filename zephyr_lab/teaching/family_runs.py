"""The toy's second stage: the family of preference losses at equal trials, and methods one after another.

Numbers are lists with one value a toy (a seed); results.json has the sections frontier, known, drawn and later.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from zephyr_lab.core import files
from zephyr_lab.methods.recipes.toy import FamilyRuns, MethodKnobs
from zephyr_lab.teaching import few_preferences as few
from zephyr_lab.teaching import methods, toy, toy_runs
from zephyr_lab.teaching.descent import adam_path, log_spaced
from zephyr_lab.teaching.toy import PairTable, Table, Toy, ToyNumbers

Rows = list[dict[str, Any]]
FRONTIER_POINTS = 60
STOPS = 20


class Trial(NamedTuple):
    """One setting of one method: the value of its knob, its loss, and the toy and knobs that this makes."""

    method: str
    value: float
    loss: Callable[[Table, PairTable], ToyNumbers]
    toy: Toy
    knobs: MethodKnobs


def build(recipe: FamilyRuns, *, seed: int, inputs: dict[str, Path], out: Path, context: Any) -> dict[str, float]:
    """Run everything and write results.json; toys are of seeds 0 to recipe.seeds - 1. Metrics: trials a method."""
    del seed, inputs
    torch.set_num_threads(1)
    toys = toy.draw(range(recipe.seeds), prompts=recipe.prompts, answers=recipe.answers, beta=recipe.beta)
    train, held_out = few.split_preferences(toys, recipe.preferences, held_out=recipe.held_out, seed=0, noise=0.0)
    shares, held_shares = few.shares(train), few.shares(held_out)
    tried = list(trials(toys, recipe))
    drawn = []
    for done, trial in enumerate(tried, 1):
        policy, when = learned(trial, toys.reference, shares, held_shares, steps=recipe.steps, rate=recipe.rate)
        drawn.append(_row(toys, trial, policy, stopped=when))
        context.progress(done, len(tried) + 1)
    results = {
        "frontier": frontier(toys),
        "known": [_row(toys, trial, known_point(trial)) for trial in tried if trial.method != "DPO + SFT term"],
        "drawn": drawn,
        "later": one_after_another(toys, recipe, shares, held_shares),
    }
    files.write_json(out / toy_runs.RESULTS, results)
    context.progress(len(tried) + 1, len(tried) + 1)
    return {"trials": float(len(recipe.betas))}


def trials(toys: Toy, recipe: FamilyRuns) -> Iterator[Trial]:
    """Every method at every value of its knob. DPO and cDPO vary beta; their toy has that beta."""
    knobs = MethodKnobs(**{field.name: getattr(recipe, field.name) for field in fields(MethodKnobs)})
    for beta in recipe.betas:
        given = replace(toys, beta=beta)
        yield Trial("DPO", beta, lambda p, s, t=given: methods.dpo(t, p, s), given, knobs)
        yield Trial("cDPO", beta, lambda p, s, t=given: methods.cdpo(t, p, s, knobs), given, knobs)
    varied: dict[str, tuple[str, tuple[float, ...], Callable[[Toy, Table, PairTable, MethodKnobs], ToyNumbers]]] = {
        "IPO": ("tau", recipe.taus, methods.ipo),
        "KTO": ("kto_beta", recipe.kto_betas, methods.kto),
        "ORPO": ("orpo_weight", recipe.orpo_weights, methods.orpo),
        "SimPO": ("simpo_beta", recipe.simpo_betas, methods.simpo),
    }
    for method, (knob, values, loss) in varied.items():
        for value in values:
            set_so = replace(knobs, **{knob: value})
            yield Trial(method, value, lambda p, s, f=loss, k=set_so: f(toys, p, s, k), toys, set_so)
    for weight in recipe.sft_weights:
        yield Trial(
            "DPO + SFT term",
            weight,
            lambda p, s, w=weight: methods.dpo(toys, p, s) + w * methods.supervised(toys, p, s),
            toys,
            knobs,
        )


def known_point(trial: Trial) -> Table:
    """Where the trial ends with all preferences known: its derived point."""
    return toy_runs.derived_points(trial.toy, trial.knobs, only=trial.method)[trial.method]


def learned(
    trial: Trial, start: Table, shares: PairTable, held_out: PairTable, *, steps: int, rate: float
) -> tuple[Table, list[int]]:
    """The policy of each toy at the step whose held-out loss, the method's own, is smallest; and that step."""
    way = adam_path(lambda policy: trial.loss(policy, shares), start, rate=rate, at=log_spaced(steps, count=STOPS))
    losses = torch.stack([trial.loss(policy, held_out).detach() for policy in way.values()])
    policy, which = few.best_by(losses, list(way.values()))
    return policy, [list(way)[place] for place in which]


def frontier(toys: Toy) -> Rows:
    """Reward and distance of the optimum at every strength of the penalty: nothing lies above this line."""
    rows = []
    for beta in np.geomspace(0.05, 20, FRONTIER_POINTS):
        best = toy.optimum(replace(toys, beta=float(beta)))
        rows.append({"beta": float(beta)} | _numbers(toys, best))
    return rows


def one_after_another(toys: Toy, recipe: FamilyRuns, shares: PairTable, held_out: PairTable) -> Rows:
    """DPO stopped early, then SFT on chosen, ORPO or DPO again for `later_steps`: rows of second method and step."""
    knobs: MethodKnobs = recipe
    first = Trial("DPO", toys.beta, lambda p, s: methods.dpo(toys, p, s), toys, knobs)
    start, _ = learned(first, toys.reference, shares, held_out, steps=recipe.steps, rate=recipe.rate)
    second: dict[str, Callable[[Table], ToyNumbers]] = {
        "DPO, then SFT on chosen": lambda p: methods.supervised(toys, p, shares),
        "DPO, then ORPO": lambda p: methods.orpo(toys, p, shares, knobs),
        "DPO, then DPO again": lambda p: methods.dpo(toys, p, shares),
    }
    at = log_spaced(recipe.later_steps, count=STOPS)
    return [
        {"method": method, "step": step} | _numbers(toys, policy)
        for method, loss in second.items()
        for step, policy in adam_path(loss, start, rate=recipe.rate, at=at).items()
    ]


def _row(toys: Toy, trial: Trial, policy: Table, **more: Any) -> dict[str, Any]:
    return {"method": trial.method, "value": trial.value} | _numbers(toys, policy) | more


def _numbers(toys: Toy, policy: Table) -> dict[str, list[float]]:
    """By the toys' own beta, whatever the method was told."""
    return {
        "reward": toy.expected_reward(toys, policy).tolist(),
        "to_reference": toy.kl(policy, toys.reference).tolist(),
        "lost": toy.lost_share(toys, policy).tolist(),
    }
