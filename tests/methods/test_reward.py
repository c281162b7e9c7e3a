"""The reward model starts undecided, has TRL's loss, reads the last token whatever the padding, and learns."""

import math
from dataclasses import replace

import pytest
import torch

import rlhf_runs
from rlhf_runs import Run
from zephyr_lab.core.files import read_json
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.losses.reward_model import centring_penalties, reward_model_loss
from zephyr_lab.methods import reward
from zephyr_lab.methods.examples import read_pairs
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved

PROMPTS, ANSWERS = [[7, 8, 9], [10], [11, 12]], [[13], [14, 15, 16, 17], [18, 19]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    made = rlhf_runs.make_inputs(tmp_path_factory.mktemp("inputs"))
    return {"start": made["policy"], "pairs": made["pairs"]}


@pytest.fixture(scope="module")
def built(inputs, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("reward"), "reward", inputs)
    return run, run.build(replace(rlhf_runs.REWARD, learning_rate=5e-3))


def test_a_fresh_one_gives_every_answer_0(inputs):
    model = reward_models.from_causal(inputs["start"], pad_id=0)
    assert reward_models.rewards(model, PROMPTS, ANSWERS, rows_at_once=2).tolist() == [0, 0, 0]


def test_it_learns_and_can_be_loaded(built):
    run, metrics = built
    assert metrics["steps"] == 10
    assert metrics["held_out_loss"] < math.log(2)
    log = read_json(run.out / "log.json")
    first = next(row for row in log if "loss" in row)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-3)  # undecided, but for the centring term
    model = reward_models.load(run.out)
    assert reward_models.rewards(model, PROMPTS, ANSWERS, rows_at_once=3).std() > 0


def test_rewards_are_the_librarys_and_hang_on_no_neighbour(built):
    model = reward_models.load(built[0].out)
    together = reward_models.rewards(model, PROMPTS, ANSWERS, rows_at_once=3)
    for place, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        with torch.inference_mode():
            own = model(input_ids=torch.tensor([prompt + answer])).logits.item()
        assert together[place].item() == pytest.approx(own, rel=1e-5)


def test_trls_loss_is_ours_with_the_centring_term(inputs, tmp_path):
    recipe = replace(rlhf_runs.REWARD, centring=0.3)
    tokenizer = saved.load_tokenizer(inputs["start"])
    model = reward_models.from_causal(inputs["start"], pad_id=tokenizer.pad_token_id)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    examples = {
        split: read_pairs(recipe, tokenizer, pair_rows(inputs["pairs"], split), name=split)[0]
        for split in (TRAIN, TEST)
    }
    trainer = reward.make_trainer(
        recipe, model, tokenizer, examples[TRAIN], examples[TEST], seed=0, folder=tmp_path
    )  # fmt: skip
    model.eval()
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(4)])
    theirs = trainer.compute_loss(model, batch)
    prompts = [one.prompt_ids for one in examples[TRAIN][:4]]
    sides = [[getattr(one, side) for one in examples[TRAIN][:4]] for side in ("chosen_ids", "rejected_ids")]
    rows = [trainer.train_dataset[place] for place in range(4)]
    assert [row["chosen_ids"] for row in rows] == [p + a for p, a in zip(prompts, sides[0], strict=True)]
    chosen, rejected = (reward_models.rewards(model, prompts, side, rows_at_once=4) for side in sides)
    ours = reward_model_loss(chosen, rejected) + 0.3 * centring_penalties(chosen, rejected)
    assert theirs.item() == pytest.approx(ours.mean().item(), rel=1e-5)


def test_fewer_pairs_are_the_first_ones(inputs, tmp_path):
    metrics = Run(tmp_path, "reward", inputs).build(replace(rlhf_runs.REWARD, pairs=8, epochs=1))
    assert (metrics["pairs"], metrics["steps"]) == (8, 1)


def test_a_folder_without_one_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no reward model"):
        reward_models.load(tmp_path)
