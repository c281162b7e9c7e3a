"""Online DPO: at each step the policy of the moment answers, the judge labels its answers, DPO learns the pair.

Guo et al. 2024, arXiv 2402.04792 (direct alignment from AI feedback, online). The loss is `losses.dpo`; the pairs are
on-policy, which is what the offline ones lack.
"""

import random
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context, train
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.policy_log import PolicyLog
from zephyr_lab.methods.recipes.rlhf import OnlineDPORecipe
from zephyr_lab.methods.rollouts import (
    Questions,
    Work,
    answer,
    drawn_places,
    finite_rewards,
    repeated,
    reward_for,
    scored,
    token_log_probs,
)
from zephyr_lab.models import saved


def build(
    recipe: OnlineDPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, on pairs of its own answers that the judge labels.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, and log.json, a row a step:
    reward of all answers, KL, length, tied (share of questions whose answers the judge cannot tell apart; they teach
    nothing). Metrics: steps, tokens spent, CPU seconds and memory. Raises ValueError at a loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    with metered() as cost:
        policy = saved.load_model(start).to(device)
        trainer = Trainer(recipe, seed, policy, tokenizer, inputs, start, context)
        train(
            policy,
            [torch.optim.AdamW(policy.parameters(), lr=recipe.learning_rate, weight_decay=0.0)],
            trainer.batch_loss,
            schedule=Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every,
            context=context,
        )
    saved.save(policy, tokenizer, out)
    trainer.log.finish(out)
    return {"steps": float(recipe.steps), **trainer.log.work(), **cost.metrics()}


class Trainer:
    """The loss of each step, on answers drawn in it."""

    def __init__(
        self,
        recipe: OnlineDPORecipe,
        seed: int,
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        inputs: dict[str, Path],
        start: Path,
        context: Context,
    ) -> None:
        self.log = PolicyLog(context.checkpoints)
        self._recipe, self._seed, self._policy, self._tokenizer = recipe, seed, policy, tokenizer
        self._reference = saved.load_model(start).to(policy.device)
        self._questions = Questions.of_pairs(tokenizer, world=recipe.world, prompts=recipe.prompts, seed=seed)
        self._judge = reward_for(recipe, self._questions, tokenizer, inputs, policy.device)
        self._rounds = drawn_places(
            recipe.prompts, rounds=recipe.steps, at_once=recipe.batch, seed=derive(seed, "prompts")
        )

    def batch_loss(self, step: int) -> Tensor:
        """Mean DPO loss over the questions of the step; a tied question counts as 0."""
        recipe = self._recipe
        if step in recipe.keep:
            self.log.keep(step, self._policy, self._tokenizer)
        answered = answer(
            self._policy,
            self._questions,
            repeated(self._rounds[step], recipe.samples),
            max_new_tokens=recipe.max_new_tokens,
            seed=derive(self._seed, "answers", step),
        )
        rewards = finite_rewards(self._judge, answered, step)
        rng = random.Random(derive(self._seed, "judge", step))
        seen = [reward + rng.gauss(0.0, recipe.judge_sd) for reward in rewards]
        chosen, rejected = best_and_worst(seen, samples=recipe.samples)
        pair = answered.subset([*chosen, *rejected])
        reference = scored(self._reference, pair).sum(dim=1)
        log_probs, _ = token_log_probs(self._policy, pair)
        own = log_probs.sum(dim=1)
        losses = pair_losses(own, reference, beta=recipe.beta)
        differs = torch.tensor([seen[w] > seen[v] for w, v in zip(chosen, rejected, strict=True)], device=own.device)
        work = Work(
            generated=answered.tokens,
            prompted=answered.read_tokens - answered.tokens,
            scored=pair.read_tokens,
            trained=pair.read_tokens,
            answers=len(answered),
        )
        self.log.add(
            step,
            work,
            reward=sum(rewards) / len(rewards),
            kl=(own.detach() - reference).mean().item(),
            length=answered.tokens / len(answered),
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
