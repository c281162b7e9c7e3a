"""Answers and arms as frames: endings, samples, curves, and figures made of them."""

import pandas as pd
import pytest

from zephyr_lab.core import files, session
from zephyr_lab.engine import stages
from zephyr_lab.lab import SCORE, Lab, arms, point_figures
from zephyr_lab.lab.answers import ENDINGS, Answers, with_endings
from zephyr_lab.lab.sizes import StepArms
from zephyr_lab.reporting import tables


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path / "build"))
    return Lab("zephyr", "tiny", 3)


def graded(levels, *, seeds=3, tags=(), texts=None):
    """Answers of arms around their levels; those of `tags` go on with role tags and never end."""
    rows = [
        {
            "seed": seed, "model": name, "run": run, "question_id": question, "category": category, "turn": turn,
            "prompt": f"{category}?", "text": (texts or {}).get(name, f"{name} says"), "finished": name not in tags,
            "role_tags": 2 * (name in tags), "score": level + question % 3 / 10 + seed / 50,
        }
        for seed in range(seeds)
        for name, level in levels.items()
        for run in ("near-greedy", "hot")
        for question, category in ((81, "writing"), (111, "math"), (171, "stem"))
        for turn in (1, 2)
    ]  # fmt: skip
    return Answers(with_endings(pd.DataFrame(rows)), pd.DataFrame())


def test_endings_count_role_tags_and_answers_without_end():
    answers = graded({"a": 5.0, "b": 5.0, "c": 5.0}, tags=("a",), texts={"c": "Yes.\nWhat is next?"})
    table = answers.means(*ENDINGS).set_index(["row", "metric"])["value"]
    assert table["a", "ended, no role tag, %"] == 0
    assert table["a", "role tag, %"] == table["a", "no end token, %"] == 100
    assert table["b", "ended, no role tag, %"] == 100 and table["b", "goes on after a line break, %"] == 0
    assert table["c", "goes on after a line break, %"] == 100


def test_samples_are_whole_dialogues_of_each_arm(lab):
    shown = graded({"a": 5.0, "b": 6.0}).samples(("writing", "math", "stem"))
    assert len(shown) == 3 * 2 * 2 and shown["turn"].tolist() == [1, 2] * 6
    path = tables.save_words(shown, "zephyr/samples")
    assert len(pd.read_csv(path)) == 12


def test_a_number_stands_under_the_row_and_metric_of_a_table_of_one_s_own():
    number = graded({"a": 5.0}).number("a", row="1 SFT epoch", metric="2 DPO epochs")
    assert (number["row"], number["metric"], number["kind"]) == ("1 SFT epoch", "2 DPO epochs", "retrained")
    assert number["value"] == pytest.approx(graded({"a": 5.0}).means(SCORE)["value"].item())


def test_curves_are_means_over_the_steps_that_all_seeds_have(lab, monkeypatch, tmp_path):
    def get_many(wanted):
        for seed in range(len(wanted)):
            log = [
                {"step": 2 * done, "epoch": done / (10 + seed), "rewards/accuracies": 0.5 + done / 100}
                if done % 2
                else {"step": 2 * done, "epoch": done / 10, "eval_rewards/accuracies": 0.6 + seed / 100}
                for done in range(5 + seed)  # one seed's rows are more than another's
            ]
            files.write_json(tmp_path / str(seed) / "log.json", log)
            yield tmp_path / str(seed)

    monkeypatch.setattr(arms, "get_many", get_many)
    run = lab.dpo(lab.sft(lab.base(), lab.dialogues()), lab.pairs())
    held_out = run.curve("eval_rewards/accuracies", series="eval")
    assert held_out["y"].tolist() == pytest.approx([0.61] * 3)
    assert (held_out["low"] < held_out["y"]).all() and set(held_out["interval"]) == {"3 seeds, t 95 %"}
    assert run.curve("rewards/accuracies", series="train")["x"].tolist() == pytest.approx([0.1, 0.3])


def test_figure_3_draws_every_line_and_the_published_points_apart():
    answers = graded({f"{n}{m}": 5.0 + n + m / 3 for n in (1, 2) for m in (0, 1)})
    ours = [
        answers.number(f"{n}{m}", row=f"{n} SFT epoch{'s' * (n > 1)}", metric=f"{m} DPO epochs")
        for n in (1, 2)
        for m in (0, 1)
    ]
    theirs = [{"row": "1 SFT epoch", "metric": "1 DPO epochs", "kind": "quoted", "value": 7.0, "source": "P"}]
    ends = {"low": [0.4, 0.5], "high": [0.6, 0.7], "interval": "3 seeds, t 95 %"}
    curve = pd.DataFrame({"series": "eval", "kind": "retrained", "x": [0, 1], "y": [0.5, 0.6], **ends})
    _, right = point_figures.figure_3(curve, tables.side_by_side(tables.frame(ours), tables.frame(theirs))).axes
    lines = {line.get_label(): line for line in right.get_lines()}
    assert set(lines) == {"1 SFT epoch", "1 SFT epoch, published", "2 SFT epochs"}
    assert lines["1 SFT epoch, published"].get_markerfacecolor() == "white"
    assert lines["1 SFT epoch"].get_color() == lines["1 SFT epoch, published"].get_color()
    assert "3 seeds x 3 questions, two-way 95 %" in right.get_legend().get_title().get_text()


def test_differences_are_drawn_around_zero():
    gap = graded({"a": 5.0, "b": 6.0}).differences({"gain": ("b", "a")})
    picture = point_figures.around_zero(gap, {"mt_bench": "difference"})
    assert [0, 0] in [list(line.get_xdata()) for line in picture.axes[0].get_lines()]


def test_arms_of_the_paper_are_those_that_other_notebooks_ask_for(lab):
    from zephyr_lab.lab import zephyr_stages

    sft = lab.sft(lab.base(), lab.dialogues(), epochs=1)
    assert stages.key(sft.stage(1)) == stages.key(zephyr_stages.dsft("tiny", 1))
    assert stages.key(lab.dpo(sft, lab.pairs(), epochs=3).stage(1)) == stages.key(zephyr_stages.ddpo("tiny", 1))


def test_settings_without_the_paper_s_epoch_are_refused():
    with pytest.raises(ValueError, match=r"^sft_epochs must hold 1, the paper's, got \(2, 3\)$"):
        StepArms(sft_epochs=(2, 3), rejected=(), cards=(), betas=(), bases=3)
