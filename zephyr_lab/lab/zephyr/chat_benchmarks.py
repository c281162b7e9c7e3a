"""Zephyr's Table 1 and Figure 1 from released judgements: which file answers which printed row, and its scores.

Two files answer: LMSYS's GPT-4 scores of MT-Bench and AlpacaEval 1's annotations. Where one is not at hand, or says
nothing of a row, `absent` and `sources` say so. No copy of Zephyr's own MT-Bench
judgements was found, so its 7.34 can only be quoted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.data import released
from zephyr_lab.lab.numbers import Known
from zephyr_lab.reporting import check, published, tables
from zephyr_lab.reporting.ledger_shown import Finding
from zephyr_lab.scoring import alpaca_eval, intervals, mt_bench
from zephyr_lab.scoring.alpaca_eval import Annotation, WinRate
from zephyr_lab.scoring.intervals import Estimate
from zephyr_lab.scoring.length_bias import length_bias
from zephyr_lab.scoring.mt_bench import ModelScore

SCORES, ANNOTATIONS = FILES = "mt_bench_scores", "alpaca_eval_v1"  # names in the catalogue of released files
OVER_QUESTIONS = "80 questions"
OVER_TEN = "10 questions"
OVER_INSTRUCTIONS = "805 instructions"
SANDWICH = "sandwich 95 %"

# Printed row -> released model, only where it is the same model. Guanaco is printed at 65B and WizardLM at 70B; the
# released MT-Bench scores hold guanaco-33b and wizardlm-13b, which are other models.
MT_BENCH_MODELS = {
    "StableLM-Tuned-alpha": "stablelm-tuned-alpha-7b",
    "MPT-Chat": "mpt-7b-chat",
    "Falcon-Instruct": "falcon-40b-instruct",
    "Llama2-Chat": "Llama-2-70b-chat",
    "Vicuna v1.3": "vicuna-33b-v1.3",
    "GPT-3.5-turbo": "gpt-3.5-turbo",
    "GPT-4": "gpt-4",
}
ALPACA_EVAL_MODELS = {
    "Zephyr": "zephyr-7b-beta",
    "Falcon-Instruct": "falcon-40b-instruct",
    "Guanaco": "guanaco-65b",
    "Llama2-Chat": "llama-2-70b-chat-hf",
    "GPT-3.5-turbo": "gpt-3.5-turbo-0301",
    "Claude 2": "claude-2",
    "GPT-4": "gpt4",
}
# Figure 1's larger models. The released Claude is claude-instant-v1; the sister plot that was digitised has Claude-v1.
RADAR_MODELS = {
    "GPT-4": "gpt-4",
    "GPT-3.5-turbo": "gpt-3.5-turbo",
    "Claude-instant-v1": "claude-instant-v1",
    "Llama-2-70b-chat": "Llama-2-70b-chat",
}
SISTER_PLOT = "KD + DAE, Figure 1, read off"
NOT_TRAINED = "no model was trained for this table"
NO_FILE = "no judgements among the released files"
RESAMPLES = 1000


@dataclass(frozen=True)
class ChatScores:
    """Scores by released model name; `kept` counts unparsed judgements as -1, `mt_bench` drops them.

    frame: the tidy frame of Table 1's rows. absent: how to get each file that is not at hand. rejected: how many rows
    of each file could not be read.
    """

    mt_bench: dict[str, ModelScore]
    kept: dict[str, ModelScore]
    alpaca_eval: dict[str, WinRate]
    lengths: dict[str, Estimate]
    frame: pd.DataFrame
    absent: dict[str, str]
    rejected: dict[str, int]

    def columns(self, table: pd.DataFrame, needs: Sequence[str] = FILES) -> dict[str, Any]:
        """What `check.item` must know of a table made from the released files of `needs`: kinds present; what is
        lacking, and why. A kind without the numbers of one absent file is present, and lacks those."""
        present = [kind for kind in tables.KINDS if kind in set(table["kind"])]
        absent = [name for name in needs if name in self.absent]
        lacking = {}
        if "recomputed" not in present or absent:
            what = f"recomputed from {', '.join(absent)}" if "recomputed" in present else "recomputed"
            lacking[what] = f"released files not at hand: {', '.join(absent)} (zephyr-lab list data)"
        if "retrained" not in present:
            lacking["retrained"] = NOT_TRAINED
        return {"present": present, "lacking": lacking}


def scores() -> ChatScores:
    """All that the released files at hand say about Table 1."""
    scores_file, annotations_file = released.path(SCORES), released.path(ANNOTATIONS)
    judged = None if scores_file is None else mt_bench.from_frame(pd.read_csv(scores_file))
    annotated = None if annotations_file is None else alpaca_eval.read(annotations_file)
    all_judgments = judged.judgments if judged else []
    dropped = mt_bench.score(all_judgments, unparsed="drop")
    wins = alpaca_eval.score(annotated.annotations if annotated else [])
    means = {model: score.mean for model, score in dropped.items()}
    rates = {model: record.win_rate for model, record in wins.items()}
    return ChatScores(
        mt_bench=dropped,
        kept=mt_bench.score(mt_bench.with_missing_cells(all_judgments), unparsed="keep"),
        alpaca_eval=wins,
        lengths=_lengths(annotated.annotations if annotated else []),
        frame=tables.frame([
            *_rows("mt_bench", means, MT_BENCH_MODELS, OVER_QUESTIONS, SCORES),
            *_rows("alpaca_eval", rates, ALPACA_EVAL_MODELS, OVER_INSTRUCTIONS, ANNOTATIONS),
        ]),
        absent={name: released.how_to_get(name) for name in FILES if released.path(name) is None},
        rejected={SCORES: len(judged.bad) if judged else 0, ANNOTATIONS: len(annotated.bad) if annotated else 0},
    )  # fmt: skip


def sources() -> pd.DataFrame:
    """For each printed row of Table 1: which released model and file answers it, or why none does."""
    printed = dict.fromkeys(published.table("zephyr", "tab1")["row"])
    columns = {"MT-Bench": (MT_BENCH_MODELS, SCORES), "AlpacaEval 1": (ALPACA_EVAL_MODELS, ANNOTATIONS)}
    answered = {
        column: [f"{models[row]} in {name}" if row in models else NO_FILE for row in printed]
        for column, (models, name) in columns.items()
    }
    return pd.DataFrame({"row of Table 1": list(printed), **answered})


def category_means(ours: ChatScores, rows: Iterable[str] = RADAR_MODELS) -> pd.DataFrame:
    """Tidy frame of the recomputed category means of Figure 1's larger models, those of `rows` that are at hand."""
    return tables.frame(
        _number(row, name, estimate, OVER_TEN, SCORES)
        for row in rows
        if RADAR_MODELS[row] in ours.mt_bench
        for name, estimate in ours.mt_bench[RADAR_MODELS[row]].categories.items()
    )


