"""PPO on the policy's own answers: rollout, KL penalty by token, GAE, minibatches, and a value head on the policy.

Ziegler et al. 2019 (the KL penalty as a reward), Schulman et al. 2017 (the clipped surrogate). Ours: TRL has none any
more. The losses are `losses.ppo`; here stands what is drawn, when, and with which weights.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.losses import ppo as losses
from zephyr_lab.losses.rollout_shapes import AnswerMask, TokenScores
from zephyr_lab.methods.calling import Progress, Run, require_fit, require_trainable, settings_by_keyword
from zephyr_lab.methods.loop import train
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.recipes.rollouts import PPO
from zephyr_lab.methods.rollouts import (
    Answered,
    PolicyLog,
    Questions,
    Reference,
    Reward,
    Watch,
    Work,
    adamw,
    answer,
    as_reward,
    drawn_places,
    hidden_states,
    log_probs_of,
    repeated,
    scored,
)
from zephyr_lab.models.logits import body_of
from zephyr_lab.models.modes import without_dropout


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
    model with its adapters off. watch(rollouts taken, model) is called before each rollout.

    Returns a row a rollout: step, reward (mean), kl (k1, nats an answer), length (tokens), value_error, tokens spent,
    loss (that of the rollout's first update). attrs: "updates" (the loss of every update), "rows" (an account of the
    prompts).

    Raises ValueError for a reward or a loss that is no finite number, naming the step; for a model on two devices,
    a foreign tokenizer, and prompts too few for a batch.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> def brief(prompts, answers):
    ...     return [-float(len(answer)) for answer in answers]
    >>> log = train_ppo(model, tokenizer, [{"prompt": "Hi"}] * 4, reward=brief, batch=4, steps=2, max_new_tokens=8)
    >>> log["step"].tolist()
    [1, 2]
    """
    require_trainable(model)
    require_fit(model, tokenizer)
    run = Run.of("PPO", checkpoints, progress, recipe=recipe, seed=seed)
    questions = Questions.of(prompts, model, tokenizer, recipe)
    run.trains_on(questions.ids)
    worth = as_reward(reward, questions, tokenizer)
    with without_dropout(model):
        held_to = Reference.of(model, reference)
        actor = ActorCritic(model)
        trainer = Trainer(recipe, seed, actor, held_to, questions, worth, PolicyLog(run.checkpoints), watch)
        updates = train(
            actor,
            [adamw(actor, learning_rate=recipe.learning_rate)],
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
    first = updates[:: recipe.updates]
    return trainer.log.frame(
        first, method="train_ppo", recipe=recipe, seed=seed, updates=updates, account=questions.account
    )


class ActorCritic(nn.Module):
    """A policy with one number beside it, the reward it expects from a token on; 0 before training."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy
        self.value_head = nn.Linear(body_of(policy).width, 1).to(policy.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, answered: Answered) -> tuple[TokenScores, TokenScores, AnswerMask]:
        """log pi and value of each token of each answer (0 on padding), and which places are tokens."""
        states, mask, tokens = hidden_states(self.policy, answered)
        values = self.value_head(states).squeeze(-1)
        return log_probs_of(self.policy, states, mask, tokens), torch.where(mask, values, 0.0), mask


@dataclass(frozen=True)
class Rollout:
    """Answers with what PPO needs of them, each of shape (row, token)."""

    answered: Answered
    log_probs: TokenScores
    values: TokenScores
    advantages: TokenScores
    returns: TokenScores

    def part(self, rows: list[int]) -> "Rollout":
        """These rows."""
        columns = (self.log_probs, self.values, self.advantages, self.returns)
        return Rollout(self.answered.subset(rows), *(column[rows] for column in columns))


class Trainer:
    """The loss of each update; the first update of a rollout draws it."""

    def __init__(
        self,
        recipe: PPO,
        seed: int,
        actor: ActorCritic,
        reference: Reference,
        questions: Questions,
        reward: Reward,
        log: PolicyLog,
        watch: Watch | None,
    ) -> None:
        self.log = log
        self._recipe, self._seed, self._actor, self._reference = recipe, seed, actor, reference
        self._questions, self._reward, self._watch = questions, reward, watch
        self._rounds = drawn_places(
            len(questions.ids), rounds=recipe.steps, at_once=recipe.batch, seed=derive(seed, "prompts")
        )
        self._rollout: Rollout | None = None
        self._order: list[list[int]] = []

    def batch_loss(self, step: int) -> Tensor:
        """Mean over the tokens of one minibatch: clipped surrogate + value_weight * clipped value loss."""
        number, update = divmod(step, self._recipe.updates)
        if update == 0:
            if self._watch is not None:
                self._watch(number, self._actor.policy)
            self._rollout = self._draw(number)
            self._order = self._minibatches(number)
        require_drawn(self._rollout)
        return minibatch_loss(self._actor, self._rollout.part(self._order[update]), self._recipe)

    def _draw(self, number: int) -> Rollout:
        recipe = self._recipe
        answered = answer(
            self._actor.policy,
            self._questions.ids,
            repeated(self._rounds[number], recipe.samples),
            max_new_tokens=recipe.max_new_tokens,
            seed=derive(self._seed, "answers", number),
        )
        with self._reference.model() as model:
            reference = scored(model, answered)
        rewards = torch.tensor(self._reward.of(answered, number), device=reference.device)
        rollout = make_rollout(self._actor, answered, reference, rewards, recipe)
        work = Work(
            generated=answered.tokens,
            prompted=answered.read_tokens - answered.tokens,
            scored=(2 + self._reward.reads) * answered.read_tokens,  # policy, reference, and a reward model
            trained=recipe.passes * answered.read_tokens,
            answers=len(answered),
        )
        self.log.add(
            number,
            work,
            reward=rewards.mean().item(),
            kl=(rollout.log_probs - reference).sum(dim=1).mean().item(),
            length=answered.tokens / len(answered),
            value_error=(rollout.values - rollout.returns).square().mean().sqrt().item(),
        )
        return rollout

    def _minibatches(self, number: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(derive(self._seed, "minibatches", number))
        rows = self._recipe.batch * self._recipe.samples
        size = rows // self._recipe.minibatches
        order: list[list[int]] = []
        for _ in range(self._recipe.passes):
            shuffled = torch.randperm(rows, generator=generator).tolist()
            order += [shuffled[place : place + size] for place in range(0, rows, size)]
        return order


def make_rollout(
    actor: ActorCritic, answered: Answered, reference: TokenScores, rewards: Tensor, recipe: PPO
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
    old = replace(
        part,
        log_probs=part.log_probs[:, :width],
        values=part.values[:, :width],
        advantages=part.advantages[:, :width],
        returns=part.returns[:, :width],
    )
    surrogate = losses.clipped_surrogate_loss(log_probs, old.log_probs, old.advantages, clip=recipe.clip_ratio)
    value = losses.clipped_value_loss(values, old.values, old.returns, clip=recipe.value_clip)
    return ((surrogate + recipe.value_weight * value) * mask).sum() / mask.sum()


def require_drawn(rollout: Rollout | None) -> None:
    """Raises RuntimeError where a checkpoint lies amid the updates of a rollout, which is then lost."""
    if rollout is None:
        raise RuntimeError("a run was resumed amid the updates of a rollout; checkpoint_every counts rollouts")
