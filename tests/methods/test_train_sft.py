"""`train_sft` on anybody's model and rows: the labels, the loss and the step of a plain loop."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from any_models import CAPPED, FAMILIES, any_model, dialogue_rows, message
from tiny_models import small_tokenizer
from zephyr_lab.methods.sft import train_sft

QUIET = {"progress": lambda *steps, **numbers: None}
ONE_STEP = {"batch": 8, "micro_batch": 8, "learning_rate": 1e-3, "warmup": 0.0, "schedule": "constant", **QUIET}
CLEAR = 1e-4  # gradients that rounding cannot turn over, of which Adam makes whole steps


def plain_loss(model, rows):
    """Mean of -log p over all tokens of answers and their end, row by row; answers found in the rendered text."""
    tokenizer = small_tokenizer()
    losses = []
    for row in rows:
        prompt, whole = row["messages"][:-1], row["messages"]
        before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        ids = tokenizer.apply_chat_template(whole, return_dict=False)
        ids = ids[: len(ids) - ids[::-1].index(tokenizer.eos_token_id)]
        log_probs = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(dim=-1)
        losses.append(-log_probs.gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1)[len(before) - 1 :])
    return torch.cat(losses).mean()


@pytest.mark.parametrize("family", [*FAMILIES, CAPPED])
def test_one_step_is_that_of_a_plain_loop(family):
    model, twin = any_model(family), any_model(family)
    for one in (model, twin):  # dropout is the user's own to choose; here it would differ by chance
        for module in one.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    rows = dialogue_rows(8)
    log = train_sft(model, small_tokenizer(), rows, **ONE_STEP)
    loss = plain_loss(twin, rows)
    assert log["loss"].tolist() == pytest.approx([loss.item()], rel=1e-5)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.0).step()
    for name, one in twin.named_parameters():
        clear = one.grad.abs() > CLEAR
        torch.testing.assert_close(model.get_parameter(name)[clear], one[clear], atol=2e-5, rtol=0)
    assert not model.training and all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_over_all_tokens_the_loss_is_the_mean_over_those_that_another_precedes(family):
    texts = ["It is late.", "Ann asks why, and Ben says: because it is so.", "So?", "The sky is red."]
    end = small_tokenizer().eos_token_id
    rows = [[*small_tokenizer()(text)["input_ids"], end] for text in texts]
    model = any_model(family)
    losses = [
        torch.nn.functional.cross_entropy(
            model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]), reduction="none"
        )
        for ids in rows
    ]
    log = train_sft(
        model,
        small_tokenizer(),
        [{"text": text} for text in texts],
        batch=4,
        micro_batch=2,
        learning_rate=1e-3,
        **QUIET,
    )
    assert log["loss"][0] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


def test_the_end_of_an_answer_is_learned():
    model = any_model("llama")
    log = train_sft(model, small_tokenizer(), dialogue_rows(32), epochs=12, batch=8, learning_rate=5e-3, **QUIET)
    assert log["loss"].iloc[-1] < 0.5 * log["loss"].iloc[0]
    prompt = small_tokenizer().apply_chat_template(
        dialogue_rows(1)[0]["messages"][:1], add_generation_prompt=True, return_dict=False
    )
    answer = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0, len(prompt) :].tolist()
    assert small_tokenizer().eos_token_id in answer


def test_only_the_adapter_of_an_adapted_model_trains():
    base = any_model("qwen2")
    begun = {name: one.clone() for name, one in base.state_dict().items()}
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"))
    log = train_sft(model, small_tokenizer(), dialogue_rows(16), epochs=3, **{**ONE_STEP, "learning_rate": 1e-2})
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    assert all(torch.equal(one, begun[name]) for name, one in model.unload().state_dict().items())


def test_bad_rows_are_named_and_the_others_train(capsys):
    rows = dialogue_rows(8)
    rows[1] = {"messages": [message("user", "Hi")]}
    rows[4] = {"messages": None}
    log = train_sft(any_model("llama"), small_tokenizer(), rows, **ONE_STEP)
    told = capsys.readouterr().out
    assert "row 5" in told and "2" in told
    assert log.attrs["rows"]["train"]["used"] == 6


def test_held_out_rows_are_measured_beside_the_log():
    log = train_sft(
        any_model("llama"), small_tokenizer(), dialogue_rows(16), held_out=dialogue_rows(4), batch=4, evaluate_every=2,
        **QUIET,
    )  # fmt: skip
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert [row["step"] for row in log.attrs["held_out"]] == [0, 2, 4]


def test_an_unknown_setting_is_refused_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"train_sft has no setting 'lerning_rate'; did you mean 'learning_rate'\?"):
        train_sft(any_model("llama"), small_tokenizer(), dialogue_rows(2), lerning_rate=1e-3)
