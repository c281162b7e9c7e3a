"""Curves over steps, doses and shares of domain data: every point where its number says."""

import pandas as pd
import pytest

from zephyr_lab.lab.arms import Arm
from zephyr_lab.lab.kd_dae import kd_figures
from zephyr_lab.reporting.style import LOOKS


class Logged(Arm):
    """An arm with a log that nobody trained: two seeds, a loss at every second step."""

    def log(self):
        return pd.DataFrame([
            {"seed": seed, "step": step, "loss": float(step + seed) if step % 2 == 0 else None, "other": 1.0}
            for seed in (0, 1)
            for step in range(1, 7)
        ])  # fmt: skip


def test_a_curve_is_the_mean_over_seeds_where_the_column_was_logged():
    curve = kd_figures.step_curves({"one": Logged("KD", "tiny", 2, lambda seed: None)}, "loss")
    assert curve["x"].tolist() == [2, 4, 6] and curve["y"].tolist() == [2.5, 4.5, 6.5]
    assert set(curve["series"]) == {"one"} and (curve["low"] < curve["y"]).all()


def numbers(values):
    """Tidy numbers of both scores; `values`: row -> (domain, chat)."""
    return pd.DataFrame([
        {"row": row, "metric": metric, "value": value, "low": value - 0.1, "high": value + 0.1, "interval": "3 seeds"}
        for row, both in values.items()
        for metric, value in zip(("ecomm_eval", "mt_bench"), both, strict=True)
    ])  # fmt: skip


def test_a_line_goes_from_the_start_through_its_doses_in_the_order_of_steps():
    doses = numbers({"start, 0 steps": (4, 7), "a, 15 steps": (6, 6), "a, 5 steps": (5, 7), "b, 5 steps": (4.5, 5)})
    picture = kd_figures.trade_off(doses, {"a": ("first", LOOKS["dae"]), "b": ("second", LOOKS["dsft"])})
    longest = max(picture.axes[0].get_lines(), key=lambda line: len(line.get_xdata()))
    assert longest.get_xdata().tolist() == [4, 5, 6] and longest.get_ydata().tolist() == [7, 7, 6]
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["first", "second"]


def test_an_arm_that_was_not_dosed_is_an_error():
    with pytest.raises(KeyError, match="lost"):
        kd_figures.trade_off(numbers({"start, 0 steps": (4, 7)}), {"lost": ("lost", LOOKS["dae"])})


def test_shares_stand_at_their_percentages():
    shares = numbers({"2 %": (0.1, 0.0), "10 %": (0.3, 0.1), "50 %": (0.5, 0.1)})
    assert kd_figures.share_curves(shares).axes[0].get_lines()[1].get_xdata().tolist() == [2, 10, 50]
