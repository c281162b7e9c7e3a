"""A cache gives back what was written, row by row, and says when it is unfinished or another's."""

import pytest
import torch

from zephyr_lab.methods import teacher_cache

ABOUT = {"teacher": "one", "data": "two"}


def rows(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [{"hidden": torch.randn(tokens, 3, generator=generator).to(dtype)} for tokens in (2, 0, 4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_rows_come_back_to_the_bit_in_any_order(tmp_path, dtype):
    written = rows(dtype)
    teacher_cache.write(tmp_path, written, about=ABOUT)
    kept = teacher_cache.read(tmp_path, about=ABOUT)
    assert len(kept) == 3
    found = kept.take([2, 0, 1])["hidden"]
    assert found.dtype == dtype
    assert torch.equal(found, torch.cat([written[place]["hidden"] for place in (2, 0, 1)]))


def test_several_tensors_a_row_stay_together(tmp_path):
    row = {"ids": torch.tensor([[4, 2], [7, 1]]), "log_probs": torch.tensor([[-0.1, -3.0], [-0.5, -1.0]])}
    teacher_cache.write(tmp_path, [row], about=ABOUT)
    found = teacher_cache.read(tmp_path, about=ABOUT).take([0])
    assert torch.equal(found["ids"], row["ids"]) and torch.equal(found["log_probs"], row["log_probs"])


def test_an_unfinished_cache_is_refused(tmp_path):
    def broken():
        yield rows()[0]
        raise OSError("no space left")

    teacher_cache.write(tmp_path, rows(), about=ABOUT)
    with pytest.raises(OSError, match="no space"):
        teacher_cache.write(tmp_path, broken(), about=ABOUT)
    with pytest.raises(FileNotFoundError, match=r"holds no finished cache: cache.json is missing"):
        teacher_cache.read(tmp_path, about=ABOUT)


def test_another_teachers_cache_is_refused(tmp_path):
    teacher_cache.write(tmp_path, rows(), about=ABOUT)
    with pytest.raises(ValueError, match=r"asked for is \{'teacher': 'other'\}"):
        teacher_cache.read(tmp_path, about={"teacher": "other"})


def test_rows_that_differ_in_kind_and_rows_past_the_end_are_refused(tmp_path):
    with pytest.raises(ValueError, match="row 1 holds"):
        teacher_cache.write(tmp_path, [rows()[0], rows(torch.float64)[0]], about=ABOUT)
    teacher_cache.write(tmp_path, rows(), about=ABOUT)
    with pytest.raises(IndexError, match="rows 0 to 2, not 3"):
        teacher_cache.read(tmp_path, about=ABOUT).take([3])
