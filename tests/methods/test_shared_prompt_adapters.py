"""Adapters of every type that peft has: TRL's loss and TRL's weights after steps, or a refusal by name."""

import peft
import pytest
import torch
from peft import LoraConfig, PeftType, get_peft_model
from trl import DPOTrainer

from dpo_trainers import farthest, losses, made, weights
from packed_models import gradients, packed_model, plain_log_probs, random_pairs, worst_error
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.fast import pair_losses, shared_prompt
from zephyr_lab.losses.fast.pair_packing import pack
from zephyr_lab.losses.fast.supported import PEFT_TYPES
from zephyr_lab.methods.shared_prompt_dpo import SharedPromptDPOTrainer

TASK = {"task_type": "CAUSAL_LM"}
INTO = {"target_modules": ["q_proj", "down_proj"], **TASK}
USUAL = {
    "lora": lambda: LoraConfig(r=4, **INTO),
    "rslora": lambda: LoraConfig(r=4, use_rslora=True, **INTO),
    "dora": lambda: LoraConfig(r=4, use_dora=True, **INTO),
    "dropout that trl switches off": lambda: LoraConfig(r=4, lora_dropout=0.1, **INTO),
    "embedding and head kept whole": lambda: LoraConfig(r=4, modules_to_save=["embed_tokens", "lm_head"], **INTO),
    "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **TASK),
    "adalora": lambda: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, **INTO),
}
# Of each type that is said to be exact, a configuration whose adapter is not the identity.
EXACT = {
    "LORA": lambda: LoraConfig(r=4, init_lora_weights=False, **INTO),
    "ADALORA": lambda: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, init_lora_weights=False, **INTO),
    "IA3": lambda: peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], init_ia3_weights=False, **TASK
    ),
    "LOHA": lambda: peft.LoHaConfig(r=4, init_weights=False, **INTO),
    "LOKR": lambda: peft.LoKrConfig(r=4, init_weights=False, **INTO),
    "OFT": lambda: peft.OFTConfig(oft_block_size=4, init_weights=False, **INTO),
    "BOFT": lambda: peft.BOFTConfig(boft_block_size=4, init_weights=False, **INTO),
    "VERA": lambda: peft.VeraConfig(r=4, init_weights=False, target_modules=["q_proj"], **TASK),
    "FOURIERFT": lambda: peft.FourierFTConfig(n_frequency=20, init_weights=False, **INTO),
    "HRA": lambda: peft.HRAConfig(r=4, init_weights=False, **INTO),
    "LN_TUNING": lambda: peft.LNTuningConfig(target_modules=["input_layernorm"], **TASK),
    "VBLORA": lambda: peft.VBLoRAConfig(
        r=2, num_vectors=8, vector_length=4, topk=2, init_vector_bank_bound=0.5, **INTO
    ),
    "RANDLORA": lambda: peft.RandLoraConfig(r=4, init_weights=False, target_modules=["q_proj"], **TASK),
    "TRAINABLE_TOKENS": lambda: peft.TrainableTokensConfig(token_indices=[3, 4, 5], init_weights=False, **TASK),
    "SHIRA": lambda: peft.ShiraConfig(r=2, init_weights=False, **INTO),
    "C3A": lambda: peft.C3AConfig(block_size=4, init_weights=False, target_modules=["q_proj"], **TASK),
    "MISS": lambda: peft.MissConfig(r=4, init_weights=False, target_modules=["q_proj"], **TASK),
    "ROAD": lambda: peft.RoadConfig(group_size=4, init_weights=False, target_modules=["q_proj"], **TASK),
    "WAVEFT": lambda: peft.WaveFTConfig(n_frequency=20, init_weights=False, **INTO),
    "DELORA": lambda: peft.DeloraConfig(r=4, init_weights=False, **INTO),
    "GRALORA": lambda: peft.GraloraConfig(r=4, gralora_k=2, init_weights=False, **INTO),
}


