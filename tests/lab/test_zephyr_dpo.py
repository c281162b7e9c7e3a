"""Our DPO logs read like the published ones: beta from the slope, epoch means, and the signs of the claims."""

import json

import numpy as np
import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.lab import zephyr_dpo
from zephyr_lab.reporting import check
from zephyr_lab.reporting import claims as registry

REFERENCE = {"chosen": -5.0, "rejected": -9.0}


def write_run(folder, *, beta: float = 0.1, chosen: float = 0.2, rejected: float = -1.0, noise: float = 0.0):
    """Three epochs of two evaluations; log-probabilities move evenly by `chosen` and `rejected` nats in all."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    log = []
    for step in range(7):
        moved = {"chosen": chosen * step / 6, "rejected": rejected * step / 6}
        row = {"step": step, "epoch": step / 2, "eval_loss": 0.7 - step / 100}
        row |= {"eval_rewards/accuracies": 0.5 + step / 20, "eval_rewards/margins": 0.0}
        for side, nats in moved.items():
            row[f"eval_logps/{side}"] = REFERENCE[side] + nats
            row[f"eval_rewards/{side}"] = beta * nats + noise * rng.normal()
        log.append(row)
        if step:
            log.append({"step": step, "epoch": step / 2, "loss": 0.7 / step, "rewards/accuracies": 0.5})
    (folder / "log.json").write_text(json.dumps(log))
    names = ["start", "epochs/1", "epochs/2", "final"]
    held_out = [
        {"model": name, "accuracy": 0.5, "kl": place, "length": 10.0}
        | {f"log_prob_{side}": REFERENCE[side] + nats * place / 3 for side, nats in moved.items()}
        for place, name in enumerate(names)
    ]
    (folder / "held_out.json").write_text(json.dumps(held_out))
    (folder / "rows.json").write_text(json.dumps({"test": {"used": 300}}))
    return zephyr_dpo.Run.read(folder, beta)


@pytest.fixture
def found(tmp_path):
    return [write_run(tmp_path / str(seed), chosen=0.2 + 0.01 * seed) for seed in range(3)]


def ranked(gap_1: float, gap_3: float) -> pd.DataFrame:
    rows = [("epochs/1", gap_1), ("epochs/2", (gap_1 + gap_3) / 2), ("final", gap_3)]
    return pd.DataFrame(
        [
            {"model": model, "split": split, "accuracy": 0.7 + (gap if split == "train" else 0), "pairs": pairs}
            for model, gap in rows
            for split, pairs in (("train", 900), ("test", 270))
        ]
    )


def value(table, row, metric, kind="retrained"):
    (found,) = table[(table["row"] == row) & (table["metric"] == metric) & (table["kind"] == kind)]["value"]
    return found


def test_our_beta_comes_back_from_our_log_beside_theirs(found):
    table = zephyr_dpo.betas({"beta_log": found})
    ours = zephyr_dpo.OURS["beta_log"]
    slopes = [value(table, ours, f"from {answers}") for answers in ("chosen", "rejected")]
    assert slopes == pytest.approx([0.1, 0.1])
    assert value(table, "zephyr-7b-alpha", "from chosen", "recomputed") == pytest.approx(0.05, abs=1e-4)
    assert value(table, "zephyr-7b-alpha", "from chosen", "quoted") == 0.1


def test_known_betas_are_the_setting_of_each_run(tmp_path):
    right = write_run(tmp_path / "right", beta=0.05)
    known = {one.what: one for one in zephyr_dpo.known_betas({"alpha_log": [right]})}
    assert [one.expected for one in known.values()] == [0.1, 0.05, 0.05]
    assert all(abs(one.got - one.expected) < one.tolerance for one in known.values())
    mistaken = zephyr_dpo.Run(right.evaluated, right.trained, right.held_out, right.pairs, beta=0.1)
    *_, wrong = zephyr_dpo.known_betas({"alpha_log": [mistaken]})
    assert abs(wrong.got - wrong.expected) > wrong.tolerance


def test_a_run_that_did_not_start_at_ln_2_is_known_by_its_first_row(found):
    for run in found:
        run.evaluated.loc[0, "eval_loss"] = 0.6931
    found[1].evaluated.loc[0, "eval_loss"] = 0.6750
    known = list(zephyr_dpo.known_starts({"beta_log": found}))
    assert [one.what for one in known] == [
        f"loss at step 0 of {zephyr_dpo.OURS['beta_log']}, seed {s}" for s in range(3)
    ]
    assert [abs(one.got - one.expected) <= one.tolerance for one in known] == [True, False, True]


def test_epoch_means_leave_out_what_was_logged_before_the_first_step(found):
    table = zephyr_dpo.epoch_means(found, "beta_log")
    assert value(table, "epoch 1", "held-out accuracy") == pytest.approx(0.575)  # steps 1 and 2, not step 0
    assert value(table, "epoch 3", "held-out loss") == pytest.approx(0.645)
    assert value(table, "epoch 1", "training loss") == pytest.approx((0.7 + 0.35) / 2)
    assert value(table, "epoch 3", "rejected, nats moved") == pytest.approx(-11 / 12)


def test_published_epoch_means_are_those_of_the_notes(found):
    table = zephyr_dpo.epoch_means(found, "beta_log")
    means = [value(table, f"epoch {epoch}", "training loss", "quoted") for epoch in (1, 2, 3)]
    assert [round(mean, 3) for mean in means] == [0.544, 0.103, 0.012]


def test_shifts_are_rewards_over_the_log_s_own_beta(tmp_path):
    log = zephyr_dpo.with_shifts(write_run(tmp_path / "run", beta=0.4, chosen=-3.0).evaluated)
    assert log["shift_chosen"].iloc[-1] == pytest.approx(-3.0)
    assert log["shift_rejected"].iloc[-1] == pytest.approx(-1.0)


def test_accuracy_starts_at_a_half_and_the_gap_is_training_minus_held_out():
    seeds = [ranked(0.1, 0.2), ranked(0.1, 0.3)]
    curve = zephyr_dpo.accuracy_curves(seeds)
    train = curve[curve["series"] == "train"]
    assert train["x"].tolist() == [0, 1, 2, 3] and train["y"].iloc[0] == 0.5
    assert train["y"].iloc[-1] == pytest.approx(0.95)
    table = zephyr_dpo.accuracy_table(seeds)
    assert value(table, "after epoch 3", "gap") == pytest.approx(0.25)
    assert set(table.loc[table["metric"] == "training pairs", "n"]) == {900}


def answers_that_gain(points: float) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"seed": seed, "model": model, "run": "near-greedy", "question_id": question, "turn": 1, "score": score}
            for seed in range(3)
            for model, score in ((zephyr_dpo.chat.DDPO_1, 6.0), (zephyr_dpo.chat.DDPO, 6.0 + points + 0.001 * seed))
            for question in range(5)
        ]
    )


@pytest.mark.parametrize(
    ("gap_3", "points", "chosen", "verdicts"),
    [
        (0.3, 0.0, -2.0, ["reproduced", "reproduced"]),  # overfits without harm; chosen falls
        (0.1, 0.0, -2.0, ["not resolved", "reproduced"]),  # the gap does not grow
        (0.3, -1.0, -2.0, ["contradicted", "reproduced"]),  # it does harm
        (0.3, 0.0, 2.0, ["reproduced", "contradicted"]),  # chosen rises
    ],
)
def test_flipping_the_data_flips_the_verdicts(tmp_path, monkeypatch, gap_3, points, chosen, verdicts):
    monkeypatch.setattr(zephyr_dpo.chat, "answers", lambda profile, seeds: answers_that_gain(points))
    monkeypatch.setattr(session.Session, "build", tmp_path)
    runs = [write_run(tmp_path / str(seed), chosen=chosen + 0.01 * seed, rejected=-4.0) for seed in range(3)]
    spread = [ranked(0.1, gap_3 + 0.001 * (seed - 1)) for seed in range(3)]
    effects = zephyr_dpo.effects("tiny", 3, runs, spread)
    metrics = {claim.id: {part.metric for part in claim.parts} for claim in registry.load("zephyr")}
    assert set(effects["metric"]) == metrics["Z4"] | metrics["Z15"]
    shown = check.claims("zephyr", ["Z4", "Z15"], effects)
    assert [line for line in verdicts if line not in repr(shown)] == []
    check.claims("overview", ["S1-13"], effects)
    fragment = json.loads(next((tmp_path / "ledger").glob("*.json")).read_text())
    told = {claim["id"]: claim for claim in fragment["claims"]}
    assert [told[id]["verdict"] for id in ("Z4", "Z15", "S1-13")] == [*verdicts, "wrong"]
    assert told["S1-13"]["effect"] == pytest.approx(gap_3 - 0.1)


def test_ours_and_theirs_stand_in_panels_of_their_own(found):
    figure = zephyr_dpo.beside(
        *zephyr_dpo.curves(found, "beta_log", {"train_loss": "train", "eval_loss": "eval"}), y_label="loss"
    )
    ours, theirs = figure.axes
    assert len(theirs.lines[0].get_xdata()) == 58 and theirs.lines[0].get_markerfacecolor() == "white"
    assert len(ours.lines[0].get_xdata()) == 6 and len(ours.lines[1].get_xdata()) == 7


def test_what_is_no_ddpo_stage_has_no_recipe():
    with pytest.raises(TypeError, match="expected a dDPO stage, got dsft"):
        zephyr_dpo.recipe(zephyr_dpo.stages.dsft("tiny", 0))


def test_each_log_is_answered_by_its_own_beta():
    assert zephyr_dpo.recipe(zephyr_dpo.trained("tiny", 0, "beta_log")).beta == 0.1
    alpha = zephyr_dpo.recipe(zephyr_dpo.trained("tiny", 0, "alpha_log"))
    assert (alpha.beta, alpha.epochs) == (0.05, 1)
