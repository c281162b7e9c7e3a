"""A log as TensorBoard reads it: the frame's own numbers, and one line where no writer is installed."""

import numpy as np
import pytest

from any_models import any_model, dialogue_rows, pair_rows
from tiny_models import small_tokenizer
from zephyr_lab.engine import event_files
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.sft import train_sft

STEPS = {"batch": 2, "learning_rate": 1e-3, "progress": lambda *steps, **numbers: None}


def test_every_number_of_the_log_is_there_and_held_out_ones_too(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = train_dpo(
        any_model("llama"), small_tokenizer(), pair_rows(6), held_out=pair_rows(2, first=6), evaluate_every=2,
        tensorboard=tmp_path / "board", **STEPS,
    )  # fmt: skip
    events = accumulator.EventAccumulator(str(tmp_path / "board")).Reload()
    expected = {
        name: [(int(row["step"]), np.float32(row[name])) for row in log.to_dict("records")]
        for name in log.columns
        if name != "step"
    }
    for row in log.attrs["held_out"]:
        for name in row.keys() - {"step"}:
            expected.setdefault(name, []).append((row["step"], np.float32(row[name])))
    assert "rewards/margins" in expected and "eval_loss" in expected
    names = events.Tags()["scalars"]
    read = {name: sorted((one.step, np.float32(one.value)) for one in events.Scalars(name)) for name in names}
    assert read == {name: sorted(values) for name, values in expected.items()}


def test_without_a_writer_one_line_comes_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "find_spec", lambda name: None)
    steps = []
    settings = {**STEPS, "progress": lambda *numbers, **_: steps.append(numbers)}
    with pytest.raises(ImportError, match=r"tensorboard=\.\.\. needs the package tensorboard .*: pip install"):
        train_sft(any_model("llama"), small_tokenizer(), dialogue_rows(2), tensorboard=tmp_path / "board", **settings)
    assert not steps and not (tmp_path / "board").exists()
