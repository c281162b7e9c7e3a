"""Recipes refuse what cannot be, the five published settings are those in print, and data come out as asked."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from zephyr_lab.core import settings
from zephyr_lab.data import splits
from zephyr_lab.methods.recipes.pairs import DDPORecipe
from zephyr_lab.methods.recipes.training import DSFTRecipe
from zephyr_lab.methods.recipes.zephyr_settings import SETTINGS, differing_fields, in_setting
from zephyr_lab.methods.stages import world_data
from zephyr_lab.reporting import published
from zephyr_runs import DDPO, DIALOGUES, DSFT, PAIRS


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (DSFT, {"epochs": 0}, "epochs must be at least 1, got 0"),
        (DSFT, {"micro_batch": 3}, "batch must be a multiple of micro_batch, got 8 and 3"),
        (DSFT, {"schedule": "step"}, "schedule must be one of cosine, linear, constant, got 'step'"),
        (DSFT, {"optimizer": "adam"}, "optimizer must be one of adamw, muon, rmsprop, got 'adam'"),
        (DSFT, {"warmup": 1.0}, "warmup must be a share from 0 to below 1, got 1.0"),
        (DSFT, {"learning_rate": 0.0}, "learning_rate and clip must be positive, got 0.0 and 1.0"),
        (DSFT, {"log_every": 3}, "checkpoint_every must be a multiple of log_every, got 2 and 3"),
        (DSFT, {"device": "tpu"}, "device must be one of cpu, cuda, got 'tpu'"),
        (DDPO, {"beta": 0.0}, "beta must be positive, got 0.0"),
        (DDPO, {"long_prompts": "drop"}, "long_prompts must be one of cut_left, set_aside, got 'drop'"),
        (DDPO, {"equal_answers": "drop"}, "equal_answers must be one of keep, set_aside, got 'drop'"),
        (DDPO, {"max_prompt_length": 120}, "max_prompt_length must be from 1 to max_length - 1 = 119, got 120"),
        (DIALOGUES, {"noise": "loud"}, "noise must be one of clean, web"),
        (DIALOGUES, {"rows": 0}, "rows must be at least 1, got 0"),
        (PAIRS, {"world": "huge"}, "world must be one of tiny, large, got 'huge'"),
        (
            PAIRS,
            {"writers": ("strong", "weak")},
            "writers must be four or more different noise levels",
        ),
        (PAIRS, {"rating_sd": -1.0}, "rating_sd and aspect_sd must not be negative, got -1.0"),
    ],
)
def test_recipes_that_cannot_be_are_refused(recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(recipe, **changes)


@pytest.mark.parametrize("recipe", [DSFT, DDPO, DIALOGUES, PAIRS])
def test_a_recipe_comes_back_from_its_json(recipe):
    table = json.loads(json.dumps(asdict(recipe)))
    assert settings.from_table(table, type(recipe), "here") == recipe


PUBLISHED = [
    ("paper", "dsft", "paper_dsft"),
    ("paper", "ddpo", "paper_ddpo"),
    ("handbook 2023", "dsft", "handbook_2023_sft_full"),
    ("handbook 2023", "ddpo", "handbook_2023_dpo_full"),
    ("handbook 2024", "dsft", "handbook_2024_sft_full"),
    ("handbook 2024", "ddpo", "handbook_2024_dpo_full"),
    ("alpha card", "ddpo", "card_alpha_ddpo"),
    ("beta card", "ddpo", "card_beta_ddpo"),
]


@pytest.mark.parametrize(("name", "part", "recipe"), PUBLISHED)
def test_the_settings_are_those_in_print(name, part, recipe):
    printed = published_settings(recipe)
    ours = getattr(SETTINGS[name], part)
    assert ours.learning_rate == printed["lr"]
    assert str(ours.batch) == str(printed["global_batch"]).split()[-1]  # "8 x 2 x 8 GPUs = 128"
    assert ours.schedule == printed["schedule"]
    assert ours.warmup == {"10%": 0.1, "ratio 0.1": 0.1, "none": 0.0}[warmup_stated(printed["warmup"])]
    if part == "ddpo":
        assert ours.beta == printed["beta"]
        assert str(ours.epochs) in str(printed["epochs"])
        for limit in ("max_length", "max_prompt_length"):
            stated = printed.get(limit)
            assert (f"ddpo.{limit}" in SETTINGS[name].filled_in) == (stated is None)
            assert stated in (None, getattr(ours, limit))
    if name == "handbook 2023":
        assert ours.optimizer == printed.get("optimizer", "adamw")


def test_the_sources_disagree_about_these_fields():
    assert differing_fields("dsft") == ("batch", "warmup", "answers_only", "system_turn")
    assert differing_fields("ddpo") == ("epochs", "batch", "schedule", "beta", "optimizer", "system_turn")
    assert differing_fields("pairs") == ("chosen", "rejected")
    assert [setting.ddpo.beta for setting in SETTINGS.values()] == [0.1, 0.1, 0.01, 0.05, 0.1]
    assert "ddpo.max_length" in SETTINGS["paper"].filled_in and SETTINGS["paper"].ddpo.max_length == 1024


def test_the_papers_setting_is_what_is_given_whatever_it_says():
    ours = replace(DDPO, beta=0.7, epochs=99, schedule="constant", optimizer="muon", system_turn=True)
    assert in_setting("paper", "ddpo", ours) == ours
    ours = replace(DSFT, warmup=0.5, answers_only=False, system_turn=True)
    assert in_setting("paper", "dsft", ours) == ours
    ours = replace(PAIRS, chosen="overall_score", rejected="worst")
    assert in_setting("paper", "pairs", ours) == ours


def test_another_setting_changes_the_fields_alone_in_which_it_differs_from_the_paper():
    ours = replace(DDPO, beta=0.7, epochs=99, schedule="constant", optimizer="muon")
    assert in_setting("alpha card", "ddpo", ours) == replace(ours, beta=0.05, epochs=1, system_turn=True)
    assert in_setting("beta card", "ddpo", ours) == replace(ours, system_turn=True)


def test_another_setting_keeps_its_ratio_to_the_paper():
    small = replace(DDPO, batch=32, micro_batch=32)
    handbook = in_setting("handbook 2024", "ddpo", small)
    assert (handbook.batch, handbook.micro_batch) == (128, 32)
    assert (handbook.epochs, handbook.beta, handbook.schedule) == (1, 0.01, "cosine")
    assert handbook.learning_rate == small.learning_rate
    assert in_setting("handbook 2023", "ddpo", small).optimizer == "rmsprop"
    assert in_setting("handbook 2024", "dsft", replace(DSFT, batch=32, micro_batch=32)).batch == 8
    assert in_setting("handbook 2023", "pairs", PAIRS) == replace(
        PAIRS, chosen="overall_score", rejected="first_release"
    )
    with pytest.raises(ValueError, match=r"setting 'handbook 2024' would need a batch of 0\.5 rows"):
        in_setting("handbook 2024", "dsft", replace(DSFT, batch=2, micro_batch=1))
    with pytest.raises(ValueError, match="no recipe setting named 'card'; known: paper, handbook 2023"):
        in_setting("card", "ddpo", small)


def test_every_field_of_a_setting_is_a_field_of_its_recipe():
    fields = set()
    for part, recipe in (("dsft", DSFTRecipe), ("ddpo", DDPORecipe), ("pairs", type(PAIRS))):
        of_part = set(asdict(getattr(SETTINGS["paper"], part)))
        assert of_part <= set(recipe.__dataclass_fields__)
        fields |= {f"{part}.{name}" for name in of_part}
    for name, setting in SETTINGS.items():
        assert set(setting.filled_in) <= fields, name


def test_recipes_load_no_torch():
    code = "import sys; import zephyr_lab.methods.recipes.zephyr_settings; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# --- the data --------------------------------------------------------------------------------------------------------


def test_dialogues_come_filtered_and_counted(tmp_path):
    raw = replace(DIALOGUES, rows=300, held_out=50, duplicates=0.1)
    clean = replace(raw, filters=("truecase", "disclaimer_preface", "truncated", "exact_duplicate"))
    before, after = build_dialogues(raw, tmp_path / "raw"), build_dialogues(clean, tmp_path / "clean")
    assert before == {"rows": 300, "kept": 300}
    assert after["kept"] < 300 and all(after[f"found_{name}"] > 0 for name in clean.filters)
    texts = [json.dumps(dialogue) for dialogue in read(tmp_path / "clean", "train")]
    assert len(set(texts)) == len(texts) == after["kept"]
    first = [turn["content"][0] for dialogue in read(tmp_path / "clean", "train") for turn in dialogue[1::2]]
    assert not any(letter.islower() for letter in first)
    assert [turn["role"] for turn in read(tmp_path / "raw", "train")[0]] == ["user", "assistant"] * 2
    assert len(read(tmp_path / "raw", "test")) == 50


def test_equal_seeds_give_equal_files_and_others_do_not(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("two", 2)):
        build_dialogues(DIALOGUES, tmp_path / name, seed=seed)
        build_pairs(PAIRS, tmp_path / f"{name} pairs", seed=seed)
    for suffix in ("", " pairs"):
        one, same, two = (
            (tmp_path / f"{name}{suffix}" / "train.jsonl").read_bytes() for name in ("one", "same", "two")
        )
        assert one == same != two
        assert one != (tmp_path / f"one{suffix}" / "test.jsonl").read_bytes()


def test_pairs_share_their_prompt_and_the_chosen_answer_is_mostly_better(tmp_path):
    metrics = build_pairs(replace(PAIRS, prompts=200, held_out=40, rating_sd=0.5), tmp_path)
    assert metrics["prompts"] == 200 and metrics["pairs"] + metrics["no_pair"] == 200
    assert metrics["agreement"] > 0.9
    assert metrics["exact_chosen"] > metrics["exact_rejected"] + 1
    train = splits.pair_rows(tmp_path, "train").rows
    test = splits.pair_rows(tmp_path, "test").rows
    assert len(test) == 40
    asked = {json.dumps(pair.prompt) for pair in train}
    assert not asked & {json.dumps(pair.prompt) for pair in test}
    assert {len(pair.prompt) for pair in train} == {1, 3}  # first turns, and second turns with their history
    assert read(tmp_path, "train")[0][-1] == {"role": "assistant", "content": train[0].chosen}


def test_cleaner_writers_widen_the_gap_to_the_dialogues(tmp_path):
    narrow = build_pairs(replace(PAIRS, prompts=200, writers=("dialogues", "medium", "weak", "poor")), tmp_path / "a")
    wide = build_pairs(replace(PAIRS, prompts=200, writers=("clean", "strong", "medium", "weak")), tmp_path / "b")
    assert wide["exact_chosen"] > narrow["exact_chosen"] + 0.5


def build_dialogues(recipe, folder, seed=0):
    folder.mkdir()
    return world_data.build_dialogues(recipe, seed=seed, inputs={}, out=folder, context=None)


def build_pairs(recipe, folder, seed=0):
    folder.mkdir(exist_ok=True)
    return world_data.build_pairs(recipe, seed=seed, inputs={}, out=folder, context=None)


def read(folder, split):
    return splits.dialogue_rows(folder, split).rows


def warmup_stated(printed):
    return next(words for words in ("10%", "ratio 0.1", "none") if printed.startswith(words))


def published_settings(name):
    return published.load("zephyr").recipes[name].settings
