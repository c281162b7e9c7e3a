"""The words of EDA: arms that share a worker, drafts beside other targets, rules of one's own, what is refused."""

from functools import cache

import pandas as pd
import pytest

from zephyr_lab.core import files, session
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab import Lab
from zephyr_lab.lab.eda import draft_costs, drafts, laboratory
from zephyr_lab.lab.eda import stages as draft_stages
from zephyr_lab.lab.eda.laboratory import DraftArms
from zephyr_lab.methods.recipes.draft_data import OwnScores
from zephyr_lab.methods.stages import draft_data


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return Lab("eda", "smoke", 2)


@pytest.fixture
def draft(lab):
    return lab.draft(lab.target("chat"), lab.original("chat"))


def adapted(lab, draft, **changes):
    """EDA's part and the whole draft, adapted to math on its own answers and a selection of them, one call."""
    math = lab.target("math")
    own = lab.regenerated(math, lab.pool("math"))
    half = lab.selected(lab.scored(own, base=draft.target, target=math, draft=draft), by="shift_top", share=0.5)
    parts = {
        "as it is": lab.part("none", lab.original("math")),
        "all": lab.part("all", own),
        "EDA": lab.part("private_and_fc", half, start="fresh_private"),
    }
    return lab.adapt(draft, math, parts, **changes)


@cache
def known():
    """Keys, and the stages that were asked for, which must outlive them: the source is read once for all tests."""
    return stages.Resolution(), []


def key_of(stage):
    resolution, kept = known()
    kept.append(stage)
    return resolution.add(stage)


def key(arm, seed=0):
    return key_of(arm.stage(seed))


def test_arms_of_one_call_share_a_worker_and_each_kind_of_data_is_there_once(lab, draft):
    arms = adapted(lab, draft)
    assert arms["all"].stage(1) is arms["EDA"].stage(1) and arms["EDA"].of(1).folder == "EDA"
    stage = arms["EDA"].stage(1)
    assert [stage.inputs[role].name for role in stage.recipe.data] == ["pool", "regenerated", "selected"]
    assert stage.recipe.starts == ("draft", "draft", "fresh_private") and stage.inputs["draft"] is draft.stage(1)
    again = lab.part("all", lab.regenerated(lab.target("math"), lab.pool("math")))  # equal rows, named twice
    both = lab.adapt(draft, lab.target("math"), {"one": again, "two": lab.part("all", again.data)})
    assert both["one"].stage(0).recipe.data == ("data 0", "data 0")


def test_an_arm_of_one_s_own_leaves_the_others_as_they_are(lab, draft):
    arms, math = adapted(lab, draft), lab.target("math")
    before = key(arms["EDA"])
    own = lab.adapt(draft, math, {"own": lab.part("lora", lab.original("math"), rank=3)}, keep_at=())
    assert key(arms["EDA"]) == before == key(adapted(lab, draft)["EDA"]) != key(own["own"])
    assert lab.adapt(draft, math, {}) == {}
    groups = [one for mapping in (arms, own) for one in lab._asked(mapping)]
    assert [list(one.drafts) for one in groups] == [["as it is", "all", "EDA"], ["own"]]


def test_a_draft_is_asked_beside_its_own_target_or_another(lab, draft):
    math = lab.target("math")
    (own,), (beside,) = lab._asked({"x": draft}), lab._asked({"y": draft.beside(math)})
    first, second = (one.stage(draft_stages.scores, "smoke", 0) for one in (own, beside))
    assert first.inputs["drafts 0"] is second.inputs["drafts 0"] and first.recipe.drafts == ("stage 1",)
    assert second.inputs["target"] is math.stage(0) and second.inputs["prompts"].recipe.specialty == "math"
    (mixed,) = lab._asked({"y": draft.beside(draft.target, "math")})
    assert mixed.stage(draft_stages.scores, "smoke", 0).inputs["prompts"].recipe.specialty == "math"
    tuned = lab.sft(draft.target, lab.pool("math"))
    with pytest.raises(ValueError, match="a model of your own has no held-out prompts; say whose"):
        draft.beside(tuned)
    assert draft.beside(tuned, "math").target is tuned


def test_a_draft_on_its_way_is_the_same_run_in_another_folder(lab, draft):
    arms = adapted(lab, draft)
    half = arms["EDA"].after_steps(4)
    assert (half.of(1).folder, half.label, key(half)) == ("EDA/steps/4", "EDA after 4 steps", key(arms["EDA"]))
    assert "after steps 4" in repr(half)
    with pytest.raises(ValueError, match="no copy of 'EDA' after 3 steps; kept: 2, 4"):
        arms["EDA"].after_steps(3)


def test_a_selection_rule_of_one_s_own_is_part_of_the_key(lab, draft):
    math, weight = lab.target("math"), 2.0
    own = lab.regenerated(math, lab.pool("math"))
    scored = lab.scored(own, base=draft.target, target=math, draft=draft)

    def worth(shift, loss):
        return shift + weight * loss

    def chosen():
        return key(lab.selected(scored, by=worth, share=0.5))

    before = chosen()
    weight = 3.0
    assert chosen() != before
    weight = 2.0
    assert chosen() == before
    assert "selected by worth" in repr(lab.selected(scored, by=worth, share=0.5))
    with pytest.raises(ValueError, match="by must be one of shift_top, shift_bottom, random, loss_top, or a function"):
        lab.selected(scored, by="largest", share=0.5)
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got 2"):
        lab.selected(scored, by="random", share=2.0)


