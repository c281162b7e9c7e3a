"""PPO, RLOO, GRPO and online DPO on anybody's model: their first losses and steps are a plain loop's."""

import copy
import math
import statistics

import pytest
import torch
from peft import LoraConfig, get_peft_model

import plain_steps
from plain_steps import FAMILIES, small
from tiny_models import small_tokenizer
from zephyr_lab.methods import rollouts
from zephyr_lab.methods.online_dpo import train_online_dpo
from zephyr_lab.methods.policy_gradient import train_grpo, train_policy_gradient, train_rloo
from zephyr_lab.methods.ppo import train_ppo
from zephyr_lab.models import reward as reward_models

TEXTS = ("Hi", "Name a city in the north.", "What is 2 + 3?", "One, two, three and then?")
PROMPTS = [{"prompt": text} for text in TEXTS]
ONE_STEP = {"steps": 1, "batch": 4, "max_new_tokens": 6, "learning_rate": 1e-3, "final_share": 1.0}
METHODS = {"ppo": train_ppo, "rloo": train_rloo, "grpo": train_grpo, "online": train_online_dpo}


def quiet(*_, **__):
    """No bar."""


class Recorded:
    """A reward that keeps the answers it was asked about: the number of even ids, and a little by place."""

    def __call__(self, answered):
        self.answered = answered
        self.values = [sum(1.0 - id_ % 2 for id_ in ids) + 0.01 * row for row, ids in enumerate(answered.answers)]
        return self.values