@pytest.mark.parametrize("name", USUAL)
def test_without_a_ref_model_the_model_without_its_adapter_is_the_reference_as_in_trl(name, tmp_path):
    trainers = []
    for kind in (DPOTrainer, SharedPromptDPOTrainer):
        trainer = made(kind, tmp_path / kind.__name__, reference=None, peft_config=USUAL[name]())
        trainer.train()
        trainers.append(trainer)
    theirs, ours = trainers
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)
    assert losses(theirs)[0] != losses(theirs)[1]
    assert farthest(weights(ours), weights(theirs)) < 1e-4


@pytest.mark.parametrize("precompute", [False, True])
def test_a_trained_adapter_is_its_own_reference_by_trl_s_copy_of_it(precompute, tmp_path):
    found = []
    for kind in (DPOTrainer, SharedPromptDPOTrainer):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            policy = get_peft_model(packed_model("llama"), EXACT["LORA"]())
        trainer = made(
            kind, tmp_path / kind.__name__, reference=None, policy=policy,
            changes={"precompute_ref_log_probs": precompute},
        )  # fmt: skip
        trainer.train()
        found.append((losses(trainer), weights(trainer)))
    (theirs, their_weights), (ours, our_weights) = found
    assert ours[0] == pytest.approx(0.6931472, abs=1e-4)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert farthest(our_weights, their_weights) < 1e-4


@pytest.mark.parametrize("name", sorted(PEFT_TYPES))
def test_an_adapter_that_is_called_exact_has_the_gradient_of_plain_rows(name):
    pairs = random_pairs(3, count=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = get_peft_model(packed_model("llama"), EXACT[name]()).train()
        if name == "LN_TUNING":
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter.data += torch.randn(parameter.shape) / 4
        with torch.no_grad():
            reference = plain_log_probs(packed_model("llama", seed=1), pairs)
            without = plain_log_probs(packed_model("llama"), pairs)
            assert not torch.allclose(plain_log_probs(policy, pairs).chosen, without.chosen, atol=1e-3)
    expected = dpo_loss(plain_log_probs(policy, pairs), reference, beta=0.1).mean()
    found = shared_prompt.loss(policy, pack(pairs), reference, pair_losses.dpo(beta=0.1)).loss
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert worst_error(gradients(policy, found), gradients(policy, expected)) < 1e-4


def test_every_other_type_is_refused_by_its_name():
    types = {one.value for one in PeftType}
    assert types >= PEFT_TYPES
    for name in types - PEFT_TYPES:
        policy = packed_model("llama")
        policy.peft_config = {"default": type("Config", (), {"peft_type": PeftType(name)})()}
        with pytest.raises(ValueError, match=rf"adapters of type {name} are not known to change each token by itself"):
            shared_prompt.require_exact(policy)


@pytest.mark.parametrize(
    "config",
    [
        lambda: peft.PromptTuningConfig(num_virtual_tokens=3, **TASK),
        lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, **TASK),
        lambda: peft.PromptEncoderConfig(num_virtual_tokens=3, **TASK),
    ],
)
def test_prompt_learning_is_refused_when_the_trainer_is_made(config, tmp_path):
    with pytest.raises(ValueError, match=r"prompt learning puts tokens before every row; or use TRL's own path"):
        made(SharedPromptDPOTrainer, tmp_path, reference=None, peft_config=config())


def test_an_activated_lora_is_refused_when_the_trainer_is_made(tmp_path):
    with pytest.raises(ValueError, match=r"an activated LoRA \(aLoRA\)"):
        made(
            SharedPromptDPOTrainer, tmp_path, reference=None,
            peft_config=LoraConfig(alora_invocation_tokens=[3, 4], **INTO),
        )  # fmt: skip


def test_dropout_in_an_adapter_that_stays_on_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dropout is above 0"):
        made(
            SharedPromptDPOTrainer, tmp_path, reference=None, changes={"disable_dropout": False},
            peft_config=LoraConfig(lora_dropout=0.1, **INTO),
        )  # fmt: skip
