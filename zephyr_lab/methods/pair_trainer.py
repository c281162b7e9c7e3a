"""DPOTrainer with a loss of the caller's: what the lean path and the plain one share, and the plain one.

TRL keeps its loop, batches, rows, logs and their names, checkpoints and accelerate. How a batch is scored is a
subclass's: `shared_prompt_dpo` computes each pair's prompt once. `PlainPairTrainer` pads rows and takes whole logits:
the oracle of the lean path and its fallback, for any causal model that takes ids and a mask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import use_adapter

from zephyr_lab.core.shapes import at_least_float32
from zephyr_lab.losses.fast.pair_head import HeadLoss, HeadStatistics
from zephyr_lab.losses.fast.pair_losses import PairLoss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.methods.trl_adapters import StageTrainer

SHOWN = 5  # rows that an error names
# What a batch may hold; all else would go to the model by TRL's own path.
BATCH = {"input_ids", "attention_mask", "completion_mask", "ref_chosen_logps", "ref_rejected_logps"}


class PairLossTrainer(DPOTrainer):
    """TRL's DPOTrainer that descends the mean of `pair_loss` over pairs. Without `ref_model` the reference is TRL's: of
    an adapter the adapter as it starts, else the model as it starts."""

    pair_loss: PairLoss

    def scored(self, model: nn.Module, inputs: dict[str, Tensor], reference: PairLogProbs) -> tuple[HeadLoss, Tensor]:
        """Loss, log-probabilities and statistics of a batch; of each statistic, whether it is of a chosen response."""
        raise NotImplementedError

    def log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> PairLogProbs:
        """Log-probabilities of both responses of a batch, without a gradient."""
        raise NotImplementedError

    def compute_ref_log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The reference's log-probabilities of both responses, shape (pair,) each, in the batches' float32."""
        with torch.no_grad(), self._reference_adapter(), self.accelerator.autocast():
            log_probs = self.log_probs(self.accelerator.unwrap_model(model), inputs)
        return log_probs.chosen.float(), log_probs.rejected.float()

    @contextmanager
    def _reference_adapter(self) -> Iterator[None]:
        """Within, a model with adapters and no reference beside it is its own: TRL's copy of the adapter, or none."""
        if self.ref_model is not None or not is_peft_model(self.model):
            yield
            return
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            yield

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        if self.precompute_ref_logps:
            reference = PairLogProbs(inputs["ref_chosen_logps"], inputs["ref_rejected_logps"])
        else:
            own = self.model if self.ref_model is None else self.ref_model
            reference = PairLogProbs(*self.compute_ref_log_probs(own, inputs))
        scored, of_chosen = self.scored(model, inputs, reference)
        self._log_rewards(scored.log_probs, reference)
        self._log_responses(scored.statistics, of_chosen, inputs["attention_mask"])
        if not return_outputs:
            return scored.loss
        with torch.no_grad():  # whole logits for compute_metrics, by a pass of their own as in TRL
            rows = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            return scored.loss, model(**rows, use_cache=False)

    def _log_rewards(self, policy: PairLogProbs, reference: PairLogProbs) -> None:
        gather = self.accelerator.gather
        chosen = gather(self.beta * (policy.chosen - reference.chosen))
        rejected = gather(self.beta * (policy.rejected - reference.rejected))
        self._note("rewards/chosen", chosen.mean())
        self._note("rewards/rejected", rejected.mean())
        self._note("rewards/accuracies", (chosen > rejected).double().mean())
        self._note("rewards/margins", (chosen - rejected).mean())
        self._note("logps/chosen", gather(policy.chosen).mean())
        self._note("logps/rejected", gather(policy.rejected).mean())

    def _log_responses(self, statistics: HeadStatistics, of_chosen: Tensor, attention_mask: Tensor) -> None:
        """Means over the tokens of responses, under TRL's names."""
        self._note("entropy", self._mean(statistics.entropy))
        self._note("mean_token_accuracy", self._mean(statistics.likeliest[of_chosen].double()))
        self._note("logits/chosen", self._mean(statistics.mean_logit[of_chosen]))
        self._note("logits/rejected", self._mean(statistics.mean_logit[~of_chosen]))
        if self.model.training:
            tokens = self.accelerator.gather_for_metrics(attention_mask.sum()).sum().item()
            self._total_train_tokens += tokens // self._tp_size
        self._metrics[self._mode()]["num_tokens"] = [self._total_train_tokens]

    def _mean(self, values: Tensor) -> Tensor:
        """The mean over the values of all processes, which may have unlike numbers of them."""
        both = torch.stack([values.double().sum(), torch.tensor(float(len(values)), device=values.device)])
        total, count = self.accelerator.gather(both).view(-1, 2).sum(dim=0)
        return total / count

    def _note(self, name: str, value: Tensor) -> None:
        self._metrics[self._mode()][name].append(value.item())

    def _mode(self) -> str:
        return "train" if self.model.training else "eval"


