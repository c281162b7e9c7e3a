"""The family of preference losses on the world: the same start, pairs, loop and number of trials; and combinations.

DPO, IPO, cDPO, KTO, ORPO and SimPO each at the learning rate and strength that its sweep found; then DPO with an SFT
term, SFT on the chosen answers after DPO, and ORPO after DPO.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import rlhf_stages, seed_means, sweeps, zephyr_stages
from zephyr_lab.lab.rlhf_stages import PAPER, Model
from zephyr_lab.lab.sweeps import Trial
from zephyr_lab.methods.recipes.preference import FamilyRecipe
from zephyr_lab.reporting import figures, tables
from zephyr_lab.reporting.picture import Picture

NAME = "family"
START = "dSFT, the start"
DPO, IPO, CDPO, KTO, ORPO, SIMPO = "DPO", "IPO", "cDPO", "KTO", "ORPO", "SimPO"
LOSSES = {DPO: "dpo", IPO: "ipo", CDPO: "cdpo", KTO: "kto", ORPO: "orpo", SIMPO: "simpo"}
WITH_TERM, SFT_AFTER, ORPO_AFTER = "DPO + SFT term", "DPO, then SFT on chosen", "DPO, then ORPO"
COMBINED = (WITH_TERM, SFT_AFTER, ORPO_AFTER)
ARMS = (*LOSSES, *COMBINED)
REWARD, KL, WORDS = "true reward, T = 1", "KL, nats", "words"
HELD_OUT = {
    "held_out_accuracy_mean": "held-out pairs ranked right, %",
    "held_out_moved_chosen": "log-prob of chosen, change in nats",
    "held_out_moved_rejected": "log-prob of rejected, change in nats",
}


@dataclass(frozen=True, kw_only=True)
class FamilyTerms:
    """What single arms add. sft_weight: of the SFT term, where one is added; smoothing: cDPO's; gamma: SimPO's."""

    sft_weight: float
    smoothing: float
    gamma: float


@dataclass(frozen=True, kw_only=True)
class FamilyTuned:
    """(learning rate, strength) of each loss, as its sweep found them (papers/teaching/sweep.json)."""

    dpo: tuple[float, float]
    ipo: tuple[float, float]
    cdpo: tuple[float, float]
    kto: tuple[float, float]
    orpo: tuple[float, float]
    simpo: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class FamilyGrids:
    """Learning rates that all losses are tried at, and the strengths of each (equally many)."""

    rates: tuple[float, ...]
    dpo: tuple[float, ...]
    ipo: tuple[float, ...]
    cdpo: tuple[float, ...]
    kto: tuple[float, ...]
    orpo: tuple[float, ...]
    simpo: tuple[float, ...]

    def __post_init__(self) -> None:
        sweeps.require_equal_counts(self.trials)

    @property
    def trials(self) -> dict[str, list[tuple[float, ...]]]:
        """(rate, strength) of each trial, by loss."""
        return {
            loss: [(rate, strength) for rate in self.rates for strength in getattr(self, loss)]
            for loss in LOSSES.values()
        }


@dataclass(frozen=True)
class Family:
    """points: a row a seed and arm: quality, kl, words; trained: a row a seed and arm of what its training told
    (`HELD_OUT`; not for arms that end in SFT)."""

    points: pd.DataFrame
    trained: pd.DataFrame
    questions: int
    pairs: int


def world(profile: str, seeds: int) -> Family:
    """Train and measure every arm under seeds 0 to `seeds` - 1."""
    made = [arms(profile, seed) for seed in range(seeds)]
    asked = [
        rlhf_stages.frontier(
            profile,
            seed,
            {START: rlhf_stages.start(profile, seed), **{arm: Model(stage) for arm, stage in made[seed].items()}},
        )
        for seed in range(seeds)
    ]
    points = [
        {
            "seed": seed, "arm": row["model"], "kl": max(row["kl"], 0.0),
            "quality": float(np.mean(row["quality"])), "words": float(np.mean(row["words"])),
        }
        for seed, folder in enumerate(get_many(asked))
        for row in files.read_json(folder / "frontier.json")
    ]  # fmt: skip
    told = [
        {"seed": seed, "arm": arm, **{name: found[name] for name in HELD_OUT}, "pairs": found["held_out_pairs"]}
        for seed, stages in enumerate(made)
        for arm, stage in stages.items()
        if "held_out_moved_chosen" in (found := metrics(stage))
    ]
    trained = pd.DataFrame(told)
    return Family(pd.DataFrame(points), trained, 2 * asked[0].recipe.questions, int(trained["pairs"].iloc[0]))


def arms(profile: str, seed: int) -> dict[str, Stage]:
    """The training of each arm."""
    terms = settings.load(PAPER, profile, "family_terms", FamilyTerms)
    made = {name: trained(profile, seed, loss) for name, loss in LOSSES.items()}
    after = Model(made[DPO])
    rates = rlhf_stages.tuned(profile)
    return {
        **made,
        WITH_TERM: trained(profile, seed, "dpo", sft_weight=terms.sft_weight),
        SFT_AFTER: zephyr_stages.dsft(
            profile,
            seed,
            start=after,
            data=rlhf_stages.pairs(profile, seed),
            learning_rate=rates.sft_on_chosen[0],
        ),
        ORPO_AFTER: trained(profile, seed, "orpo", begun=after),
    }


def trained(
    profile: str, seed: int, loss: str, *, begun: Model | None = None, sft_weight: float = 0.0, **knobs: float
) -> Stage:
    """One loss of the family on the pairs, from `begun` (the dSFT model). knobs: learning_rate and strength, else those
    of the settings."""
    terms = settings.load(PAPER, profile, "family_terms", FamilyTerms)
    rate, strength = getattr(settings.load(PAPER, profile, "family_tuned", FamilyTuned), loss)
    begun = begun or rlhf_stages.start(profile, seed)
    recipe = settings.load(
        PAPER,
        profile,
        "family_world",
        FamilyRecipe,
        start=begun.folder,
        loss=loss,
        second={"cdpo": terms.smoothing, "simpo": terms.gamma}.get(loss, 0.0),
        sft_weight=sft_weight,
        learning_rate=rate,
        strength=strength,
    )
    recipe = zephyr_stages.changed(recipe, knobs)
    inputs = {"policy": begun.stage, "pairs": rlhf_stages.pairs(profile, seed)}
    return Stage("family", "zephyr_lab.methods.stages.preference:build", recipe, seed=seed, inputs=inputs)


def sweep(profile: str, *, again: bool) -> pd.DataFrame:
    """The committed sweep of the family, or one that is run now; see `sweeps.committed` (beta: the strength)."""
    if not again:
        return sweeps.committed(profile, NAME)
    grids = settings.load(PAPER, profile, "family_sweep", FamilyGrids)
    trials = [
        Trial(loss, one, trained(profile, sweeps.SEED, loss, learning_rate=one[0], strength=one[1]))
        for loss, values in grids.trials.items()
        for one in values
    ]
    return sweeps.run(profile, NAME, trials)


def set_values(profile: str) -> dict[str, tuple[float, ...]]:
    """What the settings say, as `sweeps.winners` gives it."""
    rates = settings.load(PAPER, profile, "family_tuned", FamilyTuned)
    return {field.name: getattr(rates, field.name) for field in fields(rates)}


def table(found: Family) -> pd.DataFrame:
    """Every arm: true reward, KL to the start, words; pairs ranked right and how both sides' log-probs moved."""
    rows = []
    for arm in (START, *ARMS):
        for column, metric in (("quality", REWARD), ("kl", KL), ("words", WORDS)):
            rows += seed_means.number(arm, metric, of(found, arm, column), n=found.questions)
        own = found.trained[found.trained["arm"] == arm].sort_values("seed")
        for column, metric in HELD_OUT.items():
            scale = 100 if metric.endswith("%") else 1
            if len(own):
                rows += seed_means.number(arm, metric, list(scale * own[column]), n=found.pairs)
    return tables.frame(rows)


def against_dpo(found: Family) -> pd.DataFrame:
    """Each arm less DPO, paired by seed: true reward in points, and KL."""
    rows = []
    for arm in ARMS:
        if arm == DPO:
            continue
        for column, metric in (("quality", f"{REWARD}: - DPO's"), ("kl", f"{KL}: - DPO's")):
            difference = np.subtract(of(found, arm, column), of(found, DPO, column))
            rows += seed_means.number(arm, metric, list(difference), n=found.questions)
    return tables.frame(rows)


def figure(found: Family) -> Picture:
    """Reward and KL of every arm, one scale each."""
    shown = table(found)
    return figures.dot_plots(shown[shown["metric"].isin([REWARD, KL])], {REWARD: REWARD, KL: "KL to the start, nats"})


def of(found: Family, arm: str, column: str) -> Sequence[float]:
    """One number a seed. Raises ValueError for an arm that was not measured."""
    own = found.points[found.points["arm"] == arm].sort_values("seed")
    if own.empty:
        raise ValueError(f"no arm named {arm!r}; there are {', '.join(dict.fromkeys(found.points['arm']))}")
    return list(own[column].astype(float))
