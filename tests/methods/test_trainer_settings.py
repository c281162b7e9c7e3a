"""The trainer gets it: each field of DPO's and of SFT's settings shows in the trainer, its optimiser or its rows."""

import dataclasses
import json

import pytest

from any_models import any_model, dialogue_rows, message, pair_rows
from tiny_models import small_tokenizer
from zephyr_lab.data import splits
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods import dpo, sft
from zephyr_lab.methods.examples import read_dialogues, read_pairs
from zephyr_lab.methods.recipes.pairs import DPO
from zephyr_lab.methods.recipes.training import SFT

SHARED = {"batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "checkpoint_every": 4}
OTHERS = {
    "epochs": 2, "batch": 4, "micro_batch": 2, "learning_rate": 2e-3, "warmup": 0.5, "optimizer": "muon",
    "weight_decay": 0.1, "clip": 0.5, "system_turn": True, "log_every": 2, "evaluate_every": 1, "checkpoint_every": 8,
}  # fmt: skip
NOT_COMPARED = ("output_dir", "logging_dir", "run_name")


def fingerprint(trainer, examples):
    """What a training is made of, but for the model: arguments, optimiser, rows, kind and first loss."""
    trainer.create_optimizer()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    groups = [{k: str(v) for k, v in group.items() if k != "params"} for group in trainer.optimizer.param_groups]
    return {
        "arguments": {k: str(v) for k, v in trainer.args.to_dict().items() if k not in NOT_COMPARED},
        "optimizer": (type(trainer.optimizer).__name__, json.dumps(groups)),
        "rows": {split: [dataclasses.asdict(one) for one in found] for split, found in examples.items()},
        "kind": type(trainer).__name__,
        "loss": float(trainer.compute_loss(trainer.model, batch)),
    }


def of_dpo(folder, **changes):
    rows = pair_rows(8)
    rows.append({**rows[0], "rejected": rows[0]["chosen"]})  # equal answers
    rows += [{**rows[0], "prompt": [message("user", "Hi")]}] * 4  # a prompt that fits
    settings = {**SHARED, "max_length": 60, "max_prompt_length": CUT_PROMPTS, **changes}
    recipe, tokenizer = DPO(**settings), small_tokenizer()
    found = splits.pairs(rows)
    examples = {split: read_pairs(recipe, tokenizer, found)[0] for split in (TRAIN, TEST)}
    policy, other = any_model("llama", seed=1), any_model("llama", seed=2)  # so that margins are not all 0
    trainer, _ = dpo.make_trainer(recipe, policy, other, tokenizer, examples, seed=0, folder=folder)
    return fingerprint(trainer, examples)


def of_sft(folder, **changes):
    recipe, tokenizer = SFT(**{**SHARED, "max_length": 60, **changes}), small_tokenizer()
    found = splits.dialogues(dialogue_rows(8))
    examples = {split: read_dialogues(recipe, tokenizer, found)[0] for split in (TRAIN, TEST)}
    trainer = sft.make_trainer(recipe, any_model("llama", seed=1), tokenizer, examples, seed=0, folder=folder)
    return fingerprint(trainer, examples)


CUT_PROMPTS = 12  # tokens: some prompts are longer
OF_DPO = {
    **OTHERS, "schedule": "cosine", "max_length": 20, "beta": 0.7, "max_prompt_length": 10, "long_prompts": "set_aside",
    "equal_answers": "keep", "shared_prompt": False,
}  # fmt: skip
OF_SFT = {**OTHERS, "schedule": "linear", "max_length": 20, "answers_only": False, "packed": True}


@pytest.mark.parametrize(("make", "settings", "others"), [(of_dpo, DPO, OF_DPO), (of_sft, SFT, OF_SFT)])
def test_each_field_of_the_settings_reaches_the_trainer(make, settings, others, tmp_path):
    assert {field.name for field in dataclasses.fields(settings)} == set(others)
    plain = make(tmp_path)
    assert make(tmp_path) == plain  # nothing else differs from one to the next
    assert [name for name, value in others.items() if make(tmp_path, **{name: value}) == plain] == []


def test_beta_is_in_the_loss_and_not_in_the_arguments_alone(tmp_path):
    assert of_dpo(tmp_path, beta=0.7)["loss"] != of_dpo(tmp_path)["loss"]
