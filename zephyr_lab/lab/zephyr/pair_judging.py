"""First answers judged beside those of one writer: win rates, at equal lengths too, and how a judge takes to length.

As AlpacaEval judges answers beside those of one baseline model. The writer and the judges come from the caller; what
is judged are the near-greedy first answers of arms, under every seed.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import NEAR_GREEDY
from zephyr_lab.lab.answers import Answers
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import PERCENT
from zephyr_lab.scoring.length_bias import length_bias
from zephyr_lab.scoring.length_control import length_controlled_win_rate
from zephyr_lab.world.benchmark import Question
from zephyr_lab.world.judge import PairJudge
from zephyr_lab.world.task import Turn


def judged(
    answers: Answers, questions: Sequence[Question], written: Sequence[Sequence[str]], judge: PairJudge
) -> pd.DataFrame:
    """Each first answer beside the writer's: columns seed, model, question_id, win (1, 0.5 a draw, 0), difference
    (characters more than the writer's).

    questions: what was asked (`Lab.questions`); written: the writer's answers to them, by question and turn, as
    `world.benchmark.written_answers` makes them.
    """
    known = {one.question_id: (one.turns[0], texts[0]) for one, texts in zip(questions, written, strict=True)}
    answered = answers.frame
    first = answered[(answered["turn"] == 1) & (answered["run"] == NEAR_GREEDY)]
    beside = [known[id] for id in first["question_id"]]
    preferences = [
        judge.compare(turn, baseline, text).preference
        for (turn, baseline), text in zip(beside, first["text"], strict=True)
    ]
    lengths = [len(text) - len(baseline) for (_, baseline), text in zip(beside, first["text"], strict=True)]
    return first[["seed", "model", "question_id"]].assign(win=np.array(preferences) - 1.0, difference=lengths)


def verdicts(judges: Mapping[str, PairJudge], turn: Turn, first: str, second: str) -> pd.DataFrame:
    """What each judge says of two answers to one question: who wins, by how much in truth, and by how many words the
    second is longer."""
    rows = []
    for name, judge in judges.items():
        one = judge.compare(turn, first, second)
        won = {1.0: "the first", 1.5: "draw", 2.0: "the second"}[one.preference]
        rows.append({"judge": name, "wins": won, "points": f"{one.difference:+.1f}", "words": f"{one.longer:+d}"})
    return pd.DataFrame(rows)


def wins(won: pd.DataFrame, arm: str) -> pd.DataFrame:
    """What an arm won of `judged`, in %, ties half: a row a seed, a column a question, as `answer_scores.number`
    takes it."""
    return _grid(won, arm, "win", 100.0)


def win_rates(won: pd.DataFrame, arms: Iterable[str] | None = None, *, metric: str = "win_rate") -> pd.DataFrame:
    """Tidy frame of win rates in % against the writer, a row an arm."""
    wanted = dict.fromkeys(won["model"]) if arms is None else arms
    return tables.frame(scores.number(arm, metric, wins(won, arm), within=PERCENT) for arm in wanted)


def at_equal_lengths(by_judge: Mapping[str, pd.DataFrame], arms: Iterable[str]) -> pd.DataFrame:
    """Tidy frame: length, and by judge the win rate in % and our length-controlled win rate, a row an arm.

    by_judge: what `judged` gives for each judge, under the judge's name. Length is in characters more than the
    writer's.
    """
    rows, wanted = [], list(arms)
    for place, (name, won) in enumerate(by_judge.items()):
        for arm in wanted:
            if place == 0:
                rows.append(scores.number(arm, "characters more", _grid(won, arm, "difference")))
            rows.append(scores.number(arm, f"win rate, {name}", wins(won, arm), within=PERCENT))
            controlled = _controlled(won[won["model"] == arm])
            rows += seed_means.number(arm, f"at equal lengths, {name}", controlled, n=int(won["question_id"].nunique()))
    return tables.frame(rows)


def length_slopes(by_judge: Mapping[str, pd.DataFrame], arms: Iterable[str]) -> pd.DataFrame:
    """Tidy frame: log-odds of a win for one standard deviation of length over the arms, a row a judge of the two, and
    how far the second is above the first.

    A slope alone is no bias: where longer answers explain more, an exact judge has one too.
    """
    wanted = list(arms)
    slopes = {name: _slopes(won[won["model"].isin(wanted)]) for name, won in by_judge.items()}
    first, second = slopes.values()
    n = len(wanted) * int(next(iter(by_judge.values()))["question_id"].nunique())
    rows = [line for name, values in slopes.items() for line in seed_means.number(name, "log-odds", values, n=n)]
    return tables.frame([*rows, *seed_means.number("difference", "log-odds", list(np.subtract(second, first)), n=n)])


def _grid(won: pd.DataFrame, arm: str, column: str, scale: float = 1.0) -> pd.DataFrame:
    return scale * won[won["model"] == arm].pivot(index="seed", columns="question_id", values=column)


def _controlled(won: pd.DataFrame) -> list[float]:
    """The length-controlled win rate of each seed; no list where one of them has none."""
    rates = [length_controlled_win_rate(part["win"], part["difference"]).value for _, part in won.groupby("seed")]
    return [] if None in rates else [float(rate) for rate in rates if rate is not None]


def _slopes(won: pd.DataFrame) -> list[float]:
    return [
        length_bias(part["win"], part["difference"], list(part["model"]), list(part["question_id"])).log_odds
        for _, part in won.groupby("seed")
    ]
