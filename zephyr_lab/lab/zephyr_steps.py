"""Notebook 12: which of Zephyr's steps matters, for how many epochs, on which pairs (Table 3, Figure 3, samples).

All arms start from one base; a seed decides data, order and sampling. Rows bear the paper's labels where it has them.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files, session, settings
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import seed_means
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.reporting import published, tables

BASE, WITHOUT, DSFT, SECOND, DDPO = "base", "dDPO - dSFT", "dSFT-1", "dSFT-2", "dDPO + dSFT"
TABLE_3 = (WITHOUT, DSFT, SECOND, DDPO)
CLOSE_SECOND, CLOSE_DDPO = "dSFT-2, close", "dDPO + dSFT, close"
PAIR_SETS = {"far": "pairs", "close": "close_pairs"}  # named by how far the chosen answers are above the dSFT data
_TRUTH = {
    "exact_chosen": "chosen, exact score",
    "exact_rejected": "rejected, exact score",
    "agreement": "chosen is better, share",
}


@dataclass(frozen=True, kw_only=True)
class StepsSettings:
    """Arms of a profile. sft_epochs: of the grid, 1 among them; rejected: rules beside the paper's random draw; cards:
    named recipe settings; betas: beside the paper's 0.1; bases: how many base models the spread is shown over."""

    sft_epochs: tuple[int, ...]
    rejected: tuple[str, ...]
    cards: tuple[str, ...]
    betas: tuple[float, ...]
    bases: int

    def __post_init__(self) -> None:
        if 1 not in self.sft_epochs:
            raise ValueError(f"sft_epochs must hold 1, the paper's, got {self.sft_epochs}")
        if self.bases < 1:
            raise ValueError(f"bases must be at least 1, got {self.bases}")


@dataclass(frozen=True)
class Steps:
    """All arms, trained and asked. answers, held_out: frames of `answer_scores`; bases: answers of three models on each
    base, the base's number as "seed"; ddpo, pairs: the stages by arm, one a seed."""

    arms: StepsSettings
    answers: pd.DataFrame
    held_out: pd.DataFrame
    bases: pd.DataFrame
    ddpo: dict[str, list[Stage]]
    pairs: dict[str, list[Stage]]


def steps(profile: str, seeds: int) -> Steps:
    """Train and ask every arm under seeds 0 to `seeds` - 1; what another notebook trained is used as it is."""
    arms = settings.load("zephyr", profile, "steps", StepsSettings)
    models = [models_of(profile, seed, arms) for seed in range(seeds)]
    asked = [
        [stages.evaluation(profile, seed, part, held_out=stages.pairs(profile, seed)) for part in _halves(one)]
        for seed, one in enumerate(models)
    ]
    bases = [base_arms(profile, number) for number in range(arms.bases)]
    asked_bases = [stages.evaluation(profile, 0, one) for one in bases]
    get_many([*asked_bases, *itertools.chain(*asked)])  # at once, and the bases, which take longest, first
    return Steps(
        arms,
        pd.concat([scores.answers(part) for part in zip(*asked, strict=True)], ignore_index=True),
        pd.concat([scores.held_out(part) for part in zip(*asked, strict=True)], ignore_index=True),
        scores.answers(asked_bases),
        {
            name: [one[name].stage for one in models]
            for name, model in models[0].items()
            if model.stage.name == "ddpo" and not model.folder
        },
        {
            name: [stages.pairs(profile, seed, table=table) for seed in range(seeds)]
            for name, table in PAIR_SETS.items()
        },
    )


