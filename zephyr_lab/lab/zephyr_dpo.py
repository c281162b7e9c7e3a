"""dDPO seen closely: our logs beside the published ones, beta read off them, and what happens epoch by epoch.

Two runs a seed: the paper's recipe (beta 0.1, three epochs), which is what the log of zephyr-7b-beta shows, and the
recipe of zephyr-7b-alpha's card (beta 0.05, one epoch, its own dSFT and pairs).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import published_logs, seed_means
from zephyr_lab.lab import zephyr_chat as chat
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.numbers import Known
from zephyr_lab.methods.recipes.dpo import DDPORecipe
from zephyr_lab.methods.recipes.pair_accuracy import PairAccuracy
from zephyr_lab.reporting import figures, published, tables
from zephyr_lab.reporting.picture import Picture

# The published log -> the setting of our run that answers it.
SETTINGS = {"beta_log": stages.PAPER, "alpha_log": "alpha card"}
OURS = {"beta_log": "our run, recipe of beta", "alpha_log": "our run, recipe of alpha"}
# TRL's names for what the published logs print, on held-out pairs.
COLUMNS = {
    "eval_loss": "eval_loss",
    "rewards_chosen": "eval_rewards/chosen",
    "rewards_rejected": "eval_rewards/rejected",
    "rewards_accuracy": "eval_rewards/accuracies",
    "rewards_margin": "eval_rewards/margins",
    "logps_chosen": "eval_logps/chosen",
    "logps_rejected": "eval_logps/rejected",
}
# Derived from the cards' own logs; see papers/zephyr/NOTES.md, 3.
KNOWN_BETAS = {"beta_log": ("zephyr-7b-beta", 0.1), "alpha_log": ("zephyr-7b-alpha", 0.05)}
OVERFITTING = "training minus held-out accuracy of the implicit reward: after epoch 3 - after epoch 1"
LATER_SCORE = "chat score (1-10): dDPO, 3 epochs - 1 epoch"
CHOSEN_FALLS = "held-out log-prob of chosen answers, nats: after DPO - before"
REJECTED_FALLS = "change of log-prob, nats: rejected - chosen"
START, FINAL = "start", "final"
LN_2 = float(np.log(2))


@dataclass(frozen=True)
class Run:
    """One dDPO run: `evaluated`, its log on held-out pairs, with the published logs' column names; `trained`, step,
    epoch, loss and accuracy of the batches; `held_out`, exact numbers for the start, each epoch and the end, on `pairs`
    pairs; `beta` as it was set."""

    evaluated: pd.DataFrame
    trained: pd.DataFrame
    held_out: pd.DataFrame
    pairs: int
    beta: float

    @classmethod
    def read(cls, folder: Path, beta: float) -> "Run":
        log = files.read_json(folder / "log.json")
        evaluated = pd.DataFrame([row for row in log if "eval_loss" in row])
        trained = pd.DataFrame([row for row in log if "loss" in row])
        return cls(
            evaluated[["step", "epoch", *COLUMNS.values()]].rename(columns={v: k for k, v in COLUMNS.items()}),
            trained[["step", "epoch", "loss", "rewards/accuracies"]],
            pd.DataFrame(files.read_json(folder / "held_out.json")),
            int(files.read_json(folder / "rows.json")[TEST]["used"]),
            beta,
        )


def trained(profile: str, seed: int, name: str = "beta_log") -> Stage:
    """Our run that answers the published log `name`."""
    return stages.ddpo(profile, seed, setting=SETTINGS[name])


def runs(profile: str, seeds: int, name: str = "beta_log") -> list[Run]:
    """Our runs that answer the published log `name`, one a seed; trains what is missing."""
    made = [trained(profile, seed, name) for seed in range(seeds)]
    return [Run.read(folder, recipe(stage).beta) for folder, stage in zip(get_many(made), made, strict=True)]


def recipe(run: Stage) -> DDPORecipe:
    """The recipe of a dDPO stage. Raises TypeError for any other stage."""
    if not isinstance(run.recipe, DDPORecipe):
        raise TypeError(f"expected a dDPO stage, got {run.name} with {type(run.recipe).__name__}")
    return run.recipe


def betas(ours: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Beta of the published logs and of ours, from chosen and from rejected answers, beside what is said of each.

    `ours`: runs by the published log they answer. For ours, what is said is the setting itself.
    """
    rows = []
    for name, found in ours.items():
        for answers in ("chosen", "rejected"):
            lines = [published_logs.recover_beta(run.evaluated, answers=answers) for run in found]
            slopes = [line.beta for line in lines]
            rows += seed_means.number(OURS[name], f"from {answers}", slopes, n=min(line.n for line in lines))
    theirs = published_logs.betas()
    recomputed = theirs[theirs["kind"] == "recomputed"]
    return tables.side_by_side(
        pd.concat([recomputed, tables.frame(rows)], ignore_index=True), theirs[theirs["kind"] == "quoted"]
    )