def train(method, model, reward, **settings):
    settings = {**ONE_STEP, "progress": quiet, **settings}
    return METHODS[method](model, small_tokenizer(), PROMPTS, reward=reward, **settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_ppo_starts_at_ratio_1_and_the_loss_of_its_values_alone(family):
    model = small(family, **({"resid_pdrop": 0.2, "attn_pdrop": 0.2} if family == "gpt2" else {}))
    reward = Recorded()
    log = train("ppo", model, reward, passes=1, samples=2, value_weight=0.3, trace_decay=0.9)
    # ratio 1: the surrogate is minus the mean of whitened advantages, 0; values are 0 still, so the loss is the
    # weighted half square of the returns: the centred reward, decayed from the last token on
    mean = statistics.mean(reward.values)
    returns = [
        (value - mean) * 0.9**place
        for value, ids in zip(reward.values, reward.answered.answers, strict=True)
        for place in range(len(ids))
    ]
    expected = 0.3 * statistics.mean(one**2 / 2 for one in returns)
    assert log["loss"].tolist() == [pytest.approx(expected, rel=1e-4)]
    assert log["kl"].tolist() == [pytest.approx(0.0, abs=1e-4)]
    assert log["reward"].tolist() == [pytest.approx(mean)]
    assert not model.training
    if family == "gpt2":
        assert model.transformer.h[0].attn.resid_dropout.p == 0.2


def advantages_of(method, rewards):
    """By brute force, in groups of three."""
    found = []
    for first in range(0, len(rewards), 3):
        group = rewards[first : first + 3]
        for place, own in enumerate(group):
            if method == "rloo":
                found.append(own - statistics.mean(group[:place] + group[place + 1 :]))
            else:
                found.append((own - statistics.mean(group)) / (statistics.stdev(group) + 1e-4))
    return found


@pytest.mark.parametrize(
    ("method", "family"), [("rloo", "llama"), ("rloo", "gpt2"), ("grpo", "qwen2"), ("grpo", "gemma"), ("grpo", "gpt2")]
)
def test_a_step_of_rloo_and_grpo_is_a_plain_loops(method, family):
    model, reward = small(family), Recorded()
    start = copy.deepcopy(model)
    log = train(method, model, reward, samples=3)
    answered, advantages = reward.answered, advantages_of(method, reward.values)
    rows = list(zip(answered.prompts, answered.answers, advantages, strict=True))

    def loss(plain):
        # the gradient of ratio * A at ratio 1; RLOO by whole answers, GRPO by the mean of an answer's tokens
        found = [-weight * plain_steps.token_log_probs(plain, prompt, ids) for prompt, ids, weight in rows]
        return torch.stack([one.sum() if method == "rloo" else one.mean() for one in found]).mean()

    expected, _, clear = plain_steps.step(start, loss, learning_rate=1e-3)
    assert log["loss"].tolist() == [pytest.approx(-statistics.mean(advantages), abs=1e-4)]  # at ratio 1
    plain_steps.require_same(model, expected, clear, tolerance=5e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_online_dpo_is_a_plain_loops(family):
    model, reward = small(family), Recorded()
    start = copy.deepcopy(model)
    log = train("online", model, reward, beta=0.2)
    answered, values = reward.answered, reward.values
    pairs = [(row, row + 1) if values[row] > values[row + 1] else (row + 1, row) for row in range(0, len(values), 2)]
    reference = plain_steps.answer_log_probs(start, answered.prompts, answered.answers).detach()

    def loss(plain):
        ratios = plain_steps.answer_log_probs(plain, answered.prompts, answered.answers) - reference
        return torch.stack([-(0.2 * (ratios[won] - ratios[lost])).sigmoid().log() for won, lost in pairs]).mean()

    expected, _, clear = plain_steps.step(start, loss, learning_rate=1e-3)
    assert log["loss"].tolist() == [pytest.approx(math.log(2), abs=1e-4)]
    plain_steps.require_same(model, expected, clear, tolerance=5e-5)


def test_answers_worth_the_same_teach_nothing():
    log = train("online", small("llama"), lambda prompts, answers: [1.0] * len(answers))
    assert log["loss"].tolist() == [0.0] and log["tied"].tolist() == [1.0]


def test_a_function_of_ones_own_takes_the_place_of_the_advantages():
    model, reward = small("llama"), Recorded()
    start = copy.deepcopy(model)
    settings = {**ONE_STEP, "samples": 2, "progress": quiet, "reward": reward}
    train_policy_gradient(
        model, small_tokenizer(), PROMPTS, advantages=lambda rewards: torch.zeros_like(rewards), **settings
    )
    assert all(torch.equal(*both) for both in zip(model.parameters(), start.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"advantages must be finite, shape \(4, 2\) .* got shape \(4,\)"):
        train_policy_gradient(
            model, small_tokenizer(), PROMPTS, advantages=lambda rewards: rewards.mean(dim=1), **settings
        )


@pytest.mark.parametrize("method", METHODS)
def test_adapters_learn_and_the_model_without_them_is_the_reference(method):
    torch.manual_seed(0)
    model = get_peft_model(small("llama"), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    log = train(method, model, Recorded(), steps=2, samples=2)
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert set(model.peft_config) == {"default"}
    if "kl" in log:
        assert log["kl"].iloc[0] == pytest.approx(0.0, abs=1e-5) and abs(log["kl"].iloc[1]) > 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_bfloat16_trains_and_stays_so(method):
    model = small("llama").bfloat16()
    before = model.lm_head.weight.clone()
    log = train(method, model, Recorded(), samples=2, learning_rate=1e-2)
    assert math.isfinite(log["loss"][0]) and model.dtype == torch.bfloat16
    assert not torch.equal(model.lm_head.weight, before)


def test_a_reference_in_memory_is_taken_as_it_is():
    # one that is not the start: RLOO's rewards lose beta * log-ratio, and the log shows it
    model, other, reward = small("gpt2"), small("gpt2", seed=1), Recorded()
    start = copy.deepcopy(model)
    log = train("rloo", model, reward, samples=2, reference=other)
    rows = (reward.answered.prompts, reward.answered.answers)
    ratios = plain_steps.answer_log_probs(start, *rows) - plain_steps.answer_log_probs(other, *rows)
    tokens = reward.answered.tokens
    assert log.attrs["trainer"][0]["kl"] == pytest.approx(ratios.sum().item() / tokens, rel=1e-3)


@pytest.mark.parametrize("method", ["rloo", "online"])
@pytest.mark.parametrize(
    ("reward", "problem"),
    [
        (lambda prompts, answers: [1.0], r"reward gave 1 numbers for \d+ answers at step 0"),
        (lambda prompts, answers: [math.nan] * len(answers), "reward is nan at step 0: training halted; .*answer 1 of"),
        (lambda prompts, answers: [None] * len(answers), "reward is None at step 0: training halted"),
    ],
)
def test_a_reward_that_is_no_number_an_answer_is_refused(method, reward, problem):
    with pytest.raises(ValueError, match=problem):
        train(method, small("llama"), reward, samples=2)


def test_a_reward_sees_prompts_as_given_and_answers_without_their_end():
    seen = {}

    def reward(prompts, answers):
        seen.update(prompts=prompts, answers=answers)
        return [float(len(one)) for one in answers]

    train("online", small("llama"), reward)
    assert sorted(set(seen["prompts"])) == sorted(TEXTS)
    assert not any("</s>" in one for one in seen["answers"])


def test_a_reward_model_scores_the_policys_own_ids():
    model, other = small("llama"), small("qwen2")
    judge = reward_models.of_causal(other)
    torch.nn.init.normal_(judge.score.weight, generator=torch.Generator().manual_seed(0))
    asked = rollouts.learned_reward(judge, small_tokenizer())
    given = rollouts.Answered([0, 1], [[5, 6], [7]], [[8, 2], [9, 10, 11]], [True, False])
    expected = [judge(input_ids=torch.tensor([row])).logits.item() for row in ([5, 6, 8, 2], [7, 9, 10, 11])]
    assert asked.of(given, 0) == pytest.approx(expected, rel=1e-5)
    log = train("rloo", model, judge, samples=2)
    assert log["reward"].notna().all() and log["tokens_scored"].iloc[0] > 2 * log["tokens_trained"].iloc[0]


@pytest.mark.parametrize("reward", [3.0, lambda: 0, lambda a, b, c: 0])
def test_what_is_no_reward_is_refused(reward):
    with pytest.raises(TypeError, match=r"write reward\(prompts, answers\)"):
        train("ppo", small("llama"), reward)


def test_a_causal_model_is_no_reward_model():
    with pytest.raises(ValueError, match=r"a reward model gives one number a text \(num_labels=1\)"):
        train("ppo", small("llama"), small("qwen2"))


def test_bad_prompts_are_named_and_the_rest_trains(capsys):
    rows = [{"prompt": ""}, *PROMPTS, {"prompt": "long " * 200}]
    log = train_online_dpo(
        small("llama"), small_tokenizer(), rows, reward=Recorded(), progress=quiet, **ONE_STEP
    )  # fmt: skip
    assert len(log) == 1
    said = capsys.readouterr().out
    assert "1 unusable rows; 5 rows, 4 used" in said and "row 1, column prompt" in said
    assert "no room for an answer behind the prompt: 1 set aside (rows 6)" in said
    assert log.attrs["rows"]["train"]["used"] == 4


def test_too_few_prompts_for_a_batch_are_refused():
    with pytest.raises(ValueError, match="batch must be at most the number of usable prompts, got 5"):
        train("rloo", small("llama"), Recorded(), batch=5, samples=2)


@pytest.mark.parametrize("method", ["ppo", "rloo"])
def test_broken_off_and_resumed_it_ends_as_unbroken(method, tmp_path):
    settings = {"steps": 4, "batch": 2, "samples": 2, "max_new_tokens": 3, "checkpoint_every": 1}

    def stop(step, of, **numbers):
        if step == of:  # amid the second pass over the prompts
            raise KeyboardInterrupt

    whole, resumed = small("llama"), small("llama")
    log = train(method, whole, Recorded(), **settings)
    with pytest.raises(KeyboardInterrupt):
        train(method, small("llama"), Recorded(), checkpoints=tmp_path, **{**settings, "progress": stop})
    again = train(method, resumed, Recorded(), checkpoints=tmp_path, **settings)
    assert again["loss"].tolist() == log["loss"].tolist() and again["reward"].tolist() == log["reward"].tolist()
    assert all(torch.equal(*both) for both in zip(whole.parameters(), resumed.parameters(), strict=True))
