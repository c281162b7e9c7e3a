"""Reward model and policy gradient: what a reward model learns, how policies climb it, and where it breaks.

A learned reward is a stand-in. As long as the policy stays near what it was trained on, it points the right way; pushed
hard, the policy finds answers that the stand-in likes and the true judge does not (Gao et al. 2023, arXiv 2210.10760).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import rlhf, rlhf_stages, seed_means
from zephyr_lab.lab.rlhf_stages import PAPER
from zephyr_lab.reporting import figures, tables
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import looks

RLOO, GRPO, PPO = "rloo", "grpo", "ppo"
TITLES = {RLOO: "RLOO", GRPO: "GRPO", PPO: "PPO"}
LEARNED, TRUE = "learned reward", "true reward"
CAREFUL, PUSHED = "the recipe", "beta 0, high rate"


@dataclass(frozen=True, kw_only=True)
class RewardStudy:
    """Of a profile. pairs: sizes of the training set on the learning curve, 0 for all; weak_pairs: of the reward model
    that is to be over-optimised; rate_times: how many times the tuned learning rate pushes; steps: of that run; keep:
    where its policies are measured."""

    pairs: tuple[int, ...]
    weak_pairs: int
    rate_times: float
    steps: int
    keep: tuple[int, ...]


@dataclass(frozen=True)
class Climb:
    """Rollout logs by method, one frame a seed: columns step, reward, length, tokens_...; kl where it was logged."""

    logs: Mapping[str, list[pd.DataFrame]]


@dataclass(frozen=True)
class OverOptimised:
    """A row a seed, run and policy: step, kl, quality, learned, text (the first answers of seed 0)."""

    points: pd.DataFrame
    samples: pd.DataFrame
    questions: int


def study(profile: str) -> RewardStudy:
    """Settings of the profile."""
    return settings.load(PAPER, profile, "reward_study", RewardStudy)


def learning_curve(profile: str, seeds: int) -> pd.DataFrame:
    """Tidy frame: held-out loss in nats and accuracy in % of reward models from more and more pairs."""
    sizes = study(profile).pairs
    made = {size: [_reward(profile, seed, size) for seed in range(seeds)] for size in sizes}
    get_many([stage for stages in made.values() for stage in stages])
    rows = []
    for stages in made.values():
        found = [metrics(stage) for stage in stages]
        row = f"{int(found[0]['pairs'])} pairs"
        tested = int(found[0]["held_out_pairs"])
        rows += seed_means.number(row, "held-out loss, nats", [one["held_out_loss"] for one in found], n=tested)
        accuracy = [100 * one["held_out_accuracy"] for one in found]
        rows += seed_means.number(row, "held-out accuracy, %", accuracy, n=tested)
    return tables.frame(rows)


def climb(profile: str, seeds: int) -> Climb:
    """RLOO, GRPO and PPO on the same reward models: the mean learned reward of each rollout."""
    made: dict[str, list[Stage]] = {RLOO: [], GRPO: [], PPO: []}
    for seed in range(seeds):
        reward = rlhf_stages.reward(profile, seed)
        made[RLOO].append(rlhf_stages.policy_gradient(profile, seed, reward_model=reward))
        made[GRPO].append(rlhf_stages.policy_gradient(profile, seed, reward_model=reward, algorithm=GRPO, keep=()))
        made[PPO].append(rlhf_stages.ppo(profile, seed, reward_model=reward))
    folders = iter(get_many([stage for stages in made.values() for stage in stages]))
    return Climb({
        method: [pd.DataFrame(files.read_json(next(folders) / "log.json")) for _ in stages]
        for method, stages in made.items()
    })  # fmt: skip


def climbing(found: Climb, column: str = "reward") -> pd.DataFrame:
    """Lines over steps as `figures.curves` draws them: mean over seeds, t interval."""
    lines = [
        seed_means.curve(TITLES[method], logs[0]["step"], [log[column] for log in logs], kind="retrained")
        for method, logs in found.logs.items()
    ]
    seeds = len(next(iter(found.logs.values())))
    return pd.concat(lines, ignore_index=True).assign(interval=f"{seeds} seeds, t 95 %" if seeds > 1 else None)


def over_optimised(profile: str, seeds: int) -> OverOptimised:
    """A weak reward model climbed twice: by the recipe, and without a KL penalty at a high learning rate."""
    asked = []
    for seed in range(seeds):
        weak = _reward(profile, seed, study(profile).weak_pairs)
        models = {rlhf.START: rlhf_stages.start(profile, seed)}
        for run, stage in _climbs(profile, seed, weak).items():
            models |= {f"{run}|{model.folder or rlhf.FINAL}": model for model in rlhf_stages.kept(stage)}
        asked.append(rlhf_stages.frontier(profile, seed, models, reward_model=weak))
    folders = get_many(asked)
    points = pd.concat(
        [rlhf.read_points(folder / "frontier.json", seed) for seed, folder in enumerate(folders)], ignore_index=True
    )
    steps = {run: stage.recipe.steps for run, stage in _climbs(profile, 0, _reward(profile, 0, 0)).items()}
    points["step"] = [_step(row["point"], steps.get(row["arm"], 0)) for _, row in points.iterrows()]
    return OverOptimised(points, _samples(folders[0] / "frontier.json"), 2 * asked[0].recipe.questions)


def hacking(found: OverOptimised) -> pd.DataFrame:
    """Tidy frame: change of the learned and of the true reward from the start to the end of each run, and its KL."""
    rows = []
    begun = _column(found.points, rlhf.START, ("start",))
    for run in (CAREFUL, PUSHED):
        end = _column(found.points, run, (rlhf.FINAL,))
        for column, metric in (("learned", f"{LEARNED}, log-odds"), ("quality", f"{TRUE}, points")):
            change = (end[column] - begun[column]).to_numpy()
            rows += seed_means.number(run, metric, list(change), n=found.questions)
        rows += seed_means.number(run, rlhf.KL, list(end["kl"]), n=found.questions)
    return tables.frame(rows)


def apart(found: OverOptimised) -> Picture:
    """Two panels over steps: what the policy is rewarded for, and what its answers are worth."""
    figure, axes = figures.panels(2)
    for ax, (column, label) in zip(axes, (("learned", f"{LEARNED}, log-odds"), ("quality", TRUE)), strict=True):
        lines = []
        begun = _column(found.points, rlhf.START, ("start",))[column].to_numpy()
        for run in (CAREFUL, PUSHED):
            own = found.points[found.points["arm"] == run]
            steps = sorted(own["step"].unique())
            values = [begun] + [own[own["step"] == step].sort_values("seed")[column].to_numpy() for step in steps]
            lines.append(seed_means.curve(run, [0, *steps], list(np.array(values).T), kind="retrained"))
        seeds = found.points["seed"].nunique()
        named = f"{seeds} seeds, t 95 %" if seeds > 1 else None
        frame = pd.concat(lines, ignore_index=True).assign(interval=named)
        figures.curves(frame, x_label="steps", y_label=label, ax=ax)
    return figure


def samples(found: OverOptimised) -> tables.Shown:
    """The same questions answered by the start and by both policies, seed 0, with the judge's points."""
    return tables.words(found.samples)


