"""Preference training with any loss of the family, by one loop on the same pairs: DPO, IPO, cDPO, KTO, ORPO, SimPO.

The losses are `losses.*`, or one of your own; batches, order, schedule and optimiser are the same for all, so that a
difference is the loss's. Log-probabilities are summed over an answer's tokens; ORPO and SimPO divide by their number.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import RowNumbers
from zephyr_lab.data.splits import TRAIN
from zephyr_lab.losses.fast.pair_losses import NamedLoss, PairLoss, as_pair_loss, name_of
from zephyr_lab.losses.kto import ResponseLogProbs, kto_loss, reference_point
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs
from zephyr_lab.methods.calling import Progress, Run, log_frame, require_room, settings_by_keyword
from zephyr_lab.methods.examples import PairExample, read_pairs
from zephyr_lab.methods.held_out_pairs import answer_log_probs, own_ranking, pair_log_probs
from zephyr_lab.methods.loop import drawn_places, train
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.recipes.pairs import Preference
from zephyr_lab.methods.rollouts import (
    Answered,
    Reference,
    adamw,
    require_comparable,
    token_log_probs,
)
from zephyr_lab.models.causal import causal_model, without_dropout

ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Batch:
    """Both answers of some pairs, and the reference's log-probabilities of them where the loss needs them."""

    chosen: Answered
    rejected: Answered
    reference: PairLogProbs | None
    device: torch.device

    @property
    def lengths(self) -> PairLengths:
        return PairLengths(
            *(
                torch.tensor([len(ids) for ids in one.answers], device=self.device)
                for one in (self.chosen, self.rejected)
            )
        )


@dataclass(frozen=True)
class OfPairs:
    """A loss of each pair, on its own. reads: forward passes without a gradient that a loss makes over each batch."""

    loss: NamedLoss
    reads: ClassVar[int] = 0

    @property
    def needs_reference(self) -> bool:
        return self.loss.needs_reference

    def __call__(self, own: PairLogProbs, batch: Batch, policy: nn.Module, reference: Reference) -> Tensor:
        del policy, reference
        return self.loss(own, batch.reference, batch.lengths)


@dataclass(frozen=True, kw_only=True)
class KTO:
    """KTO's loss of each answer (Ethayarajh et al. 2024, section 4.1): the chosen ones are desirable, the rejected ones
    are not. Its reference point comes from the batch's chosen answers, each behind the next pair's prompt."""

    beta: float
    needs_reference: ClassVar[bool] = True
    reads: ClassVar[int] = 1  # by policy and reference, one answer a prompt: as much as both answers once

    def __call__(self, own: PairLogProbs, batch: Batch, policy: nn.Module, reference: Reference) -> RowNumbers:
        if len(batch.chosen) < 2:
            raise ValueError("KTO needs batches of two pairs or more: its reference point comes from a shifted batch")
        responses = ResponseLogProbs(
            torch.cat([own.chosen, own.rejected]), torch.cat([batch.reference.chosen, batch.reference.rejected])
        )
        half = len(own.chosen)
        desirable = torch.arange(2 * half, device=own.chosen.device) < half
        return kto_loss(
            responses, desirable, reference_point(self._unrelated(batch, policy, reference)), beta=self.beta
        )

    def _unrelated(self, batch: Batch, policy: nn.Module, reference: Reference) -> ResponseLogProbs:
        """Both models on answers that belong to the next prompt of the batch."""
        answers = [*batch.chosen.answers[1:], batch.chosen.answers[0]]
        own = answer_log_probs(causal_model(policy), batch.chosen.prompts, answers)
        policy.train()
        with reference.model() as model:
            theirs = answer_log_probs(model, batch.chosen.prompts, answers)
        return ResponseLogProbs(*(one.float().to(batch.device) for one in (own, theirs)))


