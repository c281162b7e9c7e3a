"""dSFT seen closely: what its filters find, what faults its models show, and what the loss is taken over.

Three arms from one base on the same drawn dialogues: the paper's (filtered, loss on the answers), the same without
filters, and the same with the loss on all tokens, as the paper's code had it.
"""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.data.splits import TRAIN, dialogue_rows
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import numbers, seed_means
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.answer_scores import HOT, NEAR_GREEDY, Measure
from zephyr_lab.reporting import published, tables
from zephyr_lab.scoring.intervals import PERCENT
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Turn

BASE, FILTERED, UNFILTERED, ALL_TOKENS = "base", "dSFT", "dSFT, unfiltered data", "dSFT, loss on all tokens"
ARMS = (FILTERED, UNFILTERED, ALL_TOKENS)
BEFORE, AFTER = "dialogues as drawn", "dialogues after the filters"
# What the judge's style check looks at: it knows nothing of the filters and their phrase lists.
FAULTS = {"case": "capital", "disclaimer preface": "no_preface", "cut off": "complete"}
ANY_FAULT = "any style fault"
RUNS = {NEAR_GREEDY: "MT-Bench's temperatures", HOT: "T = 0.7"}
SHOWN = {f"{fault}, {RUNS[HOT]}": f"{fault}, %" for fault in (ANY_FAULT, *FAULTS)}  # the panels of a figure
MEASURES = (scores.SCORE, scores.HOT_SCORE, scores.CORE, scores.EXPLANATION, scores.STYLE)
CLAIM = "share of answers with a style fault: dSFT on filtered - on unfiltered dialogues"
# Style does not depend on the question, so any turn serves to ask the judge for it.
_ANY_TURN = Turn("", "", "", (), "", "", "no explanation is asked for", "")


def trained(profile: str, seed: int) -> dict[str, Stage]:
    """The arms on one seed."""
    return {
        FILTERED: stages.dsft(profile, seed),
        UNFILTERED: stages.dsft(profile, seed, data=stages.dialogues(profile, seed, filters=())),
        ALL_TOKENS: stages.dsft(profile, seed, answers_only=False),
    }


def answers(profile: str, seeds: int) -> pd.DataFrame:
    """Graded answers of the base and of all arms, with a column for each of `FAULTS` and for `ANY_FAULT`."""
    asked = [
        stages.evaluation(profile, seed, {BASE: stages.base(profile), **trained(profile, seed)})
        for seed in range(seeds)
    ]
    return with_faults(scores.answers(asked))


def with_faults(answered: pd.DataFrame) -> pd.DataFrame:
    """`answered` with its style faults as columns of True and False."""
    faults = pd.DataFrame({name: ~answered[passed].astype(bool) for name, passed in FAULTS.items()})
    return answered.assign(**faults, **{ANY_FAULT: faults.any(axis=1)})


def fault_shares(answered: pd.DataFrame) -> pd.DataFrame:
    """Tidy frame: share of answers with each fault in %, at both temperatures, a row an arm."""
    return scores.scores(answered, [_share(fault, run) for run in RUNS for fault in (ANY_FAULT, *FAULTS)], models=ARMS)


def differences(answered: pd.DataFrame) -> pd.DataFrame:
    """Tidy frame: what the filters and the choice of tokens do to the chat score and its parts, paired by seed."""
    pairs = {
        "filtered - unfiltered data": (FILTERED, UNFILTERED),
        "loss on answers - on all tokens": (FILTERED, ALL_TOKENS),
    }
    return scores.differences(answered, pairs, MEASURES)


def data_faults(profile: str, seeds: int) -> pd.DataFrame:
    """Tidy frame: the same faults in the answers of the training dialogues, as drawn and after the filters."""
    drawn = {
        BEFORE: [stages.dialogues(profile, seed, filters=()) for seed in range(seeds)],
        AFTER: [stages.dialogues(profile, seed) for seed in range(seeds)],
    }
    get_many([stage for made in drawn.values() for stage in made])
    of = f"answers, {seeds} {'seeds' if seeds > 1 else 'seed'}"
    rows = []
    for row, made in drawn.items():
        verdicts = [grade(_ANY_TURN, text) for folder in get_many(made) for text in _answer_texts(folder)]
        faults = with_faults(pd.DataFrame([asdict(verdict) for verdict in verdicts]))
        rows += [
            numbers.share(row, fault, int(faults[fault].sum()), len(faults), of=of) for fault in (ANY_FAULT, *FAULTS)
        ]
    return tables.frame(rows)


