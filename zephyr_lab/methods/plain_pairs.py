"""Preference pairs scored the plain way: padded rows, whole logits. The oracle of the lean path, and its fallback.

Serves any causal model that takes ids and a mask, at the price of a prompt read twice and of all logits at once.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from zephyr_lab.core.shapes import at_least_float32
from zephyr_lab.losses.fast.pair_head import HeadLoss, HeadStatistics
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.methods.pair_trainer import PairLossTrainer
from zephyr_lab.methods.trl_adapters import StageDPOTrainer


class PlainPairTrainer(StageDPOTrainer, PairLossTrainer):
    """A stage's DPOTrainer on padded rows and whole logits."""

    def scored(self, model: nn.Module, inputs: dict[str, Tensor], reference: PairLogProbs) -> tuple[HeadLoss, Tensor]:
        logits, counted = answer_logits(model, inputs)
        policy = _summed(logits, inputs["input_ids"], counted)
        lengths = PairLengths(*counted.sum(dim=1).chunk(2))
        found = HeadLoss(
            self.pair_loss(policy, reference, lengths).mean(),
            PairLogProbs(policy.chosen.detach(), policy.rejected.detach()),
            _statistics(logits.detach()[counted], inputs["input_ids"][:, 1:][counted]),
        )
        rows = torch.arange(len(counted), device=counted.device)[:, None].expand(counted.shape)[counted]
        return found, rows < len(counted) // 2

    def log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> PairLogProbs:
        logits, counted = answer_logits(model, inputs)
        return _summed(logits, inputs["input_ids"], counted)


def answer_logits(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits of the tokens 1, 2, ... of each row, (row, position, entry), and which of them belong to an answer.

    Rows are a batch of TRL's: the chosen ones first, then the rejected ones. Prompt learning puts positions before the
    ids; they are left out.
    """
    ids = inputs["input_ids"]
    logits = model(input_ids=ids, attention_mask=inputs["attention_mask"], use_cache=False).logits
    return at_least_float32(logits[:, -ids.shape[1] : -1]), inputs["completion_mask"][:, 1:].bool()


def _summed(logits: Tensor, ids: Tensor, counted: Tensor) -> PairLogProbs:
    log_probs = -cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return PairLogProbs(*torch.where(counted, log_probs, 0.0).sum(dim=1).chunk(2))


def _statistics(logits: Tensor, targets: Tensor) -> HeadStatistics:
    return HeadStatistics(
        entropy=torch.special.entr(logits.softmax(dim=-1)).sum(dim=-1),
        mean_logit=logits.mean(dim=-1),
        likeliest=logits.gather(1, targets[:, None]).squeeze(1) >= logits.amax(dim=-1),
    )
