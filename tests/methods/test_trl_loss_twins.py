"""IPO, cDPO, KTO, ORPO and SimPO give TRL's values, where TRL has them, on the same log-probabilities.

Where TRL's formula is not the paper's, the difference is undone here first, so that its end shows as a failure.
"""

import warnings
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from tiny_models import small_model, small_tokenizer
from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.kto import ResponseLogProbs, kto_loss, reference_point
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs
from zephyr_lab.losses.orpo import odds_ratio_loss, orpo_loss
from zephyr_lab.losses.simpo import simpo_loss

with warnings.catch_warnings():  # each import of an experimental trainer warns that it may go
    warnings.simplefilter("ignore")
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

QUIET = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "per_device_train_batch_size": 4,
    "max_length": None,
}
CHOSEN = ["Hello Ida.", "Oslo is a city.", "Four", "It rains."]
REJECTED = ["no", "I do not know, sorry.", "Five, or six", "Sun."]


def random_pairs(seed: int) -> PairLogProbs:
    drawn = torch.rand(2, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return PairLogProbs(*(-3 * drawn))


def settings(**values):
    """What a method of a trainer reads from the trainer; the CPU is the device of all tensors."""
    return SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), **values)


def response_log_probs(model, ids, mask, completion_mask):
    """Summed log-probabilities of the completions and their token counts, shape (row,) each, by plain torch."""
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    picked = logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    counted = completion_mask[:, 1:]
    return (picked * counted).sum(dim=1), counted.sum(dim=1)


def test_ipo_is_trl_s_once_its_division_by_length_is_undone(tmp_path):
    rows = Dataset.from_list(
        [{"prompt": "Say it: ", "chosen": good, "rejected": bad} for good, bad in zip(CHOSEN, REJECTED, strict=True)]
    )
    policy, reference = small_model(0), small_model(1)
    config = DPOConfig(output_dir=str(tmp_path), loss_type="ipo", beta=0.3, **QUIET)
    trainer = DPOTrainer(
        model=policy, ref_model=reference, args=config, train_dataset=rows, processing_class=small_tokenizer()
    )
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(policy, dict(batch))
    given = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
    with torch.no_grad():
        by_policy, counts = response_log_probs(policy, *given)
        by_reference, _ = response_log_probs(reference, *given)
    lengths = PairLengths(*counts.chunk(2))
    assert (lengths.chosen != lengths.rejected).any()
    # TRL takes the mean over tokens of each answer where the paper's h (eq. 11) takes the sum
    policy_means = mean_log_probs(PairLogProbs(*by_policy.chunk(2)), lengths)
    reference_means = mean_log_probs(PairLogProbs(*by_reference.chunk(2)), lengths)
    ours = ipo_loss(policy_means, reference_means, tau=0.3).mean()
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-5)
    summed = ipo_loss(PairLogProbs(*by_policy.chunk(2)), PairLogProbs(*by_reference.chunk(2)), tau=0.3).mean()
    assert abs(summed.item() - theirs.item()) > 1.0


def test_cdpo_is_cpo_s_smoothed_sigmoid_of_log_ratios():
    # TRL's DPO trainer has no cDPO; CPO's loss has, without reference, so it is given log-ratios
    policy, reference = random_pairs(0), random_pairs(1)
    trainer = settings(alpha=0.0, beta=0.5, loss_type="sigmoid", label_smoothing=0.2)
    theirs, *_ = CPOTrainer.cpo_loss(trainer, policy.chosen - reference.chosen, policy.rejected - reference.rejected)
    torch.testing.assert_close(cdpo_loss(policy, reference, beta=0.5, label_smoothing=0.2), theirs)


def test_simpo_is_cpo_s():
    policy, lengths = random_pairs(2), PairLengths(torch.tensor([3, 1, 4, 1, 5]), torch.tensor([2, 7, 1, 8, 2]))
    means = mean_log_probs(policy, lengths)  # as its get_batch_logps gives them to "simpo"
    trainer = settings(alpha=0.0, beta=2.0, loss_type="simpo", label_smoothing=0.0, simpo_gamma=0.5)
    theirs, *_ = CPOTrainer.cpo_loss(trainer, means.chosen, means.rejected)
    torch.testing.assert_close(simpo_loss(policy, lengths, beta=2.0, gamma=0.5), theirs)


def test_orpo_s_odds_ratio_is_trl_s_with_its_sign_turned():
    policy, lengths = random_pairs(3), PairLengths(torch.tensor([3, 1, 4, 1, 5]), torch.tensor([2, 7, 1, 8, 2]))
    means = mean_log_probs(policy, lengths)
    gained, *_ = ORPOTrainer.odds_ratio_loss(settings(beta=0.1), means.chosen, means.rejected)
    torch.testing.assert_close(odds_ratio_loss(policy, lengths), -gained.double() / 0.1, rtol=1e-5, atol=1e-6)
    # the whole: its nll less that; TRL averages nll over the tokens of the batch, the paper over those of each answer
    ours = orpo_loss(policy, lengths, weight=0.1).mean()
    assert (-means.chosen.mean() - gained.mean()).item() == pytest.approx(ours.item(), rel=1e-5)


def test_kto_is_trl_s_with_its_reference_point(tmp_path):
    marked = [{"prompt": "Say it: ", "completion": text, "label": True} for text in CHOSEN[:2]]
    marked += [{"prompt": "Say it: ", "completion": text, "label": False} for text in REJECTED[:2]]
    policy, reference = small_model(0), small_model(1)
    config = KTOConfig(output_dir=str(tmp_path), beta=0.2, desirable_weight=1.0, undesirable_weight=1.5, **QUIET)
    trainer = KTOTrainer(
        model=policy,
        ref_model=reference,
        args=config,
        train_dataset=Dataset.from_list(marked),
        processing_class=small_tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(policy, dict(batch))
    answers = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
    unrelated = batch["KL_input_ids"], batch["KL_attention_mask"], batch["KL_completion_mask"]
    with torch.no_grad():
        own = ResponseLogProbs(*(response_log_probs(model, *answers)[0] for model in (policy, reference)))
        other = ResponseLogProbs(*(response_log_probs(model, *unrelated)[0] for model in (policy, reference)))
    desirable = torch.as_tensor(batch["label"], dtype=torch.bool)
    ours = kto_loss(own, desirable, reference_point(other), beta=0.2, desirable_weight=1.0, undesirable_weight=1.5)
    assert 0 < ours.mean().item() != pytest.approx(0.5)
    assert theirs.item() == pytest.approx(ours.mean().item(), rel=1e-5)
