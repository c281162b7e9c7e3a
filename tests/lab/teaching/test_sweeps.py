"""Sweeps: winners, what diverged, equal trials, and that the settings are what the committed sweep found."""

import dataclasses

import pytest

from zephyr_lab.core import settings
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.lab.teaching import rlhf_stages, sweeps


def sweep_table():
    rows = [
        {"method": "dpo", "learning_rate": 1e-4, "beta": 0.1, "reward": 6.0, "kl": 0.5},
        {"method": "dpo", "learning_rate": 2e-4, "beta": 0.1, "reward": 6.5, "kl": 0.7},
        {"method": "ppo", "learning_rate": 1e-4, "beta": 0.1, "reward": 4.0, "kl": 9.0},
        {"method": "ppo", "learning_rate": 2e-4, "beta": 0.1, "reward": None, "kl": None},
    ]
    return {"start": 5.0, "trials": rows}


def test_a_sweep_knows_its_winners_and_what_diverged():
    frame = sweeps.frame(sweep_table())
    assert sweeps.winners(frame) == {"dpo": (2e-4, 0.1), "ppo": (1e-4, 0.1)}
    assert sweeps.differing(frame, {"dpo": (2e-4, 0.1), "ppo": (2e-4, 0.1)}) == 1
    assert frame["diverged"].tolist() == [False, False, True, True]  # below the start, and no number at all
    shown = sweeps.shown(frame).set_index("method")
    assert shown.loc["ppo", "diverged"] == 2
    assert shown.loc["dpo", "gain of the best, points"] == 1.5


def test_a_sweep_that_was_never_run_has_no_row():
    frame = sweeps.committed("paper", "comparison")
    assert frame.empty and list(frame.columns) == [*sweeps.COLUMNS, "gain", "diverged", "best"]
    assert "none was run" in sweeps.shown(frame).iloc[0, 0]


def test_methods_with_unequal_trials_are_refused():
    with pytest.raises(ValueError, match="same number of trials, got dpo 2, ppo 1"):
        sweeps.require_equal_counts({"dpo": [(1.0,), (2.0,)], "ppo": [(1.0,)]})


@pytest.mark.parametrize("profile", PROFILES)
def test_settings_are_the_winners_of_the_committed_sweep(profile):
    known = sweeps.committed(profile, "comparison")
    assert known.empty == (profile != "tiny")
    assert sweeps.differing(known, dataclasses.asdict(rlhf_stages.tuned(profile))) == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_is_tried_equally_often(profile):
    trials = settings.load("teaching", profile, "sweep", sweeps.Grids).trials
    assert len({len(values) for values in trials.values()}) == 1
