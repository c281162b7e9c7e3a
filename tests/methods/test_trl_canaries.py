"""Canaries: silent faults of the installed TRL and transformers, each with the guard of ours that answers it.

For each there are two sides: what the library does when left alone, which fails here once a release mends it, and our
guard, which fails here once somebody takes it away.
"""

import copy
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from transformers.trainer_utils import get_last_checkpoint
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.kernels import chunked_logprob

import zephyr_runs
from tiny_models import small_model, small_tokenizer
from zephyr_lab.methods import dpo as ddpo
from zephyr_lab.methods import loop, process, trl_adapters
from zephyr_lab.methods import sft as dsft
from zephyr_lab.methods.examples import IGNORED, DialogueExample, PairExample
from zephyr_lab.models import saved
from zephyr_runs import DDPO, DSFT, Stage

QUIET = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "per_device_train_batch_size": 4,
    "max_steps": 2,
    "save_strategy": "no",
    "learning_rate": 1e-2,
}
PAIRS = [PairExample([5, 6, 7, place + 8], [20 + place, 2], [40 + place, 41, 2]) for place in range(8)]
DIALOGUES = [
    DialogueExample([5, 6, 7 + place, 20, 21 + place, 2], [IGNORED] * 3 + [20, 21 + place, 2]) for place in range(8)
]
TEXT_PAIRS = [{"prompt": "why?", "chosen": f"so {place}", "rejected": "no"} for place in range(8)]


@pytest.fixture(autouse=True)
def untouched_library(monkeypatch):
    """TRL as it was imported; what a test switches in it is switched back."""
    monkeypatch.setattr(trl_utils, "_use_triton", chunked_logprob._use_triton)


@pytest.fixture
def start(tmp_path):
    return zephyr_runs.save_start(tmp_path / "start")


def raw_sft(model, rows, folder, **changes):
    config = SFTConfig(output_dir=str(folder), **{**QUIET, "max_length": None, **changes})
    return SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=small_tokenizer())


def raw_dpo(model, rows, folder, *, reference=None, **changes):
    config = DPOConfig(output_dir=str(folder), **{**QUIET, **changes})
    return DPOTrainer(
        model=model, ref_model=reference, args=config, train_dataset=rows, processing_class=small_tokenizer()
    )


def our_dpo(policy, reference, folder, recipe=DDPO):
    trainer, _ = ddpo.make_trainer(
        recipe, policy, reference, small_tokenizer(), {"train": PAIRS, "test": PAIRS[:4]}, seed=0, folder=folder
    )
    return trainer


def our_sft(model, folder, recipe=DSFT, train=DIALOGUES):
    return dsft.make_trainer(
        recipe, model, small_tokenizer(), {"train": train, "test": DIALOGUES[:4]}, seed=0, folder=folder
    )


def dialogues(examples=DIALOGUES):
    return Dataset.from_list([asdict(example) for example in examples])


class Nothing:
    """A context that shows nothing."""

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints

    def progress(self, *steps, **numbers) -> None:
        pass


# --- T1: the reference is read from disk again ------------------------------------------------------------------------


def test_t1_left_alone_the_trainer_rereads_the_reference_from_disk(start, tmp_path):
    policy = saved.load_model(start)
    policy.lm_head.weight.data.mul_(1.5)  # changed in memory, not on disk
    trainer = raw_dpo(policy, Dataset.from_list(TEXT_PAIRS), tmp_path)
    assert not torch.equal(trainer.ref_model.lm_head.weight, policy.lm_head.weight)
    loss = trainer.compute_loss(policy, next(iter(trainer.get_train_dataloader())))
    assert loss.item() != pytest.approx(math.log(2), abs=1e-3)


def test_t1_guard_the_reference_is_the_one_handed_over(start, tmp_path):
    policy, reference = saved.load_model(start), saved.load_model(start)
    for model in (policy, reference):
        model.lm_head.weight.data.mul_(1.5)
    trainer = our_dpo(policy, reference, tmp_path)
    assert trainer.ref_model is reference
    loss = trainer.compute_loss(policy, next(iter(trainer.get_train_dataloader())))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-5)


def test_t1_guard_a_start_away_from_ln_2_halts(start, tmp_path):
    policy, reference = saved.load_model(start), saved.load_model(start)
    reference.lm_head.weight.data.mul_(1.5)
    trainer = our_dpo(policy, reference, tmp_path / "trainer")
    with pytest.raises(ValueError, match=r"^DPO's loss before the first step is \d\.\d+ instead of ln 2 = 0\.693147"):
        trl_adapters.run(trainer, Nothing(tmp_path), callbacks=[ddpo.StartsAtLn2(1e-4)])


