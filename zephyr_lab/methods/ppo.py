"""PPO on the policy's own answers: rollout, KL penalty by token, GAE, minibatches, and a value head on the policy.

Ziegler et al. 2019 (the KL penalty as a reward), Schulman et al. 2017 (the clipped surrogate). Ours: TRL has none any
more. The losses are `losses.ppo`; this module says what is drawn, when, and with which weights.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.losses import ppo as losses
from zephyr_lab.losses.shapes import AnswerMask, AnswerScores
from zephyr_lab.methods.calling import Progress, Run, settings_by_keyword
from zephyr_lab.methods.loop import train
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.recipes.rollouts import PPO
from zephyr_lab.methods.rollouts import (
    Answered,
    Reference,
    Rollouts,
    Watch,
    adamw,
    hidden_states,
    log_probs_of,
    rollouts_of,
    scored,
)
from zephyr_lab.models.causal import without_dropout
from zephyr_lab.models.logits import body_of


@settings_by_keyword(PPO)
def train_ppo(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Any,
    *,
    recipe: PPO,
    reward: Any,
    reference: nn.Module | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> pd.DataFrame:
    """Train `model`, a causal LM with adapters or without, by PPO on what its own answers to `prompts` are worth.

    Each of `steps` rollouts draws answers, rewards them, takes beta * log-ratio to the reference off at each token
    (Ziegler et al. 2019, eq. 2), computes advantages by GAE, whitened, and makes `passes` * `minibatches` updates on
    the clipped surrogate and the clipped value loss, means over the answers' tokens. The value head lives as long as
    the call. No dropout is drawn.

    prompts: rows {"prompt": text or messages}. reward: `reward(prompts, answers)` with one number an answer, or a
    reward model with one label (see `rollouts.as_reward`). reference: by default the model as it stands now, a peft
    model with its adapters off. watch(rollouts taken, model) is called before each rollout. checkpoints: a folder to
    resume from after a kill.

    Returns a row a rollout: step, reward (mean), kl (k1, nats an answer), length (tokens), value_error, tokens spent,
    loss (that of the rollout's first update). attrs: "updates" (the loss of every update), "rows" (an account of the
    prompts).

    Raises ValueError for a reward or a loss that is not finite, naming the step; for a model on two devices, a foreign
    tokenizer, and prompts too few for a batch.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> def brief(prompts, answers):
    ...     return [-float(len(answer)) for answer in answers]
    >>> log = train_ppo(model, tokenizer, [{"prompt": "Hi"}] * 4, reward=brief, batch=4, steps=2, max_new_tokens=8)
    >>> log["step"].tolist()
    [1, 2]
    """
    run = Run.begin("PPO", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    rollouts = rollouts_of(prompts, model, tokenizer, recipe, reward=reward, seed=seed, run=run, watch=watch)
    run.trains_on(rollouts.questions.ids)
    with without_dropout(model):
        trainer = Trainer(rollouts, Reference.of(model, reference), ActorCritic(model))
        updates = train(
            trainer.actor,
            [adamw(trainer.actor, learning_rate=recipe.learning_rate)],
            trainer.batch_loss,
            schedule=Schedule(
                steps=recipe.steps * recipe.updates,
                warmup=recipe.warmup * recipe.updates,
                final=recipe.final_share,
            ),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every * recipe.updates,  # never amid the updates of one rollout
            context=run,
        )
    model.eval()
    return rollouts.frame(updates[:: recipe.updates], method="train_ppo", updates=updates)


class ActorCritic(nn.Module):
    """A policy with one number beside it, the reward it expects from a token on; 0 before training."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy
        self.value_head = nn.Linear(body_of(policy).width, 1).to(policy.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, answered: Answered) -> tuple[AnswerScores, AnswerScores, AnswerMask]:
        """log pi and value of each token of each answer (0 on padding), and which places are tokens."""
        states, mask, tokens = hidden_states(self.policy, answered)
        values = self.value_head(states).squeeze(-1)
        return log_probs_of(self.policy, states, mask, tokens), torch.where(mask, values, 0.0), mask


@dataclass(frozen=True)
class Rollout:
    """Answers with what PPO needs of them, each of shape (row, token)."""

    answered: Answered
    log_probs: AnswerScores
    values: AnswerScores
    advantages: AnswerScores
    returns: AnswerScores

    def part(self, rows: list[int]) -> "Rollout":
        """These rows."""
        columns = (self.log_probs, self.values, self.advantages, self.returns)
        return Rollout(self.answered.subset(rows), *(column[rows] for column in columns))


