"""Beta out of a DPO log: exact on a made-up log, and what the published logs of Zephyr say."""

import numpy as np
import pandas as pd
import pytest

from zephyr_lab.lab.zephyr import dpo_logs
from zephyr_lab.reporting import published


def made_up(beta: float, noise: float = 0.0) -> pd.DataFrame:
    """Twenty evaluations of a policy that drifts away from a reference of -250 nats."""
    shift = np.linspace(0, -40, 20)
    wobble = noise * np.random.default_rng(0).normal(size=20)
    return pd.DataFrame({"logps_chosen": -250 + shift, "rewards_chosen": beta * shift + wobble})


def test_the_slope_of_a_log_is_its_beta():
    line = dpo_logs.recover_beta(made_up(0.3))
    assert line.beta == pytest.approx(0.3)
    assert line.reference == pytest.approx(0.3 * 250)
    assert line.residual == pytest.approx(0, abs=1e-9)


def test_the_order_of_rows_changes_nothing():
    log = made_up(0.1, noise=0.05)
    one, other = dpo_logs.recover_beta(log), dpo_logs.recover_beta(log.iloc[::-1])
    assert one.beta == pytest.approx(other.beta)
    assert one.low < one.beta < one.high


def test_a_log_with_two_betas_shows_in_its_residual():
    log = pd.concat([made_up(0.1), made_up(0.5)])
    assert dpo_logs.recover_beta(log).residual > 1


def test_two_rows_are_no_log():
    with pytest.raises(ValueError, match="at least 3 rows of a log, got 2"):
        dpo_logs.recover_beta(made_up(0.1).head(2))


@pytest.mark.parametrize(("name", "beta"), [("beta_log", 0.1), ("alpha_log", 0.05)])
@pytest.mark.parametrize("answers", ["chosen", "rejected"])
def test_the_published_logs_were_made_with_one_beta(name, beta, answers):
    """The logs print four digits, so the line holds to half a unit of the last one, twice over."""
    line = dpo_logs.recover_beta(published.wide("zephyr", name), answers=answers)
    assert line.beta == pytest.approx(beta, abs=1e-4)
    assert line.residual < 1e-4


def test_every_beta_stands_beside_the_papers_one():
    table = dpo_logs.published_betas()
    assert table[table["kind"] == "quoted"]["value"].tolist() == [0.1, 0.1]
    assert table[table["kind"] == "recomputed"]["n"].tolist() == [58, 58, 19, 19]


def test_losses_fall_by_epoch_as_noted_from_the_log():
    means = dpo_logs.published_epoch_means(published.wide("zephyr", "beta_log"))
    assert means["rows"].sum() == 58
    assert means["train_loss"].round(3).tolist() == [0.544, 0.103, 0.012]
    assert means["eval_loss"].round(3).tolist() == [0.540, 0.577, 0.717]


def test_points_and_lines_belong_together():
    points, lines = dpo_logs.reward_lines()
    for model, part in points.groupby("series"):
        intercept, slope = lines[model]
        assert np.abs(part["y"] - intercept - slope * part["x"]).max() < 1e-4
    assert len(dpo_logs.published_losses(published.wide("zephyr", "beta_log"))) == 2 * 58
