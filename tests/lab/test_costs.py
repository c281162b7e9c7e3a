"""Benchmarks are read as they were committed; what an arm cost is a mean over its seeds."""

import json
from dataclasses import dataclass

from zephyr_lab.core import session
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import costs
from zephyr_lab.lab.arms import Arm
from zephyr_lab.lab.zephyr_stages import Model


@dataclass(frozen=True)
class Steps:
    steps: int = 10


ROWS = [
    {"case": "short", "contender": "ours", "seconds": [2.0, 4.0], "peak": 10, "ratio": [1.0, 1.0, 1.0]},
    {"case": "short", "contender": "plain", "seconds": [6.0, 8.0], "peak": 40, "ratio": [3.0, 2.0, 3.0]},
    {"case": "long", "contender": "plain", "seconds": [1.0], "peak": None, "ratio": None},
]
GATES = [
    {"name": "speed", "value": 3.0, "bound": 2.0, "is_least": True, "aim": 4.0, "holds": True, "met": "gate"},
    {"name": "memory", "value": 0.5, "bound": 0.25, "is_least": False, "aim": None, "holds": False, "met": "no"},
]
FOUND = {"step": {"report": {"ours": "ours", "rows": ROWS, "gates": GATES}}}


def test_others_stand_over_ours_in_time_and_memory():
    (one,) = costs.ratios(FOUND)
    assert one == costs.Ratio("step", "short", "plain", 3.0, 2.0, 3.0, 4.0)
    (row,) = costs.shown([one]).to_dict("records")
    assert row["time over ours"] == "3.00 (2.00 to 3.00)" and row["peak memory over ours"] == "4.0"


def test_gates_say_what_they_want_and_failing_ones_are_counted():
    told = costs.gates(FOUND).to_dict("records")
    reached = [(row["must be"], row["aim"], row["reached"]) for row in told]
    assert reached == [(">= 2", "4", "gate"), ("<= 0.25", "", "no")]
    assert costs.failing(FOUND) == 1


def test_without_the_file_there_are_none(tmp_path, monkeypatch):
    session.begin("smoke", 1, notebook="50_cost_and_speed")
    monkeypatch.setattr(costs.paths, "project_root", lambda: tmp_path)
    assert costs.benchmarks() == {} and costs.failing({}) == 0
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / costs.RESULTS).write_text(json.dumps(FOUND))
    assert costs.benchmarks() == FOUND


def test_the_picture_has_a_dot_a_contender():
    picture = costs.speed_ups(costs.ratios(FOUND))
    (ax,) = picture.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["short: plain"]
    assert "no benchmark is committed here" in costs.speed_ups([]).texts[0].get_text()


def test_the_closest_contender_of_each_benchmark_is_said():
    rows = [costs.Ratio("step", "short", name, value, value, value, None) for name, value in (("a", 3.0), ("b", 0.8))]
    assert costs.closest(rows)["row"].tolist() == ["step, short: b"] and costs.closest([]).empty


def test_cost_of_an_arm_is_over_its_seeds(monkeypatch):
    arm = Arm("SFT", "smoke", 2, lambda seed: Model(Stage("sft", "a:b", Steps(), seed=seed)))
    monkeypatch.setattr(costs, "get_many", list)
    monkeypatch.setattr(costs, "metrics", lambda stage: {})
    monkeypatch.setattr(costs, "get", lambda stage: stage.seed)
    monkeypatch.setattr(costs.store, "end_record", lambda seed: {"cpu_seconds": 2.0 + seed})
    found = costs.measured({"SFT": arm}).set_index("metric")["value"]
    assert found.to_dict() == {costs.SECONDS: 2.5, costs.STEPS: 10.0, costs.A_STEP: 250.0}
