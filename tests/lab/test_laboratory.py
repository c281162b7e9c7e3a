"""The words of an experiment: lazy arms, settings by keyword, losses of one's own, claims from named arms."""

import ast
import dataclasses
import re

import pandas as pd
import pytest
import torch

from zephyr_lab.core import paths, session
from zephyr_lab.engine import stages
from zephyr_lab.lab import SCORE, Lab, answers, choices, laboratory
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.arms import Arm, Rows
from zephyr_lab.lab.claims import sentence
from zephyr_lab.lab.eda import acceptance_lengths
from zephyr_lab.lab.eda.acceptance_lengths import AcceptanceLengths
from zephyr_lab.lab.eda.drafts import Draft
from zephyr_lab.lab.eda.laboratory import EDALab
from zephyr_lab.lab.kd_dae.laboratory import KDLab
from zephyr_lab.lab.laboratory import Laboratory
from zephyr_lab.lab.zephyr import run_epochs
from zephyr_lab.methods.recipes.data import WorldPairs
from zephyr_lab.methods.recipes.pairs import DDPORecipe, OwnLossDPO
from zephyr_lab.reporting import claims as registry


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return Lab("zephyr", "smoke", 2)


def keys(arm, seeds=2):
    return [stages.key(arm.stage(seed)) for seed in range(seeds)]


def test_an_arm_is_a_recipe_under_all_seeds_and_trains_nothing(lab):
    sft = lab.sft(lab.base(), lab.dialogues())
    dpo = lab.dpo(sft, lab.pairs(), epochs=1)
    assert [dpo.stage(seed).seed for seed in range(2)] == [0, 1]
    assert dpo.stage(0).recipe.epochs == 1 and dpo.stage(0).inputs["policy"] == sft.stage(0)
    assert repr(dpo).startswith("dDPO under seeds 0 to 1: epochs 1, ")


def test_none_is_the_setting_and_a_keyword_wins_over_it(lab):
    sft, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
    assert keys(lab.dpo(sft, pairs, beta=None)) == keys(lab.dpo(sft, pairs))
    changed = lab.dpo(sft, pairs, beta=0.7)
    assert changed.stage(0).recipe.beta == 0.7 and keys(changed) != keys(lab.dpo(sft, pairs))


def test_the_same_arm_named_twice_is_one_arm(lab):
    one = lab.dpo(lab.sft(lab.base(), lab.dialogues()), lab.pairs(rejected="worst"))
    other = lab.dpo(lab.sft(lab.base(), lab.dialogues()), lab.pairs(rejected="worst"))
    assert keys(one) == keys(other) and one is not other


def test_chosen_answers_of_pairs_are_dialogues_for_fine_tuning(lab):
    pairs = lab.pairs()
    second = lab.sft(lab.sft(lab.base(), lab.dialogues()), pairs.chosen())
    assert second.stage(1).inputs["dialogues"] == pairs.stage(1)


def test_a_loss_of_one_s_own_is_part_of_the_key_and_of_no_other_s(lab):
    sft, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
    margin = 1.0

    def hinge(policy, reference):
        return torch.relu(margin - (policy.chosen - reference.chosen) + (policy.rejected - reference.rejected))

    arm = lab.dpo(sft, pairs, loss=hinge)
    assert isinstance(arm.stage(0).recipe, OwnLossDPO) and "loss hinge" in repr(arm)
    before = keys(arm)
    margin = 2.0
    assert keys(lab.dpo(sft, pairs, loss=hinge)) != before
    margin = 1.0
    assert keys(lab.dpo(sft, pairs, loss=hinge)) == before
    assert type(lab.dpo(sft, pairs).stage(0).recipe) is DDPORecipe


def test_a_loss_that_a_worker_cannot_have_is_refused_when_it_is_named(lab):
    weights = torch.ones(3)

    def weighted(policy, reference):
        return weights.sum() * policy.chosen

    with pytest.raises(ValueError, match="weighted uses 'weights', a Tensor that a worker cannot have"):
        lab.dpo(lab.base(), lab.pairs(), loss=weighted)


