"""`train_dpo` on anybody's model and rows: loss, gradient and step of a plain loop; lean, or plain and said so."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import logsigmoid
from transformers import TrainerCallback

from any_models import CAPPED, FAMILIES, any_model, message, pair_rows
from tiny_models import small_tokenizer
from zephyr_lab.methods.dpo import train_dpo

QUIET = {"progress": lambda *steps, **numbers: None}
ONE_STEP = {"batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "warmup": 0.0, "schedule": "constant", **QUIET}
# Under Adam a weight with a gradient near 0 moves by a whole step, whichever way rounding has it.
CLEAR = 1e-5


class Gradients(TrainerCallback):
    """Keeps the gradients of the last step."""

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def plain_log_prob(model, prompt, answer):
    """log pi(answer | prompt), the end token included: the template rendered as a whole, one row, no padding."""
    tokenizer = small_tokenizer()
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*prompt, *answer], return_dict=False)
    whole = whole[: len(whole) - whole[::-1].index(tokenizer.eos_token_id)]  # without the line break behind the end
    assert whole[: len(before)] == before
    ids = torch.tensor([whole])
    log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None]).squeeze(1)
    return log_probs[len(before) - 1 :].sum()


def plain_loss(model, reference, rows, *, beta):
    losses = []
    for row in rows:
        sides = {}
        for side in ("chosen", "rejected"):
            with torch.no_grad():
                begun = plain_log_prob(reference, row["prompt"], row[side])
            sides[side] = plain_log_prob(model, row["prompt"], row[side]) - begun
        losses.append(-logsigmoid(beta * (sides["chosen"] - sides["rejected"])))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("family", [*FAMILIES, CAPPED])
def test_one_step_is_that_of_a_plain_loop(family, capsys):
    model, twin, reference = (any_model(family, seed=1) for _ in range(3))
    other = any_model(family, seed=2)  # a reference of other weights, so that margins are not all 0
    gradients = Gradients()
    log = train_dpo(
        model, small_tokenizer(), pair_rows(8), beta=0.3, reference=other, callbacks=[gradients], **ONE_STEP
    )
    path = "plain: no shared prompt for this model: the logits are soft-capped" if family == CAPPED else "lean: "
    assert f"DPO, {path}" in capsys.readouterr().out and log.attrs["path"].startswith(path)

    loss = plain_loss(twin, any_model(family, seed=2), pair_rows(8), beta=0.3)
    assert abs(loss.item() - math.log(2)) > 0.01
    assert log["loss"].tolist() == pytest.approx([loss.item()], abs=1e-5)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    begun = {name: one.detach().clone() for name, one in reference.named_parameters()}
    torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.0).step()
    theirs, ours = dict(twin.named_parameters()), dict(model.named_parameters())
    for name, gradient in gradients.found.items():
        torch.testing.assert_close(gradient, theirs[name].grad, atol=2e-6, rtol=1e-3)
        clear = gradient.abs() > CLEAR
        torch.testing.assert_close(ours[name][clear], theirs[name][clear], atol=2e-5, rtol=0)
        assert bool(((ours[name] - begun[name])[clear].abs() > 1e-4).all())


@pytest.mark.parametrize("family", ["llama", CAPPED])
def test_it_starts_at_ln_2_and_the_margin_rises_on_held_out_pairs(family):
    model = any_model(family)
    log = train_dpo(
        model, small_tokenizer(), pair_rows(32), held_out=pair_rows(8, first=40), beta=0.2, epochs=2, batch=8,
        learning_rate=1e-3, evaluate_every=4, **QUIET,
    )  # fmt: skip
    assert log["step"].tolist() == list(range(1, 9))
    assert log["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-5)
    first, *_, last = log.attrs["held_out"]
    assert (first["step"], last["step"]) == (0, 8)
    assert first["eval_rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert last["eval_rewards/margins"] > 0.1
    assert not model.training and all("forward" not in vars(module) for module in model.modules())


def test_lean_and_plain_paths_end_in_the_same_weights():
    ends = []
    for shared_prompt in (True, False):
        model = any_model("llama")
        log = train_dpo(model, small_tokenizer(), pair_rows(16), shared_prompt=shared_prompt, **ONE_STEP)
        ends.append((log, model.state_dict()))
    (lean, ours), (plain, theirs) = ends
    assert lean.attrs["path"].startswith("lean") and plain.attrs["path"] == "plain: shared_prompt is false"
    for name in ("loss", "rewards/margins", "logps/chosen", "entropy", "mean_token_accuracy", "logits/rejected"):
        assert lean[name].tolist() == pytest.approx(plain[name].tolist(), rel=1e-4, abs=1e-4), name
    assert max((ours[name] - one).abs().max().item() for name, one in theirs.items()) < 1e-3


def test_of_an_adapter_the_model_without_it_is_the_reference_and_only_the_adapter_trains():
    base = any_model("llama")
    begun = {name: one.clone() for name, one in base.state_dict().items()}
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    log = train_dpo(model, small_tokenizer(), pair_rows(16), epochs=3, **ONE_STEP)
    assert log["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-5)
    assert log["rewards/margins"].iloc[-1] > 0
    assert list(model.peft_config) == ["default"]
    after = model.unload().state_dict()
    assert all(torch.equal(after[name], one) for name, one in begun.items())


def hinge(policy, reference):
    margin = (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)
    return torch.relu(1 - 0.5 * margin)


@pytest.mark.parametrize("family", ["qwen2", CAPPED])
def test_a_loss_of_one_s_own_trains_on_both_paths(family):
    log = train_dpo(any_model(family), small_tokenizer(), pair_rows(16), loss=hinge, epochs=2, **ONE_STEP)
    assert log["loss"].iloc[0] == pytest.approx(1.0, abs=1e-5)
    assert log["loss"].iloc[-1] < 0.99


@pytest.mark.parametrize("family", ["qwen2", CAPPED])
def test_a_loss_that_takes_the_mean_itself_is_refused(family):
    def mean(policy, reference):
        return hinge(policy, reference).mean()

    with pytest.raises(ValueError, match="loss mean must give one loss a pair"):
        train_dpo(any_model(family), small_tokenizer(), pair_rows(8), loss=mean, **ONE_STEP)


def test_a_bad_row_is_named_and_the_others_train(capsys):
    rows = pair_rows(8)
    rows[2] = {**rows[2], "chosen": None}
    log = train_dpo(any_model("llama"), small_tokenizer(), rows, **ONE_STEP)
    assert "train: 1 unusable rows; 7 rows, 7 used; unusable: row 3" in capsys.readouterr().out
    assert log.attrs["rows"]["train"]["used"] == 7


def test_rows_none_of_which_is_a_pair_end_it_before_it_starts():
    with pytest.raises(ValueError, match=r"chosen"):
        train_dpo(any_model("llama"), small_tokenizer(), [{"prompt": [message("user", "Hi")]}], **ONE_STEP)


def test_a_loss_that_is_nan_ends_it_at_its_step():
    model = any_model("llama")
    reference = any_model("llama")
    model.lm_head.weight.data[5] = float("nan")
    with pytest.raises(ValueError, match="nan"):
        train_dpo(model, small_tokenizer(), pair_rows(8), reference=reference, shared_prompt=False, **ONE_STEP)


def test_without_a_folder_nothing_is_written_and_with_one_a_broken_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"batch": 4, "learning_rate": 1e-3, "checkpoint_every": 2}
    whole = any_model("llama")
    unbroken = train_dpo(whole, small_tokenizer(), pair_rows(24), **given, **QUIET)
    assert not list(tmp_path.iterdir())

    def breaks(step, of, **numbers):
        if step == 5:
            raise KeyboardInterrupt

    for progress in (breaks, QUIET["progress"]):
        model = any_model("llama")
        try:
            log = train_dpo(
                model, small_tokenizer(), pair_rows(24), checkpoints=tmp_path / "run", progress=progress, **given
            )
        except KeyboardInterrupt:
            assert progress is breaks
    assert log["loss"].tolist() == unbroken["loss"].tolist()
    assert all(torch.equal(one, whole.state_dict()[name]) for name, one in model.state_dict().items())


def test_a_tokenizer_without_a_padding_token_trains_alike():
    ends = []
    for pad in ("<pad>", None):
        tokenizer = small_tokenizer().__class__(
            tokenizer_object=small_tokenizer().backend_tokenizer, bos_token="<s>", eos_token="</s>", pad_token=pad,
            extra_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
        )  # fmt: skip
        tokenizer.chat_template = small_tokenizer().chat_template
        model = any_model("gpt2")
        log = train_dpo(model, tokenizer, pair_rows(8), **ONE_STEP)
        ends.append((log["loss"].tolist(), model.state_dict()))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-6)
    assert max((ends[0][1][name] - one).abs().max().item() for name, one in ends[1][1].items()) < 1e-5
