"""A stage is finished or it is not there; locks end with their holder."""

import json
import os
import signal
import subprocess
import sys

import pytest
from filelock import Timeout

from zephyr_lab.engine import processes, store
from zephyr_lab.engine.progress import ProgressWriter, read


@pytest.fixture
def slot(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    slot = store.Slot("tiny", "base", "0123")
    slot.out.mkdir(parents=True)
    (slot.out / "model").mkdir()
    (slot.out / "model" / "weights.bin").write_bytes(b"12345678")
    return slot


def test_a_finished_stage_has_its_files_with_sizes_and_hashes_and_no_scratch(slot):
    folder = store.finish(slot, {"metrics": {"loss": 0.5}})
    record = store.end_record(folder)
    assert record["metrics"] == {"loss": 0.5}
    assert record["files"]["model/weights.bin"]["bytes"] == 8
    assert store.is_intact(folder)
    assert not slot.scratch.exists()


@pytest.mark.parametrize("harm", ["no end record", "broken end record", "file gone", "file shorter", "file altered"])
def test_what_is_not_whole_is_no_stage(slot, harm):
    folder = store.finish(slot, {})
    weights, end = folder / "model" / "weights.bin", folder / "end.json"
    {
        "no end record": lambda: end.unlink(),
        "broken end record": lambda: end.write_text(end.read_text()[:-9]),
        "file gone": lambda: weights.unlink(),
        "file shorter": lambda: weights.write_bytes(b"1234"),
        "file altered": lambda: weights.write_bytes(b"1234567x"),
    }[harm]()
    assert not store.is_intact(folder)
    if harm != "file altered":  # the same size: only reading all bytes tells
        assert store.end_record(folder) is None


def test_a_result_replaces_a_broken_folder(slot):
    (slot.final / "model").mkdir(parents=True)
    (slot.final / "model" / "weights.bin").write_bytes(b"")
    assert store.is_intact(store.finish(slot, {}))


def test_a_lock_is_held_by_one_and_freed_by_the_death_of_the_process_it_was_handed_to(tmp_path):
    path = tmp_path / "stage.lock"
    handle = processes.try_lock(path)
    assert processes.try_lock(path) is None
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[handle])
    os.close(handle)  # ours; the child has its own
    assert processes.try_lock(path) is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert processes.try_lock(path) is not None


def test_a_plain_lock_and_one_to_hand_over_are_the_same_lock(tmp_path):
    path = tmp_path / "locks" / "stage.lock"
    with processes.locked(path):
        assert processes.try_lock(path) is None
        with pytest.raises(Timeout):
            processes.locked(path, wait=False).acquire()
    handle = processes.try_lock(path)
    with pytest.raises(Timeout):
        processes.locked(path, wait=False).acquire()
    os.close(handle)
    assert processes.locked(path, wait=False).acquire().lock.is_locked


def test_there_are_as_many_slots_as_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_SLOT_DIR", str(tmp_path / "slots"))
    monkeypatch.setenv("ZEPHYR_LAB_SLOTS", "2")
    taken = [processes.try_slot() for _ in range(3)]
    assert taken[2] is None and None not in taken[:2]
    os.close(taken[0])
    assert processes.try_slot() is not None
    monkeypatch.setenv("ZEPHYR_LAB_SLOTS", "many")
    with pytest.raises(ValueError, match="ZEPHYR_LAB_SLOTS must be a number from 1 up, got 'many'"):
        processes.slot_count()


def test_progress_is_read_back_while_its_writer_lives(tmp_path):
    path = tmp_path / "progress.json"
    write = ProgressWriter(path, stage="dsft", seed=1)
    write(1, 4, loss=2.0)
    write(4, 4, loss=0.5)
    state = read(path)
    assert (state.step, state.total, state.numbers) == (4, 4, {"loss": 0.5})
    assert state.line().startswith("dsft seed 1  step 4/4  loss 0.5")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": int(dead.stdout)}))
    assert read(path) is None
    assert read(tmp_path / "none.json") is None
    assert os.getpid() == state.pid
