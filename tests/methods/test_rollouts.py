"""Rollouts: the pairs' own prompts, log-probabilities token by token, and rewards that are the judge's."""

import json
from dataclasses import replace

import pytest
import torch

import rlhf_runs
import zephyr_runs
from tiny_models import small_model, small_tokenizer
from zephyr_lab.methods import rollouts
from zephyr_lab.methods.held_out_pairs import answer_log_probs
from zephyr_lab.methods.loop import drawn_places
from zephyr_lab.methods.rollouts import Answered
from zephyr_lab.methods.stages.rollouts import reward_for
from zephyr_lab.methods.stages.world_questions import JudgeReward, WorldQuestions
from zephyr_lab.models import saved
from zephyr_lab.world.judge import grade

PROMPTS, ANSWERS = [[5, 6, 7], [8], [9, 10]], [[11, 12], [13, 14, 15, 16], [17]]
ANSWERED = Answered([0, 1, 2], PROMPTS, ANSWERS, [True, False, True])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return rlhf_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def questions():
    return WorldQuestions.of_pairs(small_tokenizer(), world="tiny", prompts=40, seed=0)


def test_questions_are_the_prompts_of_the_pairs(inputs, questions):
    rows = [json.loads(line) for line in (inputs["pairs"] / "train.jsonl").read_text().splitlines()]
    asked = [prompt.messages for prompt in questions.prompts]
    assert len(rows) <= len(asked) == zephyr_runs.PAIRS.prompts
    assert all(row["chosen"][:-1] in asked for row in rows)


def test_a_rows_token_log_probs_sum_to_those_of_the_answer():
    model = small_model()
    found, mask = rollouts.token_log_probs(model, ANSWERED)
    assert found.sum(dim=1).tolist() == pytest.approx(answer_log_probs(model, PROMPTS, ANSWERS).tolist(), rel=1e-5)
    assert mask.sum(dim=1).tolist() == [2, 4, 1]
    assert (found[~mask] == 0).all()


def test_each_token_is_predicted_from_all_before_it():
    model = small_model()
    found, _ = rollouts.token_log_probs(model, ANSWERED)
    row = torch.tensor([[*PROMPTS[1], *ANSWERS[1]]])
    alone = model(input_ids=row).logits[0].log_softmax(-1)
    expected = [alone[place, token].item() for place, token in enumerate(ANSWERS[1])]  # one token stands before
    assert found[1].tolist() == pytest.approx(expected, rel=1e-4)


def test_other_rows_change_nothing():
    model = small_model()
    together, _ = rollouts.token_log_probs(model, ANSWERED)
    alone, _ = rollouts.token_log_probs(model, ANSWERED.subset([2]))
    assert alone[0, 0].item() == pytest.approx(together[2, 0].item(), rel=1e-5)


def test_scoring_in_parts_is_scoring_at_once(monkeypatch):
    model = small_model()
    whole = rollouts.scored(model, ANSWERED)
    monkeypatch.setattr(rollouts, "ROWS_AT_ONCE", 1)
    assert torch.allclose(rollouts.scored(model, ANSWERED), whole, rtol=1e-5)
    assert not whole.is_inference()


def test_the_judges_reward_is_its_exact_score(questions):
    answered = rollouts.answer(small_model(), questions.ids, [0, 3], max_new_tokens=6, seed=1)
    texts = rollouts.answer_texts(small_tokenizer(), answered)
    expected = [
        grade(questions.prompts[place].turn, text, ended=ended).exact
        for place, text, ended in zip([0, 3], texts, answered.finished, strict=True)
    ]
    assert JudgeReward(questions, small_tokenizer(), "quality")(answered) == expected


def test_the_seed_alone_decides_the_answers(questions):
    model = small_model()
    first, again, other = (
        rollouts.answer(model, questions.ids, [0, 1], max_new_tokens=6, seed=seed).answers for seed in (1, 1, 2)
    )
    assert first == again != other


def test_every_question_comes_once_before_one_comes_twice():
    rounds = drawn_places(6, rounds=4, at_once=3, seed=0)
    assert sorted(rounds[0] + rounds[1]) == sorted(rounds[2] + rounds[3]) == list(range(6))
    assert rounds[0] + rounds[1] != rounds[2] + rounds[3]


def test_a_learned_reward_needs_its_model(questions, inputs):
    with pytest.raises(ValueError, match="needs an input 'reward'"):
        reward_for(replace(rlhf_runs.RLOO, reward="learned"), questions, small_tokenizer(), inputs, torch.device("cpu"))


def test_the_saved_start_speaks_the_same_ids(inputs):
    assert len(saved.load_tokenizer(inputs["policy"])) == len(small_tokenizer())