@settings_by_keyword(Preference)
def train_preference(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Any,
    *,
    recipe: Preference,
    loss: PairLoss | KTO,
    reference: nn.Module | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Train `model`, a causal LM with adapters or without, on preference pairs by any loss of a pair.

    loss: one of `losses.fast.pair_losses` (dpo(beta=0.1), ipo, cdpo, orpo, simpo), `KTO(beta=0.1)`, or a function of
    your own: (policy, reference) -> one loss a pair, with `.chosen` and `.rejected` of shape (pair,), log-probabilities
    in nats summed over an answer's tokens (see `pair_losses.as_pair_loss`). The mean over a batch's pairs (KTO: over
    its answers) is descended. No dropout is drawn.

    pairs: rows {"prompt", "chosen", "rejected"} as TRL has them, or a `Split`; pairs of equal answers are set aside.
    Every step takes a whole batch (all pairs, where they are fewer): those left over after the last one wait.
    reference: by default the model as it stands now, a peft model with its adapters off; its log-probabilities are
    computed once.

    Returns a row an optimiser step: step, loss (before the update). attrs: "rows" (an account a split), "pairs",
    "tokens_trained" and "tokens_scored" (read with and without a gradient).

    Raises ValueError for a loss of another shape or one that is not finite, naming the step or the pair; for a model
    on two devices or a foreign tokenizer, and where no pair can be used.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> def hinge(policy, reference):
    ...     margin = (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)
    ...     return (1 - 0.1 * margin).clamp(min=0)
    >>> pairs = [{"prompt": "Capital of France?", "chosen": " Paris.", "rejected": " Lyon."}] * 4
    >>> log = train_preference(model, tokenizer, pairs, loss=hinge, batch=4, learning_rate=1e-3)
    train: 0 unusable rows; 4 rows, 4 used
    >>> float(log["loss"].iloc[0])
    1.0
    """
    run = Run.begin("preference", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    form = loss if isinstance(loss, KTO) else OfPairs(as_pair_loss(loss))
    examples, account = read_pairs(recipe, tokenizer, pairs, name=TRAIN)
    require_room(max(example.longest for example in examples), model, reference)
    run.trains_on(examples, loss=repr(form) if isinstance(form, KTO) else name_of(form.loss.function))
    with without_dropout(model):
        trainer = Trainer(recipe, seed, model, reference, examples, form)
        losses = train(
            model,
            [adamw(model, learning_rate=recipe.learning_rate)],
            trainer.batch_loss,
            schedule=Schedule(steps=trainer.steps, warmup=int(recipe.warmup * trainer.steps), final=recipe.final_share),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every,
            context=run,
        )
    model.eval()
    return log_frame(
        [{"step": step, "loss": value} for step, value in enumerate(losses, start=1)],
        method="train_preference",
        recipe=recipe,
        seed=seed,
        path="plain: one loop for all losses",
        rows={TRAIN: asdict(account)},
        pairs=len(examples),
        **trainer.work(),
    )


def train_kto(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Any, *, beta: float = 0.1, **settings: Any
) -> pd.DataFrame:
    """`train_preference` with `KTO`; beta as in the paper."""
    return train_preference(model, tokenizer, pairs, loss=KTO(beta=beta), **settings)


class Trainer:
    """The loss of each step: all pairs in random order, then all in another."""

    def __init__(
        self,
        recipe: Preference,
        seed: int,
        policy: nn.Module,
        reference: nn.Module | None,
        examples: Sequence[PairExample],
        loss: OfPairs | KTO,
    ) -> None:
        self._recipe, self._policy, self._examples, self._loss = recipe, policy, examples, loss
        self._reference = Reference(lambda: _start(policy, reference))
        self._scored: PairLogProbs | None = None
        if loss.needs_reference:  # once, as dDPO does: before any step the policy is the reference
            if reference is not None:
                require_comparable(policy, reference)
            with self._reference.model() as model:
                self._scored = pair_log_probs(model, examples, rows_at_once=ROWS_AT_ONCE)
        if loss.reads:
            self._reference = Reference.of(policy, reference)
        batch = min(recipe.batch, len(examples))
        self.steps = max(recipe.epochs * len(examples) // batch, 1)
        self._order = drawn_places(len(examples), rounds=self.steps, at_once=batch, seed=derive(seed, "order"))

    def batch_loss(self, step: int) -> Tensor:
        """Mean over the pairs of the step (KTO: over their answers), the SFT term added."""
        batch = self._batch(self._order[step])
        log_probs, _ = token_log_probs(self._policy, batch.chosen + batch.rejected)
        half = len(batch.chosen)
        summed = log_probs.sum(dim=1)
        own = PairLogProbs(summed[:half], summed[half:])
        loss = self._loss(own, batch, self._policy, self._reference).mean()
        if self._recipe.sft_weight:
            loss = loss - self._recipe.sft_weight * mean_log_probs(own, batch.lengths).chosen.mean()
        return loss

    def work(self) -> dict[str, float]:
        """Tokens read with and without a gradient over the whole training."""
        trained = float(sum(self._examples[place].tokens for batch in self._order for place in batch))
        scored = float(sum(one.tokens for one in self._examples)) if self._loss.needs_reference else 0.0
        return {"tokens_trained": trained, "tokens_scored": scored + self._loss.reads * trained}

    def _batch(self, places: Sequence[int]) -> Batch:
        rows = [self._examples[place] for place in places]
        reference, device = self._scored, self._policy.device
        if reference is not None:
            chosen, rejected = (
                side[list(places)].float().to(device) for side in (reference.chosen, reference.rejected)
            )
            reference = PairLogProbs(chosen, rejected)
        return Batch(
            _answered(places, rows, [row.chosen_ids for row in rows]),
            _answered(places, rows, [row.rejected_ids for row in rows]),
            reference,
            device,
        )


def _start(policy: nn.Module, reference: nn.Module | None) -> AbstractContextManager[PreTrainedModel]:
    """The reference before the first step: no copy of the policy is needed for it."""
    if reference is None and not hasattr(policy, "disable_adapter"):
        return nullcontext(causal_model(policy).eval())
    return Reference.of(policy, reference).model()


def held_out(policy: PreTrainedModel, begun: PairLogProbs, examples: Sequence[PairExample]) -> dict[str, float]:
    """Accuracies of the policy's own ranking (`own_ranking`), and how far both sides moved from `begun`, those of the
    start, in nats; means over pairs."""
    own = pair_log_probs(policy, examples, rows_at_once=ROWS_AT_ONCE)
    ranking = own_ranking(own, examples)
    return {
        "held_out_accuracy_sum": ranking["sum"],
        "held_out_accuracy_mean": ranking["mean"],
        "held_out_moved_chosen": (own.chosen - begun.chosen).mean().item(),
        "held_out_moved_rejected": (own.rejected - begun.rejected).mean().item(),
        "held_out_pairs": ranking["pairs"],
    }


def _answered(places: Sequence[int], rows: Sequence[PairExample], answers: list[list[int]]) -> Answered:
    return Answered(list(places), [row.prompt_ids for row in rows], answers, [True] * len(answers))