@dataclass
class Trainer:
    """The loss of each update; the first update of a rollout draws it."""

    rollouts: Rollouts
    reference: Reference
    actor: ActorCritic
    rollout: Rollout | None = None
    minibatches: list[list[int]] = field(default_factory=list)

    def batch_loss(self, step: int) -> Tensor:
        """Mean over the tokens of one minibatch: clipped surrogate + value_weight * clipped value loss."""
        recipe = self.rollouts.recipe
        number, update = divmod(step, recipe.updates)
        if update == 0:
            self.rollout = self._draw(number)
            self.minibatches = self._minibatches(number)
        require_drawn(self.rollout)
        return minibatch_loss(self.actor, self.rollout.part(self.minibatches[update]), recipe)

    def _draw(self, number: int) -> Rollout:
        recipe = self.rollouts.recipe
        answered = self.rollouts.draw(self.actor.policy, number)
        with self.reference.model() as model:
            reference = scored(model, answered)
        rewards = torch.tensor(self.rollouts.reward.of(answered, number), device=reference.device)
        rollout = make_rollout(self.actor, answered, reference, rewards, recipe)
        self.rollouts.note(
            number,
            answered,
            scored=2 * answered.read_tokens,  # by policy and reference
            trained=recipe.passes * answered.read_tokens,
            reward=rewards.mean().item(),
            kl=(rollout.log_probs - reference).sum(dim=1).mean().item(),
            length=answered.mean_length,
            value_error=(rollout.values - rollout.returns).square().mean().sqrt().item(),
        )
        return rollout

    def _minibatches(self, number: int) -> list[list[int]]:
        recipe = self.rollouts.recipe
        generator = torch.Generator().manual_seed(derive(self.rollouts.seed, "minibatches", number))
        rows = recipe.batch * recipe.samples
        size = rows // recipe.minibatches
        order: list[list[int]] = []
        for _ in range(recipe.passes):
            shuffled = torch.randperm(rows, generator=generator).tolist()
            order += [shuffled[place : place + size] for place in range(0, rows, size)]
        return order


def make_rollout(
    actor: ActorCritic, answered: Answered, reference: AnswerScores, rewards: Tensor, recipe: PPO
) -> Rollout:
    """Old log-probabilities and values, whitened advantages and returns of fresh answers, without a gradient.

    Rewards come in centred on their batch's mean: the value head need not learn the scale's offset first, and no
    difference between answers changes.
    """
    actor.eval()
    with torch.inference_mode():
        log_probs, values, mask = actor(answered)
    actor.train()
    log_probs, values, mask = log_probs.clone(), values.clone(), mask.clone()
    by_token = losses.token_rewards(rewards - rewards.mean(), log_probs, reference, mask, beta=recipe.beta)
    advantages = losses.generalised_advantages(
        by_token, values, mask, discount=recipe.discount, trace_decay=recipe.trace_decay
    )
    returns = torch.where(mask, advantages + values, 0.0)
    return Rollout(answered, log_probs, values, losses.whitened(advantages, mask), returns)


def minibatch_loss(actor: ActorCritic, part: Rollout, recipe: PPO) -> Tensor:
    """Mean over the answers' tokens of the clipped surrogate and the weighted value loss of one minibatch."""
    log_probs, values, mask = actor(part.answered)
    width = mask.shape[1]  # a part of the rows may need fewer places than the whole rollout
    old_log_probs, old_values, advantages, returns = (
        column[:, :width] for column in (part.log_probs, part.values, part.advantages, part.returns)
    )
    surrogate = losses.clipped_surrogate_loss(log_probs, old_log_probs, advantages, clip=recipe.clip_ratio)
    value = losses.clipped_value_loss(values, old_values, returns, clip=recipe.value_clip)
    return ((surrogate + recipe.value_weight * value) * mask).sum() / mask.sum()


def require_drawn(rollout: Rollout | None) -> None:
    """Raises RuntimeError where a checkpoint lies amid the updates of a rollout, which is then lost."""
    if rollout is None:
        raise RuntimeError("a run was resumed amid the updates of a rollout; checkpoint_every counts rollouts")
