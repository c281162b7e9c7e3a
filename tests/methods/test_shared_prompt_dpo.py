"""The trainer on packed pairs takes the steps that TRL's takes, logs under the same names and resumes as it does."""

from dataclasses import asdict, replace

import pytest
import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from trl import DPOConfig
from trl.kernels import chunked_logprob

import zephyr_runs
from tiny_models import small_tokenizer
from zephyr_lab.methods import dpo as ddpo
from zephyr_lab.methods import trl_adapters
from zephyr_lab.methods.examples import PairExample
from zephyr_lab.methods.pair_trainer import PlainPairTrainer, StageDPOTrainer
from zephyr_lab.methods.shared_prompt_dpo import StageSharedPromptDPOTrainer
from zephyr_lab.models import saved
from zephyr_runs import DDPO

# After twenty steps of 1e-3 each; the two add up their sums in different orders.
WEIGHT_TOLERANCE = 2e-4
PAIRS = [
    PairExample(
        [5, 6, 7, place + 8] * (1 + place % 3), [20 + place, 21, 2][place % 2 :], [60 + place, 3 + place, 41, 2]
    )
    for place in range(16)
]
RECIPE = replace(DDPO, epochs=10, batch=8, micro_batch=4, evaluate_every=10, checkpoint_every=6)


@pytest.fixture(autouse=True)
def untouched_library(monkeypatch):
    monkeypatch.setattr(trl_utils, "_use_triton", chunked_logprob._use_triton)


class Context:
    """Shows nothing; stops the run in a step, as a kill would, where it is told to."""

    def __init__(self, checkpoints, stop_at=None):
        self.checkpoints, self.stop_at = checkpoints, stop_at

    def progress(self, step, total, **numbers):
        if step == self.stop_at:
            raise KeyboardInterrupt


def trainer_of(kind, folder, *, policy=None, reference=None, **changes):
    start = zephyr_runs.save_start(folder / "start")
    rows = Dataset.from_list([asdict(pair) for pair in PAIRS])
    arguments = trl_adapters.trainer_arguments(
        RECIPE, device=torch.device("cpu"), seed=0, folder=folder / "run", held_out=16, measure_start=False
    )
    return kind(
        model=policy or saved.load_model(start),
        ref_model=reference or saved.load_model(zephyr_runs.save_start(folder / "reference", seed=1)),
        args=DPOConfig(**{**arguments, "max_length": None, "beta": 0.5, "precompute_ref_log_probs": True, **changes}),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=small_tokenizer(),
    )


def run(kind, folder, **changes):
    trainer = trainer_of(kind, folder, **changes)
    log = trl_adapters.run(trainer, Context(folder / "run"))
    return log, {name: one.detach().clone() for name, one in trainer.model.named_parameters()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return {
        kind: run(kind, tmp_path_factory.mktemp(kind.__name__))
        for kind in (StageDPOTrainer, StageSharedPromptDPOTrainer)
    }


def test_twenty_steps_have_trl_s_losses_and_end_at_its_weights(runs):
    (theirs, their_weights), (ours, our_weights) = runs[StageDPOTrainer], runs[StageSharedPromptDPOTrainer]
    losses = [[row["loss"] for row in log if "loss" in row] for log in (theirs, ours)]
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert max((our_weights[name] - one).abs().max().item() for name, one in their_weights.items()) < WEIGHT_TOLERANCE


def test_logs_have_trl_s_names_and_values(runs):
    (theirs, _), (ours, _) = runs[StageDPOTrainer], runs[StageSharedPromptDPOTrainer]
    assert [set(row) for row in ours] == [set(row) for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3)
    margins = [row["rewards/margins"] for row in ours if "rewards/margins" in row]
    assert min(margins) < 0 < max(margins)


def test_a_run_broken_off_and_resumed_ends_at_the_same_bytes(runs, tmp_path):
    broken = trainer_of(StageSharedPromptDPOTrainer, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trl_adapters.run(broken, Context(tmp_path / "run", stop_at=9))
    _, weights = run(StageSharedPromptDPOTrainer, tmp_path)
    assert all(torch.equal(weights[name], one) for name, one in runs[StageSharedPromptDPOTrainer][1].items())


@pytest.mark.parametrize("changes", [{"precompute_ref_log_probs": False}, {"loss_type": "ipo"}])
def test_the_reference_in_the_step_and_ipo_give_trl_s_loss(changes, tmp_path):
    losses = []
    for kind in (StageDPOTrainer, StageSharedPromptDPOTrainer):
        trainer = trainer_of(kind, tmp_path / kind.__name__, **changes)
        losses.append(trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader()))).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"loss_type": "hinge"}, r"loss_type must be one of sigmoid, ipo, got hinge; or train with StageDPOTrainer"),
        ({"gradient_checkpointing": True}, r"gradient_checkpointing would run layers again"),
        ({"use_weighting": True}, r"use_weighting must be False, got True"),
        ({"ld_alpha": 0.5}, r"ld_alpha must be None, got 0.5"),
        ({"f_divergence_type": "js_divergence"}, r"f_divergence_type must be reverse_kl"),
    ],
)
def test_settings_that_need_trl_s_own_path_are_refused(changes, reason, tmp_path):
    with pytest.raises(ValueError, match=rf"^no shared prompt: {reason}"):
        trainer_of(StageSharedPromptDPOTrainer, tmp_path, **changes)


def test_the_recipe_s_setting_chooses_the_path_and_both_end_alike(tmp_path):
    models = {}
    for shared_prompt, kind in ((True, StageSharedPromptDPOTrainer), (False, PlainPairTrainer)):
        start = zephyr_runs.save_start(tmp_path / str(shared_prompt) / "start")
        trainer, _ = ddpo.make_trainer(
            replace(RECIPE, shared_prompt=shared_prompt), saved.load_model(start), saved.load_model(start),
            small_tokenizer(), {"train": PAIRS, "test": PAIRS[:4]}, seed=0, folder=start.parent / "run",
        )  # fmt: skip
        assert type(trainer) is kind
        trl_adapters.run(trainer, Context(start.parent / "run"))
        models[shared_prompt] = trainer.model.state_dict()
    begun = saved.load_model(start).state_dict()
    assert max((models[True][name] - one).abs().max().item() for name, one in begun.items()) > 10 * WEIGHT_TOLERANCE
    worst = max((models[True][name] - one).abs().max().item() for name, one in models[False].items())
    assert worst < WEIGHT_TOLERANCE


def test_mixed_precision_as_on_a_gpu_is_as_close_as_its_digits(runs, tmp_path):
    """bfloat16 autocast by accelerate, which wraps the model's forward."""
    exact, _ = runs[StageSharedPromptDPOTrainer]
    rough, _ = run(StageSharedPromptDPOTrainer, tmp_path, bf16=True)
    losses = [[row["loss"] for row in log if "loss" in row] for log in (exact, rough)]
    assert losses[1] == pytest.approx(losses[0], abs=0.03)
    assert losses[1] != losses[0]
    assert not torch.is_autocast_enabled("cpu")  # what follows in this process is float32 again
