"""A tokenizer without a padding token, or with its end token for one, trains the same: padding goes by position."""

import copy
from dataclasses import replace

import pytest
import torch

import rlhf_runs
import zephyr_runs
from tiny_models import small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.methods import reward
from zephyr_lab.methods.examples import PairExample, read_pairs
from zephyr_lab.methods.stages import world_data
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved
from zephyr_runs import DDPO, DIALOGUES, DSFT, PAIRS, Stage

PADS = {"own": "<pad>", "none": None, "the end": "</s>"}


def padded_by(name):
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.pad_token = PADS[name]
    return tokenizer


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, build, recipe in (
        ("pairs", world_data.build_pairs, PAIRS),
        ("dialogues", world_data.build_dialogues, DIALOGUES),
    ):
        (folder / name).mkdir()
        build(recipe, seed=0, inputs={}, out=folder / name, context=None)
    zephyr_runs.save_start(folder / "own")
    model = saved.load_model(folder / "own")
    for name in ("none", "the end"):
        saved.save(model, padded_by(name), folder / name)
    return folder


@pytest.mark.parametrize(
    "recipe, other", [(DSFT, "none"), (DDPO, "none"), (replace(DDPO, shared_prompt=False), "the end")]
)
def test_what_is_trained_hangs_on_no_padding_token(inputs, tmp_path, recipe, other):
    found = {}
    for name in ("own", other):
        role = "base" if isinstance(recipe, type(DSFT)) else "policy"
        stage = Stage(tmp_path / name, {part: inputs / part for part in ("pairs", "dialogues")} | {role: inputs / name})
        stage.build(replace(recipe, epochs=1, evaluate_every=0))
        losses = [row["loss"] for row in read_json(stage.out / "log.json") if "loss" in row]
        found[name] = losses, saved.load_model(stage.out).state_dict()
    assert found[other][0] == found["own"][0]
    for ours, theirs in zip(found[other][1].values(), found["own"][1].values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", PADS)
def test_a_reward_is_read_off_the_end_of_an_answer_whatever_pads(inputs, tmp_path, name):
    tokenizer = saved.load_tokenizer(inputs / name)
    model = reward_models.from_causal(inputs / name, pad_id=tokenizer.pad_token_id)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    recipe = rlhf_runs.REWARD
    examples = {
        split: read_pairs(recipe, tokenizer, pair_rows(inputs / "pairs", split), name=split)[0]
        for split in (TRAIN, TEST)
    }
    trainer = reward.make_trainer(
        recipe, model, tokenizer, examples[TRAIN], examples[TEST], seed=0, folder=tmp_path
    )  # fmt: skip
    assert model.config.pad_token_id != tokenizer.eos_token_id
    model.eval()
    rows = [trainer.train_dataset[place] for place in range(4)]
    batch = trainer.data_collator(rows)
    theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    alone = [model.score(model.base_model(torch.tensor([row[side]])).last_hidden_state[0, -1]).item()
             for side in ("chosen_ids", "rejected_ids") for row in rows]  # fmt: skip
    assert theirs.tolist() == pytest.approx(alone, rel=1e-4, abs=1e-6)
    some = examples[TRAIN][:4]
    ours = reward_models.rewards(
        model, [one.prompt_ids for one in some], [one.chosen_ids for one in some], rows_at_once=4
    )
    assert ours.tolist() == pytest.approx(alone[:4], rel=1e-4, abs=1e-6)


def test_what_pads_is_an_id_that_no_row_holds():
    tokenizer = small_tokenizer()
    bare = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    padded = reward.padding_apart(bare, [PairExample([0, 1, 2], [3, 4], [6])])
    assert padded.pad_token_id == 5 and bare.pad_token is None
    with pytest.raises(ValueError, match="the rows use every id of the tokenizer"):
        reward.padding_apart(bare, [PairExample(list(range(len(bare))), [3], [4])])
