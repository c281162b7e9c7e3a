"""Online DPO: at each step the policy of the moment answers, a reward labels its answers, DPO learns the pair.

Guo et al. 2024, arXiv 2402.04792 (direct alignment from AI feedback, online). The loss is `losses.dpo`; the pairs are
on-policy, which is what the offline ones lack.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods.calling import Progress, Run, settings_by_keyword
from zephyr_lab.methods.loop import train
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.recipes.rollouts import OnlineDPO
from zephyr_lab.methods.rollouts import Reference, Rollouts, Watch, adamw, rollouts_of, scored, token_log_probs
from zephyr_lab.models.causal import without_dropout


@settings_by_keyword(OnlineDPO)
def train_online_dpo(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Any,
    *,
    recipe: OnlineDPO,
    reward: Any,
    reference: nn.Module | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> pd.DataFrame:
    """Train `model`, a causal LM with adapters or without, by DPO on pairs of its own answers that `reward` ranks.

    At each step `batch` prompts get `samples` answers each; the best and the worst make a pair, DPO's loss (Rafailov et
    al. 2023, eq. 7) is averaged over the prompts, a prompt whose answers are worth the same counting as 0. No dropout
    is drawn.

    prompts, reward (a judge's score, say), reference, watch, checkpoints: as for `train_ppo`.

    Returns a row a step: step, reward (mean of all answers), kl (nats an answer, of the pairs), length (tokens), tied
    (share of prompts whose answers are worth the same; they teach nothing), tokens spent, loss (before the update: ln 2
    * (1 - tied) at the first). attrs: "rows" (an account of the prompts). Raises as `train_ppo`.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> def brief(prompts, answers):
    ...     return [-float(len(answer)) for answer in answers]
    >>> prompts = [{"prompt": "Hi"}] * 4
    >>> log = train_online_dpo(model, tokenizer, prompts, reward=brief, batch=4, steps=2, max_new_tokens=8)
    >>> log["step"].tolist()
    [1, 2]
    """
    run = Run.begin("online DPO", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    rollouts = rollouts_of(prompts, model, tokenizer, recipe, reward=reward, seed=seed, run=run, watch=watch)
    run.trains_on(rollouts.questions.ids)
    with without_dropout(model):
        losses = train(
            model,
            [adamw(model, learning_rate=recipe.learning_rate)],
            Trainer(rollouts, Reference.of(model, reference), model).batch_loss,
            schedule=Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every,
            context=run,
        )
    model.eval()
    return rollouts.frame(losses, method="train_online_dpo")


@dataclass(frozen=True)
class Trainer:
    """The loss of each step, on answers drawn in it."""

    rollouts: Rollouts
    reference: Reference
    policy: nn.Module

    def batch_loss(self, step: int) -> Tensor:
        """Mean DPO loss over the questions of the step; a tied question counts as 0."""
        rollouts, recipe = self.rollouts, self.rollouts.recipe
        answered = rollouts.draw(self.policy, step)
        rewards = rollouts.reward.of(answered, step)
        rng = random.Random(derive(rollouts.seed, "judge", step))
        seen = [reward + rng.gauss(0.0, recipe.judge_sd) for reward in rewards]
        chosen, rejected = best_and_worst(seen, samples=recipe.samples)
        pair = answered.subset([*chosen, *rejected])
        with self.reference.model() as model:
            reference = scored(model, pair).sum(dim=1)
        log_probs, _ = token_log_probs(self.policy, pair)
        own = log_probs.sum(dim=1)
        losses = pair_losses(own, reference, beta=recipe.beta)
        differs = torch.tensor([seen[w] > seen[v] for w, v in zip(chosen, rejected, strict=True)], device=own.device)
        rollouts.note(
            step,
            answered,
            scored=pair.read_tokens,
            trained=pair.read_tokens,
            reward=sum(rewards) / len(rewards),
            kl=(own.detach() - reference).mean().item(),
            length=answered.mean_length,
            tied=1 - differs.float().mean().item(),
        )
        return (losses * differs).mean()


def best_and_worst(seen: list[float], *, samples: int) -> tuple[list[int], list[int]]:
    """Rows of the best and of the worst answer to each question, the first of equals, in groups of `samples` rows."""
    chosen, rejected = [], []
    for first in range(0, len(seen), samples):
        group = range(first, first + samples)
        chosen.append(max(group, key=seen.__getitem__))
        rejected.append(min(group, key=seen.__getitem__))
    return chosen, rejected


def pair_losses(own: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """DPO's loss of each pair; the first half of the rows are the chosen answers, the second the rejected ones."""
    half = len(own) // 2
    return dpo_loss(PairLogProbs(own[:half], own[half:]), PairLogProbs(reference[:half], reference[half:]), beta=beta)