def in_order_of(axes: Sequence[str], table: pd.DataFrame) -> pd.DataFrame:
    """The table with its metrics in the order of a radar's spokes."""
    spokes = {axis: place for place, axis in enumerate(axes)}
    return table.sort_values("metric", key=lambda metrics: metrics.map(spokes), kind="stable", ignore_index=True)


def categories(ours: ChatScores) -> pd.DataFrame:
    """Figure 1's radar: recomputed category means of the larger models, beside what a sister plot shows of them.

    In the order of Figure 1's spokes. Zephyr's own polygon cannot be drawn: its values were never printed.
    """
    theirs = published.table("kd_dae", "fig1")
    wanted = theirs["row"].isin([*RADAR_MODELS, "Claude-v1"])
    table = tables.side_by_side(category_means(ours), theirs[wanted].assign(source=SISTER_PLOT))
    return in_order_of(published.exhibit("zephyr", "fig1").axes, table)


def conventions(ours: ChatScores) -> pd.DataFrame:
    """Models with unparsed judgements under both conventions in print: dropped, or counted as -1.

    LMSYS's table of June 2023 counted -1 as a score, and Zephyr's Table 1 copies it: 5.42 for MPT-7B-chat.
    """
    rows = []
    for model, score in ours.mt_bench.items():
        if ours.kept[model].unparsed:
            rows.append(_number(model, "unparsed dropped", score.mean, OVER_QUESTIONS, SCORES))
            rows.append(_number(model, "unparsed counted as -1", ours.kept[model].mean, OVER_QUESTIONS, SCORES))
    printed = published.table("zephyr", "tab1").query("metric == 'mt_bench'")
    names = {row: model for row, model in MT_BENCH_MODELS.items() if model in {number["row"] for number in rows}}
    theirs = printed[printed["row"].isin(names)].replace({"row": names}).assign(metric="unparsed counted as -1")
    return tables.side_by_side(tables.frame(rows), theirs)


