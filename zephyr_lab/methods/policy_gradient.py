"""RLOO and GRPO on the policy's own answers: TRL's trainers, with our prompts, our sampler and our rewards.

Ahmadian et al. 2024, arXiv 2402.14740 (RLOO); Shao et al. 2024, arXiv 2402.03300 (GRPO). Advantages, loss and loop are
TRL's. Its generation is replaced: ours is a few times faster on a CPU, and each step's draws hang on the seed and the
step alone, so that a killed run ends as an unbroken one. Its prompts are replaced, too: a role tag in a text is text.
Its reference is the policy's start as it is in memory, not what the model's name would load.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.trainer.utils import RepeatSampler, add_fused_lm_head

from zephyr_lab.decoding.sampling import positions
from zephyr_lab.losses.fast.pair_losses import name_of
from zephyr_lab.losses.shapes import GroupRewards
from zephyr_lab.methods import trl_adapters
from zephyr_lab.methods.calling import Progress, Run, device_of, settings_by_keyword
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.recipes.rollouts import PolicyGradient
from zephyr_lab.methods.rollouts import (
    Answered,
    Rollouts,
    Watch,
    adamw,
    frozen_copy,
    require_comparable,
    rollouts_of,
)
from zephyr_lab.models.causal import accepted, causal_model, evaluating, require_alike, without_dropout
from zephyr_lab.models.logits import probe_ids

KL_READS = 2  # forward passes of a rollout that keep no gradient: old policy and reference
REFERENCE_ADAPTER = "ref"  # that TRL puts beside a policy's own
TOLERANCE = 1e-2  # of logits: a token at another position moves them by more, rounding by less

AdvantagesOf = Callable[[GroupRewards], GroupRewards]


class PromptOrder(RepeatSampler):
    """TRL's order of prompts, which hangs on seed and epoch alone: a run resumed in a later epoch goes on in its order.

    TRL's own sampler begins anew with the first epoch's.
    """

    @classmethod
    def of(cls, sampler: RepeatSampler) -> "PromptOrder":
        """The same order, by epoch."""
        return cls(
            sampler.data_source,
            sampler.mini_repeat_count,
            sampler.batch_size,
            sampler.repeat_count,
            sampler.shuffle,
            sampler.seed,
        )

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.generator.manual_seed(self.seed)
        for _ in range(epoch):
            torch.randperm(self.num_samples, generator=self.generator)


class OwnAnswers(trl_adapters.StageTrainer):
    """Our prompts, sampler and log in TRL's two trainers. `begin` comes before training."""

    def begin(self, rollouts: Rollouts, advantages: AdvantagesOf | None = None) -> None:
        self.rollouts, self.own_advantages = rollouts, advantages
        self.answered: Answered | None = None
        self.latest_rewards: list[float] = []

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        self.places = [int(prompt) for prompt in prompts]
        return [self.rollouts.questions.ids[place] for place in self.places], None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scored = super()._generate_and_score_completions(inputs)
        if self.own_advantages is not None:
            scored["advantages"] = self._advantages(scored["advantages"])
        return scored

    def _advantages(self, theirs: torch.Tensor) -> torch.Tensor:
        rewards = torch.tensor(self.latest_rewards, device=theirs.device).view(-1, self.rollouts.recipe.samples)
        own = self.own_advantages(rewards)
        if tuple(own.shape) != tuple(rewards.shape) or not own.isfinite().all():
            raise ValueError(
                f"advantages must be finite, shape {tuple(rewards.shape)} (prompt, sample) as the rewards, at step "
                f"{self.state.global_step}; got shape {tuple(own.shape)}"
            )
        return own.detach().to(theirs.dtype).view(-1)

    def own_answers(self) -> list[list[int]]:
        """Answers to the questions that were just tokenised."""
        self.answered = self.rollouts.answers(self.model, self.places, self.state.global_step)
        return self.answered.answers

    def rewards(self, **_: Any) -> list[float]:
        """Rewards of the answers just drawn, in TRL's way of asking; writes the step's row of the log."""
        answered, step = self.answered, self.state.global_step
        self.latest_rewards = self.rollouts.reward.of(answered, step)
        self.rollouts.note(
            step,
            answered,
            scored=KL_READS * (self.rollouts.recipe.beta > 0) * answered.read_tokens,
            trained=answered.read_tokens,
            reward=sum(self.latest_rewards) / len(self.latest_rewards),
            length=answered.mean_length,
        )
        return self.latest_rewards


