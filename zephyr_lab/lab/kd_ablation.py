"""Notebook 20: which teacher and which loss distils best (Table 2), with controls that the paper does not print.

All arms start from one base; a seed decides data, order and sampling, so arms are paired by seed. Rows bear the paper's
names where it has them. Kothari et al. 2024, arXiv 2406.19112, sections 3.1.1 and 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import kd_scores, kd_stages, zephyr_stages
from zephyr_lab.lab.base import HUB_PROFILES
from zephyr_lab.lab.sizes import AblationArms as AblationSettings
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.reporting import published, tables
from zephyr_lab.scoring import spread
from zephyr_lab.world.benchmark import Question, mt_bench
from zephyr_lab.world.judge import RubricJudge

BASE = "base"
RANDOM, QUALITY = "SFT random", "SFT quality-assured"
ATTENTION, PREDICTION = "KD without prediction loss", "KD without attention loss"
KD, LARGER = "KD, same-size teacher", "KD, larger teacher"
TABLE_2 = (RANDOM, QUALITY, ATTENTION, PREDICTION, KD, LARGER)
PRINTED = {"KD Mistral-7B-Instruct-v0.2": KD, "KD Mixtral-8x7B-Instruct-v0.1": LARGER}  # labels of Table 2 -> rows

WITH_CE, KD_QUALITY = "KD with cross-entropy", "KD quality-assured"
OWN, ALIGNED = "SFT on the teacher's answers", "dSFT + dDPO"
ANSWERS, CODE = "KD, answers alone", "KD, the code's mask"
REVERSE, ON_POLICY = "KD, reverse", "KD, on-policy"
CONTROLS = (WITH_CE, KD_QUALITY, OWN, ALIGNED, ANSWERS, CODE, REVERSE, ON_POLICY)
NEEDED = (KD_QUALITY, ALIGNED)  # controls that claims rest on: they have every seed
REPEATED = (RANDOM, KD)  # arms of K2
TEACHERS = ("same-size teacher", "larger teacher")
DEVIATION = "standard deviation"
LOSSES = {"attention alone": ATTENTION, "prediction alone": PREDICTION, "both": KD}  # lines of Figure 4


@dataclass(frozen=True)
class Ablation:
    """All arms, trained and asked. answers: frame of `answer_scores`; repeated: the arms of K2 under twice as many
    seeds; again: one model of each asked several times, the number of the time as "seed"; teachers: asked once.
    stages: by arm, one a seed; questions: what all were asked."""

    arms: AblationSettings
    answers: pd.DataFrame
    repeated: pd.DataFrame
    again: pd.DataFrame
    teachers: pd.DataFrame
    stages: dict[str, list[Stage]]
    questions: tuple[Question, ...]


def ablation(profile: str, seeds: int) -> Ablation:
    """Train and ask every arm under seeds 0 to `seeds` - 1, the arms of K2 under twice as many."""
    arms = settings.load("kd_dae", profile, "ablation", AblationSettings)
    models = [models_of(profile, seed, controls=seed < arms.control_seeds) for seed in range(seeds)]
    more = [repeated_models(profile, seed) for seed in range(seeds, 2 * seeds)]
    ask = [_chat(profile, seed, one) for seed, one in enumerate([*models, *more])]
    again = [_chat(profile, 1000 + time, repeated_models(profile, 0)) for time in range(arms.judgings)]
    teachers = _chat(profile, 0, dict(zip(TEACHERS, _teachers(profile), strict=True)))
    get_many([*ask, *again, teachers])  # at once, so that no core waits
    asked = scores.answers(ask)
    trained = {name: [one[name].stage for one in models if name in one] for name in models[0] if name != BASE}
    return Ablation(
        arms,
        asked[asked["seed"] < seeds],
        asked[asked["model"].isin(REPEATED)],
        scores.answers(again),
        scores.answers([teachers]),
        trained,
        mt_bench(teachers.recipe.questions, size=require_world(teachers.recipe.world)),
    )


def models_of(profile: str, seed: int, *, controls: bool = True) -> dict[str, Model]:
    """Every model of one seed by its row, the base among them; `controls`: also those that no claim rests on."""
    same, larger = _teachers(profile)
    quality = kd_stages.qa_dialogues(profile, seed)
    sft = kd_stages.sft(profile, seed)
    made: dict[str, Stage] = {
        RANDOM: sft,
        QUALITY: kd_stages.sft(profile, seed, data=quality),
        ATTENTION: kd_stages.kd(profile, seed, prediction_weight=0.0),
        PREDICTION: kd_stages.kd(profile, seed, attention_weight=0.0),
        KD: kd_stages.kd(profile, seed),
        LARGER: kd_stages.kd(profile, seed, teacher=larger),
        KD_QUALITY: kd_stages.kd(profile, seed, data=quality),
        ALIGNED: with_ddpo(profile, seed, Model(sft)),
    }
    if controls:
        made |= {
            WITH_CE: kd_stages.kd(profile, seed, ce_weight=1.0),
            OWN: kd_stages.sft(profile, seed, data=kd_stages.own_answers(profile, seed, teacher=same)),
            ANSWERS: kd_stages.kd(profile, seed, tokens="answers"),
            CODE: kd_stages.kd(profile, seed, tokens="answers_unshifted", reduction="tokens"),
            REVERSE: kd_stages.kd(profile, seed, attention_weight=0.0, divergence="reverse"),
            ON_POLICY: kd_stages.on_policy_kd(profile, seed, start=sft),
        }
    return {BASE: zephyr_stages.base(profile), **{name: Model(stage) for name, stage in made.items()}}


def with_ddpo(profile: str, seed: int, start: Model) -> Stage:
    """One epoch of Zephyr's dDPO from `start`, on as many pairs as make SFT and dDPO together cost what KD costs.

    A token costs KD four passes (forward and backward of the student, forward of the teacher), SFT three, and dDPO four
    for each of both answers and their prompt, as it is usually trained; a shared prompt costs less than this count.
    """
    arms = settings.load("kd_dae", profile, "ablation", AblationSettings)
    size = {"rows" if profile in HUB_PROFILES else "prompts": arms.pairs}
    data = zephyr_stages.pairs(profile, seed, **size)
    return zephyr_stages.ddpo(profile, seed, start=start, data=data, epochs=1, evaluate_every=0, keep_epochs=False)


def repeated_models(profile: str, seed: int) -> dict[str, Model]:
    """The two arms whose spreads K2 compares, of one seed."""
    return {RANDOM: Model(kd_stages.sft(profile, seed)), KD: Model(kd_stages.kd(profile, seed))}


def table_2(done: Ablation) -> pd.DataFrame:
    """Table 2 beside ours: mean and standard deviation of the near-greedy score; then what the paper does not print:
    the official 80 questions, all at T = 0.7, and the win rate of first answers against SFT on random samples."""
    rows = (BASE, *TABLE_2)
    ours = pd.concat([
        scores.scores(done.answers, (scores.SCORE,), models=rows),
        deviations(done.answers, TABLE_2),
        scores.scores(done.answers, (scores.OFFICIAL_SCORE, scores.HOT_SCORE), models=rows),
        scores.win_rates(done.answers, rows, against=RANDOM),
    ])  # fmt: skip
    return tables.side_by_side(ours, printed())


def printed() -> pd.DataFrame:
    """Table 2 as printed, under our names of its rows, standard deviations included."""
    theirs = published.table("kd_dae", "tab2").replace({"row": PRINTED})
    wide = published.wide("kd_dae", "tab2")
    rows = [
        _deviation(row, DEVIATION, spread.of_deviation(float(sd), int(runs)), kind="quoted", runs=int(runs), of="runs")
        | {"seeds": None, "source": published.exhibit("kd_dae", "tab2").printed}
        for row, sd, runs in zip(theirs["row"], wide["mt_bench_sd"], wide["n_runs"], strict=True)
    ]
    return pd.concat([theirs, tables.frame(rows)], ignore_index=True)


def steps_of_the_order(done: Ablation) -> pd.DataFrame:
    """Table 2's order as differences of neighbours, paired by seed, near-greedy and at T = 0.7, with their parts."""
    pairs = {
        "quality-assured - random": (QUALITY, RANDOM),
        "attention alone - SFT, assured": (ATTENTION, QUALITY),
        "prediction alone - attention alone": (PREDICTION, ATTENTION),
        "both - prediction alone": (KD, PREDICTION),
        "larger - same-size teacher": (LARGER, KD),
    }
    return kd_scores.differences(done.answers, pairs, (scores.SCORE, scores.HOT_SCORE, scores.CORE, scores.EXPLANATION))