def test_a_filter_and_a_pair_rule_of_one_s_own_are_stages_beside_the_published_ones(lab):
    def short(messages):
        return len(messages) == 2

    def last(completions, chosen=None):
        return len(completions) - 1

    own = lab.sft(lab.base(), lab.dialogues(filters=(), filter=short))
    rows = own.stage(0).inputs["dialogues"]
    assert rows.inputs["dialogues"] == lab.dialogues(filters=()).stage(0)
    assert repr(lab.dialogues(filter=short)) == "dialogues under seeds 0 to 1: filter short"
    pairs = lab.pairs(reject=last)
    assert keys(pairs) != keys(lab.pairs(choose=last)) and type(lab.pairs().stage(0).recipe) is WorldPairs
    assert pairs.stage(1).seed == 1 and repr(pairs).endswith("reject last")
    assert lab.dpo(own, pairs).stage(0).inputs["pairs"] == pairs.stage(0)
    with pytest.raises(ValueError, match="rejected='worst' and a function for the same answer"):
        lab.pairs(rejected="worst", reject=last)
    hub = Lab("zephyr", "gpu", 1)
    assert hub.dialogues(filter=short).stage(0).inputs["dialogues"] == hub.dialogues().stage(0)
    with pytest.raises(ValueError, match="reject= and choose= need pairs of the world"):
        hub.pairs(reject=last)


def test_a_rubric_of_one_s_own_judges_the_answers_of_the_published_evaluation(lab, monkeypatch):
    asked = []
    monkeypatch.setattr(laboratory, "get_many", asked.extend)
    read = Answers(pd.DataFrame())
    monkeypatch.setattr(Answers, "of", lambda evaluations: read)

    def brief(turn, text):
        return 10.0 if len(text) < len(turn.ideal) else 1.0

    lab.ask({"base": lab.base()})
    lab.ask({"base": lab.base()}, rubric=brief)
    exact, own = asked[:2], asked[2:]
    assert [stage.inputs for stage in own] == [{"evaluation": stage} for stage in exact]
    assert own[0].recipe.questions == exact[0].recipe.questions


def test_a_part_that_a_rubric_does_not_give_is_named():
    alone = graded({"a": 5.0}).frame.drop(columns="score").assign(mine=1.0)
    with pytest.raises(ValueError, match=r"the judge of these answers gives no 'core'; columns: seed, model, .*mine"):
        Answers(alone).parts()


def test_bad_input_is_named(lab):
    sft, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
    with pytest.raises(ValueError, match=r"has no field 'betta'; it has .*beta"):
        lab.dpo(sft, pairs, betta=1)
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        Lab("zephyr", "smoke", 0)
    with pytest.raises(ValueError, match="this lab is smoke with 3 seeds, the arm smoke with 2"):
        Lab("zephyr", "smoke", 3).dpo(sft, pairs)
    with pytest.raises(ValueError, match="seed must be from 0 to 1, got 2"):
        sft.stage(2)
    with pytest.raises(ValueError, match="no model after epoch 5: the run has 3 epochs"):
        lab.dpo(sft, pairs).after_epoch(5)
    with pytest.raises(ValueError, match="paper must be one of zephyr, kd_dae, eda, teaching, overview, got 'zefir'"):
        Lab("zefir", "smoke", 1)


def test_an_epoch_of_a_run_is_the_same_stage_in_another_folder(lab):
    run = lab.dpo(lab.sft(lab.base(), lab.dialogues()), lab.pairs(), epochs=3)
    first = run.after_epoch(1)
    assert first.of(0).folder == "epochs/1" and keys(first) == keys(run)


def graded(levels, seeds=3, questions=20):
    """Answers whose mean scores are the levels, a little apart from seed to seed and from question to question."""
    rows = [
        {
            "seed": seed, "model": model, "run": run, "question_id": 81 + question, "category": "math", "turn": turn,
            "prompt": "", "text": "Yes.", "finished": True, "role_tags": 0,
            "score": level + 0.01 * seed + 0.001 * question,
        }
        for model, level in levels.items()
        for seed in range(seeds)
        for run in ("near-greedy", "hot")
        for question in range(questions)
        for turn in (1, 2)
    ]  # fmt: skip
    return Answers(pd.DataFrame(rows).assign(ended_clean=True), pd.DataFrame())


