"""What a training costs: the meter around dSFT and dDPO."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

import zephyr_runs
from tiny_models import small_tokenizer
from zephyr_lab.data import splits
from zephyr_lab.methods import adapters
from zephyr_lab.methods.examples import pair_examples
from zephyr_lab.methods.recipes.training import LoRASFT
from zephyr_lab.methods.stages import metered as stage
from zephyr_lab.methods.stages import world_data
from zephyr_lab.models import saved
from zephyr_runs import DDPO, DIALOGUES, DSFT, PAIRS

SHORT = replace(DDPO, epochs=2, evaluate_every=0, sampled_prompts=1)


@pytest.mark.parametrize(("shared_prompt", "prompts"), [(True, 1), (False, 2)])
def test_a_shared_prompt_is_read_once(tmp_path, shared_prompt, prompts):
    for name in ("pairs", "out", "checkpoints"):
        (tmp_path / name).mkdir()
    world_data.build_pairs(PAIRS, seed=0, inputs={}, out=tmp_path / "pairs", context=None)
    pairs = splits.pair_rows(tmp_path / "pairs", splits.TRAIN).rows
    limits = {name: getattr(DDPO, name) for name in ("max_length", "max_prompt_length", "long_prompts")}
    examples, _ = pair_examples(small_tokenizer(), pairs, **limits, equal_answers="keep", system_turn=False)
    found = stage.build_ddpo(
        replace(SHORT, shared_prompt=shared_prompt),
        seed=0,
        inputs={"policy": zephyr_runs.save_start(tmp_path / "policy"), "pairs": tmp_path / "pairs"},
        out=tmp_path / "out",
        context=SimpleNamespace(checkpoints=tmp_path / "checkpoints", progress=lambda *steps, **numbers: None),
    )
    answers = sum(len(one.chosen_ids) + len(one.rejected_ids) for one in examples)
    expected = answers + prompts * sum(len(one.prompt_ids) for one in examples)
    assert found["tokens_scored"] == expected and found["tokens_trained"] == 2 * expected
    assert found["cpu_seconds"] > 0


def test_a_lora_arm_writes_the_merged_model_and_counts_what_it_trained(tmp_path):
    for name in ("dialogues", "out", "checkpoints"):
        (tmp_path / name).mkdir()
    world_data.build_dialogues(DIALOGUES, seed=0, inputs={}, out=tmp_path / "dialogues", context=None)
    start = zephyr_runs.save_start(tmp_path / "base")
    found = stage.build_lora(
        LoRASFT(**asdict(replace(DSFT, keep_epochs=False)), lora=2),
        seed=0,
        inputs={"base": start, "dialogues": tmp_path / "dialogues"},
        out=tmp_path / "out",
        context=SimpleNamespace(checkpoints=tmp_path / "checkpoints", progress=lambda *steps, **numbers: None),
    )
    before, after = (saved.load_model(folder) for folder in (start, tmp_path / "out"))
    linear = adapters.linear_layers(before)
    assert found["trained"] == 2 * sum(sum(before.get_submodule(name).weight.shape) for name in linear)
    moved = [name for name, one in before.named_parameters() if not torch.equal(one, after.get_parameter(name))]
    assert sorted(moved) == sorted(f"{name}.weight" for name in linear)