def parts(done: Ablation, models: Sequence[str] = (BASE, *TABLE_2)) -> pd.DataFrame:
    """What the score is made of: right core, right explanation, style, cost of idle words, and words an answer."""
    return scores.scores(done.answers, scores.PARTS, models=models)


def controls(done: Ablation) -> pd.DataFrame:
    """Controls, each as its difference from the arm that it varies, paired by seed."""
    pairs = {
        "KD: cross-entropy too - none": (WITH_CE, KD),
        "KD: quality-assured - random": (KD_QUALITY, KD),
        "KD: answers alone - all tokens": (ANSWERS, KD),
        "KD: the code's mask - answers alone": (CODE, ANSWERS),
        "prediction: reverse - forward": (REVERSE, PREDICTION),
        "on-policy KD after SFT - SFT": (ON_POLICY, RANDOM),
        "SFT: teacher's answers - data's": (OWN, RANDOM),
        "KD - SFT on teacher's answers": (KD, OWN),
        "dSFT + dDPO - SFT": (ALIGNED, RANDOM),
        "KD - dSFT + dDPO": (KD, ALIGNED),
    }
    return kd_scores.differences(done.answers, pairs, (scores.SCORE, scores.HOT_SCORE, scores.CORE, scores.EXPLANATION))


def teachers(done: Ablation) -> pd.DataFrame:
    """The two teachers themselves, trained once: score and its parts."""
    measures = (scores.SCORE, scores.HOT_SCORE, scores.CORE, scores.EXPLANATION)
    return scores.scores(done.teachers, measures, models=TEACHERS)


