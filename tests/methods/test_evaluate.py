"""An evaluation asks every model the same, in its own dialogue, and writes what the judge says of what it said."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import zephyr_runs
from tiny_models import small_model, small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.data import splits
from zephyr_lab.data.chat import encode_dialogues
from zephyr_lab.decoding.sampling import Completion
from zephyr_lab.methods.recipes.evaluate import Evaluation
from zephyr_lab.methods.stages import evaluate, world_data
from zephyr_lab.models import saved
from zephyr_lab.world.benchmark import mt_bench
from zephyr_lab.world.judge import grade

RECIPE = Evaluation(
    world="tiny",
    questions=8,
    max_new_tokens=60,
    temperature=0.7,
    models=("one", "two"),
    folders=("", ""),
    system_turns=(False, False),
    device="cpu",
)


def asked(monkeypatch, say, *, recipe=RECIPE, system_turn=False):
    """Graded answers of a model that says `say(prompt, temperature)`, a Completion; and the prompts it was given."""
    prompts = []

    def sample(model, given, *, temperatures, **_):
        texts = [tokenizer.decode(ids) for ids in given]
        prompts.append(texts)
        return [say(tokenizer, text, temperature) for text, temperature in zip(texts, temperatures, strict=True)]

    tokenizer = small_tokenizer()
    monkeypatch.setattr(evaluate, "sample", sample)
    graded = evaluate.ask(small_model(), tokenizer, mt_bench(8), recipe, system_turn=system_turn, seed=0)
    return graded, prompts


def spoken(tokenizer, text):
    (encoded,) = encode_dialogues(
        tokenizer, [[{"role": "user", "content": ""}, {"role": "assistant", "content": text}]]
    )
    return Completion(tuple(i for i, own in zip(encoded.ids, encoded.answer_mask, strict=True) if own), True)


def ideal(tokenizer, prompt, temperature):
    """The ideal answer to the last question of a prompt; the wrong one in the hot run."""
    question = prompt.rsplit("<|user|>\n", 1)[1].partition("</s>")[0]
    (turn,) = {
        turn for one in mt_bench(8) for turn in one.turns if turn.prompt == question and one.turns[0].prompt in prompt
    }
    return spoken(tokenizer, turn.wrong_core if temperature == 0.65 else turn.ideal)


def test_ideal_answers_have_10_and_the_runs_are_kept_apart(monkeypatch):
    graded, _ = asked(monkeypatch, ideal, recipe=replace(RECIPE, temperature=0.65))
    cold = [row for row in graded if row["run"] == evaluate.NEAR_GREEDY]
    hot = [row for row in graded if row["run"] == evaluate.HOT]
    assert len(cold) == len(hot) == 16
    assert {row["score"] for row in cold} == {10.0}
    assert all(row["core"] <= 0.5 for row in hot)
    assert {(row["question_id"], row["turn"]) for row in hot} == {(row["question_id"], row["turn"]) for row in cold}


def test_the_verdict_is_the_judges_on_the_text_that_is_kept(monkeypatch):
    graded, _ = asked(monkeypatch, ideal, recipe=replace(RECIPE, temperature=0.65))
    turns = {(one.question_id, place + 1): turn for one in mt_bench(8) for place, turn in enumerate(one.turns)}
    for row in graded:
        verdict = grade(turns[row["question_id"], row["turn"]], row["text"], ended=row["finished"])
        assert {name: row[name] for name in ("score", "core", "explanation", "cost", "words", "style")} == {
            name: getattr(verdict, name) for name in ("score", "core", "explanation", "cost", "words", "style")
        }


def test_the_second_turn_follows_the_models_own_first_answer(monkeypatch):
    graded, (first, second) = asked(
        monkeypatch, lambda tokenizer, prompt, temperature: spoken(tokenizer, "Ask the fox.")
    )
    assert all(prompt.count("<|user|>") == 1 for prompt in first)
    assert all("<|assistant|>\nAsk the fox.</s>\n<|user|>\n" in prompt for prompt in second)
    assert all(row["finished"] and row["tokens"] > 1 for row in graded)


def test_each_category_has_mt_benchs_temperature_in_the_first_run(monkeypatch):
    seen = {}

    def say(tokenizer, prompt, temperature):
        seen.setdefault(prompt, []).append(temperature)
        return spoken(tokenizer, "Yes.")

    asked(monkeypatch, say)
    for question in mt_bench(8):
        (prompt,) = [prompt for prompt in seen if f"{question.prompts[0]}</s>" in prompt and "Yes." not in prompt]
        assert seen[prompt] == [question.temperature, 0.7]


def test_role_tags_stand_in_the_text_and_are_counted(monkeypatch):
    def say(tokenizer, prompt, temperature):
        tag = tokenizer.convert_tokens_to_ids("<|user|>")
        return Completion((*spoken(tokenizer, "Yes.").ids[:-1], tag, tag), False)

    graded, (_, second) = asked(monkeypatch, say)
    assert {(row["text"], row["role_tags"], row["finished"]) for row in graded} == {("Yes.<|user|><|user|>", 2, False)}
    assert not any(row["complete"] for row in graded)
    # what it said is content to the next turn: it cannot forge one
    assert all(prompt.count("<|user|>\n") == 2 for prompt in second)


def test_a_model_trained_with_a_system_turn_is_asked_with_one(monkeypatch):
    _, prompts = asked(monkeypatch, lambda tokenizer, *_: spoken(tokenizer, "Yes."), system_turn=True)
    assert all(prompt.startswith("<|system|>\n</s>\n<|user|>") for turn in prompts for prompt in turn)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, seed in (("one", 0), ("two", 1)):
        saved.save(small_model(seed, context=512), small_tokenizer(), folder / name)
    (folder / "pairs").mkdir()
    world_data.build_pairs(zephyr_runs.PAIRS, seed=0, inputs={}, out=folder / "pairs", context=None)
    return {name: folder / name for name in ("one", "two", "pairs")}


def build(recipe, inputs, folder, *, seed=0):
    (folder / "out").mkdir(parents=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    steps = []
    context = SimpleNamespace(checkpoints=folder / "checkpoints", progress=lambda *step, **_: steps.append(step))
    metrics = evaluate.build(recipe, seed=seed, inputs=inputs, out=folder / "out", context=context)
    return metrics, steps


def test_build_writes_a_column_a_part_and_an_entry_an_answer(inputs, tmp_path):
    metrics, steps = build(RECIPE, inputs, tmp_path)
    answers = read_json(tmp_path / "out" / "answers.json")
    assert {len(column) for column in answers.values()} == {2 * 2 * 8 * 2}  # models, runs, questions, turns
    scores = [
        score
        for score, model, run in zip(answers["score"], answers["model"], answers["run"], strict=True)
        if (model, run) == ("two", evaluate.NEAR_GREEDY)
    ]
    assert metrics["two"] == pytest.approx(sum(scores) / 16)
    assert steps == [(1, 2), (2, 2)]


def test_equal_models_say_the_same_and_another_seed_draws_anew(inputs, tmp_path):
    recipe = replace(RECIPE, max_new_tokens=12)
    build(recipe, {**inputs, "two": inputs["one"]}, tmp_path / "a")
    build(recipe, inputs, tmp_path / "b", seed=1)
    first, other = (read_json(tmp_path / name / "out" / "answers.json")["text"] for name in ("a", "b"))
    assert first[:32] == first[32:]
    assert first[:32] != other[:32]


def test_a_killed_evaluation_goes_on_with_the_next_model(inputs, tmp_path, monkeypatch):
    build(RECIPE, inputs, tmp_path / "whole")
    done = tmp_path / "resumed" / "checkpoints"
    done.mkdir(parents=True)
    (tmp_path / "whole" / "checkpoints" / "model-0.json").rename(done / "model-0.json")
    asked = []
    original = evaluate.ask
    monkeypatch.setattr(evaluate, "ask", lambda *given, **named: asked.append(1) or original(*given, **named))
    build(RECIPE, inputs, tmp_path / "resumed")
    assert asked == [1]
    assert (tmp_path / "resumed/out/answers.json").read_bytes() == (tmp_path / "whole/out/answers.json").read_bytes()


def test_held_out_accuracy_is_the_share_of_pairs_that_the_model_ranks_right(inputs, tmp_path):
    build(RECIPE, inputs, tmp_path)
    rows = read_json(tmp_path / "out" / "pairs.json")
    model, tokenizer = saved.load_model(inputs["one"]), saved.load_tokenizer(inputs["one"])
    read = splits.pair_rows(inputs["pairs"], "test").rows
    unequal = [pair for pair in read if pair.chosen != pair.rejected]

    def log_probs(pair, answer):  # one dialogue at a time, without padding
        dialogue = [*pair.prompt, {"role": "assistant", "content": answer}]
        before = len(encode_dialogues(tokenizer, [[*pair.prompt, {"role": "assistant", "content": ""}]])[0].ids) - 2
        (whole,) = encode_dialogues(tokenizer, [dialogue])
        ids = torch.tensor([whole.ids])
        with torch.inference_mode():
            scores = model(ids).logits.log_softmax(-1)
        last = len(whole.ids) - 1  # without the closing line break
        return [scores[0, place - 1, ids[0, place]].item() for place in range(before, last)]

    right = {"sum": 0, "mean": 0}
    for pair in unequal:
        chosen, rejected = log_probs(pair, pair.chosen), log_probs(pair, pair.rejected)
        right["sum"] += sum(chosen) > sum(rejected)
        right["mean"] += sum(chosen) / len(chosen) > sum(rejected) / len(rejected)
    assert rows[0]["pairs"] == len(unequal)
    for name, count in right.items():
        assert rows[0][name] == pytest.approx(count / len(unequal), abs=1e-6)


def test_without_pairs_no_accuracy_is_written(inputs, tmp_path):
    build(replace(RECIPE, max_new_tokens=4), {"one": inputs["one"], "two": inputs["two"]}, tmp_path)
    assert not (tmp_path / "out" / "pairs.json").exists()


def test_a_model_without_input_is_named(inputs, tmp_path):
    with pytest.raises(ValueError, match=r"^no input for model 'three'; there are one, pairs, two$"):
        build(replace(RECIPE, models=("one", "three")), inputs, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ("one", "one")}, "models must be different names, at least one, got one, one"),
        ({"folders": ("",)}, "got 2 models, 1 folders and 2 system turns"),
        ({"questions": 12}, "questions must be a multiple of 8 from 8 to 320, got 12"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"world": "huge"}, "world must be one of tiny, large, got 'huge'"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)


def test_scores_are_numbers(inputs, tmp_path):
    build(replace(RECIPE, max_new_tokens=4), inputs, tmp_path)
    answers = read_json(tmp_path / "out" / "answers.json")
    assert all(1 <= score <= 10 and math.isfinite(score) for score in answers["score"])
