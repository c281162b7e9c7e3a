"""Drafts are measured on the target's own answers; what is expected exactly is what the loop counts."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from tiny_models import small_model, small_tokenizer
from zephyr_lab.core.files import read_json, write_text
from zephyr_lab.methods.recipes.draft_scores import DraftScores
from zephyr_lab.methods.stages import draft_scores, world_data
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models import draft_files, saved
from zephyr_lab.scoring.acceptance_length import acceptance_length
from zephyr_runs import DIALOGUES

RECIPE = DraftScores(
    drafts=("own", "small", "feature"),
    inputs=("causal", "causal", "drafts"),
    folders=("own", "small", "stage 1"),
    target_folder="",
    split="test",
    prompts=5,
    system_turn=False,
    max_new_tokens=12,
    lengths=(3, 1),
    temperature=1.0,
    samples=2,
    loop_prompts=5,
    loop_length=3,
    tree_top=2,
    tree_depth=3,
    tree_nodes=6,
    timed=False,
    extra_layers=0,
    rows_at_once=4,
    device="cpu",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "prompts").mkdir()
    recipe = replace(DIALOGUES, rows=4, held_out=8)
    world_data.build_dialogues(recipe, seed=0, inputs={}, out=folder / "prompts", context=None)
    sizes = {"hidden": 16, "heads": 2, "kv_heads": 1, "ffn": 24, "context": 256}
    target, tokenizer = small_model(0, **sizes), small_tokenizer()
    saved.save(target, tokenizer, folder / "target")
    shape = feature_draft.shape_for(
        target, heads=2, kv_heads=1, shared_experts=1, private_experts=1, shared_width=24, private_width=12, top=1,
        routers=False,
    )  # fmt: skip
    draft = feature_draft.build(shape, target, seed=0)
    draft_files.save(draft, folder / "drafts/stage 1", tokenizer=tokenizer, notes={})
    draft_files.save(target, folder / "causal/own", tokenizer=tokenizer, notes={})
    draft_files.save(small_model(0, **sizes, layers=1), folder / "causal/small", tokenizer=tokenizer, notes={})
    return {name: folder / name for name in ("target", "prompts", "drafts", "causal")}


def measure(folder, inputs, recipe, seed=0):
    (folder / "out").mkdir(parents=True)
    context = SimpleNamespace(checkpoints=folder, progress=lambda *steps, **numbers: None)
    metrics = draft_scores.build(recipe, seed=seed, inputs=inputs, out=folder / "out", context=context)
    return metrics, folder / "out"


@pytest.fixture(scope="module")
def measured(inputs, tmp_path_factory):
    return measure(tmp_path_factory.mktemp("measured"), inputs, RECIPE)


def test_every_draft_rule_length_prompt_and_sample_has_its_row(measured):
    scores = pd.DataFrame(read_json(measured[1] / "scores.json"))
    rows = scores.groupby(["draft", "rule"], sort=False).size()
    assert rows.to_dict() == {
        (draft, rule): 5 * 2 * samples
        for draft in RECIPE.drafts
        for rule, samples in (("greedy", 1), ("drawn", 2), ("candidates", 2))
    }
    assert set(scores.temperature[scores.rule == "greedy"]) == {0.0}
    assert set(scores.temperature[scores.rule != "greedy"]) == {1.0}
    answers = scores[scores.length == 3].groupby(["rule", "prompt", "sample"]).tokens.nunique()
    assert (answers == 1).all()  # all drafts are measured on the same answers


def test_a_target_that_drafts_for_itself_gains_the_most_that_is_possible(measured):
    scores = pd.DataFrame(read_json(measured[1] / "scores.json"))
    own = scores[(scores.draft == "own") & (scores.rule != "candidates")]
    assert own.passes.to_list() == pytest.approx([-(-row.tokens // (row.length + 1)) for row in own.itertuples()])


def test_the_loop_counts_the_passes_that_were_expected(measured):
    scores, loop = (pd.DataFrame(read_json(measured[1] / name)) for name in ("scores.json", "loop.json"))
    exact = scores[(scores.rule == "greedy") & (scores.length == 3)]
    counted = loop[(loop.rule == "greedy") & (loop.method == "chain")]
    both = exact.merge(counted, on=["draft", "prompt"])
    assert len(both) == 15
    assert (both.passes_x == both.passes_y).all() and (both.tokens_x == both.tokens_y).all()
    assert set(zip(loop.rule, loop.method, strict=True)) == {
        ("greedy", "chain"), ("drawn", "chain"), ("candidates", "chain"), ("greedy", "tree"), ("candidates", "tree"),
    }  # fmt: skip


def test_metrics_are_tokens_over_passes_at_the_first_length(measured):
    metrics, out = measured
    scores = pd.DataFrame(read_json(out / "scores.json"))
    for rule in ("greedy", "drawn", "candidates"):
        own = scores[(scores.draft == "small") & (scores.rule == rule) & (scores.length == 3)]
        assert metrics[f"small/tau_{rule}"] == pytest.approx(acceptance_length(own.tokens, own.passes))
    assert metrics["prompts"] == 5


def test_the_authors_terms_of_a_certain_outcome_are_theirs(measured):
    scores = pd.DataFrame(read_json(measured[1] / "scores.json"))
    greedy = scores[scores.rule == "greedy"]
    kept = greedy[greedy.passes >= 2]
    assert kept.authors_sum.to_list() == pytest.approx((kept.tokens / (kept.passes - 1)).to_list())
    assert greedy.authors_kept.to_list() == pytest.approx((greedy.passes >= 2).astype(float).to_list())


def test_time_is_measured_on_a_slower_target(inputs, tmp_path):
    recipe = replace(RECIPE, drafts=("own",), inputs=("causal",), folders=("own",), loop_prompts=1, tree_top=0,
                     tree_depth=0, tree_nodes=0, timed=True, extra_layers=6, max_new_tokens=5, samples=0)  # fmt: skip
    _, out = measure(tmp_path, inputs, recipe)
    speed = read_json(out / "speed.json")
    timings = pd.DataFrame(speed["timings"])
    assert set(timings.rule) == {"greedy", "drawn", "candidates"} and len(timings) == 3 * 4
    assert timings[timings.rule == "greedy"].tokens.nunique() == 1
    assert speed["costs"]["extra_layers"] == [6]
    assert speed["costs"]["target_pass"][0] > speed["costs"]["draft_step"][0]
    assert set(pd.DataFrame(read_json(out / "scores.json")).rule) == {"greedy"}  # no samples


def test_a_system_turn_is_put_before_the_prompt(inputs):
    with_it = draft_scores.read_prompts(replace(RECIPE, system_turn=True), inputs["prompts"])
    without = draft_scores.read_prompts(RECIPE, inputs["prompts"])
    assert [[{"role": "system", "content": ""}, *prompt] for prompt in without] == with_it
    assert all(prompt[-1]["role"] == "user" for prompt in without)
    assert len(draft_scores.read_prompts(replace(RECIPE, prompts=0), inputs["prompts"])) >= 5


def test_missing_inputs_and_prompts_are_named(inputs, tmp_path):
    def refused(message, recipe, name, **given):
        with pytest.raises(ValueError, match=message):
            measure(tmp_path / name, {**inputs, **given}, recipe)

    refused("exceed the model's 256 positions", replace(RECIPE, max_new_tokens=250), "room")
    write_text(tmp_path / "open/test.jsonl", '{"messages": [{"role": "user", "content": "hi"}]}\n')
    refused("none of 1 dialogues of 'test' ends with an answer", RECIPE, "open prompts", prompts=tmp_path / "open")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drafts": ()}, "drafts must be different names"),
        ({"folders": ("own",)}, "got 3 drafts, 3 inputs and 1 folders"),
        ({"split": "dev"}, "split must be one of train, test"),
        ({"lengths": ()}, "draft lengths of at least 1"),
        ({"temperature": 0.0}, "temperature of the sampled answers must be positive"),
        ({"loop_length": 0}, "loop_length must be at least 1"),
        ({"samples": -1}, "samples must not be negative"),
        ({"tree_top": 0}, "must all be 0"),
        ({"timed": True, "loop_prompts": 0}, "timed needs loop_prompts"),
        ({"device": "tpu"}, "device must be one of cpu, cuda"),
    ],
)
def test_impossible_recipes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **changes)
