"""Notebook 22: domain alignment from an expert (DAE), beside what else could be done with the same domain rows.

Starts are students that distillation has saturated (notebook 21): a control that goes on distilling from the general
teacher shows what more training alone would give. Kothari et al. 2024, arXiv 2406.19112, sections 2.2 and 3.1.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get, get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import kd_ablation, kd_scale, kd_scores, kd_stages, seed_means
from zephyr_lab.lab.kd_scale import ALPHA, ALPHA_2X, EXPERT
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.reporting import published, tables

BETA, BETA_2X = "1x beta", "2x beta"
ALIGNED, ALIGNED_BETA = "dSFT + dDPO", "dSFT + dDPO + DAE"
GENERAL, NO_REFERENCE, MISROUTED = (
    "general teacher for all rows",
    "DAE without reference term",
    "DAE, half the labels wrong",
)
MIXED, DOMAIN_ONLY = "fine-tuning on the mixture", "fine-tuning on the domain alone"
JOINED = "2x of 1x alpha and expert, merged alone"
CONTROLS = (GENERAL, NO_REFERENCE, MISROUTED, MIXED, DOMAIN_ONLY, JOINED)
DOSED = (BETA, MIXED, DOMAIN_ONLY)
GAINS = {BETA: ALPHA, BETA_2X: ALPHA_2X, ALIGNED_BETA: ALIGNED}  # after -> before
PAPERS_SHARE = 0.1
PLACES = {
    "Flip-7B-Instruct-alpha": ALPHA,
    "Flip-7B-Instruct-beta": BETA,
    "Flip-2x7B-Instruct-alpha": ALPHA_2X,
    "Flip-2x7B-Instruct-beta": BETA_2X,
}
CLAIMS = ("K6", "K7", "K8", "K13")


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    """shares: of domain rows in DAE's data, the paper's 0.1 and K8's 0.5 among them; doses: steps whose models are
    asked beside the last; control_seeds: most seeds of an arm that no claim rests on; misrouted: share of wrong labels
    in the control."""

    shares: tuple[float, ...]
    doses: tuple[int, ...]
    control_seeds: int
    misrouted: float

    def __post_init__(self) -> None:
        for needed in (PAPERS_SHARE, 0.5):
            if needed not in self.shares:
                raise ValueError(f"shares must hold {needed}, which claim K8 compares, got {self.shares}")
        if self.control_seeds < 1:
            raise ValueError(f"control_seeds must be at least 1, got {self.control_seeds}")


@dataclass(frozen=True)
class Alignment:
    """All arms, trained and asked. answers, domain: frames of `kd_scores`; divergences: of each arm from its start;
    stages: by arm, one a seed; steps: how many a run has."""

    arms: AlignmentSettings
    answers: pd.DataFrame
    domain: pd.DataFrame
    divergences: pd.DataFrame
    stages: dict[str, list[Stage]]


@dataclass(frozen=True)
class Routing:
    """A batch of DAE. batch: its number from 0; rows: of each is_domain, teacher ("expert", "general", "" for none),
    tokens, loss_before and loss_after: its divergence in nats a token before the first update and after the last."""

    batch: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Arms:
    """Every model of one seed by name: starts, what DAE makes of each, and what else the first could become."""

    starts: dict[str, Model]
    aligned: dict[str, Model]
    controls: dict[str, Model]


def alignment(profile: str, seeds: int) -> Alignment:
    """Train and ask every arm under seeds 0 to `seeds` - 1; starts are those of notebook 21."""
    arms = settings.load("kd_dae", profile, "alignment", AlignmentSettings)
    models = [models_of(profile, seed, arms, every=seed < arms.control_seeds) for seed in range(seeds)]
    asked = [stage for seed, one in enumerate(models) for stage in ask_aligned(profile, seed, one)]
    controls = [ask_controls(profile, seed, one) for seed, one in enumerate(models)]
    others = [*(kd_scale.ask_students(profile, seed) for seed in range(seeds)), kd_scale.ask_teachers(profile)]
    get_many([*others, *asked, *controls])  # at once, so that no core waits
    everything = [*others, *asked, *controls]
    return Alignment(
        arms,
        kd_scores.chat_answers(everything),
        kd_scores.domain_answers(everything),
        kd_scores.divergences([*asked, *controls]),
        {name: [one.aligned[name].stage for one in models] for name in GAINS},
    )


def models_of(profile: str, seed: int, arms: AlignmentSettings, *, every: bool = True) -> Arms:
    """The arms of one seed; without `every` only those controls that claims rest on."""
    expert = kd_stages.domain_expert(profile)
    begin = starts(profile, seed)
    after = aligned(profile, seed, begin, arms, expert)
    return Arms(begin, after, controls(profile, seed, begin[ALPHA], after[BETA], arms, expert, every=every))


def starts(profile: str, seed: int) -> dict[str, Model]:
    """What DAE starts from, by the name that `GAINS` gives it."""
    students = kd_scale.students(profile, seed)
    other = Model(kd_ablation.with_ddpo(profile, seed, Model(kd_stages.sft(profile, seed))))
    return {ALPHA: students[ALPHA], ALPHA_2X: students[ALPHA_2X], ALIGNED: other}


def aligned(
    profile: str, seed: int, begin: Mapping[str, Model], arms: AlignmentSettings, expert: Stage
) -> dict[str, Model]:
    """DAE of each start on the paper's share of domain rows; the first keeps the models of the doses."""
    data = kd_stages.mixed_dialogues(profile, seed)
    share = data.recipe.domain_share
    if share != PAPERS_SHARE:
        raise ValueError(
            f"papers/kd_dae/settings.toml [mixed_dialogues] has domain_share = {share} in {profile!r}, and {BETA!r} is "
            f"compared as the arm of {PAPERS_SHARE}; leave it, and add the share to [alignment] shares"
        )
    kept = {BETA: {"keep_steps": arms.doses}}
    return {
        after: Model(kd_stages.dae(profile, seed, start=begin[before], expert=expert, data=data, **kept.get(after, {})))
        for after, before in GAINS.items()
    }


