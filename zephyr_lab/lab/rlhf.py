"""DPO against RLHF on the same start, pairs and prompts: what each method reaches, at what KL, and at what cost.

Every training leaves at least three policies, so that each method is a curve of reward against KL; curves are compared
where both have been. Settings of all methods come from a sweep with equally many trials (`rlhf_sweep`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import rlhf_costs, rlhf_stages, seed_means, zephyr_stages
from zephyr_lab.lab.rlhf_stages import Model
from zephyr_lab.reporting import tables
from zephyr_lab.scoring import best_of_n, frontiers
from zephyr_lab.scoring.spread import standard_deviation

START = "dSFT, the start"
LONGER, CHOSEN = "longer dSFT", "SFT on chosen"
DPO, ONLINE = "DPO", "online DPO"
PPO, RLOO = "reward model + PPO", "reward model + RLOO"
RLOO_TRUE = "RLOO, true reward"
BEST = "best-of-n"
TRAINED = (DPO, ONLINE, PPO, RLOO, RLOO_TRUE, LONGER, CHOSEN)
ARMS = (*TRAINED, BEST)
RLHF = (PPO, RLOO)
COUNTS = (2, 4, 8, 16)  # n of best-of-n
FINAL = "final"
QUALITY, KL, WINS = "true reward, T = 1", "KL, nats", "win rate against the start, %"


@dataclass(frozen=True)
class Comparison:
    """All arms, trained and measured.

    points: a row a seed, arm and policy it left: point, kl, quality, learned, brief, words, tokens, win (% against the
    start's answers to the same questions, ties half). answers: frame of `answer_scores` for the final policies. costs:
    a row a seed and arm, `rlhf_costs.COLUMNS`. By seed: stages, arm -> its trainings; pools, the answers that best-of-n
    picks from.
    """

    points: pd.DataFrame
    answers: pd.DataFrame
    costs: pd.DataFrame
    stages: list[dict[str, list[Stage]]]
    pools: list[dict[str, list[list[float]]]]
    questions: int

    @property
    def seeds(self) -> int:
        return len(self.stages)


def comparison(profile: str, seeds: int) -> Comparison:
    """Train and measure every arm under seeds 0 to `seeds` - 1."""
    made = [methods(profile, seed) for seed in range(seeds)]
    rewards = [rlhf_stages.reward(profile, seed) for seed in range(seeds)]
    asked = [frontier_stage(profile, seed, made[seed], rewards[seed]) for seed in range(seeds)]
    benchmark = [
        zephyr_stages.evaluation(profile, seed, final_models(profile, seed, made[seed])) for seed in range(seeds)
    ]
    pools = [rlhf_stages.best_of_n(profile, seed, reward_model=rewards[seed]) for seed in range(seeds)]
    folders = get_many([*asked, *benchmark, *pools])  # at once, so that no core waits
    drawn = [files.read_json(folder / "pool.json") for folder in folders[2 * seeds :]]
    points = pd.concat(
        [read_points(folder / "frontier.json", seed) for seed, folder in enumerate(folders[:seeds])]
        + [pool_points(pool, seed) for seed, pool in enumerate(drawn)],
        ignore_index=True,
    )
    costs = [
        {"seed": seed, "arm": arm, **rlhf_costs.cost(stages, parameters=metrics(asked[seed])["parameters"])}
        for seed in range(seeds)
        for arm, stages in (made[seed] | {BEST: [rewards[seed]]}).items()
    ]
    return Comparison(
        points, scores.answers(benchmark), pd.DataFrame(costs), made, drawn, 2 * asked[0].recipe.questions,
    )  # fmt: skip


def methods(profile: str, seed: int) -> dict[str, list[Stage]]:
    """The trainings of each method, its policy's last: those with a reward model have two."""
    reward = rlhf_stages.reward(profile, seed)
    return {
        DPO: [rlhf_stages.dpo(profile, seed)],
        ONLINE: [rlhf_stages.online_dpo(profile, seed)],
        PPO: [reward, rlhf_stages.ppo(profile, seed, reward_model=reward)],
        RLOO: [reward, rlhf_stages.policy_gradient(profile, seed, reward_model=reward)],
        RLOO_TRUE: [rlhf_stages.policy_gradient(profile, seed)],
        LONGER: [rlhf_stages.sft(profile, seed, on_chosen=False)],
        CHOSEN: [rlhf_stages.sft(profile, seed, on_chosen=True)],
    }


def frontier_stage(profile: str, seed: int, made: Mapping[str, list[Stage]], reward: Stage) -> Stage:
    """The measure of every policy that the methods left."""
    models = {START: rlhf_stages.start(profile, seed)}
    for arm, stages in made.items():
        models |= {f"{arm}|{model.folder or FINAL}": model for model in rlhf_stages.kept(stages[-1])}
    return rlhf_stages.frontier(profile, seed, models, reward_model=reward)


def final_models(profile: str, seed: int, made: Mapping[str, list[Stage]]) -> dict[str, Model]:
    """The start and each method's final policy."""
    finals = {arm: Model(stages[-1]) for arm, stages in made.items()}
    return {START: rlhf_stages.start(profile, seed), **finals}


def read_points(path: Path, seed: int) -> pd.DataFrame:
    """A row a policy from frontier.json; models are named "arm|point", the start has no point."""
    rows = files.read_json(path)
    (begun,) = [row for row in rows if row["model"] == START]
    found = []
    for row in rows:
        arm, _, point = row["model"].partition("|")
        found.append({
            "seed": seed,
            "arm": arm,
            "point": point or "start",
            "kl": max(row["kl"], 0.0),
            **{name: float(np.mean(row[name])) for name in ("quality", "brief", "learned", "words", "tokens")},
            "finished": float(np.mean(row["finished"])),
            "win": 50 * float(np.mean(np.sign(np.subtract(row["quality"], begun["quality"])) + 1)),
        })  # fmt: skip
    return pd.DataFrame(found)


def pool_points(pool: Mapping[str, list[list[float]]], seed: int) -> pd.DataFrame:
    """Best-of-n by the reward model as points: the expectation over all subsets of the pool, KL by its formula."""
    rows = []
    for n in [count for count in COUNTS if count <= len(pool["quality"][0])]:
        means = {name: best_mean(pool, name, n) for name in ("quality", "learned", "words")}
        rows.append({"seed": seed, "arm": BEST, "point": f"n = {n}", "kl": best_of_n.kl_bound(n), **means})
    return pd.DataFrame(rows)


def best_mean(pool: Mapping[str, list[list[float]]], name: str, n: int) -> float:
    """Mean over questions of what the best of n by the learned reward has of `name`."""
    both = zip(pool["learned"], pool[name], strict=True)
    return float(np.mean([best_of_n.expected_best(ranked, values, n=n) for ranked, values in both]))


def best_of_one(done: Comparison) -> float:
    """By how much best-of-1 misses the mean of its pool, at most over seeds: 0 if the estimator is right."""
    return max(abs(best_mean(pool, "quality", 1) - float(np.mean(pool["quality"]))) for pool in done.pools)


def spread(done: Comparison) -> pd.DataFrame:
    """Standard deviation of the chat score over seeds, with its chi-square interval; nothing for one seed."""
    rows = []
    for arm in (START, *TRAINED):
        values = scores.grid(done.answers, arm).mean(axis=1).to_numpy()
        found = standard_deviation(values)
        if found is not None:
            low, high = found.interval
            rows.append({
                "row": arm, "metric": "sd of the chat score over seeds", "kind": "retrained", "value": found.value,
                "low": min(low, found.value), "high": max(high, found.value), "n": len(values), "seeds": len(values),
                "interval": f"{len(values)} seeds, chi-square 95 %", "source": scores.SOURCE,
            })  # fmt: skip
    return tables.frame(rows)


def arms(done: Comparison) -> pd.DataFrame:
    """The final policies: benchmark score near-greedy and at T = 0.7; true reward, KL, win rate, words at T = 1."""
    wanted = (START, *TRAINED)
    rows = [
        line
        for arm in wanted
        for metric, column in ((QUALITY, "quality"), (KL, "kl"), (WINS, "win"), ("words", "words"))
        for line in seed_means.number(arm, metric, list(last(done, arm)[column]), n=done.questions)
    ]
    chat = scores.scores(done.answers, (scores.SCORE, scores.HOT_SCORE), models=wanted)
    gains = scores.differences(done.answers, {arm: (arm, START) for arm in TRAINED})
    gains = gains.assign(metric="score - start's")
    return pd.concat([chat, gains, tables.frame(rows)], ignore_index=True)


def last(done: Comparison, arm: str) -> pd.DataFrame:
    """The final policy of an arm, a row a seed."""
    return done.points[(done.points["arm"] == arm) & done.points["point"].isin([FINAL, "start"])].sort_values("seed")


def frontier(done: Comparison) -> pd.DataFrame:
    """The curves, one a row of arm, point: mean KL and mean true reward over seeds, with the reward's t interval.

    Columns series, kind, x, y, low, high, interval, as `figures.curves` draws them; the start opens each.
    """
    lines = []
    begun = done.points[done.points["arm"] == START].sort_values("seed")["quality"].to_numpy()
    for arm in ARMS:
        own = done.points[done.points["arm"] == arm]
        points = [(0.0, begun)]
        for _, part in own.groupby("point", sort=False):
            points.append((part["kl"].mean(), part.sort_values("seed")["quality"].to_numpy()))
        points.sort(key=lambda point: point[0])
        drawn = seed_means.curve(
            arm, [x for x, _ in points], list(np.array([y for _, y in points]).T), kind="retrained"
        )
        lines.append(drawn)
    name = f"{done.seeds} seeds, t 95 %" if done.seeds > 1 else None
    return pd.concat(lines, ignore_index=True).assign(interval=name)


def curve(done: Comparison, arm: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """KL and true reward of one arm under one seed, the start first."""
    own = done.points[done.points["seed"] == seed]
    begun = float(own.loc[own["arm"] == START, "quality"].iloc[0])
    part = own[own["arm"] == arm]
    return frontiers.curve(part["kl"].to_numpy(), part["quality"].to_numpy(), start=begun)


def support(done: Comparison, *compared: str) -> float:
    """The largest KL that these arms reach under every seed."""
    return frontiers.common_support([curve(done, arm, seed) for arm in compared for seed in range(done.seeds)])


def equal_kl(done: Comparison, ours: str, theirs: str) -> list[float]:
    """Ours - theirs a seed: mean true reward over KL from 0 to where both have been, in points."""
    up_to = support(done, ours, theirs)
    return [
        frontiers.mean_score(curve(done, ours, seed), up_to) - frontiers.mean_score(curve(done, theirs, seed), up_to)
        for seed in range(done.seeds)
    ]


def at_equal_kl(done: Comparison) -> pd.DataFrame:
    """Each arm less DPO on their common support: area between the curves by its width, and the gap at its end."""
    rows = []
    for arm in (one for one in ARMS if one != DPO):
        up_to = support(done, arm, DPO)
        ends = [
            frontiers.score_at(curve(done, arm, seed), up_to) - frontiers.score_at(curve(done, DPO, seed), up_to)
            for seed in range(done.seeds)
        ]
        rows += seed_means.number(arm, "mean over KL, points", equal_kl(done, arm, DPO), n=done.questions)
        rows += seed_means.number(arm, "at the end, points", ends, n=done.questions)
        rows += seed_means.number(arm, "up to KL, nats", [up_to] * done.seeds, n=done.questions)
    return tables.frame(rows)


def costs(done: Comparison) -> pd.DataFrame:
    """What each arm cost: tokens sampled and read, TFLOP, CPU seconds, MiB; and knobs."""
    names = {
        "tokens_generated": "tokens sampled, thousands",
        "tokens_read": "tokens read, thousands",
        "tflop": "TFLOP",
        "cpu_seconds": "CPU seconds",
        "peak_mib": "peak memory, MiB",
    }
    rows = []
    for arm in ARMS:
        own = done.costs[done.costs["arm"] == arm].sort_values("seed")
        for column, metric in names.items():
            scale = 1e-3 if column.startswith("tokens") else 1.0
            rows += seed_means.number(arm, metric, list(scale * own[column]), n=1)
    return tables.frame(rows)


def knobs(done: Comparison) -> pd.DataFrame:
    """One row a method: how many fields of its recipes shape what is learned, and which."""
    return rlhf_costs.knob_table(done.stages[0])


def ratio(done: Comparison, ours: str, theirs: str, column: str) -> list[float]:
    """Cost of `ours` over that of `theirs`, a seed, by one of `rlhf_costs.COLUMNS`."""
    by_arm = done.costs.pivot(index="seed", columns="arm", values=column)
    return list(by_arm[ours] / by_arm[theirs])


def deviations(values: Sequence[float]) -> list[float]:
    """Distance of each value from the mean of all, scaled so that its mean square is the variance."""
    found = np.asarray(values, dtype=float)
    if len(found) < 2:
        return [0.0] * len(found)
    return list(np.abs(found - found.mean()) * np.sqrt(len(found) / (len(found) - 1)))