class StageRLOOTrainer(OwnAnswers, RLOOTrainer):
    """TRL's RLOOTrainer in a stage."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        return PromptOrder.of(RLOOTrainer._get_train_sampler(self, dataset))

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> list[list[int]]:
        return self.own_answers()


class StageGRPOTrainer(OwnAnswers, GRPOTrainer):
    """TRL's GRPOTrainer in a stage."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        return PromptOrder.of(GRPOTrainer._get_train_sampler(self, dataset))

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return self.own_answers(), None


@dataclass(frozen=True)
class Advantages:
    """How the answers to one prompt are compared, and the trainer whose loss goes with it. `own`: a function of one's
    own in the place of the trainer's."""

    trainer: type[OwnAnswers]
    config: type
    settings: Mapping[str, Any] = field(default_factory=dict)
    own: AdvantagesOf | None = None


RLOO = Advantages(StageRLOOTrainer, RLOOConfig)
GRPO = Advantages(StageGRPOTrainer, GRPOConfig, {"loss_type": "grpo"})  # the paper's; TRL's default is DAPO's


@settings_by_keyword(PolicyGradient)
def train_policy_gradient(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Any,
    *,
    recipe: PolicyGradient,
    reward: Any,
    advantages: Advantages | AdvantagesOf,
    reference: nn.Module | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    watch: Watch | None = None,
) -> pd.DataFrame:
    """Train `model`, a causal LM with adapters or without, by policy gradient on what its own answers are worth.

    In each of `steps` rollouts `batch` prompts get `samples` answers each, which are compared with each other; one
    update follows. advantages: `RLOO` (leave-one-out; the KL to the reference, k1, is taken off the rewards), `GRPO`
    (group-relative; the KL, k3, is part of the loss), or a function of rewards (prompt, sample) that gives advantages
    of the same shape, under GRPO's loss. No dropout is drawn.

    prompts, reward, reference (none is kept at beta 0), watch, checkpoints: as for `train_ppo`.

    Returns a row a step: step, reward (mean), length (tokens), tokens spent, loss. attrs: "trainer" (what TRL's trainer
    logs: KL a token, entropy, clipped share, ...), "rows" (an account of the prompts). Raises as `train_ppo`.
    """
    run = Run.begin("policy gradient", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    rollouts = rollouts_of(prompts, model, tokenizer, recipe, reward=reward, seed=seed, run=run, watch=watch)
    ids = rollouts.questions.ids
    require_alike(model, [len(prompt) + recipe.max_new_tokens for prompt in ids])
    form = advantages if isinstance(advantages, Advantages) else replace(GRPO, own=advantages)
    run.trains_on(ids, trainer=form.trainer.__name__ if form.own is None else name_of(form.own))
    frozen = None
    if recipe.beta > 0 and reference is not None:
        require_comparable(model, reference)
        frozen = causal_model(reference)
    elif recipe.beta > 0 and not hasattr(model, "disable_adapter"):
        frozen = frozen_copy(model)
    models = [one for one in (model, frozen) if one is not None]
    with ExitStack() as stack:
        if frozen is not None:
            stack.enter_context(evaluating(frozen))
        stack.enter_context(without_dropout(model))
        stack.enter_context(placed_by_mask(*models))
        stack.enter_context(trl_adapters.own_forwards(*models))
        trainer = make_trainer(
            recipe,
            model,
            stack.enter_context(trl_adapters.settings_kept(model, tokenizer)),
            form,
            reference=frozen,
            prompts=len(ids),
            seed=seed,
            folder=run.folder("trainer"),
        )
        trainer.begin(rollouts, form.own)
        log = trl_adapters.run(trainer, run, callbacks=[*callbacks, *([] if watch is None else [Watching(watch)])])
    model.eval()
    losses = [row["loss"] for row in log if "loss" in row]
    return rollouts.frame(losses, method="train_policy_gradient", trainer=log)


def train_rloo(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Any, *, reward: Any, **settings: Any
) -> pd.DataFrame:
    """`train_policy_gradient` with `RLOO`: each answer's reward less the mean of the others' to its prompt.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> def brief(prompts, answers):
    ...     return [-float(len(answer)) for answer in answers]
    >>> log = train_rloo(model, tokenizer, [{"prompt": "Hi"}] * 4, reward=brief, batch=4, steps=2, max_new_tokens=8)
    >>> log["step"].tolist()
    [1, 2]
    """
    return train_policy_gradient(model, tokenizer, prompts, reward=reward, advantages=RLOO, **settings)


def train_grpo(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Any, *, reward: Any, **settings: Any
) -> pd.DataFrame:
    """`train_policy_gradient` with `GRPO`: each answer's reward less its group's mean, over its group's deviation."""
    return train_policy_gradient(model, tokenizer, prompts, reward=reward, advantages=GRPO, **settings)


class Watching(TrainerCallback):
    """Shows the policy before each rollout, as the methods with a loop of their own do."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_step_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        self._watch(state.global_step, objects["model"])


def make_trainer(
    recipe: PolicyGradient,
    policy: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    form: Advantages,
    *,
    reference: PreTrainedModel | None,
    prompts: int,
    seed: int,
    folder: Path | None,
) -> OwnAnswers:
    """The trainer, with checkpoints in `folder`. reference: None for the policy with its adapters off, or at beta 0."""
    trl_adapters.score_labelled_positions_only()
    arguments = form.config(
        **trl_adapters.shared_arguments(
            device=device_of(policy), seed=seed, folder=folder, checkpoint_every=recipe.checkpoint_every, log_every=1
        ),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch * recipe.samples,
        num_generations=recipe.samples,
        steps_per_generation=1,
        max_completion_length=recipe.max_new_tokens,
        temperature=1.0,
        beta=0.0,  # no reference by the model's name; ours comes below
        learning_rate=recipe.learning_rate,
        max_grad_norm=recipe.clip,
        pad_to_multiple_of=None,
        **form.settings,
    )
    trainers: list[OwnAnswers] = []

    def rewards(**arguments: Any) -> list[float]:
        return trainers[0].rewards(**arguments)

    optimizer = adamw(policy, learning_rate=recipe.learning_rate)
    schedule = Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share)
    trainer = form.trainer(
        model=policy,
        reward_funcs=rewards,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(place) for place in range(prompts)]}),
        processing_class=tokenizer,
        optimizers=(optimizer, LambdaLR(optimizer, lambda step: schedule.share(min(step, recipe.steps - 1)))),
    )
    trainers.append(trainer)
    if REFERENCE_ADAPTER in getattr(policy, "peft_config", {}):
        policy.delete_adapter(REFERENCE_ADAPTER)
    trainer.beta = recipe.beta
    if reference is not None:
        add_fused_lm_head(reference, temperature=1.0)
        trainer.ref_model = trainer.accelerator.prepare_model(reference, evaluation_mode=True)
    return trainer


@contextmanager
def placed_by_mask(*models: nn.Module) -> Iterator[None]:
    """Inside, a model that counts positions from a row's first place, padding or not, counts them from its first token.

    The trainers pad prompts on the left and say nothing of positions: a model of learned positions (GPT-2) would read
    each shorter prompt as if it began later. Raises ValueError for a model that padding changes all the same.
    """
    hooks = []
    try:
        for model in models:  # adapters' own wrapper included: its call passes by the hooks of what is inside
            if _reads_alike(model):
                continue
            hooks.append(model.register_forward_pre_hook(_with_positions, with_kwargs=True))
            if not _reads_alike(model):
                raise ValueError(
                    f"{type(model).__name__} reads a prompt differently with padding before it; train it by "
                    "train_ppo or train_online_dpo, which pad on the right"
                )
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _reads_alike(model: nn.Module) -> bool:
    """Whether padding on the left leaves the logits as they are."""
    ids = probe_ids(causal_model(model))
    padded = torch.cat([torch.zeros_like(ids), ids], dim=1)
    mask = torch.cat([torch.zeros_like(ids), torch.ones_like(ids)], dim=1)
    with evaluating(model):
        alone, beside = (
            model(input_ids=one, attention_mask=seen, **accepted(model, use_cache=False)).logits[:, -1].float()
            for one, seen in ((ids, torch.ones_like(ids)), (padded, mask))
        )
    tolerance = max(TOLERANCE, 16 * torch.finfo(causal_model(model).dtype).eps)
    return bool((alone - beside).abs().max() <= tolerance * alone.abs().max().clamp(min=1e-6))


def _with_positions(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = kwargs.get("attention_mask")
    if mask is None or mask.ndim != 2 or kwargs.get("position_ids") is not None or kwargs.get("past_key_values"):
        return args, kwargs
    return args, {**kwargs, "position_ids": positions(mask.bool())}