def _climbs(profile: str, seed: int, weak: Stage) -> dict[str, Stage]:
    own = study(profile)
    rate, _ = rlhf_stages.tuned(profile).rloo
    shared = {"reward_model": weak, "steps": own.steps, "keep": own.keep}
    return {
        CAREFUL: rlhf_stages.policy_gradient(profile, seed, **shared),
        PUSHED: rlhf_stages.policy_gradient(
            profile, seed, beta=0.0, learning_rate=own.rate_times * rate, final_share=1.0, **shared
        ),
    }


def _reward(profile: str, seed: int, pairs: int) -> Stage:
    return rlhf_stages.reward(profile, seed, pairs=pairs)


def _step(point: str, steps: int) -> int:
    if point == "start":
        return 0
    return steps if point == rlhf.FINAL else int(point.removeprefix("steps/"))


def _column(points: pd.DataFrame, arm: str, wanted: Sequence[str]) -> pd.DataFrame:
    own = points[(points["arm"] == arm) & points["point"].isin(wanted)]
    return own.sort_values("seed").reset_index(drop=True)


def _samples(path: Path, *, shown: int = 4) -> pd.DataFrame:
    rows = {row["model"]: row for row in files.read_json(path)}
    wanted = {"start": rlhf.START, CAREFUL: f"{CAREFUL}|{rlhf.FINAL}", PUSHED: f"{PUSHED}|{rlhf.FINAL}"}
    places = np.linspace(0, len(rows[rlhf.START]["text"]) - 1, shown).astype(int)
    return pd.DataFrame([
        {"question": int(place), "policy": name, "answer": rows[model]["text"][place],
         TRUE: rows[model]["quality"][place], LEARNED: round(rows[model]["learned"][place], 2)}
        for place in places for name, model in wanted.items()
    ])  # fmt: skip


def kl_moments() -> pd.DataFrame:
    """Exact bias and standard deviation of k1, k2 and k3, one draw each, as the policy leaves the reference.

    A reference over eight answers and a reward on them; the policy is the optimum of reward less beta * KL, for smaller
    and smaller beta. Columns estimator, kl, bias, sd, in nats.
    """
    import torch  # the losses need it, the kernel's other studies do not

    from zephyr_lab.losses import kl_estimators

    reward = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64)
    reference = torch.log_softmax(torch.cos(3.0 * reward), 0)
    rows = []
    for pull in (0.1, 0.2, 0.5, 1.0, 2.0, 4.0):
        policy = torch.log_softmax(reference + pull * reward, 0)
        kl = kl_estimators.exact_kl(policy, reference).item()
        for name in kl_estimators.ESTIMATORS:
            found = kl_estimators.moments(policy, reference, estimator=name)
            rows.append({"estimator": name, "kl": kl, "bias": found.bias.item(), "sd": found.sd.item()})
    return pd.DataFrame(rows)


def largest_bias(moments: pd.DataFrame) -> float:
    """The largest bias of the two unbiased estimators, in nats."""
    return float(moments[moments["estimator"].isin(["k1", "k3"])]["bias"].abs().max())


def kl_figure(moments: pd.DataFrame) -> Picture:
    """Two panels over the true KL, both axes logarithmic: standard deviation and absolute bias of each estimator."""
    figure, (left, right) = figures.panels(2)
    styles = looks(moments["estimator"])
    for ax, column, label in ((left, "sd", "standard deviation of one draw, nats"), (right, "bias", "bias, nats")):
        for name, own in moments.groupby("estimator", sort=False):
            look = styles[str(name)]
            values = own[column].abs()
            if values.max() > 1e-9:  # an unbiased one has no line on a logarithmic scale
                ax.plot(own["kl"], values, color=look.colour, marker=look.marker, markersize=4, label=str(name))
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("true KL, nats")
        ax.set_ylabel(label)
        ax.grid(color="0.93", linewidth=0.6)
    left.legend(loc="upper left")
    right.legend(loc="upper left", title="k1 and k3: none", title_fontsize=7.5)
    return figure


def answers_apart(found: Climb) -> int:
    """Most less fewest answers of a rollout, over methods, seeds and steps: 0 if all had as many."""
    counts = [count for logs in found.logs.values() for log in logs for count in log["answers"]]
    return int(max(counts) - min(counts))
