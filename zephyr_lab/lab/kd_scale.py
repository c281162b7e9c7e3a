"""Notebook 21: distillation at scale of a student and of one twice as large, and DPO after it.

The students that notebooks 22 and 23 start from. Kothari et al. 2024, arXiv 2406.19112, section 3.1.2; "alpha" is
their word for a model after distillation, "beta" for one after domain alignment.
"""

from dataclasses import dataclass

import pandas as pd

from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import kd_ablation, kd_scores, kd_stages, seed_means, zephyr_stages
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.reporting import published, tables

BASE, ALPHA, MERGED, ALPHA_2X = "base", "1x alpha", "2x, merged alone", "2x alpha"
ALPHA_DPO = "1x alpha + DPO"
SAME, LARGER, EXPERT = "same-size teacher", "larger teacher", "domain expert"
STUDENTS = (BASE, ALPHA, MERGED, ALPHA_2X)
TAUGHT_BY = (SAME, LARGER, EXPERT)
# The row of Table 1 whose place ours takes.
PLACES = {
    "Flip-7B-Instruct-alpha": ALPHA,
    "Flip-2x7B-Instruct-alpha": ALPHA_2X,
    "Mistral-Instruct v0.2": SAME,
    "Mixtral 8x7B Instruct v0.1": LARGER,
}
CLAIMS = ("K9",)


@dataclass(frozen=True)
class Scale:
    """The students and teachers, trained and asked. answers, domain: frames of `kd_scores`, teachers under seed 0
    alone; held_out: own ranking of held-out pairs by model and seed; stages: by student, one a seed."""

    answers: pd.DataFrame
    domain: pd.DataFrame
    held_out: pd.DataFrame
    stages: dict[str, list[Stage]]


def scale(profile: str, seeds: int) -> Scale:
    """Train and ask the students, the first also after DPO, under seeds 0 to `seeds` - 1, and the teachers."""
    ours = [students(profile, seed) for seed in range(seeds)]
    asked = [ask_students(profile, seed) for seed in range(seeds)]
    aligned = [ask_with_dpo(profile, seed) for seed in range(seeds)]
    taught_by = ask_teachers(profile)
    get_many([*asked, *aligned, taught_by])  # at once, so that no core waits
    ask = [*asked, *aligned, taught_by]
    return Scale(
        kd_scores.chat_answers(ask),
        kd_scores.domain_answers(ask),
        kd_scores.rankings([*asked, *aligned]),
        {name: [one[name].stage for one in ours] for name in (ALPHA, ALPHA_2X)},
    )


def students(profile: str, seed: int) -> dict[str, Model]:
    """The students of one seed by name.

    The 2x student is merged of the base and its SFT: a mixture of the base with itself has two experts with the same
    gradients, which stay one.
    """
    base = zephyr_stages.base(profile)
    merged = Model(kd_stages.merged(profile, seed, first=base, second=kd_stages.sft(profile, seed)))
    return {
        BASE: base,
        ALPHA: Model(kd_stages.scale_kd(profile, seed)),
        MERGED: merged,
        ALPHA_2X: Model(kd_stages.scale_kd(profile, seed, start=merged)),
    }


def teachers(profile: str) -> dict[str, Model]:
    """The teachers and the expert, one of each a profile."""
    made = (kd_stages.same_size_teacher, kd_stages.larger_teacher, kd_stages.domain_expert)
    return {name: Model(make(profile)) for name, make in zip(TAUGHT_BY, made, strict=True)}


def ask_students(profile: str, seed: int) -> Stage:
    """The evaluation of the students, which notebooks 22 and 23 use as well."""
    return kd_scores.evaluation(profile, seed, students(profile, seed), held_out=zephyr_stages.pairs(profile, seed))


def ask_with_dpo(profile: str, seed: int) -> Stage:
    """The evaluation of the first student after one epoch of dDPO."""
    after = Model(kd_ablation.with_ddpo(profile, seed, students(profile, seed)[ALPHA]))
    return kd_scores.evaluation(profile, seed, {ALPHA_DPO: after}, held_out=zephyr_stages.pairs(profile, seed))


def ask_teachers(profile: str) -> Stage:
    """The evaluation of teachers and expert, once."""
    return kd_scores.evaluation(profile, 0, teachers(profile))


def table(done: Scale) -> pd.DataFrame:
    """Chat and domain score of students and teachers, with what Table 1 prints of the models whose places they take."""
    rows = (*STUDENTS, ALPHA_DPO, *TAUGHT_BY)
    ours = pd.concat([
        scores.scores(done.answers, (scores.SCORE,), models=rows),
        scores.scores(done.domain, (kd_scores.DOMAIN,), models=rows),
        scores.win_rates(done.answers, (BASE, MERGED, ALPHA_2X, ALPHA_DPO), against=ALPHA),
        accuracies(done),
    ])  # fmt: skip
    theirs = published.table("kd_dae", "tab1")
    wanted = theirs["row"].isin(list(PLACES)) & theirs["metric"].isin(["mt_bench", "ecomm_eval"])
    return tables.side_by_side(ours, theirs[wanted].replace({"row": PLACES}))


def accuracies(done: Scale) -> pd.DataFrame:
    """How often a model itself ranks held-out pairs right, %, ties half: log-probability a token."""
    rows = []
    for model, own in done.held_out.groupby("model", sort=False):
        values = [100 * one for one in own["mean"]]
        rows += seed_means.number(str(model), "held-out pairs, %", values, n=int(own["pairs"].min()))
    return tables.frame(rows)


def differences(done: Scale) -> pd.DataFrame:
    """What twice the size and what DPO change, paired by seed: chat score, its parts, domain score."""
    pairs = {
        "2x alpha - 1x alpha": (ALPHA_2X, ALPHA),
        "1x alpha + DPO - 1x alpha": (ALPHA_DPO, ALPHA),
    }
    chat = kd_scores.differences(done.answers, pairs, (scores.SCORE, scores.CORE, scores.EXPLANATION, scores.COST))
    return pd.concat([chat, kd_scores.differences(done.domain, pairs, (kd_scores.DOMAIN,))], ignore_index=True)


def losses(done: Scale) -> dict[str, pd.DataFrame]:
    """ "prediction" and "attention" loss over steps of both students, as `figures.curves` draws them."""
    logs = {name: kd_scores.logs(stages) for name, stages in done.stages.items()}
    return {loss: kd_scores.curves(logs, f"{loss}_loss") for loss in ("prediction", "attention")}


def measured(done: Scale) -> pd.DataFrame:
    """What `check.claims` takes: K9."""
    metric = "chat score (1-10): KD then DPO - KD"
    return scores.effects([kd_scores.effect("K9", metric, done.answers, ALPHA_DPO, ALPHA)])