def models_of(profile: str, seed: int, arms: StepsSettings) -> dict[str, Model]:
    """Every model of one seed by its row, the base among them."""
    first = Model(stages.dsft(profile, seed))
    close = stages.pairs(profile, seed, table="close_pairs")
    models = {
        BASE: stages.base(profile),
        DSFT: first,
        SECOND: Model(stages.dsft(profile, seed, start=first, data=stages.pairs(profile, seed))),
        CLOSE_SECOND: Model(stages.dsft(profile, seed, start=first, data=close)),
        DDPO: Model(stages.ddpo(profile, seed, epochs=1)),
        WITHOUT: _one_epoch(profile, seed, start=stages.base(profile)),
        CLOSE_DDPO: _one_epoch(profile, seed, data=close),
    }
    for epochs in arms.sft_epochs:
        start = first if epochs == 1 else Model(stages.dsft(profile, seed, epochs=epochs))
        # the paper's own run keeps its curve on held-out pairs; the others need none
        changes = {} if epochs == 1 else {"start": start, "evaluate_every": 0}
        run = stages.three_epochs(profile, seed, **changes)
        models[cell(epochs, 0)] = start
        models |= {cell(epochs, done): Model(run, f"epochs/{done}") for done in range(1, stages.DDPO_EPOCHS)}
        models[cell(epochs, stages.DDPO_EPOCHS)] = Model(run)
    for rule in arms.rejected:
        models[rejecting(rule)] = _one_epoch(profile, seed, data=stages.pairs(profile, seed, rejected=rule))
    for beta in arms.betas:
        models[with_beta(beta, 1)] = _one_epoch(profile, seed, beta=beta)
        models[with_beta(beta, stages.DDPO_EPOCHS)] = Model(
            stages.three_epochs(profile, seed, beta=beta, evaluate_every=0, keep_epochs=False)
        )
    for card in arms.cards:
        models[card] = Model(stages.ddpo(profile, seed, setting=card))
    return models


def _halves(models: Mapping[str, Model]) -> list[dict[str, Model]]:
    """The models as two evaluations: the first starts while models of the second train, and the last ones share cores.

    No answer depends on what else its stage asks.
    """
    named, middle = list(models.items()), (len(models) + 1) // 2
    return [dict(named[:middle]), dict(named[middle:])]


def base_arms(profile: str, number: int) -> dict[str, Model]:
    """Base `number`, its dSFT and its dDPO of one epoch, all on the data of seed 0."""
    base = stages.base(profile, number)
    dsft = Model(stages.dsft(profile, 0, start=base))
    return {BASE: base, DSFT: dsft, DDPO: Model(stages.ddpo(profile, 0, start=dsft, epochs=1))}


def cell(sft_epochs: int, dpo_epochs: int) -> str:
    """Row of the grid's cell; one epoch of SFT alone is Table 3's dSFT-1."""
    return DSFT if (sft_epochs, dpo_epochs) == (1, 0) else f"{sft_epochs} SFT + {dpo_epochs} DPO"


def rejecting(rule: str) -> str:
    """Row of one epoch of dDPO on pairs whose rejected answer is drawn by `rule`; "random" is Table 3's."""
    return DDPO if rule == "random" else f"rejected: {rule}"


def with_beta(beta: float, epochs: int) -> str:
    """Row of dDPO at `beta` for `epochs`, each a run of its own; the paper's beta is in Table 3 and in the grid."""
    if beta == 0.1:
        return DDPO if epochs == 1 else cell(1, epochs)
    return f"beta {beta:g}, {_epochs(epochs)}"


def table_3(done: Steps) -> pd.DataFrame:
    """Table 3 beside ours: score near-greedy, at the official size and at T = 0.7; win rate against dSFT-1.

    The published win rate is against another model (text-davinci-003), so it keeps a column of its own.
    """
    rows = (BASE, *TABLE_3)
    ours = pd.concat([
        scores.scores(done.answers, (scores.SCORE, scores.OFFICIAL_SCORE, scores.HOT_SCORE), models=rows),
        scores.win_rates(done.answers, rows, against=DSFT),
    ])  # fmt: skip
    return tables.side_by_side(ours, published.table("zephyr", "tab3"))


def parts(done: Steps, rows: Sequence[str] = (BASE, *TABLE_3)) -> pd.DataFrame:
    """What the score is made of: right core, right explanation, style, cost of idle words, and words an answer."""
    return scores.scores(done.answers, scores.PARTS, models=rows)


def gap(done: Steps) -> pd.DataFrame:
    """Preference learning against SFT on the same chosen answers, dDPO - dSFT-2, on far and on close pairs."""
    return scores.differences(
        done.answers,
        {"far": (DDPO, SECOND), "close": (CLOSE_DDPO, CLOSE_SECOND)},
        (scores.SCORE, scores.HOT_SCORE, *scores.PARTS[:2]),
    )


def pair_quality(done: Steps) -> pd.DataFrame:
    """How good the chosen and the rejected answers are in truth, by pair set; nothing where no truth is known."""
    rows = []
    for name, made in done.pairs.items():
        found = [metrics(stage) for stage in made]
        for key, metric in _TRUTH.items():
            values = [one[key] for one in found if key in one]
            rows += scores.counted(name, metric, values, n=int(found[0]["pairs"]))
    return tables.frame(rows)