def known_betas(ours: Mapping[str, Sequence[Run]]) -> Iterator[Known]:
    """Slopes that must come out exactly: of the published logs, whose rewards have four digits, and of ours."""
    for name, (model, expected) in KNOWN_BETAS.items():
        yield Known(
            f"beta of {model}", published_logs.recover_beta(published.wide("zephyr", name)).beta, expected, 1e-4
        )
    for name, found in ours.items():
        for seed, run in enumerate(found):
            slope = published_logs.recover_beta(run.evaluated).beta
            yield Known(f"beta of {OURS[name]}, seed {seed}", slope, run.beta, 1e-4)


def known_starts(ours: Mapping[str, Sequence[Run]]) -> Iterator[Known]:
    """DPO's loss before the first step, ln 2 in every run whose reference is its start.

    The trainers' own sums, in bfloat16 where a profile trains in it, hence the tolerance.
    """
    for name, found in ours.items():
        for seed, run in enumerate(found):
            first = run.evaluated.iloc[0]
            yield Known(
                f"loss at step {first['step']:.0f} of {OURS[name]}, seed {seed}", first["eval_loss"], LN_2, 1e-2
            )


def epoch_means(found: Sequence[Run], name: str) -> pd.DataFrame:
    """Tidy frame: means of each epoch's log rows, ours beside the published log `name`.

    Metrics: training loss, held-out loss, held-out accuracy, and how far the log-probabilities of chosen and rejected
    answers have moved from the reference, in nats. The published shifts are reward / beta.
    """
    ours = [_epochs(with_shifts(run.evaluated), run.trained["epoch"], run.trained["loss"]) for run in found]
    log = published.wide("zephyr", name)
    theirs = _epochs(with_shifts(log), log["epoch"], log["train_loss"])
    rows = [
        line
        for epoch in ours[0].index
        for metric in ours[0].columns
        for line in seed_means.number(
            f"epoch {epoch}", metric, [float(means.loc[epoch, metric]) for means in ours], n=len(found[0].evaluated)
        )
    ]
    printed = f"{published.exhibit('zephyr', name).printed}, means"
    quoted = [
        {"row": f"epoch {epoch}", "metric": metric, "kind": "quoted", "value": value, "source": printed}
        for epoch, means in theirs.iterrows()
        for metric, value in means.items()
    ]
    return tables.side_by_side(tables.frame(rows), tables.frame(quoted))


def with_shifts(log: pd.DataFrame) -> pd.DataFrame:
    """A log with the columns shift_chosen and shift_rejected: log-probability minus the reference's, in nats.

    That is reward / beta, with beta as the log's own slope has it; nats compare across betas, rewards do not.
    """
    beta = published_logs.recover_beta(log).beta
    return log.assign(**{f"shift_{side}": log[f"rewards_{side}"] / beta for side in ("chosen", "rejected")})


