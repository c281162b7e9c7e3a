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


ROW = {"paper": "p", "equation": "eq. 7", "function": "losses.dpo.dpo_loss`; `losses.fast.x", "test": "t.py`, `u.py"}
DPO = {"what": "dDPO: epochs 1", "made_by": "ddpo(dsft(base), pairs)"}


def traced(arms):
    rows = [ROW, ROW | {"equation": "again"}, ROW | {"function": "data.pairs.choose"}]
    empty = {name: [] for name in ("stages", "kept", "modules")}
    said = {name: name for name in ("target", "source", "profile", "seeds", "state", "notebook", "title")}
    return {**said, **empty, "products": ["a.csv"], "arms": arms, "functions": ["f"], "equations": rows, "inputs": {}}


def test_a_trace_names_its_arms_and_each_loss_once():
    lines = tracing.lines(traced({"dDPO": DPO}))
    assert "  arm        dDPO: dDPO: epochs 1, ddpo(dsft(base), pairs)" in lines
    assert [line for line in lines if "equation " in line] == ["  equation   eq. 7  ->  losses.dpo.dpo_loss  ->  t.py"]
    assert len([line for line in tracing.lines(traced({}), everything=True) if "equation " in line]) == 3


def test_many_arms_are_counted_by_the_way_they_were_made():
    arms = {f"beta {n}": DPO for n in range(20)} | {"base": DPO | {"made_by": "base"}}
    assert [line for line in tracing.lines(traced(arms)) if "arms  " in line] == [
        "  arms       20 of ddpo(dsft(base), pairs)",
        "  arms       1 of base",
    ]


def test_arms_of_a_table_are_those_of_its_rows(tmp_path):
    (tmp_path / "t.csv").write_text("row,metric\na,score\nelse,b\n")
    arms = {"a": 1, "b": 2, "c": 3}
    assert tracing._arms_in(arms, [tmp_path / "t.csv"]) == {"a": 1, "b": 2}
    assert tracing._arms_in(arms, [tmp_path / "absent.csv"]) == arms


def test_committed_results_of_code_that_is_gone_are_traced_all_the_same():
    assert tracing._uses(("zephyr_lab.gone:build", "zephyr_lab.gone:Recipe")) == set()
    lines = tracing.lines(tracing.trace("figures/kd_dae/tab2.csv", "tiny"))
    assert "20_kd_ablation" in lines[1] and any("losses.kd.forward_kl" in line for line in lines)
