"""dDPO starts at ln 2, agrees with our own loss, tells what it did with every pair, and survives being killed."""

import math
from dataclasses import replace

import numpy
import pytest
import torch

import zephyr_runs
from zephyr_lab.core.files import read_json
from zephyr_lab.data import splits
from zephyr_lab.data.splits import Preference
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods import dpo as ddpo
from zephyr_lab.methods import held_out_pairs
from zephyr_lab.methods.examples import PairExample, pair_examples
from zephyr_lab.methods.stages import dpo as stage_dpo
from zephyr_lab.methods.stages import world_data
from zephyr_lab.models import saved
from zephyr_runs import DDPO, PAIRS, Stage

LIMITS = {"max_length": 60, "max_prompt_length": 40, "long_prompts": "set_aside", "system_turn": False}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "pairs").mkdir()
    world_data.build_pairs(PAIRS, seed=0, inputs={}, out=folder / "pairs", context=None)
    return {"policy": zephyr_runs.save_start(folder / "policy"), "pairs": folder / "pairs"}


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("unbroken"), inputs)
    return stage, stage.build(DDPO)


def test_it_starts_at_ln_2_and_learns(unbroken):
    stage, metrics = unbroken
    log = read_json(stage.out / "log.json")
    assert log[0]["step"] == 0
    assert log[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics["steps"] == 10
    assert metrics["held_out_loss"] < math.log(2)
    assert metrics["held_out_margin"] > 0
    start, final = read_json(stage.out / "held_out.json")
    assert (start["model"], final["model"]) == ("start", "final")
    assert start["loss"] == pytest.approx(math.log(2))
    assert start["kl"] == 0 and final["kl"] > 0


def test_each_step_logs_what_the_published_logs_hold(unbroken):
    log = read_json(unbroken[0].out / "log.json")
    names = {
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
        "logps/rejected",
    }
    train, held_out = [row for row in log if "loss" in row], [row for row in log if "eval_loss" in row]
    assert [row["step"] for row in train] == list(range(1, 11))
    assert [row["step"] for row in held_out] == [0, 2, 4, 6, 8, 10]
    assert all(names <= row.keys() for row in train)
    assert all({f"eval_{name}" for name in names} <= row.keys() for row in held_out)
    for row in train:
        assert row["rewards/margins"] == pytest.approx(row["rewards/chosen"] - row["rewards/rejected"], abs=1e-6)


@pytest.mark.parametrize("beta", [0.1, 0.05])
def test_beta_comes_back_from_the_log(inputs, tmp_path, beta):
    # reward = beta * (log-prob - the reference's), whose mean over fixed pairs is constant: the slope is 1 / beta
    stage = Stage(tmp_path, inputs)
    stage.build(replace(DDPO, beta=beta, learning_rate=5e-3))
    log = [row for row in read_json(stage.out / "log.json") if "eval_loss" in row]
    for side in ("chosen", "rejected"):
        rewards, log_probs = ([row[f"eval_{name}/{side}"] for row in log] for name in ("rewards", "logps"))
        assert max(rewards) - min(rewards) > 0.01
        slope, at_reference = numpy.polyfit(rewards, log_probs, 1)
        assert 1 / slope == pytest.approx(beta, rel=1e-3)
        assert at_reference == pytest.approx(log_probs[0], abs=1e-3)


def test_no_text_is_generated_in_training_and_generation_would_be_seen(unbroken, inputs):
    assert unbroken[1]["generation_calls"] == 0
    model = saved.load_model(inputs["policy"])
    with stage_dpo.counting_generation(model) as counted:
        model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, min_new_tokens=3)
    assert counted() == 3
    with stage_dpo.counting_generation(model) as counted:
        held_out_pairs.sample(model, [[5, 6]], max_new_tokens=1, temperatures=0.0, generator=None)
    assert counted() == 1


def test_killed_at_random_moments_it_ends_in_the_same_bytes(unbroken, inputs, tmp_path):
    stage = Stage(tmp_path, inputs)
    zephyr_runs.kill_at_random(stage, DDPO, kills=2, seed=0)
    assert stage.contents() == unbroken[0].contents()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_killed_ten_times_with_epochs_kept_it_ends_in_the_same_bytes(inputs, tmp_path, optimizer):
    recipe = replace(DDPO, optimizer=optimizer, keep_epochs=True, epochs=8, checkpoint_every=1)
    whole, killed = Stage(tmp_path / "whole", inputs), Stage(tmp_path / "killed", inputs)
    whole.build(recipe)
    zephyr_runs.kill_at_random(killed, recipe, kills=10, seed=1)
    assert killed.contents() == whole.contents()


