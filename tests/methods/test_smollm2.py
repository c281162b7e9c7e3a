"""The training functions on a real small model, SmolLM2-135M-Instruct, in its own chat template."""

import math

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

import smollm2
from any_models import message, pair_rows
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.sft import train_sft
from zephyr_lab.models.enlarge import of_layers

pytestmark = [pytest.mark.slow, smollm2.needs_smollm2]
QUIET = {"progress": lambda *steps, **numbers: None}
RATE = 1e-4
STEP = {"batch": 4, "micro_batch": 4, "learning_rate": RATE, "warmup": 0.0, "schedule": "constant", **QUIET}


@pytest.fixture(scope="module")
def folder():
    return smollm2.folder()


def rendered(tokenizer, messages):
    """Ids of the rendered dialogue, as the tokenizer itself gives them."""
    return tokenizer.apply_chat_template(messages, return_dict=False)


def as_texts(tokenizer, row):
    """The pair as strings, to which TRL adds the end token alone; of messages it learns the line break behind it."""
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    return {"prompt": prompt, **{side: row[side][0]["content"] for side in ("chosen", "rejected")}}


def answer_losses(model, tokenizer, messages):
    """-log p of each token of the last answer and of its end token, from the rendered whole; one row, no padding."""
    before = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    ids = rendered(tokenizer, messages)
    assert ids[: len(before)] == before
    end = len(ids) - ids[::-1].index(tokenizer.eos_token_id)
    log_probs = model(input_ids=torch.tensor([ids[:end]])).logits[0, :-1].log_softmax(dim=-1)
    return -log_probs.gather(1, torch.tensor(ids[1:end])[:, None]).squeeze(1)[len(before) - 1 :]


def assert_same_step(ours, theirs, begun):
    """Where the first step of both went the same way it is the same; almost all weights are such."""
    for name, weight in theirs.named_parameters():
        mine = ours.get_parameter(name)
        same = (mine - weight).abs() <= 0.05 * RATE
        assert same.float().mean() > 0.97, name
        assert (weight - begun[name]).abs().max() > 0.5 * RATE


def test_dpo_takes_trl_s_step_from_ln_2(folder, tmp_path):
    (ours, tokenizer), (theirs, _) = smollm2.load(folder), smollm2.load(folder)
    begun = {name: one.detach().clone() for name, one in ours.named_parameters()}
    rows = pair_rows(4)
    log = train_dpo(ours, tokenizer, rows, beta=0.1, **STEP)
    assert log.attrs["path"].startswith("lean")
    assert log["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-4)
    trainer = DPOTrainer(
        model=theirs,
        args=DPOConfig(
            output_dir=str(tmp_path), per_device_train_batch_size=4, num_train_epochs=1, learning_rate=RATE,
            lr_scheduler_type="constant", beta=0.1, max_grad_norm=1.0, gradient_checkpointing=False, use_cpu=True,
            bf16=False, report_to="none", logging_steps=1, save_strategy="no", disable_tqdm=True,
            precompute_ref_log_probs=True,
        ),
        train_dataset=Dataset.from_list([as_texts(tokenizer, row) for row in rows]),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    first = next(row for row in trainer.state.log_history if "loss" in row)
    for name in ("loss", "logps/chosen", "logps/rejected"):
        assert log[name].iloc[0] == pytest.approx(first[name], rel=1e-4), name
    assert_same_step(ours, theirs, begun)


def test_dpo_raises_the_margin_on_held_out_pairs(folder):
    model, tokenizer = smollm2.load(folder)
    log = train_dpo(
        model, tokenizer, pair_rows(16), held_out=pair_rows(4, first=20), batch=4, learning_rate=2e-6, evaluate_every=4,
        **QUIET,
    )  # fmt: skip
    first, *_, last = log.attrs["held_out"]
    assert first["eval_rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert last["eval_rewards/margins"] > 0.05


def test_sft_takes_a_plain_loop_s_step_on_answers_in_the_model_s_own_template(folder):
    (ours, tokenizer), (theirs, _) = smollm2.load(folder), smollm2.load(folder)
    begun = {name: one.detach().clone() for name, one in ours.named_parameters()}
    rows = [{"messages": [*row["prompt"], *row["chosen"]]} for row in pair_rows(4)]
    assert "<|im_start|>system" in tokenizer.decode(rendered(tokenizer, rows[0]["messages"]))
    log = train_sft(ours, tokenizer, rows, **STEP)
    loss = torch.cat([answer_losses(theirs, tokenizer, row["messages"]) for row in rows]).mean()
    assert log["loss"].iloc[0] == pytest.approx(loss.item(), rel=1e-4)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=0.0).step()
    assert_same_step(ours, theirs, begun)


def test_kd_into_a_copy_with_half_the_layers_follows_the_teacher(folder):
    teacher, tokenizer = smollm2.load(folder)
    student = of_layers(teacher, range(1, 30, 2))
    sums = [divmod(place * 37 % 100, 10) for place in range(96)]  # each but once: none held out is trained on
    rows = [
        {"messages": [message("user", f"What is {a} plus {b}?"), message("assistant", f"It is {a + b}.")]}
        for a, b in sums
    ]
    log = train_kd(
        student, tokenizer, rows[:80], teacher=teacher, held_out=rows[80:], layer_map="uniform", batch=4,
        micro_batch=4, learning_rate=1e-4, tokens="answers", **QUIET,
    )  # fmt: skip
    assert log.attrs["path"] == "lean" and log.attrs["steps"] == 20
    start, end = (log.attrs["held_out_losses"][when] for when in ("start", "end"))
    assert end["prediction_loss"] < 0.7 * start["prediction_loss"]
    assert end["attention_loss"] < start["attention_loss"]
