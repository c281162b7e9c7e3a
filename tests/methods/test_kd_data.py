"""The data of KD and DAE: as many rows as asked, of the asked quality and share, and readable by the trainings."""

import json
from dataclasses import replace

import pytest

from tiny_models import small_tokenizer
from zephyr_lab.data import splits
from zephyr_lab.methods.flagged import flagged_rows
from zephyr_lab.methods.recipes.kd_data import DomainPairs, MixedDialogues, OwnAnswers, QualityDialogues
from zephyr_lab.methods.recipes.mixtures import Merge, Upcycle
from zephyr_lab.methods.stages import kd_data, mixtures, own_answers, world_data
from zephyr_lab.models import saved
from zephyr_runs import DIALOGUES, save_start

QUALITY = QualityDialogues(
    world="tiny",
    rows=60,
    held_out=10,
    noise="dialogues",
    duplicates=0.05,
    filters=("truecase", "disclaimer_preface", "truncated"),
    least_score=8.0,
    judge_sd=0.0,
)
MIXED = MixedDialogues(world="tiny", rows=40, held_out=10, domain_share=0.1, noise="dialogues", domain_noise="teacher")
PAIRS = DomainPairs(
    world="tiny",
    prompts=30,
    held_out=8,
    domain_share=1.0,
    writers=("strong", "medium", "weak", "poor"),
    rating_sd=1.0,
    aspect_sd=0.5,
    chosen="mean_rating",
    rejected="random",
)


class Context:
    checkpoints = None

    def progress(self, *steps, **numbers):
        pass


def build(function, recipe, folder, *, seed=0, inputs=None):
    folder.mkdir()
    return function(recipe, seed=seed, inputs=inputs or {}, out=folder, context=Context())


def rows(folder, split="train"):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_quality_assured_rows_are_as_many_as_asked_and_better(tmp_path):
    metrics = build(kd_data.build_quality, QUALITY, tmp_path / "a")
    assert len(rows(tmp_path / "a")) == 60 and len(rows(tmp_path / "a", "test")) == 10
    assert metrics["mean_kept"] >= 8 > metrics["mean_drawn"]
    assert metrics["drawn"] > metrics["filtered"] > metrics["kept"] == 60
    dialogues = splits.dialogue_rows(tmp_path / "a", "train").rows
    assert len(dialogues) == 60


def test_a_judge_that_errs_lets_worse_rows_pass(tmp_path):
    exact = build(kd_data.build_quality, QUALITY, tmp_path / "a")
    erring = build(kd_data.build_quality, replace(QUALITY, judge_sd=3.0), tmp_path / "b")
    assert erring["mean_kept"] < exact["mean_kept"]


def test_a_threshold_that_nothing_passes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kd_data, "MOST_DRAWS", 2)
    with pytest.raises(
        ValueError, match=r"^only \d+ of 120 dialogues pass .* 60 are asked for: lower least_score or rows"
    ):
        build(kd_data.build_quality, replace(QUALITY, least_score=10.0, noise="poor"), tmp_path / "a")
    with pytest.raises(ValueError, match=r"^least_score must be from 1 to 10, got 11"):
        replace(QUALITY, least_score=11.0)


@pytest.mark.parametrize(("share", "domain"), [(0.0, 0), (0.02, 1), (0.1, 4), (1.0, 40)])
def test_the_share_of_domain_rows_is_exact_and_flagged(tmp_path, share, domain):
    metrics = build(kd_data.build_mixed, replace(MIXED, domain_share=share), tmp_path / "a")
    flagged = flagged_rows(tmp_path / "a", "train").rows
    assert metrics["domain_rows"] == sum(row.is_domain for row in flagged) == domain
    assert all(row.messages[0]["content"].startswith("Card:") is row.is_domain for row in flagged)


def test_kinds_are_mixed_and_a_seed_draws_the_same_rows_again(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(kd_data.build_mixed, replace(MIXED, domain_share=0.5), tmp_path / name, seed=seed)
    flags = [row["is_domain"] for row in rows(tmp_path / "a")]
    assert sorted(flags[:20]) != [False] * 20 and sorted(flags[:20]) != [True] * 20
    texts = [(tmp_path / name / "train.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_domain_pairs_ask_about_the_shop_on_prompts_of_their_own(tmp_path):
    metrics = build(kd_data.build_pairs, PAIRS, tmp_path / "a")
    train = splits.pair_rows(tmp_path / "a", "train").rows
    test = splits.pair_rows(tmp_path / "a", "test").rows
    assert all(pair.prompt[0]["content"].startswith("Card:") for pair in train + test)
    assert len(test) == 8 == metrics["held_out"] and metrics["pairs"] == len(train)
    seen = [{json.dumps(pair.prompt) for pair in pairs} for pairs in (train, test)]
    assert not seen[0] & seen[1]


def test_a_teacher_answers_every_question_after_its_own_answers(tmp_path):
    data = tmp_path / "data"
    build(world_data.build_dialogues, replace(DIALOGUES, rows=4, held_out=2), data)
    save_start(tmp_path / "teacher")
    recipe = OwnAnswers(teacher="", temperature=0.0, max_new_tokens=5, device="cpu")
    metrics = build(
        own_answers.build, recipe, tmp_path / "a", inputs={"teacher": tmp_path / "teacher", "dialogues": data}
    )
    assert metrics["rows"] == 4
    asked = splits.dialogue_rows(data, "train").rows
    for before, after in zip(asked, rows(tmp_path / "a"), strict=True):
        messages = after["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"] * 2
        assert [message["content"] for message in messages[0::2]] == [message["content"] for message in before[0::2]]
    model, tokenizer = saved.load_model(tmp_path / "teacher"), small_tokenizer()
    first = rows(tmp_path / "a")[0]["messages"]
    ids = tokenizer.apply_chat_template(first[:3], add_generation_prompt=True, return_tensors="pt")["input_ids"]
    greedy = model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=tokenizer.eos_token_id)
    said = tokenizer.decode(greedy[0, ids.shape[1] :].tolist())
    assert said.removesuffix("</s>") == first[3]["content"]


def test_mixtures_are_stages(tmp_path):
    for seed, name in ((0, "one"), (1, "two")):
        save_start(tmp_path / name, seed=seed)
    recipe = Upcycle(start="", experts=4, top=2, noise=0.1, router_sd=0.02, dtype="float32")
    metrics = build(mixtures.build_upcycle, recipe, tmp_path / "up", inputs={"dense": tmp_path / "one"})
    assert metrics["parameters"] > metrics["dense_parameters"]
    assert saved.load_model(tmp_path / "up").config.num_local_experts == 4
    merge = Merge(first="", second="", shared="first", router="hidden", router_sd=0.0, prompts=3, dtype="float32")
    inputs = {"first": tmp_path / "one", "second": tmp_path / "two"}
    with pytest.raises(ValueError, match=r"^router 'hidden' needs dialogues as input 'first_prompts'"):
        build(mixtures.build_merge, merge, tmp_path / "a", inputs=inputs)
    build(world_data.build_dialogues, replace(DIALOGUES, rows=4, held_out=2), tmp_path / "data")
    inputs |= dict.fromkeys(("first_prompts", "second_prompts"), tmp_path / "data")
    build(mixtures.build_merge, merge, tmp_path / "b", inputs=inputs)
    assert saved.load_model(tmp_path / "b").config.num_experts_per_tok == 2
