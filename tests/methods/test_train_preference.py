"""The family on anybody's model: each loss starts where theory says, and its first step is a plain loop's."""

import copy
import math
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model

import plain_steps
from plain_steps import FAMILIES, ONE_STEP, PAIRS, examples, small
from tiny_models import small_tokenizer
from zephyr_lab.losses.fast import pair_losses
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.methods.preference import KTO, train_kto, train_preference

train = partial(train_preference, **ONE_STEP)


def log_probs(model, rows):
    prompts = [one.prompt_ids for one in rows]
    return PairLogProbs(*(
        plain_steps.answer_log_probs(model, prompts, [getattr(one, side) for one in rows])
        for side in ("chosen_ids", "rejected_ids")
    ))  # fmt: skip


def lengths(rows):
    return PairLengths(*(torch.tensor([len(getattr(one, side)) for one in rows]) for side in (
        "chosen_ids", "rejected_ids",
    )))  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (pair_losses.dpo(beta=0.1), math.log(2)),
        (pair_losses.cdpo(beta=0.1, label_smoothing=0.2), math.log(2)),
        (pair_losses.ipo(tau=0.25), (1 / 0.5) ** 2),  # eq. 17: (h - 1 / (2 tau))^2 at h = 0
        (KTO(beta=0.1), 0.5),  # 1 - sigmoid(0) on both sides
        (lambda policy, reference: (1 - (policy.chosen - reference.chosen)).clamp(min=0), 1.0),
    ],
)
def test_a_policy_that_is_its_reference_has_the_loss_of_equal_log_probs(loss, expected):
    log = train(small("llama"), small_tokenizer(), PAIRS, loss=loss)
    assert log["step"].tolist() == [1] and log["loss"].tolist() == [pytest.approx(expected, abs=1e-4)]


@pytest.mark.parametrize("loss", [pair_losses.simpo(beta=2.0, gamma=0.5), pair_losses.orpo(weight=0.3)])
def test_a_loss_without_a_reference_is_that_of_whole_logits(loss):
    model, rows = small("llama"), examples()
    with torch.no_grad():
        expected = loss(log_probs(model, rows), None, lengths(rows)).mean().item()
    log = train(model, small_tokenizer(), PAIRS, loss=loss)
    assert log["loss"].tolist() == [pytest.approx(expected, rel=1e-5)]
    assert log.attrs["tokens_scored"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_dpo_is_a_plain_loops(family):
    model, rows = small(family), examples()
    start = copy.deepcopy(model)
    train(model, small_tokenizer(), PAIRS, loss=pair_losses.dpo(beta=0.1))
    reference = log_probs(start, rows)
    margin = (reference.chosen - reference.rejected).detach()

    def loss(plain):
        own = log_probs(plain, rows)
        return -(0.1 * (own.chosen - own.rejected - margin)).sigmoid().log().mean()

    expected, first, clear = plain_steps.step(start, loss, learning_rate=1e-3)
    assert first == pytest.approx(math.log(2), abs=1e-5)
    plain_steps.require_same(model, expected, clear, tolerance=5e-5)


def test_a_step_of_kto_is_a_plain_loops():
    model, rows = small("llama"), examples()
    start = copy.deepcopy(model)
    train_kto(model, small_tokenizer(), PAIRS, beta=0.1, **ONE_STEP)
    reference = log_probs(start, rows)

    def loss(plain):
        # z = 0 at the start: desirable 1 - sigmoid(r), undesirable 1 - sigmoid(-r) (section 4.1)
        own = log_probs(plain, rows)
        good, bad = (getattr(own, side) - getattr(reference, side).detach() for side in ("chosen", "rejected"))
        return torch.cat([1 - (0.1 * good).sigmoid(), 1 - (-0.1 * bad).sigmoid()]).mean()

    expected, _, clear = plain_steps.step(start, loss, learning_rate=1e-3)
    plain_steps.require_same(model, expected, clear, tolerance=5e-5)


def test_another_reference_is_taken_as_it_is():
    model, other, rows = small("llama"), small("llama", seed=1), examples()
    own, theirs = (log_probs(one, rows) for one in (model, other))
    margin = (own.chosen - theirs.chosen) - (own.rejected - theirs.rejected)
    log = train(model, small_tokenizer(), PAIRS, loss=pair_losses.dpo(beta=0.1), reference=other)
    assert log["loss"][0] == pytest.approx(-(0.1 * margin).sigmoid().log().mean().item(), rel=1e-4)


def test_a_reference_of_another_vocabulary_is_refused():
    other = small("llama", seed=1)
    other.config.vocab_size = 700
    with pytest.raises(ValueError, match="the reference has 700 entries in its vocabulary, the policy 640"):
        train(small("llama"), small_tokenizer(), PAIRS, loss=pair_losses.dpo(beta=0.1), reference=other)


@pytest.mark.parametrize("loss", [pair_losses.dpo(beta=0.1), KTO(beta=0.1)])
def test_adapters_learn_and_the_model_without_them_is_the_reference(loss):
    torch.manual_seed(0)
    model = get_peft_model(small("llama"), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.5))
    for name, one in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.3)  # adapters that say something already
    own = log_probs(model.eval(), examples())
    with model.disable_adapter():
        reference = log_probs(model, examples())
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    log = train(model, small_tokenizer(), PAIRS, loss=loss)
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert moved and all("lora_" in name for name in moved)
    if not isinstance(loss, KTO):
        expected = loss(own, reference, lengths(examples())).mean().item()
        assert log["loss"][0] == pytest.approx(expected, rel=1e-4) != pytest.approx(math.log(2), rel=1e-3)


def test_a_bad_row_is_named_and_the_rest_trains(capsys):
    rows = [{"prompt": "Hi", "chosen": "a"}, *PAIRS, {"prompt": "Hi", "chosen": "same", "rejected": "same"}]
    log = train(small("llama"), small_tokenizer(), rows, loss=pair_losses.dpo(beta=0.1))
    assert log.attrs["pairs"] == 3
    said = capsys.readouterr().out
    assert "1 unusable rows" in said and "row 1, column rejected" in said and "equal answers: 1 set aside" in said


def test_rows_of_which_none_can_be_used_are_refused():
    with pytest.raises(ValueError, match="row 1, column chosen"):
        train(small("llama"), small_tokenizer(), [{"prompt": "Hi"}] * 2, loss=pair_losses.dpo(beta=0.1))


def test_a_loss_of_ones_own_that_is_nan_halts_before_any_step():
    model = small("llama")
    start = copy.deepcopy(model)
    with pytest.raises(ValueError, match="loss <lambda> is nan for pair 1 of 3: training halted"):
        train(model, small_tokenizer(), PAIRS, loss=lambda policy, reference: policy.chosen * math.nan)
    assert all(torch.equal(*both) for both in zip(model.parameters(), start.parameters(), strict=True))


def test_kto_needs_two_pairs_in_a_batch():
    with pytest.raises(ValueError, match="KTO needs batches of two pairs or more"):
        train(small("llama"), small_tokenizer(), PAIRS[:1], loss=KTO(beta=0.1))


def test_a_nan_of_a_loss_of_ours_names_the_loss():
    model = small("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"loss dpo\(beta=0.1\) is nan for pair 1 of"):
        train(model, small_tokenizer(), PAIRS, loss=pair_losses.dpo(beta=0.1))