def test_rows_are_scored_by_the_rule_and_a_bad_score_is_named(tmp_path):
    scores = {"id": ["a", "b"], "benchmark": ["math", "general"], "shift": [1.0, 2.0], "loss": [3.0, 0.5]}
    files.write_json(tmp_path / "in" / "scores.json", scores)

    def run(rule):
        recipe = OwnScores(rule=laboratory.captured(rule))
        inputs = {"scores": tmp_path / "in"}
        return draft_data.build_own_scores(recipe, seed=0, inputs=inputs, out=tmp_path, context=None)

    def worth(shift, loss):
        return shift * loss

    def broken(shift, loss):
        return float("nan") if loss < 1 else shift

    assert run(worth) == {"rows": 2.0, "mean_score": 2.0}
    assert files.read_json(tmp_path / "scores.json") == {**scores, "shift": [3.0, 1.0]}
    with pytest.raises(ValueError, match=r"broken gave nan for row b \(shift 2, loss 0.5\); a score must be a finite"):
        run(broken)


def test_what_each_draft_s_training_measured_is_its_own(lab, draft, monkeypatch):
    shares = {"share_of_draft": 0.1, "share_with_embedding": 0.05, "share_of_full_width": 0.08}

    def metrics(stage):
        of_eda = {"parameters": 100.0, "seconds": 4.0 + stage.seed, **shares}
        return {"EDA, more/parameters": 7.0, **{f"EDA/{name}": value for name, value in of_eda.items()}}

    monkeypatch.setattr(drafts, "metrics", metrics)
    monkeypatch.setattr(drafts, "get_many", lambda wanted: [])
    eda = adapted(lab, draft)["EDA"]
    assert list(eda.numbers()["parameters"]) == [100.0, 100.0]
    counted = draft_costs.training({"row": eda}).set_index("metric")
    assert counted.loc["trained parameters, thousands", "value"] == 0.1
    assert counted.loc["share, of a draft with full-width private experts, %", "value"] == pytest.approx(8.0)
    assert counted.loc["CPU seconds", ["value", "n"]].tolist() == [4.5, 6]


def test_what_was_measured_bears_the_names_of_the_asking(lab, draft, monkeypatch, tmp_path):
    columns = {"draft": ["stage 1"], "rule": ["greedy"], "length": [6], "prompt": [0], "tokens": [4], "passes": [2.0]}
    files.write_json(tmp_path / "scores.json", columns)
    monkeypatch.setattr(laboratory, "get_many", lambda wanted: [tmp_path] * len(wanted))
    answers = lab.accept({"old": draft.beside(lab.target("math"))}) | lab.accept({"old": draft})
    assert (answers.arms, answers.prompts, answers.loop.empty) == (["old"], ["math", "chat"], True)
    assert answers.values("old").to_dict("list") == {"math": [2.0, 2.0], "chat": [2.0, 2.0]}
    assert isinstance(answers.frame, pd.DataFrame) and set(answers.frame["seed"]) == {0, 1}


def test_bad_input_is_named(lab, draft):
    math, data = lab.target("math"), lab.original("math")
    with pytest.raises(ValueError, match="no target named 'maths'; known: chat, math, code, clinic, dDPO"):
        lab.target("maths")
    with pytest.raises(ValueError, match=r"has no field 'step'; it has .*steps"):
        lab.adapt(draft, math, {"x": lab.part("all", data)}, step=3)
    with pytest.raises(ValueError, match=r"must be one of .*, got 'everything'"):
        lab.adapt(draft, math, {"x": lab.part("everything", data)})
    with pytest.raises(ValueError, match="LoRA needs a rank of at least 1"):
        lab.adapt(draft, math, {"x": lab.part("lora", data)})
    twins = [lab.adapt(draft, math, {"x": lab.part("all", data)}, steps=steps, keep_at=())["x"] for steps in (8, 9)]
    with pytest.raises(ValueError, match="two drafts were called 'x' when they were trained; ask 'b' in a mapping"):
        lab.accept({"a": twins[0], "b": twins[1]})
    with pytest.raises(ValueError, match="timed beside one target on its prompts, got 2"):
        lab.speed({"a": draft, "b": draft.beside(math)})
    with pytest.raises(ValueError, match="this lab is smoke with 3 seeds, the arm smoke with 2"):
        Lab("eda", "smoke", 3).accept({"a": draft})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_settings_and_names_all_stages(profile, lab):
    lab = Lab("eda", profile, 1)
    draft, sizes = lab.draft(lab.target("chat"), lab.original("chat")), lab.sizes("arms", DraftArms)
    keys = {key(adapted(lab, draft)["EDA"])}
    for name in lab.targets():
        own = lab.regenerated(lab.target(name), lab.pool(name))
        arms = lab.adapt(draft, lab.target(name), {"LoRA": lab.part("lora", own, rank=sizes.matched_rank)}, keep_at=())
        (asked,) = lab._asked(arms)
        for make in (draft_stages.scores, draft_stages.timed, draft_stages.lossless):
            keys.add(key_of(asked.stage(make, profile, 0)))
    assert len(keys) == 1 + 3 * len(lab.targets())