# --- T2: a copy of a trained model runs the original's weights --------------------------------------------------------


def zeroed_copy_differs(model):
    ids = torch.tensor([[5, 6, 7]])
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.data.zero_()
    with torch.inference_mode():
        return not torch.equal(twin(input_ids=ids).logits, model(input_ids=ids).logits)


def test_t2_left_alone_a_copy_runs_the_original_s_weights(tmp_path):
    model = small_model()
    raw_sft(model, dialogues(), tmp_path)
    assert not zeroed_copy_differs(model)


def test_t2_guard_after_a_run_the_model_s_forward_is_its_own(tmp_path):
    model = small_model()
    trl_adapters.run(our_sft(model, tmp_path / "trainer"), Nothing(tmp_path))
    assert zeroed_copy_differs(model)


# --- T8: rows are dropped in silence ----------------------------------------------------------------------------------


def test_t8_left_alone_rows_without_a_label_within_the_limit_vanish(tmp_path):
    assert len(raw_sft(small_model(), dialogues(), tmp_path, max_length=3).train_dataset) == 0
    long = [{"prompt": "why " * 200, "chosen": "so", "rejected": "no"}, *TEXT_PAIRS]
    trainer = raw_dpo(small_model(), Dataset.from_list(long), tmp_path, reference=small_model(), max_length=60)
    assert len(trainer.train_dataset) == len(long) - 1


def test_t8_guard_a_row_dropped_or_cut_is_an_error(tmp_path):
    packed = replace(DSFT, packed=True, max_length=5)  # and six tokens a dialogue: packing cuts in silence too
    with pytest.raises(ValueError, match="the trainer dropped 8 of 48 tokens while preparing the rows"):
        our_sft(small_model(), tmp_path, packed)


# --- T9: columns vanish -----------------------------------------------------------------------------------------------


def test_t9_left_alone_a_column_of_ones_own_never_reaches_the_batch(tmp_path):
    rows = dialogues().add_column("weight", [1.0] * len(DIALOGUES))
    trainer = raw_sft(small_model(), rows, tmp_path, remove_unused_columns=False)
    assert "weight" not in next(iter(trainer.get_train_dataloader()))


def test_t9_guard_labels_and_reference_log_probs_reach_the_batch_as_given(start, tmp_path):
    batch = next(iter(our_sft(small_model(), tmp_path / "sft").get_train_dataloader()))
    given = {tuple(example.input_ids): example.labels for example in DIALOGUES}
    assert [given[tuple(ids)] for ids in batch["input_ids"].tolist()] == batch["labels"].tolist()
    trainer = our_dpo(saved.load_model(start), saved.load_model(start), tmp_path / "dpo")
    known = {row["prompt_ids"][-1]: row["ref_chosen_logps"] for row in trainer.train_dataset}
    batch = next(iter(trainer.get_train_dataloader()))
    half = len(batch["input_ids"]) // 2
    assert batch["ref_chosen_logps"].tolist() == [known[ids[3]] for ids in batch["input_ids"][:half].tolist()]


# --- T10: packed dialogues that see one another -----------------------------------------------------------------------


def loss_of_a_packed_row(strategy, first, folder):
    """Log-probabilities of the last dialogue of a packed row that begins with `first`."""
    examples = [DialogueExample(first, first), DialogueExample([5, 6, 7, 8], [5, 6, 7, 8])]
    model = small_model()
    trainer = raw_sft(model, dialogues(examples), folder, packing=True, packing_strategy=strategy, max_length=10)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    with torch.inference_mode():
        return model(**{**batch, "use_cache": False}, fused_lm_head=True).log_probs[0, -3:]


def test_t10_left_alone_wrapped_packing_lets_dialogues_see_one_another(tmp_path):
    one = loss_of_a_packed_row("wrapped", [20, 21, 22, 23, 24, 25], tmp_path)
    other = loss_of_a_packed_row("wrapped", [30, 31, 32, 33, 34, 35], tmp_path)
    assert (one - other).abs().max() > 1e-2