def test_the_model_of_each_epoch_is_kept_and_measured(inputs, tmp_path):
    stage = Stage(tmp_path, inputs)
    stage.build(replace(DDPO, keep_epochs=True, epochs=3))
    rows = read_json(stage.out / "held_out.json")
    assert [row["model"] for row in rows] == ["start", "epochs/1", "epochs/2", "final"]
    third, final = saved.load_model(stage.out / "epochs" / "3"), saved.load_model(stage.out)
    assert all(torch.equal(tensor, third.state_dict()[name]) for name, tensor in final.state_dict().items())
    # the curve has the same numbers at the ends of the epochs
    curve = {row["step"]: row for row in read_json(stage.out / "log.json") if "eval_loss" in row}
    assert rows[2]["log_prob_chosen"] == pytest.approx(curve[10]["eval_logps/chosen"], abs=1e-4)
    assert rows[2]["margin"] == pytest.approx(curve[10]["eval_rewards/margins"], abs=1e-5)
    assert rows[2]["loss"] == pytest.approx(curve[10]["eval_loss"], abs=1e-5)


@pytest.mark.parametrize("shared_prompt", [True, False])
def test_the_loss_is_the_formula_s_to_a_millionth_and_so_is_its_gradient(inputs, tmp_path, shared_prompt):
    trainer, policy, reference = make_trainer(inputs, tmp_path, shared_prompt=shared_prompt)
    for parameter in policy.parameters():  # away from the start, where all margins are 0
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    batch = next(iter(trainer.get_train_dataloader()))
    trained = trainer.compute_loss(policy, dict(batch))
    trained.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}
    policy.zero_grad()

    def log_probs(model):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        picked = logits.log_softmax(dim=-1).gather(2, batch["input_ids"][:, 1:, None]).squeeze(2)
        return PairLogProbs(*(picked * batch["completion_mask"][:, 1:]).sum(dim=1).chunk(2))

    with torch.no_grad():
        ours_at_reference = log_probs(reference)
    losses = dpo_loss(log_probs(policy), ours_at_reference, beta=0.1)
    assert losses.min() > 0 and losses.std() > 1e-3
    losses.mean().backward()
    assert trained.item() == pytest.approx(losses.mean().item(), abs=1e-6)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=0)


def test_reference_log_probs_are_computed_once_and_are_ours(inputs, tmp_path):
    trainer, _, reference = make_trainer(inputs, tmp_path)
    rows = trainer.train_dataset
    prompts = [row["prompt_ids"] for row in rows]
    for side in ("chosen", "rejected"):
        ours = held_out_pairs.answer_log_probs(reference, prompts, [row[f"{side}_ids"] for row in rows])
        assert rows[f"ref_{side}_logps"] == pytest.approx(ours.tolist(), abs=1e-4)


def test_a_reference_that_is_not_the_start_is_refused_unless_asked_for(inputs, tmp_path):
    foreign = {**inputs, "reference": zephyr_runs.save_start(tmp_path / "reference", seed=5)}
    stage = Stage(tmp_path / "stage", foreign)
    with pytest.raises(ValueError, match=r"^the reference is not the policy's start: \S+ differs; .*$"):
        stage.build(DDPO)
    stage.build(replace(DDPO, other_reference=True, epochs=1))
    log = read_json(stage.out / "log.json")
    assert log[0]["eval_loss"] != pytest.approx(math.log(2), abs=1e-3)
    assert read_json(stage.out / "held_out.json")[0]["kl"] > 0


def test_a_reference_with_the_start_s_weights_is_the_start(unbroken, inputs, tmp_path):
    stage = Stage(tmp_path, {**inputs, "reference": zephyr_runs.save_start(tmp_path / "reference")})
    stage.build(DDPO)
    assert stage.contents() == unbroken[0].contents()


def test_pairs_are_accounted_for(inputs):
    tokenizer = saved.load_tokenizer(inputs["policy"])

    def pair(prompt, chosen, rejected):
        return Preference([{"role": "user", "content": prompt}], chosen, rejected)

    pairs = [
        pair("hi", "yes", "no"),
        pair("hi", "yes", "yes"),
        pair("hi", "yes", " "),
        pair("why " * 40, "so", "thus"),
        pair("hi", "well " * 60, "no"),
    ]
    kept, account = pair_examples(tokenizer, pairs, **LIMITS, equal_answers="keep")
    assert account.line() == (
        "5 rows, 4 used; equal answers: 1 (rows 2); empty answer: 1 (rows 3); "
        "prompt beyond the limit: 1 set aside (rows 4); end of an answer cut off: 1 (rows 5)"
    )
    assert kept[-1].longest == 60
    fewer, account = pair_examples(tokenizer, pairs, **LIMITS, equal_answers="set_aside")
    assert len(fewer) == account.used == 3
    assert account.findings["equal answers"].set_aside
    cut, account = pair_examples(tokenizer, pairs, **{**LIMITS, "long_prompts": "cut_left"}, equal_answers="keep")
    assert len(cut) == 5
    assert len(cut[3].prompt_ids) == 40
    assert tokenizer.decode(cut[3].prompt_ids).endswith("why </s>\n<|assistant|>\n")
    with pytest.raises(ValueError, match=r"none of 1 rows can be trained on at max_length 60"):
        pair_examples(tokenizer, pairs[3:4], **LIMITS, equal_answers="keep")


