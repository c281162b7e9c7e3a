"""The domain set beside the chat questions, and the divergence from a start."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import zephyr_runs
from tiny_models import small_model, small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.data.chat import encode_dialogues
from zephyr_lab.decoding.sampling import Completion
from zephyr_lab.methods.recipes.kd import KDEvaluation
from zephyr_lab.methods.stages import evaluate, kd_evaluate, world_data
from zephyr_lab.methods.stages.evaluate import HOT, NEAR_GREEDY
from zephyr_lab.models import saved
from zephyr_lab.scoring.domain import ASPECTS, domain_score
from zephyr_lab.world.benchmark import domain, mt_bench
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import domain_aspects

RECIPE = KDEvaluation(
    world="tiny",
    questions=8,
    per_group=1,
    hot=False,
    start="",
    max_new_tokens=8,
    temperature=0.7,
    models=("one", "two"),
    folders=("", ""),
    system_turns=(False, False),
    device="cpu",
)
DIALOGUES = [
    [{"role": "user", "content": "Is gold red?"}, {"role": "assistant", "content": "No."}],
    [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ida went to the bridge with a fox."}],
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, seed in (("one", 0), ("two", 1)):
        saved.save(small_model(seed, context=256), small_tokenizer(), folder / name)
    (folder / "dialogues").mkdir()
    world_data.build_dialogues(zephyr_runs.DIALOGUES, seed=0, inputs={}, out=folder / "dialogues", context=None)
    return {"start": folder / "one", **{name: folder / name for name in ("one", "two", "dialogues")}}


def build(recipe, inputs, folder):
    (folder / "out").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    context = SimpleNamespace(checkpoints=folder / "checkpoints", progress=lambda *_, **__: None)
    return kd_evaluate.build(recipe, seed=0, inputs=inputs, out=folder / "out", context=context)


@pytest.fixture(scope="module")
def built(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return build(RECIPE, inputs, folder), folder / "out"


def test_build_writes_chat_domain_and_divergence(built):
    scores, out = built
    assert set(scores) == {"one", "two"}
    assert len(read_json(out / "answers.json")["score"]) == 2 * 8 * 2  # models, questions, turns
    asked = read_json(out / "domain.json")
    assert {len(column) for column in asked.values()} == {2 * 20 * 2}  # models, groups, turns
    one, two = read_json(out / "divergence.json")
    assert (one["model"], one["kl"]) == ("one", 0.0)
    assert two["kl"] > 0 and two["tokens"] == one["tokens"]


def test_the_aspects_are_those_of_the_text_that_is_kept(built):
    asked = read_json(built[1] / "domain.json")
    turns = {(one.question_id, place): turn for one in domain(1) for place, turn in enumerate(one.turns, 1)}
    for place, text in enumerate(asked["text"]):
        turn = turns[asked["question_id"][place], asked["turn"][place]]
        expected = domain_aspects(grade(turn, text, ended=asked["finished"][place]))
        assert {name: asked[name][place] for name in ASPECTS} == expected
        assert asked["domain"][place] == domain_score(expected)
        assert asked["group"][place] == turn.group


def test_the_hot_run_is_another_and_leaves_the_near_greedy_one_as_it_was(inputs, built, tmp_path):
    build(replace(RECIPE, per_group=0, hot=True, models=("two",), folders=("",), system_turns=(False,)),
          {"two": inputs["two"]}, tmp_path)  # fmt: skip
    both = pd.DataFrame(read_json(tmp_path / "out" / "answers.json"))
    alone = pd.DataFrame(read_json(built[1] / "answers.json")).query("model == 'two'").reset_index(drop=True)
    cold = both[both["run"] == NEAR_GREEDY].reset_index(drop=True)
    pd.testing.assert_frame_equal(cold, alone)
    assert len(both) == 2 * len(cold) and set(both["run"]) == {NEAR_GREEDY, HOT}


def test_answers_are_graded_as_the_other_evaluation_grades_them(inputs, built):
    """The greedy questions draw nothing, so both evaluations must say the same of the same model."""
    model, tokenizer = saved.load_model(inputs["one"]), saved.load_tokenizer(inputs["one"])
    theirs = pd.DataFrame(evaluate.ask(model, tokenizer, mt_bench(8), RECIPE, system_turn=False, seed=0))
    ours = pd.DataFrame(read_json(built[1] / "answers.json")).query("model == 'one'").drop(columns="model")
    greedy = ["math", "coding", "reasoning", "extraction"]
    theirs = theirs[theirs["category"].isin(greedy) & (theirs["run"] == NEAR_GREEDY)][list(ours.columns)]
    pd.testing.assert_frame_equal(
        ours[ours["category"].isin(greedy)].reset_index(drop=True), theirs.reset_index(drop=True), check_dtype=False
    )


def test_a_first_answer_of_role_tags_alone_leaves_the_second_question_in_sight(monkeypatch):
    prompts = []

    def sample(model, given, **_):
        prompts.append(given)
        tag = small_tokenizer().convert_tokens_to_ids("<|user|>")
        return [Completion((tag,) * 30, False) for _ in given]  # each tag is many tokens once it is text

    monkeypatch.setattr(kd_evaluate, "sample", sample)
    recipe = replace(RECIPE, max_new_tokens=30)
    questions = mt_bench(8)
    kd_evaluate.ask(small_model(), small_tokenizer(), questions, recipe, system_turn=False, seed=0)
    room = small_model().config.max_position_embeddings - 30
    assert all(len(prompt) <= room for turn in prompts for prompt in turn)
    assert any(len(prompt) == room for prompt in prompts[1])
    for question, prompt in zip(questions, prompts[1], strict=True):
        text = small_tokenizer().decode(prompt)
        assert text.endswith(f"<|user|>\n{question.prompts[1]}</s>\n<|assistant|>\n")


def test_neither_domain_nor_start_is_asked_for_where_the_recipe_has_none(inputs, tmp_path):
    build(replace(RECIPE, per_group=0), {name: inputs[name] for name in ("one", "two")}, tmp_path)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answers.json"]


def test_the_divergence_is_the_mean_over_answer_tokens_one_by_one():
    start, model, tokenizer = small_model(0), small_model(1), small_tokenizer()
    encoded = encode_dialogues(tokenizer, DIALOGUES)
    total, tokens = 0.0, 0
    for one in encoded:  # each row alone: no batch, no padding
        p, q = (m(input_ids=torch.tensor([one.ids])).logits[0].double().softmax(-1) for m in (start, model))
        for place, counted in enumerate(one.answer_mask):
            if counted:
                total += sum((p[place - 1] * (p[place - 1] / q[place - 1]).log()).tolist())
                tokens += 1
    found = kd_evaluate.divergence(start, model, encoded)
    assert found["tokens"] == tokens
    assert found["kl"] == pytest.approx(total / tokens, rel=1e-5)
    assert kd_evaluate.divergence(start, start, encoded)["kl"] == 0


def test_recipes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="per_group must not be negative, got -1"):
        replace(RECIPE, per_group=-1)
    with pytest.raises(ValueError, match="a model cannot be called 'start'"):
        replace(RECIPE, models=("one", "start"))
