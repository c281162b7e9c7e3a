"""The trainer on packed pairs stands where TRL's DPOTrainer stood: same calls, rows, logs and files, same numbers."""

import inspect

import pytest
import torch
from datasets import Dataset, IterableDataset
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

from dpo_trainers import farthest, losses, made, settings, text_pairs, weights, word_tokenizer
from packed_models import packed_model
from zephyr_lab.methods.shared_prompt_dpo import SharedPromptDPOTrainer

KINDS = (DPOTrainer, SharedPromptDPOTrainer)
ABOUT_TIME = ("runtime", "per_second", "total_flos")


def both(act, tmp_path, **given):
    """What `act` gives for TRL's trainer and for ours."""
    return [act(made(kind, tmp_path / kind.__name__, **given)) for kind in KINDS]


def trained(trainer):
    trainer.train()
    return trainer


def timeless(log):
    return [{name: one for name, one in row.items() if not any(part in name for part in ABOUT_TIME)} for row in log]


def assert_same_logs(theirs, ours):
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_train_takes_trl_s_steps_and_logs_them_under_its_names(tmp_path):
    theirs, ours = both(
        trained, tmp_path, eval_dataset=text_pairs(4), changes={"eval_strategy": "steps", "eval_steps": 1}
    )
    assert losses(theirs)[0] != losses(theirs)[1]
    assert farthest(weights(ours), weights(theirs)) < 1e-4
    assert_same_logs(timeless(theirs.state.log_history), timeless(ours.state.log_history))


def test_arguments_may_be_positional_as_trl_has_them(tmp_path):
    assert inspect.signature(SharedPromptDPOTrainer) == inspect.signature(DPOTrainer)
    found = []
    for kind in KINDS:
        trainer = kind(
            packed_model("llama"), packed_model("llama", seed=1), settings(tmp_path / kind.__name__), None,
            text_pairs(), text_pairs(4), word_tokenizer(),
        )  # fmt: skip
        trainer.train()
        found.append((losses(trainer), trainer.evaluate()["eval_loss"]))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-5)
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-5)


def test_the_default_that_would_run_layers_again_is_refused_by_name(tmp_path):
    defaults = DPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match=r"gradient_checkpointing would run layers again.*set it to False"):
        SharedPromptDPOTrainer(packed_model("llama"), args=defaults, train_dataset=text_pairs())


def test_evaluate_takes_rows_sets_of_rows_and_those_it_was_made_with(tmp_path):
    def evaluated(trainer):
        return [
            trainer.evaluate(),
            trainer.evaluate(text_pairs(3), metric_key_prefix="test"),
            trainer.evaluate({"few": text_pairs(2), "more": text_pairs(6)}),
        ]

    theirs, ours = both(evaluated, tmp_path, eval_dataset={"own": text_pairs(4), "long": text_pairs(8)})
    assert_same_logs(timeless(theirs), timeless(ours))


def test_compute_metrics_gets_trl_s_logits(tmp_path):
    seen = []

    def metrics(prediction):
        seen.append(prediction)
        return {"mean": float(prediction.predictions.mean()), "ids": float(prediction.label_ids.sum())}

    with pytest.warns(FutureWarning):
        theirs, ours = both(
            lambda trainer: trainer.evaluate(), tmp_path, eval_dataset=text_pairs(4), compute_metrics=metrics
        )
    assert_same_logs(timeless([theirs]), timeless([ours]))
    assert torch.allclose(torch.tensor(seen[1].predictions), torch.tensor(seen[0].predictions), atol=1e-5)


