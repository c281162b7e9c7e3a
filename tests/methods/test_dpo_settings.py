"""Every field of DPOConfig does on packed pairs what it does in TRL, or is refused by name when the trainer is made."""

import dataclasses
import inspect

import pytest
from trl import DPOConfig, DPOTrainer

from dpo_trainers import QUIET, farthest, losses, made, text_pairs, weights
from packed_models import packed_model
from zephyr_lab.methods import pair_trainer, shared_prompt_dpo
from zephyr_lab.methods.pair_trainer import PairLossTrainer
from zephyr_lab.methods.shared_prompt_dpo import SharedPromptDPOTrainer

# Fields that change the loss, the gradient or the steps, a group to a run beside TRL's with the same settings.
STEPS = {
    "one weight": {"loss_weights": [0.2]},
    "two losses": {"loss_type": ["sigmoid", "ipo"], "loss_weights": [0.3, 0.05]},
    "smoothing that sigmoid leaves out": {"label_smoothing": 0.2, "f_alpha_divergence_coef": 0.7, "discopop_tau": 0.1},
    "ipo": {"loss_type": ["ipo"], "beta": 0.2},
    "cut rows": {"max_length": 7, "truncation_mode": "keep_start", "pad_to_multiple_of": 4, "padding_free": True},
    "reference once": {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 3, "pad_token": "w0"},
    "moving reference": {"sync_ref_model": True, "ref_model_mixup_alpha": 0.5, "ref_model_sync_steps": 1},
    "adam": {
        "learning_rate": 3e-3, "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-3,
        "max_grad_norm": 0.3, "lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-4},
        "warmup_steps": 1, "optim": "adamw_torch",
    },
    "another optimizer": {"optim": "sgd", "optim_args": "momentum=0.5", "optim_target_modules": None},
    "accumulation": {
        "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "average_tokens_across_devices": False,
        "torch_empty_cache_steps": 1, "use_cache": True,
    },
    "order": {
        "seed": 7, "data_seed": 3, "num_train_epochs": 1, "max_steps": -1, "dataloader_drop_last": True,
        "per_device_train_batch_size": 3, "accelerator_config": {"use_seedable_sampler": False},
    },
    "as they lie": {"train_sampling_strategy": "sequential", "length_column_name": "size"},
    "loading": {
        "dataloader_num_workers": 1, "dataloader_prefetch_factor": 2, "dataloader_persistent_workers": True,
        "dataloader_in_order": True, "dataset_num_proc": 1, "dataloader_pin_memory": False,
        "dataloader_multiprocessing_context": "fork",
    },
    "evaluation": {
        "eval_strategy": "steps", "eval_steps": 1, "eval_delay": 1, "eval_on_start": True, "prediction_loss_only": True,
        "per_device_eval_batch_size": 3, "eval_accumulation_steps": 1, "eval_do_concat_batches": False,
        "eval_use_gather_object": False, "do_eval": True, "bf16_full_eval": False,
    },
    "metrics": {"include_for_metrics": ["loss"], "batch_eval_metrics": False, "label_names": ["input_ids"]},
    "saving": {
        "save_strategy": "steps", "save_steps": 1, "save_total_limit": 1, "save_only_model": True,
        "save_on_each_node": True, "load_best_model_at_end": True, "metric_for_best_model": "loss",
        "greater_is_better": False, "eval_strategy": "steps", "eval_steps": 1, "enable_jit_checkpoint": False,
    },
    "logging": {
        "logging_strategy": "steps", "logging_steps": 2, "logging_first_step": True, "log_on_each_node": False,
        "logging_nan_inf_filter": False, "include_num_input_tokens_seen": "all", "log_level": "error",
        "log_level_replica": "error", "disable_tqdm": True, "run_name": "a run", "skip_memory_metrics": False,
    },
    "what TRL leaves out": {"label_smoothing_factor": 0.1, "debug": [], "remove_unused_columns": True},
    "smaller batches": {"auto_find_batch_size": True, "do_train": True, "do_predict": True},
    "resuming": {"ignore_data_skip": True, "restore_callback_states_from_checkpoint": True, "full_determinism": False},
    "dropout stays off": {"disable_dropout": True, "trust_remote_code": False, "router_aux_loss_coef": None},
    "mixed precision": {"bf16": True},
}  # fmt: skip
ROUGH = {"mixed precision": 0.05}  # bfloat16 has three digits
REFUSED = {
    "ld_alpha": 0.5, "use_weighting": True, "f_divergence_type": "js_divergence", "activation_offloading": True,
    "torch_compile": True, "torch_compile_backend": "eager", "torch_compile_mode": "default", "use_liger_kernel": True,
    "fp16": True, "fp16_full_eval": True, "neftune_noise_alpha": 5.0, "gradient_checkpointing": True,
    "activation_checkpointing": True,
}  # fmt: skip
# Read by TRL, transformers or accelerate alone, and not tried here: reports, the hub, several processes, hardware, and
# what is without effect unless another setting is on. Proof: the trainer on packed pairs never reads one of them.
ELSEWHERE = {
    "output_dir", "report_to", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
    "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision",
    "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend",
    "ddp_timeout", "fsdp", "fsdp_config", "deepspeed", "parallelism_config", "local_rank", "tf32", "use_cpu",
    "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs", "liger_kernel_config", "model_init_kwargs",
    "resume_from_checkpoint",
}  # fmt: skip