def test_a_claim_is_decided_from_the_arms_that_its_file_names_whichever_way_they_go(lab, capsys):
    ways = {"reproduced": {"dSFT-1": 5.0, "dDPO + dSFT": 6.0}, "contradicted": {"dSFT-1": 6.0, "dDPO + dSFT": 5.0}}
    for verdict, levels in ways.items():
        lab.claims.decide("Z1", graded(levels))
        assert f"Z1 {verdict}: " in capsys.readouterr().out
    lab.claims.findings()
    assert capsys.readouterr().out.startswith('- Z1, contradicted here: "One epoch of DPO after dSFT improves')


def test_a_claim_whose_arms_were_not_asked_is_said_to_be_open(lab, capsys):
    lab.claims.decide("Z3", graded({"dSFT-1": 5.0}))
    assert capsys.readouterr().out == "Z3 not measured: no arm named 'dDPO + dSFT', 'dSFT-2' was asked\n"
    with pytest.raises(ValueError, match="zephyr has no claim 'Z99'"):
        lab.claims.decide("Z99", graded({"dSFT-1": 5.0}))


def test_arms_of_claims_are_two_or_four_and_their_measures_known():
    known = {*answers.MEASURES, *choices.MEASURES, *run_epochs.MEASURES, *acceptance_lengths.MEASURES}
    named = [part for claim in registry.everything().values() for part in claim.parts if part.arms or part.measure]
    assert named and all(len(part.arms) in (2, 4) and part.measure in known for part in named)


def test_a_claim_about_two_things_is_decided_from_both_each_part_from_what_has_its_measure(lab, capsys):
    frame = pd.DataFrame(
        {"seed": seed, "model": f"after epoch {epoch}", "gap": epoch / 10 + seed * epoch / 1000}
        for seed in range(3)
        for epoch in (1, 2, 3)
    )
    epochs = run_epochs.RunEpochs(frame, {"test": 100})
    for verdict, later in {"reproduced": 6.0, "contradicted": 5.0}.items():
        scored = graded({"dSFT + dDPO 1 epoch, world": 6.0, "dSFT + dDPO 3 epochs, world": later})
        lab.claims.decide("Z4", [epochs, scored])
        assert capsys.readouterr().out.startswith(f"Z4 {verdict}: ")
    lab.claims.decide("Z4", [epochs, graded({"dSFT": 6.0})])
    assert "Z4 not measured: no arm named 'dSFT + dDPO 1 epoch, world'" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"claims\.toml names no arms and no measure for Z4"):
        lab.claims.decide("Z4", [scored, graded({"after epoch 1": 1.0, "after epoch 3": 1.0})])