def controls(
    profile: str,
    seed: int,
    start: Model,
    beta: Model,
    arms: AlignmentSettings,
    expert: Stage,
    *,
    every: bool,
) -> dict[str, Model]:
    """What `start` becomes in other ways, by row, and `beta` after some of its steps."""

    def dae(**changes: Any) -> Model:
        return Model(kd_stages.dae(profile, seed, start=start, expert=expert, **changes))

    half = dae(domain_share=0.5)
    if not every:
        return {share_row(0.5): half}
    rest = [share for share in arms.shares if share not in (PAPERS_SHARE, 0.5)]
    mixture = beta.stage.inputs["dialogues"]
    alone = kd_stages.mixed_dialogues(profile, seed, domain_share=1.0)
    tuned = {
        MIXED: kd_stages.tuned(profile, seed, start=start, data=mixture, keep_steps=arms.doses),
        DOMAIN_ONLY: kd_stages.tuned(profile, seed, start=start, data=alone, keep_steps=arms.doses),
    }
    runs = {BETA: beta.stage, **tuned}
    larger = kd_stages.larger_teacher(profile)
    return {
        **{share_row(share): dae(domain_share=share) for share in rest},
        share_row(0.5): half,
        GENERAL: dae(data=mixture, domain_teacher="general", general_teacher=larger),
        NO_REFERENCE: dae(data=mixture, reference_term=False),
        MISROUTED: dae(data=mixture, misrouted=arms.misrouted),
        JOINED: Model(kd_stages.merged(profile, seed, first=start, second=expert)),
        **{name: Model(stage) for name, stage in tuned.items()},
        **{dose_row(name, step): model for name, run in runs.items() for step, model in kd_stages.kept(run).items()},
    }


def ask_aligned(profile: str, seed: int, models: Arms) -> list[Stage]:
    """Evaluations of each start's DAE, one a start, which divergences are measured from."""
    asked = {before: {name: models.aligned[name]} for name, before in GAINS.items()}
    asked[ALIGNED][ALIGNED] = models.starts[ALIGNED]  # notebook 21 asks the other starts
    data = kd_stages.random_dialogues(profile, seed)
    return [
        kd_scores.evaluation(profile, seed, some, start=models.starts[before], dialogues=data)
        for before, some in asked.items()
    ]