def deviations(
    answered: pd.DataFrame, models: Sequence[str], *, metric: str = DEVIATION, of: str = "seeds"
) -> pd.DataFrame:
    """Tidy frame of the standard deviation of each model's score over seeds, or what `of` says; nothing for one."""
    by_model = {model: list(scores.grid(answered, model).mean(axis=1)) for model in models}
    return tables.frame(line for model, values in by_model.items() for line in _deviations(model, metric, values, of))


def spreads(done: Ablation) -> pd.DataFrame:
    """Tidy frame of what makes the scores of K2's arms differ, as standard deviations.

    trained again: over seeds, which decide data, order and draws; asked again: one model, other draws; judged again:
    one model's answers, read again by a judge with error, as a language model has.
    """
    rows = [
        line for model in REPEATED for line in _deviations(model, "judged again", judged_again(done, model), "judgings")
    ]
    return pd.concat(
        [
            deviations(done.repeated, REPEATED, metric="trained again"),
            deviations(done.again, REPEATED, metric="asked again", of="askings"),
            tables.frame(rows),
        ],
        ignore_index=True,
    )


def judged_again(done: Ablation, model: str) -> list[float]:
    """Mean scores that judges with error give to the same answers, those of seed 0, one a judging."""
    own = done.answers
    own = own[(own["model"] == model) & (own["run"] == scores.NEAR_GREEDY) & (own["seed"] == 0)].sort_values("turn")
    turns = {question.question_id: question.turns for question in done.questions}
    means = []
    for time in range(done.arms.judgings):
        judge = RubricJudge(noise_sd=done.arms.judge_sd, seed=time)
        read = [
            judge.score(turns[number], list(answers["text"]), ended=list(answers["finished"]))
            for number, answers in own.groupby("question_id")
        ]
        means.append(float(np.mean([verdict.score for verdicts in read for verdict in verdicts])))
    return means


def losses(done: Ablation) -> dict[str, pd.DataFrame]:
    """Figure 4, left pair: "attention" and "prediction" loss over steps, a line a trained loss, as `figures.curves`."""
    return _loss_curves({name: done.stages[arm] for name, arm in LOSSES.items()})


def loss_curves(profile: str, seeds: int) -> dict[str, pd.DataFrame]:
    """As `losses`, of those three arms alone: what another notebook needs of Figure 4."""
    models = [models_of(profile, seed, controls=False) for seed in range(seeds)]
    stages = {name: [one[arm].stage for one in models] for name, arm in LOSSES.items()}
    get_many([stage for made in stages.values() for stage in made])  # at once, so that no core waits
    return _loss_curves(stages)


def relative_change(logs: Sequence[pd.DataFrame], column: str) -> list[float]:
    """Mean of the last tenth of a run against the mean of its first, less 1, of each log."""
    return [
        kd_scores.part_mean(log, column, first=0.9) / kd_scores.part_mean(log, column, last=0.1) - 1 for log in logs
    ]


def _loss_curves(stages: Mapping[str, Sequence[Stage]]) -> dict[str, pd.DataFrame]:
    found = {name: kd_scores.logs(made) for name, made in stages.items()}
    return {loss: kd_scores.curves(found, f"{loss}_loss") for loss in ("attention", "prediction")}


def _chat(profile: str, seed: int, models: Mapping[str, Model | Stage]) -> Stage:
    return kd_scores.evaluation(profile, seed, models, per_group=0, hot=True)


def _teachers(profile: str) -> tuple[Stage, Stage]:
    return kd_stages.same_size_teacher(profile), kd_stages.larger_teacher(profile)


def _deviations(row: str, metric: str, values: Sequence[float], of: str) -> list[dict[str, Any]]:
    found = spread.standard_deviation(values)
    return [] if found is None else [_deviation(row, metric, found, kind="retrained", runs=len(values), of=of)]


def _deviation(row: str, metric: str, found: spread.Spread, *, kind: str, runs: int, of: str) -> dict[str, Any]:
    return {
        "row": row, "metric": metric, "kind": kind, "value": found.value, "low": found.interval.low,
        "high": found.interval.high, "n": runs, "seeds": runs if of == "seeds" else 1,
        "interval": f"{runs} {of}, chi-square 95 %", "source": scores.SOURCE,
    }  # fmt: skip
