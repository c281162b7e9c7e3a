"""The family of preference losses, trained by one loop on the same pairs: DPO, IPO, cDPO, KTO, ORPO, SimPO.

The losses are `losses.*`; batches, order, schedule and optimiser are the same for all, so that a difference is the
loss's. Log-probabilities are summed over an answer's tokens; ORPO and SimPO divide by their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import PairScores, RowNumbers
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.kto import ResponseLogProbs, kto_loss, reference_point
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.losses.mean_log_probs import PairLengths, mean_log_probs
from zephyr_lab.losses.orpo import orpo_loss
from zephyr_lab.losses.simpo import simpo_loss
from zephyr_lab.methods import process
from zephyr_lab.methods.examples import PairExample, pair_examples
from zephyr_lab.methods.held_out_pairs import answer_log_probs, pair_log_probs
from zephyr_lab.methods.loop import Context, train
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.recipes.family import FamilyRecipe
from zephyr_lab.methods.rollouts import Answered, drawn_places, token_log_probs
from zephyr_lab.models import saved

ROWS_AT_ONCE = 32


def build(recipe: FamilyRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train `inputs["policy"]` on the pairs of `inputs["pairs"]` with the recipe's loss.

    Writes the model with its tokenizer to `out` and losses.json, a loss a step. Metrics: steps, pairs, tokens_trained,
    tokens_scored; on held-out pairs accuracy_sum and accuracy_mean (how often the chosen answer has the higher
    log-probability, whole or a token; ties half) and the change of both sides' log-probabilities from the start, in
    nats; CPU seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    policy, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    reference = saved.load_model(start).to(device)
    examples = {}
    for split in (TRAIN, TEST):
        found = pair_rows(inputs["pairs"], split)
        examples[split], account = pair_examples(
            tokenizer,
            found.rows,
            max_length=recipe.max_length,
            max_prompt_length=recipe.max_prompt_length,
            long_prompts=recipe.long_prompts,
            equal_answers="set_aside",
            system_turn=False,
            numbers=found.numbers,
        )
        print(f"{split}: {found.line(account.line())}")
    with metered() as cost:
        trainer = Trainer(recipe, seed, policy, reference, examples[TRAIN])
        losses = train(
            policy,
            [torch.optim.AdamW(policy.parameters(), lr=recipe.learning_rate, weight_decay=0.0)],
            trainer.batch_loss,
            schedule=Schedule(
                steps=trainer.steps, warmup=int(recipe.warmup * trainer.steps), final=recipe.final_share
            ),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every,
            context=context,
        )  # fmt: skip
    saved.save(policy, tokenizer, out)
    files.write_json(out / "losses.json", losses)
    return {
        "steps": float(trainer.steps),
        "pairs": float(len(examples[TRAIN])),
        **trainer.work(),
        **held_out(policy, reference, examples[TEST]),
        **cost.metrics(),
    }


@dataclass(frozen=True)
class Batch:
    """Both answers of some pairs, and the reference's log-probabilities of them where the loss needs them."""

    chosen: Answered
    rejected: Answered
    reference: PairLogProbs | None

    @property
    def lengths(self) -> PairLengths:
        return PairLengths(*(torch.tensor([len(ids) for ids in one.answers]) for one in (self.chosen, self.rejected)))


