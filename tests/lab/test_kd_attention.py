"""What is drawn of attention maps: eq. 4 against SciPy, the head that is shown, and rows that must sum to one."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy

from zephyr_lab.core import session
from zephyr_lab.lab import kd_ablation, kd_attention
from zephyr_lab.lab.kd_ablation import BASE, KD
from zephyr_lab.lab.kd_attention import TEACHER, Maps, distances, row_divergence, row_sums


def triangle(seed, shape=(2, 3, 5, 5)):
    weights = np.tril(np.random.default_rng(seed).random(shape) + 0.01)
    return weights / weights.sum(axis=-1, keepdims=True)


def maps(**changed):
    made = {BASE: triangle(0), KD: triangle(1), TEACHER: triangle(2)} | changed
    return Maps(made, list("abcde"), layer=1, head=2)


def test_the_divergence_of_a_row_is_scipys_relative_entropy():
    teacher, student = triangle(2), triangle(1)
    found = row_divergence(teacher, student)
    for place in np.ndindex(found.shape):
        seen = slice(0, place[-1] + 1)
        assert found[place] == pytest.approx(entropy(teacher[place][seen], student[place][seen]))
    assert row_divergence(teacher, teacher) == pytest.approx(0)


def test_distances_are_to_the_teacher_by_layer_and_over_all():
    table = distances(maps(**{KD: triangle(2)})).set_index("model")
    assert list(table.index) == [BASE, KD]
    assert table.loc[KD].to_numpy() == pytest.approx(0)
    assert table.loc[BASE, "all layers"] == pytest.approx(table.loc[BASE, ["layer 1", "layer 2"]].mean())


def test_a_row_that_does_not_sum_to_one_is_seen():
    assert row_sums(maps()) == pytest.approx(0, abs=1e-12)
    broken = triangle(1)
    broken[0, 1, 3] *= 1.2
    assert row_sums(maps(**{KD: broken})) == pytest.approx(0.2)


def test_the_shown_maps_are_saved_cell_by_cell_up_to_the_diagonal(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 1, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    saved = pd.read_csv(kd_attention.save(maps()))
    assert len(saved) == 3 * 15
    row = saved[(saved["model"] == KD) & (saved["row"] == 4) & (saved["column"] == 2)].iloc[0]
    assert row["weight"] == pytest.approx(triangle(1)[1, 2, 4, 2], rel=1e-5)
    assert (row["token"], row["looks_at"]) == ("e", "c")


def test_students_base_and_teacher_of_seed_0_read_the_same_held_out_dialogue():
    arms = kd_ablation.AblationSettings(control_seeds=1, judgings=2, judge_sd=1.0, longest=33, pairs=256)
    stages = {name: [model.stage] for name, model in kd_ablation.models_of("tiny", 0).items()}
    nothing = pd.DataFrame()
    done = kd_ablation.Ablation(arms, nothing, nothing, nothing, nothing, stages, ())
    stage = kd_attention.stage("tiny", done)
    assert stage.recipe.longest == 33
    assert set(stage.recipe.models) == {BASE, kd_ablation.ATTENTION, kd_ablation.PREDICTION, KD, TEACHER}
    assert stage.inputs["dialogues"].recipe == stages[KD][0].inputs["dialogues"].recipe