def recipes(done: Steps) -> pd.DataFrame:
    """The released models' recipes beside the paper's: score, win rate against dSFT-1, KL to the reference; and what
    MT-Bench said of the published models that were trained so."""
    rows = {
        "paper, 1 epoch": DDPO,
        "paper, 3 epochs": cell(1, stages.DDPO_EPOCHS),
        **{card: card for card in done.arms.cards},
    }
    theirs = [
        ("paper, 1 epoch", "tab3", DDPO),
        ("paper, 3 epochs", "tab1", "Zephyr"),
        ("alpha card", "card_beta_chat", "Zephyr-7b-alpha"),
        ("beta card", "card_beta_chat", "Zephyr-7b-beta"),
    ]
    quoted = [_quoted(row, exhibit, label) for row, exhibit, label in theirs if row in rows]
    return tables.side_by_side(_renamed(_scores_and_kl(done, rows.values()), rows), tables.frame(quoted))


def grid(done: Steps) -> pd.DataFrame:
    """Figure 3, right: score after n epochs of SFT and m of DPO, with the three published points."""
    ours = [
        scores.number(
            _epochs(sft, "SFT"), _epochs(dpo, "DPO"), scores.grid(done.answers, cell(sft, dpo)), within=scores.JUDGED
        )
        for sft in done.arms.sft_epochs
        for dpo in range(stages.DDPO_EPOCHS + 1)
    ]
    shown = published.exhibit("zephyr", "fig3_right").printed
    theirs = [
        {
            "row": _epochs(int(point["sft_epochs"]), "SFT"),
            "metric": _epochs(int(point["dpo_epochs"]), "DPO"),
            "kind": "quoted",
            "value": point["mt_bench"],
            "source": f"{shown} (points of Tables 1 and 3)",
        }
        for _, point in published.wide("zephyr", "fig3_right").iterrows()
    ]
    both = tables.side_by_side(tables.frame(ours), tables.frame(theirs))
    return both.sort_values(["row", "metric"], kind="stable", ignore_index=True)


def rejected(done: Steps) -> pd.DataFrame:
    """One epoch of dDPO by the rule that draws the rejected answer: score, T = 0.7, win rate, KL."""
    rows = {"random": DDPO, **{rule: rejecting(rule) for rule in done.arms.rejected}}
    return _renamed(_scores_and_kl(done, rows.values()), rows)


def betas(done: Steps) -> pd.DataFrame:
    """Beta by epochs, each cell a run of its own: score, T = 0.7, win rate, KL."""
    rows = {
        f"beta {beta:g}, {_epochs(epochs)}": with_beta(beta, epochs)
        for beta in (*done.arms.betas, 0.1)
        for epochs in (1, stages.DDPO_EPOCHS)
    }
    return _renamed(_scores_and_kl(done, rows.values()), rows)


def spread(done: Steps) -> pd.DataFrame:
    """What a seed and what a base changes: base, dSFT-1, dDPO and its gain on each base, and over seeds of base 0."""
    over_seeds = done.answers[done.answers["model"].isin([BASE, DSFT, DDPO])]
    numbers = {f"base {number}": part for number, part in done.bases.groupby("seed")}
    rows = []
    for name, answered, unit in (
        *((name, part, "seed") for name, part in numbers.items()),
        ("seeds of base 0", over_seeds, "seed"),
        ("bases, seed 0", done.bases, "base"),
    ):
        grids = {model: scores.grid(answered, model) for model in (BASE, DSFT, DDPO)}
        grids["gain of dDPO"] = grids[DDPO] - grids[DSFT]
        rows += [scores.number(name, metric, values, unit=unit) for metric, values in grids.items()]
    return tables.frame(rows)


