"""SFT and DPO as one loss: algebra, a brute force over tokens, TRL's sum of "sigmoid" and "sft", and training on it."""

import math

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from tiny_models import small_model, small_tokenizer
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.fast import pair_losses
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.losses.sft_dpo import sft_dpo_loss
from zephyr_lab.methods.dpo import LEAN, train_dpo

CHOSEN = ["Hello Ida.", "Oslo is a city.", "Four", "It rains."]
REJECTED = ["no", "I do not know, sorry.", "Five, or six", "Sun."]


def pairs(chosen, rejected):
    return PairLogProbs(*torch.tensor([chosen, rejected], dtype=torch.float64))


def test_the_sum_worked_by_hand():
    # beta * ((-12 + 20) - (-40 + 38)) = 1; SFT: 12 nats over 4 tokens = 3, times 0.5
    lengths = PairLengths(torch.tensor([4]), torch.tensor([8]))
    loss = sft_dpo_loss(pairs([-12.0], [-40.0]), pairs([-20.0], [-38.0]), lengths, beta=0.1, weight=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)) + 0.5 * 3)


def test_value_and_gradient_are_those_of_a_loop_over_tokens():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 7, generator=draws, dtype=torch.float64).requires_grad_()  # side, pair, position, id
    ids = torch.randint(7, (2, 3, 5), generator=draws)
    sizes = torch.tensor([[5, 2, 1], [3, 4, 5]])
    start = torch.randn(2, 3, generator=draws, dtype=torch.float64) - 8

    brute = torch.zeros((), dtype=torch.float64)
    summed = []
    for side in range(2):
        of_side = []
        for pair in range(3):
            total = torch.zeros((), dtype=torch.float64)
            for place in range(sizes[side, pair]):
                scores = logits[side, pair, place]
                total = total + scores[ids[side, pair, place]] - scores.exp().sum().log()
            of_side.append(total)
        summed.append(of_side)
    for pair in range(3):
        margin = (summed[0][pair] - start[0, pair]) - (summed[1][pair] - start[1, pair])
        brute = brute + (1 + (-0.3 * margin).exp()).log() - 0.7 * summed[0][pair] / sizes[0, pair]
    by_hand = torch.autograd.grad(brute / 3, logits, retain_graph=True)[0]

    policy = PairLogProbs(*(torch.stack(of_side) for of_side in summed))
    loss = sft_dpo_loss(policy, PairLogProbs(*start), PairLengths(*sizes), beta=0.3, weight=0.7)
    torch.testing.assert_close(loss.mean(), brute / 3)
    torch.testing.assert_close(torch.autograd.grad(loss.mean(), logits)[0], by_hand)


def test_weight_0_is_dpo():
    policy, reference = pairs([-12.0, -5.0], [-40.0, -6.0]), pairs([-20.0, -5.5], [-38.0, -4.0])
    lengths = PairLengths(torch.tensor([4, 2]), torch.tensor([8, 3]))
    ours = sft_dpo_loss(policy, reference, lengths, beta=0.1, weight=0.0)
    assert torch.equal(ours, dpo_loss(policy, reference, beta=0.1))


@pytest.mark.parametrize("weight", [-0.1, math.nan])
def test_a_weight_below_0_is_refused(weight):
    one = pairs([-1.0], [-2.0])
    with pytest.raises(ValueError, match="weight must be 0 or more"):
        sft_dpo_loss(one, one, PairLengths(torch.tensor([1]), torch.tensor([1])), beta=0.1, weight=weight)


def test_a_pair_s_loss_is_trl_s_sum_of_sigmoid_and_sft(tmp_path):
    # one pair a batch: TRL's "sft" is a mean over all chosen tokens of a batch, ours over those of each answer
    rows = Dataset.from_list(
        [{"prompt": "Say it: ", "chosen": good, "rejected": bad} for good, bad in zip(CHOSEN, REJECTED, strict=True)]
    )
    policy, reference = small_model(0), small_model(1)
    config = DPOConfig(
        output_dir=str(tmp_path), loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5], beta=0.3, max_length=None,
        use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", disable_tqdm=True,
        per_device_train_batch_size=1,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=policy, ref_model=reference, args=config, train_dataset=rows, processing_class=small_tokenizer()
    )
    for batch in trainer.get_train_dataloader():
        theirs = trainer.compute_loss(policy, dict(batch)).item()
        counted = batch["completion_mask"][:, 1:]
        summed = []
        for model in (policy, reference):
            with torch.no_grad():
                logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
            picked = logits.log_softmax(dim=-1).gather(2, batch["input_ids"][:, 1:, None]).squeeze(2)
            summed.append(PairLogProbs(*(picked * counted).sum(dim=1).chunk(2)))
        lengths = PairLengths(*counted.sum(dim=1).chunk(2))
        assert theirs == pytest.approx(sft_dpo_loss(*summed, lengths, beta=0.3, weight=0.5).item(), rel=1e-5)


def test_train_dpo_takes_it_on_the_lean_path_and_holds_the_chosen_answers_up():
    rows = [{"prompt": "Say it: ", "chosen": good, "rejected": bad} for good, bad in zip(CHOSEN, REJECTED, strict=True)]
    settings = {"beta": 0.1, "epochs": 6, "batch": 4, "learning_rate": 5e-3, "max_length": 64, "max_prompt_length": 32}
    both, alone = (
        train_dpo(small_model(0), small_tokenizer(), rows, loss=loss, **settings)
        for loss in (pair_losses.sft_dpo(beta=0.1, weight=1.0), pair_losses.sft_dpo(beta=0.1, weight=0.0))
    )
    assert both.attrs["path"] == LEAN
    # before any step DPO's part is ln 2, the rest the mean loss of a chosen token
    assert alone["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-5) and both["loss"].iloc[0] > 1
    assert both["logps/chosen"].iloc[-1] > max(both["logps/chosen"].iloc[0], alone["logps/chosen"].iloc[-1])
