"""Figure 3's batch: which rows have a loss before training, what it shows, and whose models it reads."""

import pandas as pd
import pytest

import kd_arms
from zephyr_lab.core import session
from zephyr_lab.engine import stages
from zephyr_lab.lab.kd_dae import routed_batch
from zephyr_lab.lab.kd_dae.routed_batch import RoutedBatch


def batch(*rows):
    """A row is (is_domain, teacher, loss_before, loss_after)."""
    names = ("is_domain", "teacher", "loss_before", "loss_after")
    return RoutedBatch(3, [{**dict(zip(names, row, strict=True)), "tokens": 9} for row in rows])


WHOLE = batch((True, "expert", 0.4, 0.1), (False, "general", 0.0, 0.2))


def test_the_loss_of_general_rows_is_that_of_none_other():
    assert WHOLE.general_loss() == 0.0
    assert batch((True, "expert", 0.4, 0.1), (False, "general", 0.1, 0.2)).general_loss() == 0.1


def test_a_batch_shows_the_routing_only_with_rows_of_both_kinds_and_a_student_that_moved():
    assert all(WHOLE.shows().values())
    general = batch((False, "general", 0.0, 0.0), (False, "general", 0.0, 0.0))  # 16 such rows were once `ok`
    assert not any(general.shows().values())
    still = batch((True, "expert", 0.4, 0.4), (False, "general", 0.0, 0.0))
    assert [what for what, holds in still.shows().items() if not holds] == ["a student that has left its reference"]


def test_the_final_model_of_the_run_is_read_and_nothing_trained():
    run = kd_arms.dae("tiny")
    read = routed_batch.reading(run)
    assert read.recipe == run.recipe and read.inputs["aligned"] is run and read.name == "routing"
    assert {role: stages.key(stage) for role, stage in read.inputs.items() if role != "aligned"} == {
        role: stages.key(stage) for role, stage in run.inputs.items()
    }


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A session that writes below a folder of the test."""
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))


def test_the_table_has_a_line_a_row_and_the_picture_the_batch_s_number(running):
    table = pd.read_csv(WHOLE.save("kd_dae/fig3"))
    assert table["loss_after"].tolist() == [0.1, 0.2] and set(table["batch"]) == {4}
    assert WHOLE.picture("seed 0").axes