def lengths(ours: ChatScores) -> pd.DataFrame:
    """Length of the answers, win rate, and our length-controlled win rate, a row a model of AlpacaEval 1.

    Longest answers first. The published length-controlled figure is of AlpacaEval 2 and another fit, so nothing
    stands beside ours. A model whose fit gives no interval has none here; `length_notes` says why.
    """
    rows = []
    for model in sorted(ours.lengths, key=lambda model: _value(ours.lengths[model]), reverse=True):
        record = ours.alpaca_eval[model]
        rows.append(_number(model, "length", ours.lengths[model], OVER_INSTRUCTIONS, ANNOTATIONS))
        rows.append(_number(model, "win_rate", record.win_rate, OVER_INSTRUCTIONS, ANNOTATIONS))
        fitted = record.length_controlled
        if fitted.interval is not None:
            controlled = Estimate(fitted.value, fitted.interval, fitted.n, SANDWICH)
            rows.append(_number(model, "length_controlled", controlled, OVER_INSTRUCTIONS, ANNOTATIONS))
    return tables.frame(rows)


def length_notes(ours: ChatScores) -> dict[str, str]:
    """What a reader of the length-controlled win rates must know, by model; nothing where there is nothing to say."""
    notes = {model: record.length_controlled.statement for model, record in ours.alpaca_eval.items()}
    return {model: note for model, note in notes.items() if note}


def length_effect(claim: str, metric: str) -> pd.DataFrame:
    """How much GPT-4 likes length, as the effect of a claim: log-odds of a win for one standard deviation of length.

    From AlpacaEval 1's annotations, over all released models, with an intercept each; no row without the file or an
    interval. `metric` is that of claims.toml.
    """
    path = released.path(ANNOTATIONS)
    if path is None:
        return tables.frame([])
    wanted = ("win", "length", "baseline_length")
    known = [one for one in alpaca_eval.read(path).annotations if None not in (getattr(one, name) for name in wanted)]
    instructions = [one.instruction for one in known]
    fitted = length_bias(
        [one.win for one in known],
        [one.length - one.baseline_length for one in known],
        [one.model for one in known],
        instructions,
        generator=np.random.default_rng(0),
        resamples=RESAMPLES,
    )
    effect = Estimate(fitted.log_odds, fitted.interval, fitted.n)
    over = f"{len(set(instructions))} instructions"
    return tables.frame([] if effect.interval is None else [_number(claim, metric, effect, over, ANNOTATIONS)])


