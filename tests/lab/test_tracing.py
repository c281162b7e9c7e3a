"""Rows of EQUATIONS.md that a run used: functions by their dotted names, and nothing by a word of prose."""

from zephyr_lab.core import paths
from zephyr_lab.lab import tracing


def test_only_rows_whose_function_is_used_are_told(tmp_path, monkeypatch):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "EQUATIONS.md").write_text(
        "| equation | function | test |\n|---|---|---|\n"
        "| eq. 4 | `losses.attention_kd.attention_kl`; `losses.fast.attention_blocks.attention_kl_sum` | `t.py` |\n"
        "| eq. 6 | `losses.dae.dae_scores`, in training `methods.dae.train_dae` | `u.py` |\n"
    )
    monkeypatch.setattr(paths, "papers_dir", lambda: tmp_path)
    used = {"zephyr_lab.losses:", "zephyr_lab.losses.fast.attention_blocks:attention_kl_sum"}
    assert [row["equation"] for row in tracing.equations(used)] == ["eq. 4"]
    assert [row["equation"] for row in tracing.equations({"zephyr_lab.methods.dae:train_dae"})] == ["eq. 6"]
