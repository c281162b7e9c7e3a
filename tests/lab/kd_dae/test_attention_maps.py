"""What is drawn of attention maps: eq. 4 against SciPy, the head that is shown, and rows that must sum to one."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy

from zephyr_lab.core import files, session
from zephyr_lab.lab import Lab
from zephyr_lab.lab.kd_dae import attention_maps, laboratory
from zephyr_lab.lab.kd_dae.attention_maps import Maps, row_divergence

BASE, KD, TEACHER = "base", "student", "teacher"


def triangle(seed, shape=(2, 3, 5, 5)):
    weights = np.tril(np.random.default_rng(seed).random(shape) + 0.01)
    return weights / weights.sum(axis=-1, keepdims=True)


def maps(**changed):
    made = {BASE: triangle(0), KD: triangle(1), TEACHER: triangle(2)} | changed
    return Maps(made, list("abcde"))


def test_the_divergence_of_a_row_is_scipys_relative_entropy():
    teacher, student = triangle(2), triangle(1)
    found = row_divergence(teacher, student)
    for place in np.ndindex(found.shape):
        seen = slice(0, place[-1] + 1)
        assert found[place] == pytest.approx(entropy(teacher[place][seen], student[place][seen]))
    assert row_divergence(teacher, teacher) == pytest.approx(0)


def test_distances_are_to_the_teacher_by_layer_and_over_all():
    table = maps(**{KD: triangle(2)}).distances(TEACHER).set_index("model")
    assert list(table.index) == [BASE, KD]
    assert table.loc[KD].to_numpy() == pytest.approx(0)
    assert table.loc[BASE, "all layers"] == pytest.approx(table.loc[BASE, ["layer 1", "layer 2"]].mean())


def test_a_row_that_does_not_sum_to_one_is_seen():
    assert maps().row_sums() == pytest.approx(0, abs=1e-12)
    broken = triangle(1)
    broken[0, 1, 3] *= 1.2
    assert maps(**{KD: broken}).row_sums() == pytest.approx(0.2)


def test_the_shown_maps_are_saved_cell_by_cell_up_to_the_diagonal(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 1, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    shown = maps().of((BASE, KD, TEACHER), layer=1, head=2)
    saved = pd.read_csv(attention_maps.save(shown, maps().tokens, "kd_dae/fig2"))
    assert len(saved) == 3 * 15
    row = saved[(saved["model"] == KD) & (saved["row"] == 4) & (saved["column"] == 2)].iloc[0]
    assert row["weight"] == pytest.approx(triangle(1)[1, 2, 4, 2], rel=1e-5)
    assert (row["token"], row["looks_at"]) == ("e", "c")


def test_the_head_that_is_shown_is_the_one_farthest_from_the_teacher():
    student = triangle(2)
    student[0, 1] = triangle(7)[0, 1]  # all other heads are the teacher's own
    assert maps(**{BASE: student}).farthest(BASE, TEACHER) == (0, 1)


def test_models_of_seed_0_read_the_same_held_out_dialogue(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(session, "_current", session.Session("tiny", 1, "test"))
    monkeypatch.setattr(laboratory, "get", lambda stage: asked.append(stage) or tmp_path)
    files.write_json(tmp_path / "maps.json", {"tokens": ["a"], "answer": [True], "maps": {"base": [[[[1.0]]]]}})
    lab = Lab("kd_dae", "tiny", 1)
    read = lab.attention_maps({BASE: lab.base(), TEACHER: lab.same_size_teacher()}, lab.dialogues(), longest=33)
    (stage,) = asked
    assert stage.recipe.longest == 33 and stage.recipe.models == (BASE, TEACHER)
    assert stage.inputs["dialogues"] == lab.dialogues().stage(0) and read.tokens == ["a"]
