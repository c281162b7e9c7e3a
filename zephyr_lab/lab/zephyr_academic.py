"""Table 2 retrained: base, dSFT and dDPO on the world's multiple-choice sets, scored by the leaderboard's rules.

Each set stands for one of the paper's (`SETS`). The sets differ from the published ones in everything but the rule, so
what compares is whether preference training costs knowledge: the order of dSFT and dDPO.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.zephyr_chat import BASE, DDPO, DDPO_1, DSFT
from zephyr_lab.methods.recipes.multiple_choice import MultipleChoice
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import PERCENT, Scale
from zephyr_lab.scoring.multiple_choice import normalised, share, summed
from zephyr_lab.world.choices import SHOTS

# Column of Table 2 -> the world's set that stands for it.
SETS = {"arc": "reasoning", "hellaswag": "endings", "mmlu": "facts", "truthfulqa": "myths"}
LABELS = {"arc": "orderings, sums, %", "hellaswag": "endings, %", "mmlu": "facts, %", "truthfulqa": "myths, %"}
SOURCE = "embedded world, multiple choice"
MEAN = "mean of the four"
CLAIM = "multiple-choice accuracy: dDPO - dSFT"
CHANGE = scores.of_difference(PERCENT)
TRAINED = (DSFT, DDPO_1, DDPO)
RULES: dict[str, Callable[[pd.Series], float]] = {
    "by character": lambda row: normalised(row["log_probs"], row["characters"], row["answer"]),
    "summed": lambda row: summed(row["log_probs"], row["answer"]),
    "share of probability": lambda row: share(row["log_probs"], row["answer"]),
}


def choices(profile: str, seeds: int) -> pd.DataFrame:
    """Every question asked: columns seed, model, task, question, examples, and one for each of `RULES`.

    The base is one model for all seeds and draws nothing here, so it is asked once, as seed 0.
    """
    asked = [_asked(profile, seed) for seed in range(seeds)]
    found = []
    for seed, folder in enumerate(get_many(asked)):
        rows = pd.DataFrame(files.read_json(folder / "choices.json"))
        by_rule = {rule: [score(row) for _, row in rows.iterrows()] for rule, score in RULES.items()}
        found.append(rows[["model", "task", "question", "examples"]].assign(seed=seed, **by_rule))
    return pd.concat(found, ignore_index=True)


def accuracies(scored: pd.DataFrame, *, rule: str = "by character") -> pd.DataFrame:
    """Tidy frame in Table 2's columns, in %: a row a model, and the mean over the sets.

    Trained models: t over seeds. The base: a bootstrap over questions, which its interval says.
    """
    rows = []
    for model in (BASE, *TRAINED):
        unit = "base" if model == BASE else "seed"
        for column, task in SETS.items():
            rows.append(_percent(model, column, _grid(scored, model, rule, task), unit))
        rows.append(_percent(model, MEAN, _grid(scored, model, rule), unit))
    return tables.frame(rows)


def differences(scored: pd.DataFrame, *, rule: str = "by character") -> pd.DataFrame:
    """Tidy frame of what dDPO changes, in percentage points, paired by seed: a row a length of dDPO."""
    rows = []
    for row, model in (("1 epoch of dDPO - dSFT", DDPO_1), ("3 epochs of dDPO - dSFT", DDPO)):
        for column, task in SETS.items():
            change = _grid(scored, model, rule, task) - _grid(scored, DSFT, rule, task)
            rows.append(_percent(row, column, change, within=CHANGE))
        rows.append(_percent(row, MEAN, _grid(scored, model, rule) - _grid(scored, DSFT, rule), within=CHANGE))
    return tables.frame(rows)


def by_rule(scored: pd.DataFrame) -> pd.DataFrame:
    """Tidy frame of the mean over the sets by scoring rule, in %: does the order depend on it?"""
    return tables.frame(
        _percent(model, rule, _grid(scored, model, rule), "base" if model == BASE else "seed")
        for model in (BASE, *TRAINED)
        for rule in RULES
    )


def effect_of_ddpo(scored: pd.DataFrame) -> pd.DataFrame:
    """Z7 for `check.claims`: mean accuracy over the four sets, all three epochs of dDPO against dSFT."""
    rule = next(iter(RULES))
    return scores.effects([scores.effect("Z7", CLAIM, _grid(scored, DDPO, rule) - _grid(scored, DSFT, rule))])


def examples(scored: pd.DataFrame) -> pd.DataFrame:
    """A row a set: what it stands for, questions, options guessed at random, examples asked for and those that fit."""
    sets = {task: column for column, task in SETS.items()}
    first = scored[(scored["seed"] == 0) & (scored["model"] == DSFT)]
    return pd.DataFrame([
        {
            "set": task,
            "stands for": sets[str(task)],
            "questions": len(part),
            "examples wanted": SHOTS[str(task)],
            "examples that fit, mean": round(part["examples"].mean(), 1),
        }
        for task, part in first.groupby("task", sort=False)
    ])  # fmt: skip


def _asked(profile: str, seed: int) -> Stage:
    sft, dpo = stages.dsft(profile, seed), stages.three_epochs(profile, seed)
    models = {DSFT: stages.Model(sft), DDPO_1: stages.Model(dpo, "epochs/1"), DDPO: stages.Model(dpo)}
    if seed == 0:
        models = {BASE: stages.base(profile), **models}
    recipe = settings.load(
        "zephyr",
        profile,
        "choices",
        MultipleChoice,
        models=tuple(models),
        folders=tuple(model.folder for model in models.values()),
    )
    inputs = {name: model.stage for name, model in models.items()}
    return Stage("choices", "zephyr_lab.methods.stages.multiple_choice:build", recipe, seed=seed, inputs=inputs)


def _percent(
    row: str, metric: str, values: pd.DataFrame, unit: str = "seed", *, within: Scale | None = PERCENT
) -> dict[str, Any]:
    return {**scores.number(row, metric, 100 * values, unit=unit, within=within), "source": SOURCE}


def _grid(scored: pd.DataFrame, model: str, rule: str, task: str | None = None) -> pd.DataFrame:
    """A row a seed, a column a question, as `answer_scores.estimate` takes it.

    Over all sets every set counts the same, as each has the same number of questions.
    """
    wanted = scored["model"] == model
    if task is not None:
        wanted &= scored["task"] == task
    chosen: Any = scored[wanted]
    return chosen.pivot(index="seed", columns=["task", "question"], values=rule)