def test_every_field_has_its_place():
    fields = {field.name for field in dataclasses.fields(DPOConfig)}
    tried = {name for group in STEPS.values() for name in group}
    assert not (tried & REFUSED.keys() or tried & ELSEWHERE or REFUSED.keys() & ELSEWHERE)
    assert fields == tried | REFUSED.keys() | ELSEWHERE


@pytest.mark.parametrize("group", STEPS)
def test_fields_do_what_they_do_in_trl(group, tmp_path):
    runs = []
    for kind in (DPOTrainer, SharedPromptDPOTrainer):
        trainer = made(kind, tmp_path / kind.__name__, changes=STEPS[group], eval_dataset=text_pairs(4))
        trainer.train()
        log = [{name: row[name] for name in sorted(row) if name in LOGGED} for row in trainer.state.log_history]
        runs.append((log, weights(trainer)))
    (theirs, their_weights), (ours, our_weights) = runs
    tolerance = ROUGH.get(group, 1e-4)
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=10 * tolerance, abs=tolerance)
    assert farthest(our_weights, their_weights) < tolerance
    assert farthest(our_weights, dict(packed_model("llama").named_parameters())) > 10 * tolerance or group in ROUGH


LOGGED = {
    "loss", "grad_norm", "learning_rate", "epoch", "step", "eval_loss", "eval_rewards/margins", "rewards/margins",
    "logps/chosen", "num_input_tokens_seen", "train_loss",
}  # fmt: skip


def test_a_weight_of_a_fifth_gives_a_fifth_of_the_loss(tmp_path):
    whole, fifth = (
        made(SharedPromptDPOTrainer, tmp_path, changes=changes) for changes in ({}, {"loss_weights": [0.2]})
    )
    for trainer in (whole, fifth):
        trainer.train()
    assert losses(fifth)[0] == pytest.approx(0.2 * losses(whole)[0], rel=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_field_is_named_when_the_trainer_is_made(name, tmp_path):
    says = {
        "torch_compile_backend": "torch_compile", "torch_compile_mode": "torch_compile",
        "activation_checkpointing": "gradient_checkpointing",
    }.get(name, name)  # fmt: skip
    given = {**QUIET, name: REFUSED[name]}
    if name == "activation_checkpointing":
        del given["gradient_checkpointing"]
    try:
        config = DPOConfig(output_dir=str(tmp_path), **given)
    except (ValueError, ImportError) as refusal:  # by transformers itself, which names what it lacks here
        pytest.skip(f"transformers refuses it on this machine: {refusal}")
    with pytest.raises(ValueError, match=rf"^no shared prompt: {says} .*train with StageDPOTrainer or TRL's own"):
        SharedPromptDPOTrainer(packed_model("llama"), args=config, train_dataset=text_pairs())


def test_fields_of_elsewhere_are_read_by_nothing_of_ours():
    source = inspect.getsource(shared_prompt_dpo) + inspect.getsource(pair_trainer)
    assert not [name for name in ELSEWHERE if f"args.{name}" in source or f"settings.{name}" in source]
    own = {**vars(PairLossTrainer), **vars(SharedPromptDPOTrainer)}
    overridden = {name for name in own if name in dir(DPOTrainer)} - {"__module__", "__doc__", "__annotations__"}
    assert overridden == {"__init__", "compute_ref_log_probs", "_prepare_dataset", "_compute_loss"}
    for name in ("compute_ref_log_probs", "_compute_loss"):  # of TRL's: what those read is tried, refused or not needed
        theirs = inspect.getsource(getattr(DPOTrainer, name))
        assert not [field for field in ELSEWHERE - {"gradient_checkpointing_kwargs"} if f"args.{field}" in theirs]