def test_t10_guard_ours_keeps_them_apart(tmp_path):
    assert our_sft(
        small_model(), tmp_path, DSFT.__class__(**{**asdict(DSFT), "packed": True})
    ).args.packing_strategy == ("bfd")
    one = loss_of_a_packed_row("bfd", [20, 21, 22, 23, 24, 25], tmp_path)
    other = loss_of_a_packed_row("bfd", [30, 31, 32, 33, 34, 35], tmp_path)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


# --- T14: threads change bits -----------------------------------------------------------------------------------------


def test_t14_left_alone_another_number_of_threads_gives_other_bits():
    numbers = torch.rand(1_000_000, generator=torch.Generator().manual_seed(0))

    def sum_on(threads):
        torch.set_num_threads(threads)
        return numbers.sum()

    try:
        assert torch.equal(sum_on(1), sum_on(1))
        assert not torch.equal(sum_on(1), sum_on(2))
    finally:
        torch.set_num_threads(1)


def test_t14_guard_a_build_runs_on_one_thread(start, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(process, "pick_device", lambda name: seen.append(torch.get_num_threads()) or 1 / 0)
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        Stage(tmp_path, {"base": start}).build(DSFT)
    with pytest.raises(ZeroDivisionError):
        Stage(tmp_path, {"policy": start}).build(DDPO)
    assert seen == [1, 1]


# --- T15, T16, T17: what a machine without GPU and a model from scratch need ------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="only a machine without GPU refuses")
def test_t15_left_alone_a_config_wants_bfloat16_and_so_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="bf16"):
        SFTConfig(output_dir=str(tmp_path))


def test_t15_guard_ours_trains_in_float32_on_the_cpu(tmp_path):
    arguments = our_sft(small_model(), tmp_path).args
    assert arguments.use_cpu and not arguments.bf16 and not arguments.fp16 and not arguments.activation_checkpointing


def test_t16_left_alone_a_model_from_scratch_has_no_reference(tmp_path):
    with pytest.raises(OSError, match=r"."):
        raw_dpo(small_model(), Dataset.from_list(TEXT_PAIRS), tmp_path)


def test_t16_guard_ours_takes_a_model_from_scratch(tmp_path):
    loss = our_dpo(small_model(), small_model(), tmp_path).evaluate()["eval_loss"]
    assert loss == pytest.approx(math.log(2), abs=1e-5)


def test_t17_guard_the_end_of_an_answer_counts_though_it_may_be_the_padding_too(tmp_path):
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.pad_token = tokenizer.eos_token  # what TRL does in silence where there is none
    trainer = dsft.make_trainer(
        DSFT, small_model(), tokenizer, {"train": DIALOGUES, "test": DIALOGUES}, seed=0, folder=tmp_path
    )
    batch = trainer.data_collator([asdict(DIALOGUES[0]), {"input_ids": [5, 6], "labels": [IGNORED, 6]}])
    assert batch["labels"][0, -1] == tokenizer.eos_token_id
    assert batch["labels"][1].tolist() == [IGNORED, 6, IGNORED, IGNORED, IGNORED, IGNORED]


# --- a NaN is logged as the mean of what came before ------------------------------------------------------------------


def poison(model, step):
    """The model's loss is NaN from `step` on (steps from 1)."""
    calls = []

    def spoil(module, args, output):
        calls.append(1)
        return output * float("nan") if len(calls) >= step else output

    return model.model.norm.register_forward_hook(spoil)


def test_nan_left_alone_trains_on_and_logs_a_number(tmp_path):
    model = small_model()
    trainer = raw_sft(model, dialogues(), tmp_path, logging_steps=2)
    poison(model, step=2)
    trainer.train()
    assert trainer.state.global_step == 2
    assert math.isfinite(trainer.state.log_history[0]["loss"])
    assert model.lm_head.weight.isnan().any()


def test_nan_guard_halts_at_the_step_itself(tmp_path):
    model = small_model()
    trainer = our_sft(model, tmp_path / "trainer")
    trainer.args.eval_on_start = False
    poison(model, step=3)  # two halves of a batch make a step
    with pytest.raises(ValueError, match=r"^loss is nan at step 1: training halted"):
        trl_adapters.run(trainer, Nothing(tmp_path))
    assert not model.lm_head.weight.isnan().any()


# --- checkpoints are saved in place -----------------------------------------------------------------------------------