def test_the_page_of_words_names_nothing_that_does_not_exist():
    text = (paths.notebooks_dir() / "VOCABULARY.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    kinds = {"lab": Laboratory, "paper": KDLab, "dpo": Arm, "three": Arm, "pairs": Rows, "answers": Answers}
    kinds |= {"eda": EDALab, "draft": Draft, "lengths": AcceptanceLengths}
    used = {
        (node.value.id, node.attr)
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in kinds
    }
    attributes = {"lab": {"claims"}, "eda": {"claims"}, "answers": {"frame"}}
    assert len(used) > 15
    assert [
        f"{name}.{attribute}"
        for name, attribute in sorted(used)
        if not hasattr(kinds[name], attribute) and attribute not in attributes.get(name, ())
    ] == []


def test_answers_are_means_differences_and_names(lab):
    answers = graded({"a": 5.0, "b": 6.0})
    assert answers.arms == ["a", "b"]
    (difference,) = answers.differences({"gain": ("b", "a")}, SCORE).to_dict("records")
    assert difference["value"] == pytest.approx(1.0) and difference["seeds"] == 3
    assert answers.named({"better": "b"}).arms == ["better"]
    with pytest.raises(ValueError, match="no arm named 'c'; there are a, b"):
        answers.named({"x": "c"})


def test_answers_of_two_askings_join_and_compare_over_the_seeds_they_share():
    answers = graded({"a": 5.0}) | graded({"b": 6.0}, seeds=2)
    (difference,) = answers.differences({"gain": ("b", "a")}).to_dict("records")
    assert difference["seeds"] == 2 and difference["value"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="both have an arm named 'a'"):
        answers | graded({"a": 5.0})
    later = dataclasses.replace(graded({"c": 5.0}, seeds=1), frame=graded({"c": 5.0}, seeds=1).frame.assign(seed=7))
    with pytest.raises(ValueError, match="'a' and 'c' have no seed in common"):
        (answers | later).difference("a", "c")


def test_an_effect_of_four_arms_is_a_difference_of_differences():
    part = registry.Part("m", "higher", 0.1, "", arms=("a", "b", "c", "d"), measure="score")
    row = graded({"a": 9.0, "b": 4.0, "c": 5.0, "d": 3.0}).effect("X", part)
    assert row["value"] == pytest.approx((9 - 4) - (5 - 3))


def test_a_measure_of_the_domain_reads_the_answers_to_its_questions():
    general, domain = graded({"a": 5.0}), graded({"a": 7.0}).frame
    both = dataclasses.replace(general, domain=domain)
    assert both.values("a", Measure("domain score", domain=True)).to_numpy().mean() == pytest.approx(7.02, abs=0.05)
    assert both.named({"b": "a"}).domain["model"].unique().tolist() == ["b"]


def test_fewer_seeds_are_a_laboratory_that_takes_the_same_arms(lab):
    few = lab.with_seeds(1)
    assert (few.seeds, few.profile, lab.seeds) == (1, "smoke", 2)
    assert few.dpo(lab.sft(lab.base(), lab.dialogues()), lab.pairs()).seeds == 1
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        lab.with_seeds(0)


def test_the_questions_are_those_that_are_asked(lab):
    assert len(lab.questions()) == 16
    assert [one.question_id for one in lab.questions(questions=8)] == [81, 91, 101, 111, 121, 131, 141, 151]


def test_a_statement_of_a_document_is_decided_from_any_laboratory(lab, capsys):
    lab.claims.decide("S1-10")
    assert capsys.readouterr().out.startswith("S1-10 ")


def test_a_conclusion_is_read_off_the_interval_whichever_way_it_goes(lab, capsys):
    line = {"row": "b - a", "metric": "mt_bench", "interval": "3 seeds, t 95 %"}
    ends = {"higher by 0.50 [0.20, 0.80]": (0.5, 0.2, 0.8), "lower by 0.50 [0.20, 0.80]": (-0.5, -0.8, -0.2)}
    ends["no difference resolved, +0.10 [-0.20, +0.40]"] = (0.1, -0.2, 0.4)
    for said, (value, low, high) in ends.items():
        lab.conclude(pd.DataFrame([{**line, "value": value, "low": low, "high": high}]), {"mt_bench": "chat score"})
        assert capsys.readouterr().out == f"b - a, chat score: {said} (3 seeds, t 95 %)\n"
    lab.claims.findings()
    assert capsys.readouterr().out == f"- b - a, chat score: {said} (3 seeds, t 95 %)\n"
    lab.conclude(pd.DataFrame([{**line, "value": 1.0, "low": 1.0, "high": 1.0}]), {"another": "metric"})
    assert capsys.readouterr().out == ""


def test_a_number_is_reported_with_its_interval_and_said_again_at_the_end(lab, capsys):
    line = {"row": "padding", "metric": "points", "value": 1.0, "low": 1.0, "high": 1.0, "interval": "all equal"}
    frame = pd.DataFrame([line, {**line, "row": "wrong core", "value": 3.53, "low": 3.51, "high": 3.55}])
    lab.report(frame, {"points": "points lost"}, digits=1)
    said = "padding, points lost: 1.0 (all equal)\nwrong core, points lost: 3.5 [3.5, 3.5] (all equal)\n"
    assert capsys.readouterr().out == said
    lab.claims.findings()
    assert capsys.readouterr().out == "".join(f"- {one}\n" for one in said.splitlines())
    lab.report(pd.DataFrame([{**line, "low": None, "high": None, "interval": None}]), {"another": "metric"})
    assert capsys.readouterr().out == ""


def test_an_effect_beside_a_statement_that_facts_decide_is_named_as_ours():
    claim = next(claim for claim in registry.load("overview") if claim.id == "S0-4")
    entry = {"id": "S0-4", "verdict": "unsupported", "effect": 4.0, "interval": [3.0, 5.0], "n": 10, "seeds": 3}
    said = sentence(claim, {**entry, "why": "no time is printed"})
    assert "(no time is printed; ours, beside it: +4 [+3, +5]" in said
