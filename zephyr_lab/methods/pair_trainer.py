"""DPOTrainer with the loss handed over: what the lean path and the plain one share.

TRL keeps its loop, batches, rows, logs and their names, checkpoints and accelerate. How a batch is scored is a
subclass's: `shared_prompt_dpo` computes each pair's prompt once, `plain_pairs` pads rows and takes whole logits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from trl import DPOTrainer
from trl.trainer.utils import use_adapter

from zephyr_lab.losses.fast.pair_head import HeadLoss
from zephyr_lab.losses.fast.pair_losses import PairLoss
from zephyr_lab.losses.log_probs import PairLogProbs

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
            found = self.log_probs(self.accelerator.unwrap_model(model), inputs)
        return found.chosen.float(), found.rejected.float()

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
        found, of_chosen = self.scored(model, inputs, reference)
        self._log_rewards(found.log_probs, reference)
        self._log_responses(found, of_chosen, inputs["attention_mask"])
        if not return_outputs:
            return found.loss
        with torch.no_grad():  # whole logits for compute_metrics, by a pass of their own as in TRL
            rows = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            return found.loss, model(**rows, use_cache=False)

    def _log_rewards(self, policy: PairLogProbs, reference: PairLogProbs) -> None:
        chosen = self.accelerator.gather(self.beta * (policy.chosen - reference.chosen))
        rejected = self.accelerator.gather(self.beta * (policy.rejected - reference.rejected))
        self._note("rewards/chosen", chosen.mean())
        self._note("rewards/rejected", rejected.mean())
        self._note("rewards/accuracies", (chosen > rejected).double().mean())
        self._note("rewards/margins", (chosen - rejected).mean())
        self._note("logps/chosen", self.accelerator.gather(policy.chosen).mean())
        self._note("logps/rejected", self.accelerator.gather(policy.rejected).mean())

    def _log_responses(self, found: HeadLoss, of_chosen: Tensor, attention_mask: Tensor) -> None:
        """Means over the tokens of responses, under TRL's names."""
        statistics = found.statistics
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
