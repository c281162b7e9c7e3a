"""Our DPO logs read like the published ones: beta from the slope, epoch means, shifts."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from zephyr_lab.lab.arms import Arm
from zephyr_lab.lab.zephyr import dpo_logs

REFERENCE = {"chosen": -5.0, "rejected": -9.0}


@dataclass(frozen=True)
class Run(Arm):
    """An arm with a log that was not trained."""

    given: pd.DataFrame = field(default_factory=pd.DataFrame)

    def log(self) -> pd.DataFrame:
        return self.given


def run(*, beta: float = 0.1, chosen=(0.2, 0.21, 0.22), rejected: float = -1.0) -> Run:
    """Three epochs of two evaluations; log-probabilities move evenly, by `chosen` nats a seed and `rejected` in all."""
    log = []
    for seed, nats in enumerate(chosen):
        for step in range(7):
            row = {"seed": seed, "step": step, "epoch": step / 2}
            held_out = {"eval_loss": 0.7 - step / 100, "eval_rewards/accuracies": 0.5 + step / 20}
            for side, total in (("chosen", nats), ("rejected", rejected)):
                held_out[f"eval_logps/{side}"] = REFERENCE[side] + total * step / 6
                held_out[f"eval_rewards/{side}"] = beta * total * step / 6
            log.append({**row, **held_out, "eval_rewards/margins": 0.0})
            log += [{**row, "loss": 0.7 / step}] if step else []
    return Run("dDPO", "tiny", len(chosen), lambda seed: None, given=pd.DataFrame(log))


def value(table, row, metric, kind="retrained"):
    (number,) = table[(table["row"] == row) & (table["metric"] == metric) & (table["kind"] == kind)]["value"]
    return number


def test_our_beta_comes_back_from_our_log_beside_theirs():
    table = dpo_logs.betas({"ours": run(beta=0.4)})
    assert [value(table, "ours", f"from {side}") for side in REFERENCE] == pytest.approx([0.4, 0.4])
    assert value(table, "zephyr-7b-alpha", "from chosen", "recomputed") == pytest.approx(0.05, abs=1e-4)
    assert value(table, "zephyr-7b-alpha", "from chosen", "quoted") == 0.1


def test_epoch_means_leave_out_what_was_logged_before_the_first_step():
    table = dpo_logs.epoch_means(run(), "beta_log")
    assert value(table, "epoch 1", "held-out accuracy") == pytest.approx(0.575)  # steps 1 and 2, not step 0
    assert value(table, "epoch 3", "held-out loss") == pytest.approx(0.645)
    assert value(table, "epoch 1", "training loss") == pytest.approx((0.7 + 0.35) / 2)
    assert value(table, "epoch 3", "rejected, nats moved") == pytest.approx(-11 / 12)


def test_published_epoch_means_are_those_of_the_notes():
    table = dpo_logs.epoch_means(run(), "beta_log")
    means = [value(table, f"epoch {epoch}", "training loss", "quoted") for epoch in (1, 2, 3)]
    assert [round(mean, 3) for mean in means] == [0.544, 0.103, 0.012]


def test_shifts_are_rewards_over_the_log_s_own_beta():
    ours, theirs = dpo_logs.shifts(run(beta=0.4, chosen=(-3.0, -3.0)), "beta_log")
    last = ours.groupby("series")["y"].last()
    assert last.to_dict() == pytest.approx({"chosen": -3.0, "rejected": -1.0})
    assert (theirs["series"] == "chosen").sum() == 58 and set(theirs["kind"]) == {"quoted"}


def test_losses_are_those_of_batches_and_of_held_out_pairs():
    ours, theirs = dpo_logs.losses(run(), "alpha_log")
    assert np.isclose(ours[ours["series"] == "train"]["y"], [0.7 / step for step in range(1, 7)]).all()
    assert ours[ours["series"] == "eval"]["x"].tolist() == [step / 2 for step in range(7)]
    assert list(dict.fromkeys(theirs["series"])) == ["train", "eval"]