def accuracies(done: Steps) -> pd.DataFrame:
    """Figure 3, left: accuracy of the implicit reward over the paper's three epochs, beside the beta model's log.

    As `figures.curves` draws it. Logged means of batches, averaged over seeds at equal steps. Before the first update
    policy and reference are equal and no reward is higher, so the first log is left out. The published figure was not
    printed as values; the log of the released model stands in for it.
    """
    logs = [
        pd.DataFrame(files.read_json(folder / "log.json")).assign(seed=seed)
        for seed, folder in enumerate(get_many(done.ddpo[cell(1, stages.DDPO_EPOCHS)]))
    ]
    log = pd.concat(logs, ignore_index=True)
    curves = [_curve(log, "train", "rewards/accuracies"), _curve(log, "eval", "eval_rewards/accuracies")]
    theirs = published.wide("zephyr", "beta_log")
    quoted = {"series": "eval", "kind": "quoted", "x": theirs["epoch"], "y": theirs["rewards_accuracy"]}
    return pd.concat([*curves, pd.DataFrame({**quoted, "label": "eval, beta log"})], ignore_index=True)


def samples(done: Steps, *, categories: Sequence[str] = ("writing", "math", "stem")) -> pd.DataFrame:
    """Whole near-greedy dialogues of seed 0: the first question of each category, as each model of Table 3 went on."""
    answered = done.answers[(done.answers["run"] == scores.NEAR_GREEDY) & (done.answers["seed"] == 0)]
    shown = []
    for category in categories:
        own = answered[answered["category"] == category]
        first = own[own["question_id"] == own["question_id"].min()]
        for row in (BASE, *TABLE_3):
            turns = first[first["model"] == row].sort_values("turn")
            shown.append(turns[["category", "model", "turn", "prompt", "text", "score"]])
    return pd.concat(shown, ignore_index=True)


def save_samples(shown: pd.DataFrame) -> Path:
    """Write the samples to build/<profile>/tables/zephyr/samples.csv, register and return it."""
    path = session.current().build / "tables" / "zephyr" / "samples.csv"
    files.write_text(path, shown.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    session.add_product(path)
    return path


def _curve(log: pd.DataFrame, series: str, column: str) -> pd.DataFrame:
    """Mean of a logged column over seeds, with its t interval where there is more than one."""
    points = []
    logged = log.dropna(subset=[column])
    for _, rows in logged[logged["step"] > logged["step"].min()].groupby("step"):
        low, high = seed_means.band(rows[column].to_numpy(float))
        points.append({
            "series": series, "kind": "retrained", "x": rows["epoch"].mean(), "y": rows[column].mean(),
            "low": low, "high": high, "interval": f"{len(rows)} seeds, t 95 %" if len(rows) > 1 else None,
        })  # fmt: skip
    return pd.DataFrame(points)


def _one_epoch(profile: str, seed: int, **changes: Any) -> Model:
    """An arm of one dDPO epoch, without a curve on held-out pairs."""
    return Model(stages.ddpo(profile, seed, epochs=1, evaluate_every=0, keep_epochs=False, **changes))


def _scores_and_kl(done: Steps, models: Iterable[str]) -> pd.DataFrame:
    """Score, T = 0.7, win rate against dSFT-1, and KL to the reference in nats an answer (two seeds or more)."""
    models = list(models)
    kl = []
    for model in models:
        found = [metrics(stage) for stage in done.ddpo[model]]
        prompts = done.ddpo[model][0].recipe.sampled_prompts
        kl += scores.counted(model, "KL, nats", [one["held_out_kl"] for one in found], n=prompts)
    return pd.concat(
        [
            scores.scores(done.answers, (scores.SCORE, scores.HOT_SCORE), models=models),
            scores.win_rates(done.answers, models, against=DSFT),
            tables.frame(kl),
        ],
        ignore_index=True,
    )


def _quoted(row: str, exhibit: str, label: str) -> dict[str, Any]:
    """The published MT-Bench score of `label` as a line of row `row`."""
    printed = published.table("zephyr", exhibit)
    (number,) = printed[(printed["row"] == label) & (printed["metric"] == "mt_bench")].to_dict("records")
    return {**number, "row": row}


def _renamed(table: pd.DataFrame, rows: Mapping[str, str]) -> pd.DataFrame:
    """Models under the names that a table gives them (name -> model), in its order."""
    names = {model: name for name, model in rows.items()}
    order = list(rows)
    return table.assign(row=table["row"].map(names)).sort_values(
        "row", key=lambda column: column.map(order.index), kind="stable", ignore_index=True
    )


def _epochs(count: int, what: str = "") -> str:
    return " ".join(filter(None, (str(count), what, "epoch" if count == 1 else "epochs")))