def ask_controls(profile: str, seed: int, models: Arms) -> Stage:
    """The evaluation of the controls, with divergences from the first start."""
    return kd_scores.evaluation(profile, seed, models.controls, start=models.starts[ALPHA])


def share_row(share: float) -> str:
    """Row of DAE with this share of domain rows; the paper's share is the first arm itself."""
    return BETA if share == PAPERS_SHARE else f"DAE, {100 * share:g} % domain"


def dose_row(name: str, step: int) -> str:
    """Row of a run after some of its steps."""
    return f"{name}, {step} steps"


def table(done: Alignment) -> pd.DataFrame:
    """Domain and chat score before and after DAE, and of the expert, with what Table 1 prints of them."""
    rows = [name for pair in ((before, after) for after, before in GAINS.items()) for name in pair]
    ours = pd.concat([
        scores.scores(done.domain, (kd_scores.DOMAIN,), models=(*rows, EXPERT)),
        scores.scores(done.answers, (scores.SCORE,), models=(*rows, EXPERT)),
        kd_scores.retention(done.divergences, GAINS),
    ])  # fmt: skip
    theirs = published.table("kd_dae", "tab1")
    wanted = theirs["row"].isin(list(PLACES)) & theirs["metric"].isin(["mt_bench", "ecomm_eval"])
    return tables.side_by_side(ours, theirs[wanted].replace({"row": PLACES}))


def gains(done: Alignment) -> pd.DataFrame:
    """After - before of each start, paired by seed: domain score, its aspects, chat score, core and explanation."""
    pairs = {f"{after} - {before}": (after, before) for after, before in GAINS.items()}
    return pd.concat([
        kd_scores.differences(done.domain, pairs, (kd_scores.DOMAIN, *kd_scores.ASPECT_MEASURES)),
        kd_scores.differences(done.answers, pairs, (scores.SCORE, scores.CORE, scores.EXPLANATION)),
    ], ignore_index=True)  # fmt: skip


def against_start(done: Alignment) -> pd.DataFrame:
    """Every way to use the domain rows, as its difference from the same start: domain, chat, divergence."""
    pairs = {name: (name, ALPHA) for name in (BETA, *CONTROLS)}
    return pd.concat([
        kd_scores.differences(done.domain, pairs, (kd_scores.DOMAIN,)),
        kd_scores.differences(done.answers, pairs, (scores.SCORE,)),
        kd_scores.retention(done.divergences, pairs),
    ], ignore_index=True)  # fmt: skip


def shares(done: Alignment) -> pd.DataFrame:
    """Domain and chat score by the share of domain rows, at equal steps, as differences from the start."""
    pairs = {f"{100 * share:g} %": (share_row(share), ALPHA) for share in done.arms.shares}
    return pd.concat([
        kd_scores.differences(done.domain, pairs, (kd_scores.DOMAIN,)),
        kd_scores.differences(done.answers, pairs, (scores.SCORE,)),
    ], ignore_index=True)  # fmt: skip


def doses(done: Alignment) -> pd.DataFrame:
    """Domain and chat score by steps of DAE and of plain fine-tuning, rows "<arm>, <n> steps"; 0 steps: the start."""
    last = last_step(done)
    names = {dose_row("start", 0): ALPHA}
    for arm in DOSED:
        names |= {dose_row(arm, step): dose_row(arm, step) for step in done.arms.doses}
        names[dose_row(arm, last)] = arm
    seeds = sorted(done.answers.loc[done.answers["model"] == DOMAIN_ONLY, "seed"].unique())
    chat, domain = (frame[frame["seed"].isin(seeds)] for frame in (done.answers, done.domain))
    rows = [
        scores.number(row, measure.metric, scores.grid(frame, model, measure), within=measure.within)
        for row, model in names.items()
        for frame, measure in ((domain, kd_scores.DOMAIN), (chat, scores.SCORE))
    ]
    return tables.frame(rows)


def groups(done: Alignment) -> pd.DataFrame:
    """Domain score by group of task, before and after DAE of the first start and of the expert: which groups gain.

    The expert is asked once, so that a group with one question of its own has no number.
    """
    rows = []
    for group, part in done.domain.groupby("group", sort=False):
        for model in (ALPHA, BETA, EXPERT):
            values = scores.grid(part, model, kd_scores.DOMAIN)
            if values.size > 1:
                rows.append(scores.number(str(group), model, values, within=kd_scores.DOMAIN.within))
    return tables.frame(rows)