def curves(found: Sequence[Run], name: str, columns: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lines over epochs as `figures.curves` draws them, ours and the published ones: two frames for two panels.

    `columns`: column of the log, or of `with_shifts` -> name of the line.
    """
    theirs = with_shifts(published.wide("zephyr", name))
    ours = [with_shifts(run.evaluated) for run in found]
    batches = [run.trained.rename(columns={"loss": "train_loss"}) for run in found]
    lines, printed = [], []
    for column, series in columns.items():
        source = batches if column == "train_loss" else ours
        values = [one[column] for one in source]
        lines.append(seed_means.curve(series, source[0]["epoch"], values, kind="retrained"))
        printed.append(pd.DataFrame({"series": series, "kind": "quoted", "x": theirs["epoch"], "y": theirs[column]}))
    return pd.concat(lines, ignore_index=True), pd.concat(printed, ignore_index=True)


def beside(ours: pd.DataFrame, theirs: pd.DataFrame, *, y_label: str) -> Picture:
    """Two panels of curves over epochs: ours, and the published log, each on its own scale."""
    figure, axes = figures.panels(2)
    for ax, lines, title in zip(axes, (ours, theirs), ("ours, embedded world", "published log"), strict=True):
        figures.curves(lines, x_label="DPO epochs", y_label=y_label, ax=ax)
        ax.set_title(title)
    return figure


def by_epoch(found: Sequence[Run]) -> pd.DataFrame:
    """Tidy frame: what each epoch does on the held-out pairs, all of them, exactly: a row a model.

    Log-probabilities in nats, KL(policy || reference) in nats an answer, mean tokens of a sampled answer.
    """
    shown = {
        "accuracy": "held-out accuracy",
        "log_prob_chosen": "log-prob of chosen",
        "log_prob_rejected": "log-prob of rejected",
        "kl": "KL to the reference",
        "length": "tokens of an answer",
    }
    rows = []
    for place, model in enumerate(found[0].held_out["model"]):
        for column, metric in shown.items():
            values = [float(run.held_out[column].iloc[place]) for run in found]
            rows += seed_means.number(_epoch_name(model, len(found[0].held_out) - 1), metric, values, n=found[0].pairs)
    return tables.frame(rows)


def accuracies(profile: str, seeds: int) -> list[pd.DataFrame]:
    """Accuracy of the implicit reward after each epoch on all training and all held-out pairs, a frame a seed.

    Columns model, split, accuracy, pairs; pairs of equal texts are left out.
    """
    ranked = [_ranking(trained(profile, seed)) for seed in range(seeds)]
    return [pd.DataFrame(files.read_json(folder / "accuracy.json")) for folder in get_many(ranked)]


def accuracy_curves(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Figure 3, left: training and held-out accuracy after each epoch, as `figures.curves` draws them.

    Before the first step policy and reference agree on everything: every pair is a tie, 0.5.
    """
    lines = []
    for split, series in ((TRAIN, "train"), (TEST, "eval")):
        values = [[0.5, *one.loc[one["split"] == split, "accuracy"]] for one in found]
        lines.append(seed_means.curve(series, range(len(values[0])), values, kind="retrained"))
    return pd.concat(lines, ignore_index=True)


def accuracy_table(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tidy frame of Figure 3, left: accuracy after each epoch on training and held-out pairs, and the gap."""
    rows = []
    models = list(dict.fromkeys(found[0]["model"]))
    for place, model in enumerate(models, start=1):
        row = f"after epoch {place}"
        both = [one[one["model"] == model].set_index("split") for one in found]
        train, test = ([float(one.loc[split, "accuracy"]) for one in both] for split in (TRAIN, TEST))
        pairs = {split: int(min(one.loc[split, "pairs"] for one in both)) for split in (TRAIN, TEST)}
        rows += seed_means.number(row, "training pairs", train, n=pairs[TRAIN])
        rows += seed_means.number(row, "held-out pairs", test, n=pairs[TEST])
        rows += seed_means.number(row, "gap", list(np.subtract(train, test)), n=pairs[TEST])
    return tables.frame(rows)


def effects(profile: str, seeds: int, found: Sequence[Run], ranked: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Z4 and Z15 for `check.claims`, each part with its interval over seeds; the gap of Z4 stands beside S1-13 too."""
    gaps = [_gap(one, FINAL) - _gap(one, "epochs/1") for one in ranked]
    pairs = int(min(one.loc[one["split"] == TEST, "pairs"].min() for one in ranked))
    answered = chat.answers(profile, seeds)
    later = scores.grid(answered, chat.DDPO) - scores.grid(answered, chat.DDPO_1)
    moved = {side: [_moved(run, f"log_prob_{side}") for run in found] for side in ("rejected", "chosen")}
    return scores.effects([
        seed_means.effect("Z4", OVERFITTING, gaps, n=pairs),
        seed_means.effect("S1-13", OVERFITTING, gaps, n=pairs),
        scores.effect("Z4", LATER_SCORE, later),
        seed_means.effect("Z15", CHOSEN_FALLS, moved["chosen"], n=found[0].pairs),
        seed_means.effect("Z15", REJECTED_FALLS, list(np.subtract(*moved.values())), n=found[0].pairs),
    ])  # fmt: skip


def score_by_epoch(profile: str, seeds: int) -> pd.DataFrame:
    """Tidy frame of the chat score before dDPO, after one epoch and after all: does ranking ever better help?"""
    return scores.scores(
        chat.answers(profile, seeds), (scores.SCORE, scores.HOT_SCORE), models=(chat.DSFT, chat.DDPO_1, chat.DDPO)
    )


def _ranking(run: Stage) -> Stage:
    made = recipe(run)
    asked = PairAccuracy(
        start=made.start,
        folders=(*(f"epochs/{epoch}" for epoch in range(1, made.epochs)), ""),
        max_length=made.max_length,
        max_prompt_length=made.max_prompt_length,
        long_prompts=made.long_prompts,
        system_turn=made.system_turn,
        rows_at_once=made.micro_batch,
        device=made.device,
    )
    inputs = {"policy": run, "reference": run.inputs["policy"], "pairs": run.inputs["pairs"]}
    return Stage("pair_accuracy", "zephyr_lab.methods.stages.pair_accuracy:build", asked, seed=run.seed, inputs=inputs)


def _epochs(log: pd.DataFrame, batch_epochs: pd.Series, batch_losses: pd.Series) -> pd.DataFrame:
    """Means of a log's rows within each epoch, a row an epoch (1, 2, ...); what was logged before the first step
    belongs to none."""
    shown = {
        "eval_loss": "held-out loss",
        "rewards_accuracy": "held-out accuracy",
        "shift_chosen": "chosen, nats moved",
        "shift_rejected": "rejected, nats moved",
    }
    after = log[log["epoch"] > 0]
    means = after[list(shown)].rename(columns=shown).groupby(np.ceil(after["epoch"]).astype(int)).mean()
    means.insert(0, "training loss", batch_losses.groupby(np.ceil(batch_epochs).astype(int)).mean())
    return means


def _epoch_name(model: str, epochs: int) -> str:
    if model == START:
        return "dSFT, the start"
    return f"after epoch {epochs if model == FINAL else model.removeprefix('epochs/')}"


def _gap(ranked: pd.DataFrame, model: str) -> float:
    """Training minus held-out accuracy of one model."""
    by_split = ranked[ranked["model"] == model].set_index("split")["accuracy"]
    if by_split.empty:
        raise ValueError(f"no model named {model!r} was ranked; there are {', '.join(dict.fromkeys(ranked['model']))}")
    return float(by_split[TRAIN] - by_split[TEST])


def _moved(run: Run, column: str) -> float:
    """Last minus first of a held-out number."""
    return float(run.held_out[column].iloc[-1] - run.held_out[column].iloc[0])
