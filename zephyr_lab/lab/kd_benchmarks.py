"""Notebook 23: Table 1 (alpha and beta, teachers, expert) and the radar of Figure 1.

Recomputed: larger models' scores from the same released judgements as Zephyr's Table 1, where they are at hand; the
Flip models were never released. Retrained: our models in the embedded world, whose values say nothing about those.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import chat_benchmarks, domain_alignment, kd_scale, kd_scores, pair_judging, point_figures
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.chat_benchmarks import ChatScores
from zephyr_lab.lab.domain_alignment import ALIGNED, ALIGNED_BETA, BETA, BETA_2X, AlignmentSettings
from zephyr_lab.lab.kd_scale import ALPHA, ALPHA_2X, BASE, EXPERT, LARGER, SAME
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.reporting import published, tables
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.scoring.intervals import PERCENT
from zephyr_lab.world.benchmark import Question, mt_bench, written_answers
from zephyr_lab.world.defects import MEDIUM
from zephyr_lab.world.pairwise import PairJudge

MODELS = (BASE, ALIGNED, ALIGNED_BETA, ALPHA, BETA, ALPHA_2X, BETA_2X, SAME, LARGER, EXPERT)
SHOWN = {ALPHA: "1x alpha", BETA: "1x beta", BETA_2X: "2x beta", LARGER: "larger teacher"}  # panels by category
WORLD = ", world"  # behind a row's name: another world, judge and baseline than in print
RADAR_MODELS = ("GPT-4", "GPT-3.5-turbo", "Llama-2-70b-chat")
CLAIMS = ("K11",)


@dataclass(frozen=True)
class Benchmarks:
    """Our models asked. answers, domain: frames of `kd_scores`; questions: the chat questions that all were asked."""

    answers: pd.DataFrame
    domain: pd.DataFrame
    questions: tuple[Question, ...]


def benchmarks(profile: str, seeds: int) -> Benchmarks:
    """The models of notebooks 21 and 22 under seeds 0 to `seeds` - 1; what those trained and asked is used as it is."""
    arms = settings.load("kd_dae", profile, "alignment", AlignmentSettings)
    asked: list[Stage] = []
    for seed in range(seeds):
        models = domain_alignment.models_of(profile, seed, arms, every=False)
        asked += [kd_scale.ask_students(profile, seed), *domain_alignment.ask_aligned(profile, seed, models)]
    asked.append(kd_scale.ask_teachers(profile))
    get_many(asked)
    recipe = asked[0].recipe
    return Benchmarks(
        kd_scores.chat_answers(asked),
        kd_scores.domain_answers(asked),
        mt_bench(recipe.questions, size=require_world(recipe.world)),
    )


def recomputed(released: ChatScores) -> pd.DataFrame:
    """The rows of Table 1 that released judgements answer; Zephyr's Table 1 prints the same of the same models."""
    rows = set(published.table("kd_dae", "tab1")["row"])
    return released.frame[released.frame["row"].isin(rows)].reset_index(drop=True)


def retrained(done: Benchmarks) -> pd.DataFrame:
    """Tidy frame of our models under the three columns of Table 1.

    Chat score; win rate in % of first answers against one procedural writer, as AlpacaEval takes it against one model;
    domain score.
    """
    written = written_answers(done.questions, noise=MEDIUM, seed=0)
    judged = pair_judging.judged(Answers(done.answers), done.questions, written, PairJudge())
    rows = []
    for model in MODELS:
        won = pair_judging.wins(judged, model)
        rows += [
            scores.number(model + WORLD, "mt_bench", scores.grid(done.answers, model), within=scores.JUDGED),
            scores.number(model + WORLD, "alpaca_eval", won, within=PERCENT),
            scores.number(
                model + WORLD, "ecomm_eval", scores.grid(done.domain, model, kd_scores.DOMAIN), within=scores.JUDGED
            ),
        ]
    return tables.frame(rows)


def aspects(done: Benchmarks) -> pd.DataFrame:
    """Tidy frame of the domain score of our models by its four aspects."""
    return scores.scores(done.domain, (kd_scores.DOMAIN, *kd_scores.ASPECT_MEASURES), models=MODELS)


def table(released: ChatScores, done: Benchmarks) -> pd.DataFrame:
    """Table 1 as one frame: printed and recomputed rows, then ours."""
    ours = [one for one in (recomputed(released), retrained(done)) if not one.empty]
    return tables.side_by_side(pd.concat(ours, ignore_index=True), published.table("kd_dae", "tab1"))


def leaderboard() -> pd.DataFrame:
    """AlpacaEval as the paper prints it and as the public leaderboard has it, one row a model, both theirs."""
    return published.table("kd_dae", "alpaca_eval_check")


def categories(released: ChatScores) -> pd.DataFrame:
    """Figure 1: category means of the larger models beside what was read off the published plot, in its order."""
    theirs = published.table("kd_dae", "fig1")
    ours = chat_benchmarks.categories(released)
    ours = ours[(ours["kind"] == "recomputed") & ours["row"].isin(RADAR_MODELS)]
    both = tables.side_by_side(ours, theirs)
    spokes = {axis: place for place, axis in enumerate(published.exhibit("kd_dae", "fig1").axes)}
    return both.sort_values("metric", key=lambda metrics: metrics.map(spokes), kind="stable", ignore_index=True)


def by_category(done: Benchmarks) -> pd.DataFrame:
    """Our models by the same eight categories."""
    return scores.by_category(done.answers, SHOWN)


def category_panels(found: pd.DataFrame) -> Picture:
    """The table of `by_category` as a dot plot: a line a category, a panel a model, one scale for all."""
    return point_figures.category_panels(found, SHOWN)


def digitised_mean() -> float:
    """Mean of the eight values of Flip-2x7B-beta that were read off Figure 1; Table 1 prints 7.90."""
    shown = published.table("kd_dae", "fig1")
    return float(np.mean(shown.loc[shown["row"] == "Flip-2x7B-Instruct-beta", "value"]))