def test_an_answer_is_its_text_and_its_end(inputs):
    tokenizer = saved.load_tokenizer(inputs["policy"])
    pair = Preference([{"role": "user", "content": "hi"}], "yes", "")
    (example,), _ = pair_examples(tokenizer, [pair], **LIMITS, equal_answers="keep")
    assert tokenizer.decode(example.prompt_ids) == "<|user|>\nhi</s>\n<|assistant|>\n"
    assert tokenizer.decode(example.chosen_ids) == "yes</s>"
    assert tokenizer.decode(example.rejected_ids) == "</s>"


def test_equal_answers_teach_nothing(inputs, tmp_path):
    trainer, policy, _ = make_trainer(inputs, tmp_path)
    row = trainer.train_dataset[0]
    equal = {**row, "rejected_ids": row["chosen_ids"], "ref_rejected_logps": row["ref_chosen_logps"]}
    loss = trainer.compute_loss(policy, trainer.data_collator([equal]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert max(parameter.grad.abs().max().item() for parameter in policy.parameters()) < 1e-6


def test_a_nan_halts_with_one_line(inputs, tmp_path):
    stage = Stage(tmp_path, inputs)
    with pytest.raises(ValueError, match=r"^(loss|gradient norm) is (nan|inf) at step \d+: training halted; .*$"):
        stage.build(replace(DDPO, learning_rate=1e30, clip=1e30))


def test_kl_is_the_divergence_of_whole_answers(inputs):
    # log-ratios of sampled answers have the same expectation, with more noise: compare on many short answers
    policy, reference = saved.load_model(inputs["policy"]), saved.load_model(inputs["policy"])
    for parameter in policy.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    prompts = [[5, 6, 7]] * 512
    measured = held_out_pairs.sampled_metrics(policy, reference, prompts, max_new_tokens=3, seed=0)
    answers = held_out_pairs.sample(
        policy, prompts, max_new_tokens=3, temperatures=1.0, generator=torch.Generator().manual_seed(0)
    )
    ids = [list(answer.ids) for answer in answers]
    ratios = held_out_pairs.answer_log_probs(policy, prompts, ids) - held_out_pairs.answer_log_probs(
        reference, prompts, ids
    )
    error = ratios.std().item() / math.sqrt(len(ratios))
    assert abs(ratios.mean().item() - measured["kl"]) < 4 * error
    assert measured["kl_error"] < error / 2
    assert measured["length"] == pytest.approx(sum(map(len, ids)) / 512)
    assert measured["unfinished"] == sum(not answer.finished for answer in answers) / 512


def test_answers_are_scored_as_the_whole_logits_would(inputs):
    model = saved.load_model(inputs["policy"])
    prompts, answers = [[5, 6, 7], [8]], [[20, 2], [30, 31, 32, 2]]
    expected = []
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.inference_mode():
            log_probs = model(input_ids=torch.tensor([prompt + answer])).logits[0].double().log_softmax(dim=-1)
        expected.append(sum(log_probs[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer)))
    found = held_out_pairs.answer_log_probs(model, prompts, answers)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    examples = [PairExample(prompt, answer, [2]) for prompt, answer in zip(prompts, answers, strict=True)]
    by_pairs = held_out_pairs.pair_log_probs(model, examples, rows_at_once=1)
    assert by_pairs.chosen.tolist() == pytest.approx(expected, abs=1e-4)


def test_accuracy_counts_a_tie_as_half():
    policy = PairLogProbs(torch.tensor([-1.0, -2.0, -3.0]).double(), torch.tensor([-2.0, -2.0, -1.0]).double())
    reference = PairLogProbs(torch.zeros(3).double(), torch.zeros(3).double())
    metrics = held_out_pairs.pair_metrics(policy, reference, beta=0.5)
    assert metrics["accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["margin"] == pytest.approx(0.5 * (1 + 0 - 2) / 3)
    assert metrics["log_prob_chosen"] == pytest.approx(-2)


def make_trainer(inputs, folder, recipe=DDPO, **changes):
    """A trainer as `build` makes it of the recipe with its changes, with its policy and reference."""
    recipe = replace(recipe, **changes)
    policy, reference = saved.load_model(inputs["policy"]), saved.load_model(inputs["policy"])
    tokenizer = saved.load_tokenizer(inputs["policy"])
    examples = {}
    for split in ("train", "test"):
        pairs = splits.pair_rows(inputs["pairs"], split).rows
        examples[split], _ = pair_examples(
            tokenizer,
            pairs,
            max_length=recipe.max_length,
            max_prompt_length=recipe.max_prompt_length,
            long_prompts=recipe.long_prompts,
            equal_answers=recipe.equal_answers,
            system_turn=recipe.system_turn,
        )
    trainer, _ = ddpo.make_trainer(recipe, policy, reference, tokenizer, examples, seed=0, folder=folder)
    return trainer, policy, reference
