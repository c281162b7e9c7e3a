"""The measuring of the benchmarks: turns, peaks by count of bytes, errors by hand, gates on both sides."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import harness, run
from benchmarks.report import Gate, Report, Row, from_json, markdown, table

ROOT = Path(__file__).resolve().parents[2]
FLOAT = 4  # bytes


def report(*gates):
    rows = (Row("V=8", "ours", (2.0, 4.0), peak=2**20, error=1e-7, floor=0.5), Row("V=8", "naive", (6.0, 4.0)))
    return Report("dot", "Dot products.", "ours", rows, gates)


def test_contenders_take_turns_and_warm_up_rounds_are_not_counted():
    called = []
    seconds = harness.interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=3)
    assert called == ["a", "b"] * 4
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3}


def test_the_peak_counts_what_is_alive_at_once():
    def call():
        first = torch.ones(1000)
        del first
        second, third = torch.ones(2000), torch.ones(500)
        del second
        return third

    assert harness.peak_bytes(call) == pytest.approx(2500 * FLOAT, abs=200)  # the allocator rounds up


def test_gradients_count_and_what_was_there_before_does_not():
    weight = torch.ones(1000, requires_grad=True)  # held at entry
    assert harness.peak_bytes(lambda: weight.sum().backward()) == pytest.approx(1000 * FLOAT, abs=200)
    weight.grad = None


def test_what_an_earlier_call_left_is_not_taken_off():
    weight = torch.ones(1000, requires_grad=True)

    def call():
        harness.clear([weight])
        weight.sum().backward()

    peaks = [harness.peak_bytes(call) for _ in range(2)]  # the second begins with the first one's gradient
    assert peaks[0] == peaks[1] > 0


def test_the_gemm_floor_adds_up_its_products():
    one = harness.gemm_floor([(64, 64, 64)])
    assert one > 0 and harness.gemm_floor([(64, 64, 64)] * 50) > 5 * one


def test_the_gradient_error_is_the_worst_tensors_by_its_largest_entry():
    expected = [torch.tensor([4.0, -8.0]), torch.tensor([1.0])]
    found = [torch.tensor([4.0, -8.8]), torch.tensor([1.2])]
    assert harness.gradient_error(found, expected) == pytest.approx(0.2)
    assert harness.gradient_error([torch.tensor([math.nan])], [torch.tensor([1.0])]) == math.inf
    assert harness.gradient_error([torch.tensor([0.5])], [torch.tensor([0.0])]) == 0.5
    with pytest.raises(ValueError, match=r"differ in shape: \(2,\) and \(1,\)"):
        harness.gradient_error([expected[0]], [expected[1]])


def test_gradients_are_read_and_taken_off():
    weight, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    found = harness.gradients([weight, unused], lambda: (3 * weight).sum().backward())
    assert [one.tolist() for one in found] == [[3.0, 3.0], [0.0, 0.0, 0.0]] and weight.grad is None


@pytest.mark.parametrize("gate, met", [
    (Gate.at_least("speed-up", 1.2, 1.4, aim=2.0), "no"),
    (Gate.at_least("speed-up", 1.4, 1.4, aim=2.0), "gate"),
    (Gate.at_least("speed-up", 2.1, 1.4, aim=2.0), "aim"),
    (Gate.at_most("peak", 0.07, 0.06, aim=0.02), "no"),
    (Gate.at_most("peak", 0.06, 0.06, aim=0.02), "gate"),
    (Gate.at_most("peak", 0.02, 0.06), "gate"),
    (Gate.at_most("error", math.nan, 5e-5), "no"),
])  # fmt: skip
def test_a_gate_holds_on_its_side(gate, met):
    assert gate.met == met and gate.holds == (met != "no")


def test_ratios_are_of_the_least_with_the_spread_over_rounds():
    told = report()
    assert told.ratio(told.rows[1]) == (2.0, 1.0, 3.0)  # 4 / 2; rounds 6 / 2 and 4 / 4
    assert told.ratio(Row("another case", "naive", (1.0,))) is None


def test_a_report_survives_json_and_shows_its_gates():
    told = report(Gate.at_least("speed-up", 2.0, 1.4, aim=3.0))
    again = from_json(json.loads(json.dumps(told.to_json())))
    assert again == told
    assert "2.00 (1.00 .. 3.00)" in table(told) and table(told).splitlines()[-1].split() == [
        "speed-up", "2", ">=", "1.4", ">=", "3", "gate",
    ]  # fmt: skip
    assert "| naive |" in markdown(told) and "| speed-up | 2 | >= 1.4 | >= 3 | gate |" in markdown(told)


def test_every_benchmark_is_run_and_measures():
    measuring = {path.stem for path in run.FOLDER.glob("*.py") if "\ndef measure(" in path.read_text(encoding="utf-8")}
    assert measuring == set(run.BENCHMARKS)


def one_benchmark(monkeypatch, capsys, gate, *options):
    monkeypatch.setattr(run, "BENCHMARKS", ("dot",))
    monkeypatch.setattr(run, "measured", lambda name: report(gate))
    monkeypatch.setattr(sys, "argv", ["run", *options])
    return run.main(), capsys.readouterr().out


def test_the_check_fails_where_a_gate_does_not_hold_and_says_it_last(monkeypatch, capsys):
    code, shown = one_benchmark(monkeypatch, capsys, Gate.at_least("speed-up", 1.0, 1.4), "--check")
    assert code == 1 and shown.splitlines()[-1] == "FAILS dot: speed-up is 1, must be >= 1.4"
    code, shown = one_benchmark(monkeypatch, capsys, Gate.at_least("speed-up", 2.0, 1.4), "--check")
    assert code == 0 and shown.splitlines()[-1] == "1 gates hold, 0 do not"


def test_the_run_writes_the_page_and_the_picture_of_what_it_measured(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(run, "PICTURE", tmp_path / "speed.svg")
    code, _ = one_benchmark(monkeypatch, capsys, Gate.at_least("speed-up", 1.0, 1.4))
    assert code == 0  # recorded as it is; the check is what fails
    assert run.results()["dot"]["report"]["gates"][0]["met"] == "no"
    assert "## dot" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert (tmp_path / "speed.svg").read_bytes().startswith(b"<?xml")


def test_the_committed_page_and_picture_are_those_of_the_committed_results():
    assert run.PAGE.read_text(encoding="utf-8") == run.page(run.results())
    assert run.PICTURE.read_bytes() == run.picture(run.results())


def test_malloc_is_told_before_the_process_starts():
    code = "from benchmarks import harness; import os; harness.tune_malloc(); print(os.environ['MALLOC_TOP_PAD_'])"
    variables = {name: value for name, value in os.environ.items() if name not in harness.ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == harness.ENVIRONMENT["MALLOC_TOP_PAD_"]


def test_a_wrong_option_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kd_head", "--jsn"])
    assert harness.main(report) == 2 and "unknown option '--jsn'; known: --json" in capsys.readouterr().err