def effect_of_filtering(answered: pd.DataFrame) -> pd.DataFrame:
    """Z9 for `check.claims`: share with a fault, filtered - unfiltered, of answers sampled at T = 0.7.

    Near-greedy answers follow what most of the data does, so a fault of the few hardly shows in them whatever the
    model has learned; `fault_shares` has both.
    """
    measure = Measure(CLAIM, ANY_FAULT, run=HOT)
    difference = scores.grid(answered, FILTERED, measure) - scores.grid(answered, UNFILTERED, measure)
    return scores.effects([scores.effect("Z9", CLAIM, difference)])


def loss_curves(profile: str, seeds: int) -> pd.DataFrame:
    """Training loss over the epoch by arm, as `figures.curves` draws it: mean over seeds with its t interval."""
    arms = [trained(profile, seed) for seed in range(seeds)]
    folders = iter(get_many([stage for by_arm in arms for stage in by_arm.values()]))
    logs = [{arm: _training_rows(next(folders)) for arm in by_arm} for by_arm in arms]
    return pd.concat(
        [
            # The first seed's places: the filters keep a few rows more on one seed than on another.
            seed_means.curve(arm, logs[0][arm]["epoch"], [by_arm[arm]["loss"] for by_arm in logs], kind="retrained")
            for arm in ARMS
        ],
        ignore_index=True,
    )


def losses(profile: str, seeds: int) -> pd.DataFrame:
    """Tidy frame: held-out loss in nats a token before and after each arm, over the tokens that the arm trains on.

    Beside it what the handbook's re-run printed; another vocabulary, so only "it falls" compares.
    """
    arms = [trained(profile, seed) for seed in range(seeds)]
    get_many([stage for by_arm in arms for stage in by_arm.values()])
    rows = []
    for arm in ARMS:
        found = [metrics(by_arm[arm]) for by_arm in arms]
        used = int(min(one["used"] for one in found))
        for metric, name in (("before", "held_out_loss_start"), ("after", "held_out_loss")):
            rows += seed_means.number(arm, metric, [one[name] for one in found], n=used)
    model = "alignment-handbook/zephyr-7b-sft-full"
    printed = published.wide("zephyr", "official_reruns").set_index(["model", "metric"])["value"]
    shown = published.exhibit("zephyr", "official_reruns").printed
    theirs = {"row": model, "metric": "after", "kind": "quoted", "value": printed[model, "eval loss"], "source": shown}
    return tables.side_by_side(tables.frame(rows), tables.frame([theirs]))


def kept(profile: str, seeds: int) -> pd.DataFrame:
    """What each rule of the filters found in the drawn dialogues, a row a rule: mean count of dialogues over seeds."""
    made = [stages.dialogues(profile, seed) for seed in range(seeds)]
    get_many(made)
    counts = pd.DataFrame([metrics(stage) for stage in made]).mean()
    found = [str(name) for name in counts.index if str(name).startswith("found_")]
    lines = {"drawn": counts["rows"]}
    lines |= {f"found by {name.removeprefix('found_')}": counts[name] for name in found}
    lines |= {"kept (truecase repairs, the others drop)": counts["kept"]}
    return pd.DataFrame({"dialogues": list(lines), "mean count over seeds": [round(count) for count in lines.values()]})


def _share(fault: str, run: str) -> Measure:
    return Measure(f"{fault}, {RUNS[run]}", fault, run=run, scale=100.0, within=PERCENT)


def _answer_texts(folder: Path) -> list[str]:
    """The assistant's turns of a dialogues stage's training rows."""
    dialogues = dialogue_rows(folder, TRAIN).rows
    return [turn["content"] for dialogue in dialogues for turn in dialogue if turn["role"] == "assistant"]


def _training_rows(folder: Path) -> pd.DataFrame:
    """The rows of a log that stand for training steps, columns epoch and loss."""
    return pd.DataFrame([row for row in files.read_json(folder / "log.json") if "loss" in row])[["epoch", "loss"]]