def require_answers(rows: Dataset, *, max_length: int | None, truncation_mode: str) -> None:
    """Raises ValueError, naming rows from 1 and their columns, where a prompt or an answer has no token left.

    `truncation_mode` is TRL's: of a prompt with its answer "keep_start" keeps the first `max_length` ids, "keep_end"
    the last. In the middle of a training such a row would stop it, or count as an answer of probability 1.
    """
    bare: list[str] = []
    columns = zip(rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"], strict=True)
    for number, (prompt, *answers) in enumerate(columns, start=1):
        if not prompt:
            bare.append(f"row {number}: prompt_ids is empty")
        for name, answer in zip(("chosen_ids", "rejected_ids"), answers, strict=True):
            if not answer:
                bare.append(f"row {number}: {name} is empty")
            elif max_length is not None and truncation_mode == "keep_start" and len(prompt) >= max_length:
                bare.append(f"row {number}: {name} is cut off whole, {len(prompt)} ids of prompt fill the limit")
            elif max_length is not None and truncation_mode == "keep_end" and len(answer) >= max_length:
                bare.append(f"row {number}: prompt_ids is cut off whole, {len(answer)} ids of {name} fill the limit")
    if bare:
        more = "; ..." if len(bare) > SHOWN else ""
        raise ValueError(
            f"{len(bare)} prompts or answers have no token within max_length {max_length} ({truncation_mode}): "
            f"{'; '.join(bare[:SHOWN])}{more}; take these rows out, or raise max_length (None: no cut)"
        )


class StageDPOTrainer(StageTrainer, DPOTrainer):
    """TRL's DPOTrainer in a stage, fed with ids: its own preparation takes texts only, and drops rows in silence.

    Raises ValueError, when made, for rows whose answers have no token within the settings' `max_length`.
    """

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: DPOConfig, dataset_name: str) -> Dataset:
        if {"prompt_ids", "chosen_ids", "rejected_ids"} <= set(dataset.column_names):
            require_answers(dataset, max_length=args.max_length, truncation_mode=args.truncation_mode)
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """`dataset` with the reference's log-probabilities, in memory; a kill would leave the usual file behind."""
        chosen, rejected = [], []
        for rows in dataset.iter(batch_size):
            batch = self.data_collator([dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)])
            of_chosen, of_rejected = self.compute_ref_log_probs(
                self.ref_model or self.model, self._prepare_inputs(batch)
            )
            chosen += of_chosen.tolist()
            rejected += of_rejected.tolist()
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)


class PlainPairTrainer(StageDPOTrainer, PairLossTrainer):
    """A stage's DPOTrainer on padded rows and whole logits."""

    def scored(self, model: nn.Module, inputs: dict[str, Tensor], reference: PairLogProbs) -> tuple[HeadLoss, Tensor]:
        logits, counted = answer_logits(model, inputs)
        policy = _summed(logits, inputs["input_ids"], counted)
        lengths = PairLengths(*counted.sum(dim=1).chunk(2))
        scored = HeadLoss(
            self.pair_loss(policy, reference, lengths).mean(),
            PairLogProbs(policy.chosen.detach(), policy.rejected.detach()),
            _statistics(logits.detach()[counted], inputs["input_ids"][:, 1:][counted]),
        )
        rows = torch.arange(len(counted), device=counted.device)[:, None].expand(counted.shape)[counted]
        return scored, rows < len(counted) // 2

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
