"""The toy's main stage: population curves, the point of each method, few preferences, sampled policy gradient.

Everything is written as plain numbers, a list with one value a toy (a seed) wherever a quantity has one.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zephyr_lab.core import files
from zephyr_lab.methods.recipes.toy import MethodKnobs, ToyRuns
from zephyr_lab.teaching import few_preferences as few
from zephyr_lab.teaching import methods, points, rollouts, toy
from zephyr_lab.teaching.descent import bottom, log_spaced, natural_path, path
from zephyr_lab.teaching.toy import Table, Toy

Rows = list[dict[str, Any]]
RESULTS = "results.json"
CURVE_POINTS = 40
LARGEST_STEP = 0.5  # of a logit, where KTO's natural gradient grows without bound as an answer dies out


def build(recipe: ToyRuns, *, seed: int, inputs: dict[str, Path], out: Path, context: Any) -> dict[str, float]:
    """Run everything and write results.json; `seed` shifts nothing, toys are drawn from seeds 0 to recipe.seeds - 1.

    Sections: curves, points, preferences, paths, penalties, draws. Metrics: the largest KL between a reached and a
    derived point, and between DPO and reward model at any step.
    """
    del seed, inputs
    torch.set_num_threads(1)
    toys = toy.draw(range(recipe.seeds), prompts=recipe.prompts, answers=recipe.answers, beta=recipe.beta)
    parts = {
        "curves": lambda: curves(toys, recipe),
        "points": lambda: reached_points(toys, recipe),
        "few": lambda: few_preferences(toys, recipe),
        "draws": lambda: sampled_draws(toys, recipe),
    }
    results: dict[str, Any] = {}
    for done, (name, part) in enumerate(parts.items(), 1):
        found = part()
        results |= found if isinstance(found, dict) else {name: found}
        context.progress(done, len(parts))
    files.write_json(out / RESULTS, results)
    return {
        "worst_point": max(max(row["to_point"]) for row in results["points"]),
        "worst_twin": max(max(row["twin"]) for row in results["preferences"] if "twin" in row),
    }


def curves(toys: Toy, recipe: ToyRuns) -> Rows:
    """KL to the optimum on the way there, all preferences or all draws counted: rows of method, step, kl."""
    shares, best = toy.outcome_shares(toys), toy.optimum(toys)
    at = log_spaced(recipe.steps, count=CURVE_POINTS)
    natural_at = log_spaced(recipe.natural_steps, count=CURVE_POINTS)
    ways = {
        "DPO": path(lambda p: methods.dpo(toys, p, shares), toys.reference, rate=recipe.rate / toys.beta**2, at=at),
        "policy gradient": path(
            lambda p: methods.policy_gradient(toys, p), toys.reference, rate=recipe.rate / 8, at=at
        ),
        "natural policy gradient": natural_path(
            lambda p: methods.policy_gradient(toys, p), toys.reference, rate=recipe.natural_rate, at=natural_at
        ),
    }
    return [
        {"method": method, "step": step, "kl": toy.kl(policy, best).tolist()}
        for method, way in ways.items()
        for step, policy in way.items()
    ]


def reached_points(toys: Toy, recipe: ToyRuns) -> Rows:
    """Where each method ends with everything known, beside the point derived for it: rows of method and distances."""
    knobs, shares = recipe, toy.outcome_shares(toys)
    derived = derived_points(toys, knobs)
    descended = {
        "DPO": lambda p: methods.dpo(toys, p, shares),
        "IPO": lambda p: methods.ipo(toys, p, shares, knobs),
        "cDPO": lambda p: methods.cdpo(toys, p, shares, knobs),
        "ORPO": lambda p: methods.orpo(toys, p, shares, knobs),
        "SimPO": lambda p: methods.simpo(toys, p, shares, knobs),
        "SFT on chosen": lambda p: methods.supervised(toys, p, shares),
    }
    reached = {method: bottom(loss, toys.reference) for method, loss in descended.items()}
    walked = {
        "policy gradient": lambda p: methods.policy_gradient(toys, p),
        "RLOO": lambda p: rollouts.rloo_over_all_draws(toys, p),
        "PPO": rollouts.ppo_over_all_draws(toys, clip=recipe.clip, inner=recipe.inner),
        "KTO": lambda p: methods.kto(toys, p, shares, knobs),
    }
    for method, loss in walked.items():
        steps, rate = recipe.natural_steps, recipe.natural_rate
        if method == "KTO":  # its slope is shallow and its steps are bounded: more of them, and longer ones
            steps, rate = 2 * steps, 6 * rate
        way = natural_path(loss, toys.reference, rate=rate, at=[steps], largest=LARGEST_STEP)
        reached[method] = way[steps]
    scores = bottom(lambda table: methods.reward_model(table, shares), torch.zeros_like(toys.rewards))
    reached["reward model"] = few.best_for(toys, scores)
    return [
        {
            "method": method,
            "to_point": toy.kl(derived[method], reached[method]).tolist(),
            "to_optimum": toy.kl(reached[method], toy.optimum(toys)).tolist(),
            "lost": toy.lost_share(toys, reached[method]).tolist(),
            "reward": toy.expected_reward(toys, reached[method]).tolist(),
            "to_reference": toy.kl(reached[method], toys.reference).tolist(),
        }
        for method in derived
    ]


def derived_points(toys: Toy, knobs: MethodKnobs, *, only: str | None = None) -> dict[str, Table]:
    """The derived point of every method, or of one, as log-probabilities. Raises ValueError for an unknown name."""
    reference, rewards = toys.reference.numpy(), toys.rewards.numpy()
    chances, pairs = toy.preference_chances(toys).numpy(), toy.pair_shares(toys).numpy()
    beta, smoothing = toys.beta, knobs.label_smoothing

    def best(i: int) -> np.ndarray:
        return points.regularised_optimum(reference[i], rewards[i], beta=beta)

    ways: dict[str, Callable[[int], np.ndarray]] = {
        **dict.fromkeys(("DPO", "reward model", "policy gradient", "RLOO", "PPO"), best),
        "IPO": lambda i: points.ipo(reference[i], chances[i], tau=knobs.tau),
        "cDPO": lambda i: points.cdpo(reference[i], chances[i], pairs[i], beta=beta, label_smoothing=smoothing),
        "KTO": lambda i: points.kto(reference[i], chances[i], pairs[i], beta=knobs.kto_beta),
        "ORPO": lambda i: points.orpo(chances[i], pairs[i], weight=knobs.orpo_weight),
        "SimPO": lambda i: points.simpo(chances[i], pairs[i], beta=knobs.simpo_beta, gamma=knobs.simpo_gamma),
        "SFT on chosen": lambda i: points.supervised(chances[i], pairs[i]),
    }
    if only is not None and only not in ways:
        raise ValueError(f"no derived point of a method named {only!r}; known: {', '.join(ways)}")
    names = ways if only is None else (only,)
    return {name: torch.from_numpy(np.stack([ways[name](i) for i in range(len(rewards))])) for name in names}


def few_preferences(toys: Toy, recipe: ToyRuns) -> dict[str, Rows]:
    """Arms that learn from drawn preferences: to the end, stopped early, penalised; and the way each went.

    All counts are computed at once, each on a copy of the toys.
    """
    counts = recipe.preferences
    drawn = [few.split_preferences(toys, one, held_out=recipe.held_out, seed=0, noise=0.0) for one in counts]
    train, held_out = (torch.cat([pair[place] for pair in drawn]) for place in (0, 1))
    copies, given = toy.repeated(toys, len(counts)), few.shares(train)
    at, rate = log_spaced(recipe.steps, count=CURVE_POINTS), recipe.rate / toys.beta**2
    way, twin = few.dpo_path(copies, train, rate=rate, at=at), few.reward_path(copies, train, rate=rate, at=at)
    loose = path(
        lambda policy: methods.without_reference(copies, policy, given),
        copies.reference,
        rate=rate * toys.beta / 2,  # both losses then start with the same gradient
        at=[recipe.steps],
    )
    penalised = [few.best_for(copies, few.fit_rewards(train, penalty=one)) for one in recipe.penalties]
    losses = torch.stack([few.preference_loss(copies, policy, held_out) for policy in way.values()])
    stopped, when = few.best_by(losses, list(way.values()))
    by_penalty = torch.stack([few.preference_loss(copies, policy, held_out) for policy in penalised])
    regularised, which = few.best_by(by_penalty, penalised)
    ends = {
        "DPO, to the end": way[at[-1]],
        "reward model, to the end": twin[at[-1]],
        "DPO, stopped early": stopped,
        "DPO, penalised": regularised,
        "log-ratio without reference": loose[recipe.steps],
    }
    twins = torch.stack([(way[step] - twin[step]).abs().amax((-2, -1)) for step in at]).amax(0)
    chosen = {
        "DPO, to the end": {"twin": _by_count(twins, counts)},
        "DPO, stopped early": {"choice": _by_count(torch.tensor(at)[when], counts)},
        "DPO, penalised": {"choice": _by_count(torch.tensor(recipe.penalties, dtype=torch.float64)[which], counts)},
    }
    trained = torch.stack([few.preference_loss(copies, policy, train) for policy in way.values()])
    walks = {
        step: {"lost": toy.lost_share(copies, way[step]), "train": trained[place], "held_out": losses[place]}
        for place, step in enumerate(at)
    }
    return {
        "preferences": _rows(
            counts,
            {
                arm: {"lost": toy.lost_share(copies, policy), "kl": toy.kl(policy, toy.optimum(copies))}
                for arm, policy in ends.items()
            },
            "arm",
            chosen,
        ),
        "paths": _rows(counts, walks, "step"),
        "penalties": _rows(
            counts,
            {
                one: {"lost": toy.lost_share(copies, policy), "held_out": by_penalty[place]}
                for place, (one, policy) in enumerate(zip(recipe.penalties, penalised, strict=True))
            },
            "penalty",
        ),
    }


def sampled_draws(toys: Toy, recipe: ToyRuns) -> Rows:
    """RLOO on the true reward from sampled answers: rows of draws and distances."""
    rows = []
    for draws in recipe.draws:
        steps = draws // (recipe.prompts * recipe.samples)
        policy = rollouts.sampled_rloo(toys, steps=steps, samples=recipe.samples, rate=recipe.draw_rate, seed=0)
        lost, best = toy.lost_share(toys, policy), toy.optimum(toys)
        rows.append({"draws": draws, "kl": toy.kl(policy, best).tolist(), "lost": lost.tolist()})
    return rows


def _by_count(numbers: Tensor, counts: Sequence[int]) -> list[list[float]]:
    """A number a copy of a toy as one list a count."""
    return numbers.double().view(len(counts), -1).tolist()


def _rows(
    counts: Sequence[int],
    found: Mapping[Any, Mapping[str, Tensor]],
    name: str,
    more: Mapping[Any, Mapping[str, list[list[float]]]] | None = None,
) -> Rows:
    """A row for each count and key of `found`, with a list of one number a toy under each quantity."""
    rows = []
    for place, count in enumerate(counts):
        for key, numbers in found.items():
            quantities = {what: _by_count(values, counts) for what, values in numbers.items()}
            quantities |= (more or {}).get(key, {})
            rows.append({"count": count, name: key} | {what: values[place] for what, values in quantities.items()})
    return rows