def test_callbacks_optimizers_and_a_collator_of_one_s_own_are_used(tmp_path):
    class Steps(TrainerCallback):
        def __init__(self):
            self.steps = []

        def on_step_end(self, args, state, control, **_):
            self.steps.append(state.global_step)

    found = []
    for kind in KINDS:
        policy, counter = packed_model("llama"), Steps()
        probe = made(kind, tmp_path / "probe")
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        trainer = made(
            kind, tmp_path / kind.__name__, policy=policy, callbacks=[counter], optimizers=(optimizer, None),
            data_collator=lambda rows, probe=probe: probe.data_collator(list(reversed(rows))),
        )  # fmt: skip
        trainer.train()
        found.append((counter.steps, losses(trainer), weights(trainer)))
    assert found[1][0] == found[0][0] == [1, 2]
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-5)
    assert farthest(found[1][2], found[0][2]) < 1e-4


def test_the_model_s_own_start_is_the_reference_where_none_is_given(tmp_path):
    found = []
    for kind in KINDS:
        start = tmp_path / "start"
        packed_model("llama").save_pretrained(start)
        for precompute in (False, True):
            trainer = made(
                kind, tmp_path / kind.__name__, reference=None, policy=str(start),
                changes={"precompute_ref_log_probs": precompute, "model_init_kwargs": {"dtype": "float32"}},
            )  # fmt: skip
            found.append(losses(trained(trainer)))
    assert found[0][0] == pytest.approx(0.6931472, abs=1e-6)
    for one in found[1:]:
        assert one == pytest.approx(found[0], abs=1e-5)


def test_saved_files_and_a_resumed_run_are_trl_s(tmp_path):
    steps = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    theirs, whole = both(trained, tmp_path, changes=steps)
    assert {one.name for one in (tmp_path / "SharedPromptDPOTrainer").rglob("*")} == {
        one.name for one in (tmp_path / "DPOTrainer").rglob("*")
    }
    resumed = made(SharedPromptDPOTrainer, tmp_path / "SharedPromptDPOTrainer", changes=steps)
    resumed.train(resume_from_checkpoint=str(tmp_path / "SharedPromptDPOTrainer" / "checkpoint-2"))
    assert farthest(weights(resumed), weights(whole)) == 0
    assert farthest(weights(whole), weights(theirs)) < 1e-4
    whole.save_model(str(tmp_path / "saved"))
    again = type(whole.model).from_pretrained(tmp_path / "saved")
    assert all(torch.equal(one, weights(whole)[name]) for name, one in again.named_parameters())


def test_rows_of_ids_and_streams_are_read(tmp_path):
    ids = Dataset.from_list(
        [{"prompt_ids": [5, 6 + row], "chosen_ids": [7, 2], "rejected_ids": [9, 10, 2]} for row in range(4)]
    )
    trained(made(SharedPromptDPOTrainer, tmp_path / "ids", train_dataset=ids))
    stream = {"train_dataset": IterableDataset.from_generator(lambda: iter(text_pairs().to_list()))}
    theirs, ours = (trained(made(kind, tmp_path / kind.__name__, **stream)) for kind in KINDS)
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-4)


def test_rows_that_trl_drops_in_silence_are_counted_and_rows_without_a_token_named(tmp_path):
    rows = text_pairs()  # prompts of two to five words and the first token, which the answers follow
    with pytest.warns(UserWarning, match=r"2 of 8 rows of the train set are left out: .* max_length 5"):
        trainer = made(SharedPromptDPOTrainer, tmp_path, train_dataset=rows, changes={"max_length": 5})
    assert len(trainer.train_dataset) == 6
    with pytest.raises(ValueError, match=r"row 5: prompt_ids is cut off whole, 6 ids of chosen_ids fill the limit"):
        made(
            SharedPromptDPOTrainer,
            tmp_path,
            train_dataset=rows,
            changes={"max_length": 4, "truncation_mode": "keep_end"},
        )


def test_a_batch_with_more_than_ids_is_refused(tmp_path):
    probe = made(SharedPromptDPOTrainer, tmp_path)
    trainer = made(
        SharedPromptDPOTrainer, tmp_path, data_collator=lambda rows: {**probe.data_collator(rows), "token_type_ids": 0}
    )
    with pytest.raises(ValueError, match=r"^no shared prompt: the batch holds token_type_ids"):
        trainer.train()
