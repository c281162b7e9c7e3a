"""PPO on the policy's own answers: rollout, KL penalty by token, GAE, minibatches, and a value head on the policy.

Ziegler et al. 2019 (the KL penalty as a reward), Schulman et al. 2017 (the clipped surrogate). Ours: TRL has none any
more. The losses are `losses.ppo`; here stands what is drawn, when, and with which weights.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.losses import ppo as losses
from zephyr_lab.losses.rollout_shapes import AnswerMask, TokenScores
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context, train
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.policy_log import PolicyLog
from zephyr_lab.methods.recipes.rlhf import PPORecipe
from zephyr_lab.methods.rollouts import (
    Answered,
    Questions,
    Reward,
    Work,
    answer,
    drawn_places,
    finite_rewards,
    hidden_states,
    log_probs_of,
    repeated,
    reward_for,
    scored,
)
from zephyr_lab.models import saved


class ActorCritic(nn.Module):
    """A policy with one number beside it, the reward it expects from a token on; 0 before training."""

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        self.policy = policy
        self.value_head = nn.Linear(policy.config.hidden_size, 1).to(policy.device)
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


def build(recipe: PPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, by PPO on the recipe's reward.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, and log.json, a row a
    rollout: reward, KL (k1, nats an answer), length, value error, tokens. Metrics: steps (rollouts), updates, tokens
    spent, CPU seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    with metered() as cost:
        actor = ActorCritic(saved.load_model(start).to(device))
        trainer = Trainer(recipe, seed, actor, tokenizer, inputs, start, context)
        train(
            actor,
            [torch.optim.AdamW(actor.parameters(), lr=recipe.learning_rate, weight_decay=0.0)],
            trainer.batch_loss,
            schedule=Schedule(
                steps=recipe.steps * recipe.updates,
                warmup=recipe.warmup * recipe.updates,
                final=recipe.final_share,
            ),
            clip=recipe.clip,
            checkpoint_every=recipe.checkpoint_every * recipe.updates,  # never amid the updates of one rollout
            context=context,
        )
    saved.save(actor.policy, tokenizer, out)
    trainer.log.finish(out)
    updates = float(recipe.steps * recipe.updates)
    return {"steps": float(recipe.steps), "updates": updates, **trainer.log.work(), **cost.metrics()}


class Trainer:
    """The loss of each update; the first update of a rollout draws it."""

    def __init__(
        self,
        recipe: PPORecipe,
        seed: int,
        actor: ActorCritic,
        tokenizer: PreTrainedTokenizerBase,
        inputs: dict[str, Path],
        start: Path,
        context: Context,
    ) -> None:
        self.log = PolicyLog(context.checkpoints)
        self._recipe, self._seed, self._actor, self._tokenizer = recipe, seed, actor, tokenizer
        device = actor.policy.device
        self._reference = saved.load_model(start).to(device)
        self._questions = Questions.of_pairs(tokenizer, world=recipe.world, prompts=recipe.prompts, seed=seed)
        self._reward: Reward = reward_for(recipe, self._questions, tokenizer, inputs, device)
        self._rounds = drawn_places(
            recipe.prompts, rounds=recipe.steps, at_once=recipe.batch, seed=derive(seed, "prompts")
        )
        self._rollout: Rollout | None = None
        self._order: list[list[int]] = []

    def batch_loss(self, step: int) -> Tensor:
        """Mean over the tokens of one minibatch: clipped surrogate + value_weight * clipped value loss."""
        number, update = divmod(step, self._recipe.updates)
        if update == 0:
            if number in self._recipe.keep:
                self.log.keep(number, self._actor.policy, self._tokenizer)
            self._rollout = self._draw(number)
            self._order = self._minibatches(number)
        require_drawn(self._rollout)
        return minibatch_loss(self._actor, self._rollout.part(self._order[update]), self._recipe)

    def _draw(self, number: int) -> Rollout:
        recipe = self._recipe
        places = repeated(self._rounds[number], recipe.samples)
        answered = answer(
            self._actor.policy,
            self._questions,
            places,
            max_new_tokens=recipe.max_new_tokens,
            seed=derive(self._seed, "answers", number),
        )
        reference = scored(self._reference, answered)
        rewards = torch.tensor(finite_rewards(self._reward, answered, number), device=reference.device)
        rollout = make_rollout(self._actor, answered, reference, rewards, recipe)
        reads = 2 + (recipe.reward == "learned")  # policy, reference, and the reward model where there is one
        work = Work(
            generated=answered.tokens,
            prompted=answered.read_tokens - answered.tokens,
            scored=reads * answered.read_tokens,
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
    actor: ActorCritic, answered: Answered, reference: TokenScores, rewards: Tensor, recipe: PPORecipe
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


def minibatch_loss(actor: ActorCritic, part: Rollout, recipe: PPORecipe) -> Tensor:
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