class Trainer:
    """The loss of each step: all pairs in random order, then all in another."""

    def __init__(
        self,
        recipe: FamilyRecipe,
        seed: int,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        examples: Sequence[PairExample],
    ) -> None:
        self._recipe, self._policy, self._reference, self._examples = recipe, policy, reference, examples
        self._scored: PairLogProbs | None = None
        if recipe.needs_reference:  # once, as dDPO does
            self._scored = pair_log_probs(reference, examples, rows_at_once=ROWS_AT_ONCE)
        batch = min(recipe.batch, len(examples))
        self.steps = max(recipe.epochs * len(examples) // batch, 1)
        self._order = drawn_places(len(examples), rounds=self.steps, at_once=batch, seed=derive(seed, "order"))

    def batch_loss(self, step: int) -> Tensor:
        """Mean over the pairs of the step (KTO: over their answers), the SFT term added."""
        batch = self._batch(self._order[step])
        log_probs, _ = token_log_probs(self._policy, _joined(batch.chosen, batch.rejected))
        half = len(batch.chosen)
        summed = log_probs.sum(dim=1)
        own = PairLogProbs(summed[:half], summed[half:])
        losses = kto_losses(self._unrelated(batch), own, batch.reference, self._recipe) if self._recipe.loss == "kto" \
            else pair_losses(own, batch.reference, batch.lengths, self._recipe)  # fmt: skip
        loss = losses.mean()
        if self._recipe.sft_weight:
            loss = loss - self._recipe.sft_weight * mean_log_probs(own, batch.lengths).chosen.mean()
        return loss

    def work(self) -> dict[str, float]:
        """Tokens read with and without a gradient over the whole training."""
        by_row = [2 * len(one.prompt_ids) + len(one.chosen_ids) + len(one.rejected_ids) for one in self._examples]
        trained = float(sum(by_row[place] for batch in self._order for place in batch))
        scored = float(sum(by_row)) if self._recipe.needs_reference else 0.0
        if self._recipe.loss == "kto":  # policy and reference read the shifted batch, one answer a prompt
            scored += trained
        return {"tokens_trained": trained, "tokens_scored": scored}

    def _batch(self, places: Sequence[int]) -> Batch:
        rows = [self._examples[place] for place in places]
        reference = self._scored
        if reference is not None:
            device = self._policy.device
            chosen, rejected = (
                side[list(places)].float().to(device) for side in (reference.chosen, reference.rejected)
            )
            reference = PairLogProbs(chosen, rejected)
        return Batch(
            _answered(places, rows, [row.chosen_ids for row in rows]),
            _answered(places, rows, [row.rejected_ids for row in rows]),
            reference,
        )

    def _unrelated(self, batch: Batch) -> ResponseLogProbs:
        """Both models on answers that belong to the next prompt of the batch."""
        answers = [*batch.chosen.answers[1:], batch.chosen.answers[0]]
        both = [answer_log_probs(model, batch.chosen.prompts, answers) for model in (self._policy, self._reference)]
        self._policy.train()
        return ResponseLogProbs(*(one.float().to(self._policy.device) for one in both))


def pair_losses(
    own: PairLogProbs, reference: PairLogProbs | None, lengths: PairLengths, recipe: FamilyRecipe
) -> PairScores:
    """The recipe's loss of each pair, KTO's excepted. Raises ValueError where a loss lacks its reference."""
    if recipe.loss == "orpo":
        return orpo_loss(own, lengths, weight=recipe.strength)
    if recipe.loss == "simpo":
        return simpo_loss(own, lengths, beta=recipe.strength, gamma=recipe.second)
    if reference is None:
        raise ValueError(f"{recipe.loss} needs the reference's log-probabilities")
    if recipe.loss == "ipo":
        return ipo_loss(own, reference, tau=recipe.strength)
    if recipe.loss == "cdpo":
        return cdpo_loss(own, reference, beta=recipe.strength, label_smoothing=recipe.second)
    return dpo_loss(own, reference, beta=recipe.strength)


def kto_losses(
    unrelated: ResponseLogProbs, own: PairLogProbs, reference: PairLogProbs | None, recipe: FamilyRecipe
) -> RowNumbers:
    """KTO's loss of each answer: the chosen ones are desirable, the rejected ones are not."""
    if reference is None:
        raise ValueError("kto needs the reference's log-probabilities")
    responses = ResponseLogProbs(
        torch.cat([own.chosen, own.rejected]), torch.cat([reference.chosen, reference.rejected])
    )
    half = len(own.chosen)
    desirable = torch.arange(2 * half, device=own.chosen.device) < half
    return kto_loss(responses, desirable, reference_point(unrelated), beta=recipe.strength)


def held_out(policy: PreTrainedModel, reference: PreTrainedModel, examples: Sequence[PairExample]) -> dict[str, float]:
    """Accuracies of the policy's own ranking, and how far both sides moved from the start, means over pairs."""
    own, begun = (pair_log_probs(model, examples, rows_at_once=ROWS_AT_ONCE) for model in (policy, reference))
    chosen, rejected = (
        torch.tensor([len(getattr(one, side)) for one in examples]) for side in ("chosen_ids", "rejected_ids")
    )
    return {
        "held_out_accuracy_sum": _share_higher(own.chosen, own.rejected),
        "held_out_accuracy_mean": _share_higher(own.chosen / chosen, own.rejected / rejected),
        "held_out_moved_chosen": (own.chosen - begun.chosen).mean().item(),
        "held_out_moved_rejected": (own.rejected - begun.rejected).mean().item(),
        "held_out_pairs": float(len(examples)),
    }


def _share_higher(chosen: Tensor, rejected: Tensor) -> float:
    return ((torch.sign(chosen - rejected) + 1) / 2).mean().item()


def _answered(places: Sequence[int], rows: Sequence[PairExample], answers: list[list[int]]) -> Answered:
    return Answered(list(places), [row.prompt_ids for row in rows], answers, [True] * len(answers))


def _joined(first: Answered, second: Answered) -> Answered:
    return Answered(
        first.places + second.places,
        first.prompts + second.prompts,
        first.answers + second.answers,
        first.finished + second.finished,
    )