def losses(done: Alignment) -> pd.DataFrame:
    """Figure 4, right: the DAE loss over steps of the 1x and the 2x student, as `figures.curves` draws it."""
    logs = {name: kd_scores.logs(done.stages[arm]) for name, arm in (("1x", BETA), ("2x", BETA_2X))}
    return kd_scores.curves(logs, "loss")


def routing(done: Alignment) -> Routing:
    """Figure 3: the first batch with rows of both kinds of seed 0's DAE, as its student starts and as it ends."""
    return Routing(**files.read_json(get(routing_stage(done)) / "routing.json"))


def routing_stage(done: Alignment) -> Stage:
    """The stage that reads the batch with the start and the final model of seed 0."""
    run = done.stages[BETA][0]
    inputs = {**run.inputs, "aligned": run}
    return Stage("routing", "zephyr_lab.methods.stages.routing:build", run.recipe, seed=run.seed, inputs=inputs)


def general_loss(shown: Routing) -> float:
    """The largest loss of a general row before training; 0 by eq. 6, since the student still is the reference."""
    return max((row["loss_before"] for row in shown.rows if not row["is_domain"]), default=0.0)


def routes_shown(shown: Routing) -> dict[str, bool]:
    """What Figure 3 must hold to show which teacher a row follows, and whether it does; what `check.item` takes."""
    domain, general = ([row for row in shown.rows if row["is_domain"] is kind] for kind in (True, False))
    return {
        "a row of each teacher": {row["teacher"] for row in shown.rows} >= {"expert", "general"},
        "rows of both kinds": bool(domain and general),
        "a student that has left its reference": any(row["loss_after"] > 0 for row in general),
        "domain rows that began away from their expert": any(row["loss_before"] > 0 for row in domain),
    }


def last_step(done: Alignment) -> int:
    """Steps of a whole run."""
    return int(metrics(done.stages[BETA][0])["steps"])


def measured(done: Alignment) -> pd.DataFrame:
    """What `check.claims` takes: K6, K7, K8, K13."""
    domain, chat = kd_scores.DOMAIN, scores.SCORE
    return scores.effects([
        kd_scores.effect("K6", "domain score (1-10) of the 2x student: after DAE with the 1x expert - before",
                         done.domain, BETA_2X, ALPHA_2X, domain),
        kd_scores.effect("K7", "domain score (1-10): after DAE - before", done.domain, BETA, ALPHA, domain),
        kd_scores.effect("K7", "chat score (1-10): after DAE - before", done.answers, BETA, ALPHA, chat),
        kd_scores.effect("K8", "domain score (1-10): 10 % domain rows - 50 % domain rows",
                         done.domain, share_row(PAPERS_SHARE), share_row(0.5), domain),
        loss_ratio(done),
    ])  # fmt: skip


def loss_ratio(done: Alignment) -> dict[str, Any]:
    """K13: DAE loss of the 2x student against that of the 1x, mean of the last quarter of steps, same batches."""
    one, two = (kd_scores.logs(done.stages[arm]) for arm in (BETA, BETA_2X))
    values = [
        kd_scores.part_mean(large, "loss", first=0.75) / kd_scores.part_mean(small, "loss", first=0.75) - 1
        for small, large in zip(one, two, strict=True)
    ]
    metric = "relative difference of the DAE loss: 2x student / 1x student - 1"
    return seed_means.effect("K13", metric, values, n=len(one[0]))


def gradient_norms(done: Alignment) -> pd.DataFrame:
    """Tidy frame: DAE loss and gradient norm of the two students, mean of the last quarter of steps."""
    rows = []
    for name, arm in (("1x", BETA), ("2x", BETA_2X)):
        logs = kd_scores.logs(done.stages[arm])
        for metric, column in (("DAE loss", "loss"), ("gradient norm", "grad_norm")):
            values = [kd_scores.part_mean(log, column, first=0.75) for log in logs]
            rows += seed_means.number(name, metric, values, n=len(logs[0]))
    return tables.frame(rows)