def known_figures(ours: ChatScores) -> Iterator[Known]:
    """The figures that must come out exactly, of the files at hand.

    MT-Bench: sums of GPT-4's scores over the 160 cells, as LMSYS released them. AlpacaEval: counts and rates of the
    leaderboard file of tatsu-lab/alpaca_eval at cd543a1.
    """
    if ours.mt_bench:
        yield Known("MT-Bench mean of gpt-4", _value(ours.mt_bench["gpt-4"].mean), 1438.5 / 160, 1e-9)
        yield Known("MT-Bench mean of mpt-7b-chat, dropped", _value(ours.mt_bench["mpt-7b-chat"].mean), 868 / 159, 1e-9)
        yield Known("MT-Bench mean of mpt-7b-chat, -1 kept", _value(ours.kept["mpt-7b-chat"].mean), 867 / 160, 1e-9)
    if errors := paired_errors():
        printed = published.fact("overview", "mt_bench.paired_errors_to_llama2_chat").value
        yield Known("least error of an MT-Bench difference to Llama-2-70b-chat", min(errors), printed["least"], 5e-4)
        yield Known("largest error of an MT-Bench difference to Llama-2-70b-chat", max(errors), printed["most"], 5e-4)
    if ours.alpaca_eval:
        zephyr = ours.alpaca_eval["zephyr-7b-beta"]
        yield Known("AlpacaEval wins of zephyr-7b-beta", zephyr.wins, 727, 0.0)
        yield Known("AlpacaEval win rate of zephyr-7b-beta", _value(zephyr.win_rate), 90.5977584059776, 1e-9)
        yield Known("its standard error", zephyr.standard_error or 0.0, 1.0287080531312012, 1e-9)
        yield Known("its length", zephyr.avg_length or 0, 1444, 0.0)


def paired_errors(model: str = "Llama-2-70b-chat") -> list[float]:
    """Standard error over questions of the MT-Bench difference between `model` and each other released model.

    Paired by question, the mean of its parsed turns; what a bootstrap over questions has in the limit. Empty without
    the file.
    """
    path = released.path(SCORES)
    if path is None:
        return []
    judged = [one for one in mt_bench.from_frame(pd.read_csv(path)).judgments if one.score != mt_bench.UNPARSED]
    frame = pd.DataFrame([(one.model, one.question_id, one.score) for one in judged], columns=["model", "id", "score"])
    by_question = frame.groupby(["id", "model"])["score"].mean().unstack()
    apart = by_question.drop(columns=model).sub(by_question[model], axis=0)
    return [float(error) for error in apart.sem()]


def findings(table: pd.DataFrame, *, digits: int = 2) -> list[Finding]:
    """Each recomputed number of a side-by-side table that something is printed beside, recorded in the ledger.

    `digits` is how many are compared: as many as print gives.
    """
    cell = ["row", "metric"]
    quoted = table.loc[table["kind"] == "quoted", [*cell, "value", "source"]]
    pairs = table[table["kind"] == "recomputed"].merge(quoted, on=cell, suffixes=("", "_printed"))
    return [
        check.finding(
            f"{pair['row']}, {pair['metric']}",
            pair["value"],
            pair["value_printed"],
            source=pair["source_printed"],
            interval=(pair["low"], pair["high"]),
            digits=digits,
        )
        for _, pair in pairs.iterrows()
    ]


def _lengths(annotated: Iterable[Annotation]) -> dict[str, Estimate]:
    """Mean length of each model's answers in characters, rows that the judge left unread included."""
    by_model: dict[str, dict[str, list[Any]]] = {}
    for one in annotated:
        known = by_model.setdefault(one.model, {"lengths": [], "instructions": []})
        if one.length is not None:
            known["lengths"].append(one.length)
            known["instructions"].append(one.instruction)
    return {
        model: intervals.mean_estimate(known["lengths"], known["instructions"], seed=0)
        for model, known in by_model.items()
    }


def _rows(
    metric: str, known: Mapping[str, Estimate], models: Mapping[str, str], over: str, source: str
) -> list[dict[str, Any]]:
    """The printed rows that a released model answers."""
    named = {row: known[model] for row, model in models.items() if model in known}
    return [_number(row, metric, estimate, over, source) for row, estimate in named.items()]


def _number(row: str, metric: str, estimate: Estimate, over: str, source: str) -> dict[str, Any]:
    """A recomputed number as a row of the tidy frame; its interval is named by what it is `over` and how it is made."""
    low, high = estimate.interval or (estimate.value, estimate.value)
    number = {"row": row, "metric": metric, "kind": "recomputed", "value": estimate.value, "low": low, "high": high}
    return {**number, "n": estimate.n, "interval": f"{over}, {estimate.method}", "source": source}


def _value(estimate: Estimate) -> float:
    return float("nan") if estimate.value is None else estimate.value
