"""Scores of KD and DAE models: chat, domain by aspects, how far from a start; and curves of their losses.

Beside `answer_scores`, whose measures and frames these are. Arms may have fewer seeds than others: differences are
taken over the seeds that both sides have, and each number says how many those are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.lab.kd_stages import as_model, random_dialogues
from zephyr_lab.lab.zephyr_stages import Model, changed
from zephyr_lab.methods.recipes.evaluate import PAIRS
from zephyr_lab.methods.recipes.kd_evaluate import DIALOGUES, START, KDEvaluation
from zephyr_lab.reporting import tables

DOMAIN = scores.DOMAIN
ASPECT_MEASURES = scores.ASPECT_SCORES
RETENTION = "KL from the start, nats a token"
part_mean = seed_means.part_mean


def evaluation(
    profile: str,
    seed: int,
    models: Mapping[str, Model | Stage],
    *,
    hot: bool = False,
    start: Model | Stage | None = None,
    dialogues: Stage | None = None,
    held_out: Stage | None = None,
    **changes: Any,
) -> Stage:
    """General and domain questions asked of `models` (name -> model) in one worker; `seed` decides the draws.

    hot: also the run at one temperature. start, dialogues: the model, and the data (random dialogues) on whose held-out
    rows each model's divergence from it is measured. held_out: pairs on whose test split each model's own ranking is
    measured. changes: fields of `KDEvaluation`, e.g. per_group=0 for no domain question.
    """
    asked = {name: as_model(model) for name, model in models.items()}
    inputs = {name: model.stage for name, model in asked.items()}
    folder = ""
    if start is not None:
        folder = as_model(start).folder
        inputs |= {START: as_model(start).stage, DIALOGUES: dialogues or random_dialogues(profile, seed)}
    if held_out is not None:
        inputs[PAIRS] = held_out
    recipe = settings.load(
        "kd_dae",
        profile,
        "evaluation",
        KDEvaluation,
        models=tuple(asked),
        folders=tuple(model.folder for model in asked.values()),
        system_turns=tuple(model.system_turn for model in asked.values()),
        hot=hot,
        start=folder,
    )
    build = "zephyr_lab.methods.stages.kd_evaluate:build"
    return Stage("kd_evaluation", build, changed(recipe, changes), seed=seed, inputs=inputs)


def evaluation_of(profile: str, seed: int, model: Model, **options: Any) -> Stage:
    """As `evaluation`, of one model alone, whatever an experiment calls it: arms of several notebooks share it."""
    return evaluation(profile, seed, {"model": model}, **options)


def chat_answers(evaluations: Sequence[Stage]) -> pd.DataFrame:
    """Every answer to a chat question, as `answer_scores.answers`, which numbers stages; here the stage's own seed."""
    return _joined(evaluations, "answers.json")


def domain_answers(evaluations: Sequence[Stage]) -> pd.DataFrame:
    """Every answer to a domain question, as `answer_scores.answers`; those columns, and group, aspects and domain."""
    return _joined(evaluations, "domain.json")


def rankings(evaluations: Sequence[Stage]) -> pd.DataFrame:
    """Held-out ranking of the evaluations that were given pairs: columns seed, model, sum, mean, pairs."""
    return _joined(evaluations, "pairs.json")


def divergences(evaluations: Sequence[Stage]) -> pd.DataFrame:
    """Columns seed, model, kl (nats a token), tokens."""
    return _joined(evaluations, "divergence.json")


def retention(found: pd.DataFrame, models: Iterable[str]) -> pd.DataFrame:
    """Tidy frame of the divergence of `models` from their start; models on one seed, without interval, are left out."""
    rows = []
    for model in models:
        own = found[found["model"] == model]
        rows += seed_means.number(model, RETENTION, list(own["kl"]), n=int(own["tokens"].min()))
    return tables.frame(rows)


def difference(answered: pd.DataFrame, ours: str, theirs: str, measure: Measure = scores.SCORE) -> pd.DataFrame:
    """ours - theirs, a row a seed that both have, a column a question. Raises ValueError where they share no seed."""
    values = (scores.grid(answered, ours, measure) - scores.grid(answered, theirs, measure)).dropna(how="all")
    if values.empty:
        raise ValueError(f"{ours!r} and {theirs!r} have no seed in common")
    return values


def differences(
    answered: pd.DataFrame, pairs: Mapping[str, tuple[str, str]], measures: Iterable[Measure] = (scores.SCORE,)
) -> pd.DataFrame:
    """Tidy frame of ours - theirs by seed: `pairs` gives each row's name its two models."""
    measures = list(measures)
    return tables.frame(
        scores.number(
            row,
            measure.metric,
            difference(answered, ours, theirs, measure),
            within=scores.of_difference(measure.within),
        )
        for row, (ours, theirs) in pairs.items()
        for measure in measures
    )


def effect(
    claim: str, metric: str, answered: pd.DataFrame, ours: str, theirs: str, measure: Measure = scores.SCORE
) -> dict[str, Any]:
    """One part of a claim for `check.claims`: ours - theirs, paired by seed."""
    return scores.effect(claim, metric, difference(answered, ours, theirs, measure))


def logs(stages: Sequence[Stage]) -> list[pd.DataFrame]:
    """The training log of each stage, a row a log; runs what is missing."""
    return [pd.DataFrame(files.read_json(folder / "log.json")) for folder in get_many(stages)]


def curves(found: Mapping[str, Sequence[pd.DataFrame]], column: str) -> pd.DataFrame:
    """What `figures.curves` draws: the logged `column` over steps, a line a name, mean and t interval over seeds."""
    lines = []
    for name, logs in found.items():
        rows = [log.dropna(subset=[column]) for log in logs]
        lines.append(seed_means.curve(name, rows[0]["step"], [one[column] for one in rows], kind="retrained"))
    return pd.concat(lines, ignore_index=True)


def _joined(evaluations: Sequence[Stage], file: str) -> pd.DataFrame:
    folders = get_many(evaluations)
    found = [
        pd.DataFrame({"seed": stage.seed, **pd.DataFrame(files.read_json(folder / file))})
        for stage, folder in zip(evaluations, folders, strict=True)
    ]
    return pd.concat(found, ignore_index=True)
