"""The bar of a training that no stage shows."""

import pytest

from zephyr_lab.engine import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass by hand."""
    now = [100.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_the_bar_follows_steps_that_are_skipped_by_a_resumed_run(capsys):
    shown = progress.bar("DPO")
    shown(5, 8, loss=0.5)
    shown(8, 8, loss=0.25)
    assert "8/8" in capsys.readouterr().err


def test_steps_of_an_earlier_run_are_not_in_the_rate_and_the_time_left(clock, capsys):
    shown = progress.bar("DPO")
    shown(51, 100)
    clock[0] += 2.0
    shown(52, 100)  # 2 seconds a step: 48 steps are 96 seconds
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert "52/100 [00:02<01:36" in last and "2.00s/step" in last
