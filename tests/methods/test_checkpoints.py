"""A checkpoint counts when its mark matches its files, and not a byte earlier."""

import json

import pytest
import torch

from zephyr_lab.methods import loop


def state(value):
    return {"model": {"weight": torch.full((3,), float(value))}, "losses": [0.5] * value}


def saved_value(folder):
    loaded = loop.load_checkpoint(folder)
    return None if loaded is None else loaded["model"]["weight"][0].item()


def test_the_newest_comes_back_and_older_ones_go(tmp_path):
    assert loop.load_checkpoint(tmp_path) is None
    for step in (9, 10, 100):
        loop.save_checkpoint(tmp_path, step, state(step))
    assert loop.load_checkpoint(tmp_path)["losses"] == [0.5] * 100
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000100"]


def copy_of_older(tmp_path, step):
    """A checkpoint at `step` beside one at 10 * step, as after a kill between writing and dropping the older."""
    loop.save_checkpoint(tmp_path / "aside", step, state(step))
    loop.save_checkpoint(tmp_path, 10 * step, state(10 * step))
    (tmp_path / "aside" / f"step-{step:08d}").rename(tmp_path / f"step-{step:08d}")
    return tmp_path / f"step-{10 * step:08d}"


def test_without_its_mark_the_older_one_counts(tmp_path):
    (copy_of_older(tmp_path, 5) / loop.MARK).unlink()
    assert saved_value(tmp_path) == 5


@pytest.mark.parametrize("change", ["truncated", "flipped", "gone"])
def test_a_file_unlike_its_mark_does_not_count(tmp_path, change):
    file = copy_of_older(tmp_path, 5) / loop.STATE
    content = bytearray(file.read_bytes())
    if change == "gone":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content[:-7] if change == "truncated" else content)
    assert saved_value(tmp_path) == 5


def test_steps_are_compared_as_numbers(tmp_path):
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights.bin").write_bytes(b"x" * step)
        loop.mark_complete(folder, step)
    assert loop.newest_complete(tmp_path).name == "checkpoint-10"


def test_a_mark_covers_every_file_of_a_trainers_folder(tmp_path):
    folder = tmp_path / "checkpoint-3"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a")
    (folder / "deep" / "b.bin").write_bytes(b"b")
    loop.mark_complete(folder, 3)
    assert set(json.loads((folder / loop.MARK).read_text())["files"]) == {"a.bin", "deep/b.bin"}
    (folder / "deep" / "b.bin").write_bytes(b"c")
    assert loop.newest_complete(tmp_path) is None


def test_code_in_a_checkpoint_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return print, ("ran",)

    loop.save_checkpoint(tmp_path, 1, {"model": Hostile()})
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        loop.load_checkpoint(tmp_path)