def test_checkpoint_left_alone_a_half_saved_one_is_resumed_from(tmp_path):
    trainer = raw_sft(small_model(), dialogues(), tmp_path, save_strategy="steps", save_steps=1)
    trainer.train()
    (tmp_path / "checkpoint-2" / "optimizer.pt").unlink()  # as if killed after the weights
    assert Path(get_last_checkpoint(str(tmp_path))).name == "checkpoint-2"
    again = raw_sft(small_model(), dialogues(), tmp_path, save_strategy="steps", save_steps=1, max_steps=3)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 3


def test_checkpoint_guard_a_half_saved_one_does_not_count(tmp_path):
    trainer = our_sft(small_model(), tmp_path / "trainer")
    trl_adapters.run(trainer, Nothing(tmp_path))
    (whole,) = (tmp_path / "trainer").iterdir()
    assert loop.newest_complete(tmp_path / "trainer") == whole
    (whole / "optimizer.pt").unlink()
    assert loop.newest_complete(tmp_path / "trainer") is None


def test_checkpoint_guard_states_are_loaded_as_plain_tensors(tmp_path, monkeypatch):
    trl_adapters.run(our_sft(small_model(), tmp_path / "trainer"), Nothing(tmp_path))
    loaded = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **options: loaded.append(options) or load(*args, **options))
    trl_adapters.run(our_sft(small_model(), tmp_path / "trainer"), Nothing(tmp_path))
    assert loaded and all(options["weights_only"] for options in loaded)


# --- smaller ones -----------------------------------------------------------------------------------------------------


def test_cache_left_alone_the_saved_config_turns_it_off(tmp_path):
    model = small_model()
    raw_sft(model, dialogues(), tmp_path)
    assert not model.config.use_cache


def test_cache_guard_ours_leaves_it_on(tmp_path):
    model = small_model()
    our_sft(model, tmp_path)
    assert model.config.use_cache


def test_token_counts_left_alone_start_anew_when_resumed(tmp_path):
    first = raw_sft(small_model(), dialogues(), tmp_path, save_strategy="steps", save_steps=1, logging_steps=1)
    first.train()
    second = raw_sft(small_model(), dialogues(), tmp_path, max_steps=3, logging_steps=1)
    second.train(resume_from_checkpoint=True)
    counts = [row["num_tokens"] for row in second.state.log_history if "num_tokens" in row]
    assert counts[2] < counts[1]


def test_token_counts_guard_ours_are_not_in_the_log(tmp_path):
    log = trl_adapters.run(our_sft(small_model(), tmp_path / "trainer"), Nothing(tmp_path))
    assert not [name for row in log for name in row if "num_tokens" in name]


def test_output_head_left_alone_scores_every_position_on_a_cpu():
    assert not trl_utils._use_triton(torch.device("cpu"))


def test_output_head_guard_labelled_positions_give_the_same_values_and_gradients(tmp_path):
    results = []
    for only_labelled in (False, True):
        model = small_model()
        trainer = raw_sft(model, dialogues(), tmp_path)
        if only_labelled:
            trl_adapters.score_labelled_positions_only()
        output = model(**trainer.data_collator(list(trainer.train_dataset)), fused_lm_head=True)
        output.loss.backward()
        results.append((output.log_probs, output.entropy, output.is_top1, model.lm_head.weight.grad))
    for whole, only in zip(*results, strict=True):
        torch.testing.assert_close(whole, only, atol=1e-6, rtol=1e-5)


def test_curves_left_alone_weigh_rows_of_a_short_batch_more(start, tmp_path):
    plain = replace(DDPO, shared_prompt=False)
    trainer = our_dpo(saved.load_model(start), saved.load_model(start), tmp_path, plain)
    means = {}
    for size in (2, 3):  # four pairs: two batches of two, or three and one
        trainer.args.per_device_eval_batch_size = size
        means[size] = trainer.evaluate()["eval_logps/chosen"]
    assert abs(means[2] - means[3]) > 1e-3


@pytest.mark.parametrize(
    ("rows", "most", "batch"), [(300, 32, 30), (256, 32, 32), (10, 32, 10), (293, 32, 32), (1, 4, 1)]
)
def test_curves_guard_held_out_batches_are_even_where_they_can_be(rows, most, batch):
    assert trl_adapters.even_batch(rows, most=most) == batch


def test_messages_guard_nothing_is_sent_about_the_user(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **what: sent.append(what))
    monkeypatch.delenv("CI", raising=False)
    raw_sft(small_model(), dialogues(), tmp_path)
    assert len(sent) == 1
    our_sft(small_model(), tmp_path)
    assert len(sent) == 1
