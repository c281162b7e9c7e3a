"""Table 1 and Figure 1 retrained: base, dSFT and dDPO of the embedded world on its own two benchmarks.

A mini MT-Bench (two-turn questions, exact judge), and win rates of first answers against a fixed procedural writer, as
AlpacaEval takes them against one baseline model. Another world, judge and baseline than in print: order and sign
compare, values do not, so these rows stand apart from the published ones.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from zephyr_lab.data import released
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import seed_means
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.answer_scores import NEAR_GREEDY
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.reporting import figures, tables
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.scoring import annotations
from zephyr_lab.scoring.annotations import Annotation
from zephyr_lab.scoring.intervals import PERCENT
from zephyr_lab.scoring.length_bias import length_bias
from zephyr_lab.scoring.length_control import length_controlled_win_rate
from zephyr_lab.world.benchmark import Question, mt_bench, written_answers
from zephyr_lab.world.defects import MEDIUM
from zephyr_lab.world.pairwise import PairJudge

BASE, DSFT = "base, world", "dSFT, world"
DDPO_1, DDPO = "dSFT + dDPO 1 epoch, world", "dSFT + dDPO 3 epochs, world"
MODELS = (BASE, DSFT, DDPO_1, DDPO)
TRAINED = MODELS[1:]
PANELS = {BASE: "base", DSFT: "dSFT", DDPO_1: "dDPO, 1 epoch", DDPO: "dDPO, 3 epochs"}  # chat score by category
WIN_RATE = "win_rate"
BASELINE_SEED = 0
# A liking for length of known size: 0.2 points of the rubric for each word more than the baseline's.
JUDGES = {"exact judge": PairJudge(), "judge that likes length": PairJudge(length_bias=0.2)}
CLAIM = "log-odds of a win for one standard deviation of length difference"
RESAMPLES = 1000


def answers(profile: str, seeds: int) -> pd.DataFrame:
    """Graded answers of the four models, columns as in `answer_scores.answers`; trains what is missing."""
    return scores.answers([stages.evaluation(profile, seed, _models(profile, seed)) for seed in range(seeds)])


def benchmark(profile: str) -> tuple[Question, ...]:
    """The questions that `answers` are to."""
    recipe = stages.evaluation(profile, 0, {BASE: stages.base(profile)}).recipe
    return mt_bench(recipe.questions, size=require_world(recipe.world))


def judged(answered: pd.DataFrame, asked: Iterable[Question], judge: PairJudge) -> pd.DataFrame:
    """First answers beside the baseline writer's, by `judge`: columns seed, model, question_id, win (1, 0.5 a draw, 0),
    difference (characters more than the baseline's)."""
    questions = list(asked)
    written = written_answers(questions, noise=MEDIUM, seed=BASELINE_SEED)
    known = {one.question_id: (one.turns[0], texts[0]) for one, texts in zip(questions, written, strict=True)}
    first = answered[(answered["turn"] == 1) & (answered["run"] == NEAR_GREEDY)]
    beside = [known[id] for id in first["question_id"]]
    preferences = [
        judge.compare(turn, baseline, text).preference
        for (turn, baseline), text in zip(beside, first["text"], strict=True)
    ]
    lengths = [len(text) - len(baseline) for (_, baseline), text in zip(beside, first["text"], strict=True)]
    return first[["seed", "model", "question_id"]].assign(win=np.array(preferences) - 1.0, difference=lengths)


def retrained(answered: pd.DataFrame, asked: Iterable[Question]) -> pd.DataFrame:
    """Tidy frame of Table 1's retrained rows: chat score and win rate in % against the baseline writer."""
    won = judged(answered, asked, JUDGES["exact judge"])
    chat = scores.scores(answered, (scores.SCORE, scores.OFFICIAL_SCORE), models=MODELS)
    wins = tables.frame(
        scores.number(model, WIN_RATE, _grid(won, model, "win", 100.0), within=PERCENT) for model in MODELS
    )
    return pd.concat([chat, wins], ignore_index=True)


def by_category(answered: pd.DataFrame) -> pd.DataFrame:
    """Tidy frame of Figure 1's retrained rows: the mean score in each category."""
    return scores.by_category(answered, MODELS)


def with_retrained(ours: pd.DataFrame, retrained: pd.DataFrame) -> pd.DataFrame:
    """The recomputed frame with our models' rows after it; either may be empty."""
    return pd.concat([one for one in (ours, retrained) if not one.empty], ignore_index=True)


def category_panels(table: pd.DataFrame) -> Picture:
    """The table of `by_category` as a dot plot: a line a category, a panel a model, one scale for all."""
    turned = table.rename(columns={"row": "metric", "metric": "row"})[table.columns]
    figure = figures.dot_plots(turned, PANELS)
    for ax in figure.axes:
        ax.set_xlim(1, 10.4)  # room for the whole mark of a full score
        ax.set_xticks(range(2, 11, 2))
    return figure


def lengths(answered: pd.DataFrame, asked: Iterable[Question]) -> pd.DataFrame:
    """Tidy frame: win rate and our length-controlled win rate in %, by an exact judge and one that likes length.

    A row a model, with its mean length in characters more than the baseline's. The exact judge's plain win rate is the
    truth that length control should come back to.
    """
    questions = list(asked)
    rows = []
    for name, judge in JUDGES.items():
        won = judged(answered, questions, judge)
        for model in TRAINED:
            if name == next(iter(JUDGES)):
                rows.append(scores.number(model, "characters more", _grid(won, model, "difference")))
            rows.append(scores.number(model, f"win rate, {name}", _grid(won, model, "win", 100.0), within=PERCENT))
            rows += seed_means.number(
                model, f"at equal lengths, {name}", _controlled(won[won["model"] == model]), n=len(questions)
            )
    return tables.frame(rows)


def planted_bias(answered: pd.DataFrame, asked: Iterable[Question]) -> pd.DataFrame:
    """Tidy frame: log-odds of a win for one standard deviation of length, by judge, and what the liking adds.

    The exact judge's own slope is no bias: longer answers explain more, and are better for it.
    """
    questions = list(asked)
    slopes = {name: _slopes(judged(answered, questions, judge)) for name, judge in JUDGES.items()}
    exact, biased = slopes.values()
    n = len(TRAINED) * len(questions)
    rows = [line for name, values in slopes.items() for line in seed_means.number(name, "log-odds", values, n=n)]
    return tables.frame([*rows, *seed_means.number("difference", "log-odds", list(np.subtract(biased, exact)), n=n)])


def gpt4_length_effect() -> pd.DataFrame:
    """Z13 for `check.claims`, from AlpacaEval 1's annotations; no row without them or their interval."""
    path = released.path("alpaca_eval_v1")
    if path is None:
        return pd.DataFrame(columns=list(tables.COLUMNS))
    known = [one for one in annotations.read(path).annotations if _is_whole(one)]
    found = length_bias(
        [one.win for one in known],
        [one.length - one.baseline_length for one in known],
        [one.model for one in known],
        [one.instruction for one in known],
        generator=np.random.default_rng(0),
        resamples=RESAMPLES,
    )
    if found.interval is None:
        return pd.DataFrame(columns=list(tables.COLUMNS))
    low, high = found.interval
    row = {"row": "Z13", "metric": CLAIM, "kind": "recomputed", "value": found.log_odds, "low": low, "high": high}
    count = len({one.instruction for one in known})
    interval = f"{count} instructions, bootstrap 95 %"
    return tables.frame([{**row, "n": found.n, "interval": interval, "source": "alpaca_eval_v1"}])


def _models(profile: str, seed: int) -> dict[str, stages.Model]:
    sft, dpo = stages.dsft(profile, seed), stages.three_epochs(profile, seed)
    return {
        BASE: stages.base(profile),
        DSFT: stages.Model(sft),
        DDPO_1: stages.Model(dpo, "epochs/1"),
        DDPO: stages.Model(dpo),
    }


def _grid(won: pd.DataFrame, model: str, column: str, scale: float = 1.0) -> pd.DataFrame:
    """A row a seed, a column a question, as `answer_scores.estimate` takes it."""
    return scale * won[won["model"] == model].pivot(index="seed", columns="question_id", values=column)


def _controlled(won: pd.DataFrame) -> list[float]:
    """The length-controlled win rate of each seed; no list where one of them has none."""
    found = [length_controlled_win_rate(part["win"], part["difference"]).value for _, part in won.groupby("seed")]
    return [] if None in found else [float(value) for value in found if value is not None]


def _slopes(won: pd.DataFrame) -> list[float]:
    """The slope of each seed over the trained models."""
    trained = won[won["model"].isin(TRAINED)]
    return [
        length_bias(part["win"], part["difference"], list(part["model"]), list(part["question_id"])).log_odds
        for _, part in trained.groupby("seed")
    ]


def _is_whole(one: Annotation) -> bool:
    return one.win is not None and one.length is not None and one.baseline_length is not None
