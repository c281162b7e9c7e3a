"""TRL's DPOTrainer with each pair's prompt computed once: the loss is `losses.fast.shared_prompt`'s, the rest is TRL's.

Batches, logs and their names, checkpoints, accelerate and the order of rows stay as they are; losses and gradients
differ from TRL's own by rounding. Settings and models that this cannot do exactly are refused.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from zephyr_lab.losses.fast import pair_losses, shared_prompt
from zephyr_lab.losses.fast.pair_head import HeadLoss
from zephyr_lab.losses.fast.pair_losses import PairLoss
from zephyr_lab.losses.fast.pair_packing import PackedPairs, from_padded
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.losses.mean_log_probs import PairLengths, mean_log_probs
from zephyr_lab.models.lean_feed_forward import lean_feed_forward
from zephyr_lab.training.trl_adapters import StageDPOTrainer

PLAIN = "train with StageDPOTrainer or TRL's own DPOTrainer (in a recipe shared_prompt = false)"


class SharedPromptDPOTrainer(StageDPOTrainer):
    """A stage's DPO trainer on packed pairs. Raises ValueError, when made, for settings that need TRL's own path."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _require_reference(kwargs.get("ref_model"), kwargs["args"])
        super().__init__(*args, **kwargs)
        self._pair_loss = _pair_loss(self.loss_types, self.beta)
        if self.aux_loss_enabled:
            raise _refusal("a mixture's balancing loss would count shared prompts once; set router_aux_loss_coef to 0")
        # Not in the first step: there accelerate's autocast is on, and one that is entered twice stays on for good.
        shared_prompt.require_exact(self.model)
        accept_packed(self.model)

    def compute_ref_log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The reference's log-probabilities of both responses, shape (pair,) each, in the batches' float32."""
        with torch.no_grad(), self.accelerator.autocast():
            found = shared_prompt.pair_log_probs(self.accelerator.unwrap_model(model), _packed(inputs))
        return found.chosen.float(), found.rejected.float()

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        if return_outputs:
            raise _refusal("compute_metrics asks for logits, which are never made")
        packed = _packed(inputs)
        if self.precompute_ref_logps:
            reference = PairLogProbs(inputs["ref_chosen_logps"], inputs["ref_rejected_logps"])
        else:
            reference = PairLogProbs(*self.compute_ref_log_probs(self.ref_model, inputs))
        found = model(packed_loss=(packed, reference, self._pair_loss))
        self._log_rewards(found.log_probs, reference)
        self._log_responses(found, packed, inputs["attention_mask"])
        return found.loss

    def _log_rewards(self, policy: PairLogProbs, reference: PairLogProbs) -> None:
        chosen = self.accelerator.gather(self.beta * (policy.chosen - reference.chosen))
        rejected = self.accelerator.gather(self.beta * (policy.rejected - reference.rejected))
        self._note("rewards/chosen", chosen.mean())
        self._note("rewards/rejected", rejected.mean())
        self._note("rewards/accuracies", (chosen > rejected).double().mean())
        self._note("rewards/margins", (chosen - rejected).mean())
        self._note("logps/chosen", self.accelerator.gather(policy.chosen).mean())
        self._note("logps/rejected", self.accelerator.gather(policy.rejected).mean())

    def _log_responses(self, found: HeadLoss, packed: PackedPairs, attention_mask: Tensor) -> None:
        """Means over the tokens of responses, under TRL's names."""
        statistics, of_chosen = found.statistics, packed.of_chosen()
        self._note("entropy", self._mean(statistics.entropy))
        self._note("mean_token_accuracy", self._mean(statistics.likeliest[of_chosen].double()))
        self._note("logits/chosen", self._mean(statistics.mean_logit[of_chosen]))
        self._note("logits/rejected", self._mean(statistics.mean_logit[~of_chosen]))
        if self.model.training:
            self._total_train_tokens += self.accelerator.gather_for_metrics(attention_mask.sum()).sum().item()
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


def accept_packed(model: nn.Module) -> None:
    """Let `model(packed_loss=(packed, reference, pair_loss))` give `shared_prompt.loss`; other calls stay as they are.

    Wrappers that spread a model over processes see a gradient only if it comes out of the wrapped `forward`.
    """
    usual = model.forward

    @functools.wraps(usual)  # `generate` reads the signature
    def forward(
        *args: Any, packed_loss: tuple[PackedPairs, PairLogProbs, PairLoss] | None = None, **kwargs: Any
    ) -> Any:
        if packed_loss is None:
            return usual(*args, **kwargs)
        with lean_feed_forward(model):
            return shared_prompt.loss(model, *packed_loss)

    model.forward = forward


def _packed(inputs: dict[str, Tensor]) -> PackedPairs:
    return from_padded(inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"])


def _pair_loss(loss_types: list[str], beta: float) -> PairLoss:
    """TRL's loss by its name. Its "ipo" takes the mean over tokens where the paper's h has the sum."""
    known = {"sigmoid": pair_losses.dpo(beta=beta), "ipo": _mean_ipo(tau=beta)}
    if len(loss_types) != 1 or loss_types[0] not in known:
        raise _refusal(f"loss_type must be one of {', '.join(known)}, got {', '.join(loss_types)}")
    return known[loss_types[0]]


def _mean_ipo(*, tau: float) -> PairLoss:
    def loss(policy: PairLogProbs, reference: PairLogProbs | None, lengths: PairLengths) -> Tensor:
        return ipo_loss(mean_log_probs(policy, lengths), mean_log_probs(reference, lengths), tau=tau)

    return loss


def _require_reference(reference: nn.Module | None, settings: Any) -> None:
    if reference is None:
        raise _refusal("the reference must be handed over as ref_model")
    if settings.gradient_checkpointing:
        raise _refusal("gradient_checkpointing would run layers again without the packed pairs; set it to False")
    for name, usual in (("ld_alpha", None), ("use_weighting", False), ("f_divergence_type", "reverse_kl")):
        if getattr(settings, name) != usual:
            raise _refusal(f"{name} must be {usual}, got {getattr(settings, name)}")


def _refusal(reason: str) -> ValueError:
    return ValueError(f"no shared prompt: {reason}; or {PLAIN}")
