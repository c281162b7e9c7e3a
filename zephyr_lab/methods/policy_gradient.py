"""RLOO and GRPO on the policy's own answers: TRL's trainers, with our prompts, our sampler and our rewards.

Ahmadian et al. 2024, arXiv 2402.14740 (RLOO); Shao et al. 2024, arXiv 2402.03300 (GRPO). Advantages, loss and loop are
TRL's. Its generation is replaced: ours is a few times faster on a CPU, and each step's draws hang on the seed and the
step alone, so that a killed run ends as an unbroken one. Its prompts are replaced, too: a role tag in a text is text.
"""

import math
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.methods import process, trl_adapters
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.optimizers import Schedule
from zephyr_lab.methods.policy_log import PolicyLog
from zephyr_lab.methods.recipes.rlhf import PolicyGradientRecipe
from zephyr_lab.methods.rollouts import (
    Answered,
    Questions,
    Reward,
    Work,
    answer,
    finite_rewards,
    reward_for,
)
from zephyr_lab.models import saved

KL_READS = 2  # forward passes of a rollout that keep no gradient: old policy and reference


class OwnAnswers(trl_adapters.StageTrainer):
    """Our prompts, sampler and log in TRL's two trainers. `begin` comes before training."""

    def begin(
        self, recipe: PolicyGradientRecipe, questions: Questions, reward: Reward, log: PolicyLog, seed: int
    ) -> None:
        self.recipe, self.questions, self.reward, self.policy_log, self.stage_seed = (
            recipe,
            questions,
            reward,
            log,
            seed,
        )
        self.answered: Answered | None = None

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        self.places = [int(prompt) for prompt in prompts]
        return [self.questions.ids[place] for place in self.places], None, {}

    def own_answers(self) -> list[list[int]]:
        """Answers to the questions that were just tokenised."""
        self.answered = answer(
            self.model,
            self.questions,
            self.places,
            max_new_tokens=self.recipe.max_new_tokens,
            seed=derive(self.stage_seed, "answers", self.state.global_step),
        )
        return self.answered.answers

    def rewards(self, **_: Any) -> list[float]:
        """Rewards of the answers just drawn, in TRL's way of asking; writes the step's row of the log."""
        answered, step = self.answered, self.state.global_step
        found = finite_rewards(self.reward, answered, step)
        reads = KL_READS * (self.recipe.beta > 0) + (self.recipe.reward == "learned")
        work = Work(
            generated=answered.tokens,
            prompted=answered.read_tokens - answered.tokens,
            scored=reads * answered.read_tokens,
            trained=answered.read_tokens,
            answers=len(answered),
        )
        length = answered.tokens / len(answered)
        self.policy_log.add(step, work, reward=sum(found) / len(found), length=length)
        return found


class StageRLOOTrainer(OwnAnswers, RLOOTrainer):
    """TRL's RLOOTrainer in a stage."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        return RLOOTrainer._get_train_sampler(self, dataset)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> list[list[int]]:
        return self.own_answers()


class StageGRPOTrainer(OwnAnswers, GRPOTrainer):
    """TRL's GRPOTrainer in a stage."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        return GRPOTrainer._get_train_sampler(self, dataset)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return self.own_answers(), None


class KeepPolicies(TrainerCallback):
    """Keeps the policy after the recipe's steps, before the checkpoint of the same step."""

    def __init__(self, recipe: PolicyGradientRecipe, log: PolicyLog) -> None:
        self._steps, self._log = recipe.keep, log

    def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        if state.global_step in self._steps:
            self._log.keep(state.global_step, objects["model"], objects["processing_class"])


def build(
    recipe: PolicyGradientRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, by RLOO or GRPO on the recipe's reward.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, log.json (a row a step:
    reward, length, tokens) and trl_log.json (what the trainer logs: KL a token, entropy, clipped share, ...). Metrics:
    steps, tokens spent, CPU seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    log = PolicyLog(context.checkpoints)
    with metered() as cost:
        policy = saved.load_model(start).to(device)
        questions = Questions.of_pairs(tokenizer, world=recipe.world, prompts=recipe.prompts, seed=seed)
        reward = reward_for(recipe, questions, tokenizer, inputs, device)
        trainer = make_trainer(recipe, policy, tokenizer, seed=seed, folder=context.checkpoints / "trainer")
        trainer.begin(recipe, questions, reward, log, seed)
        trainer.add_callback(KeepPolicies(recipe, log))
        told = trl_adapters.run(trainer, context)
    saved.save(policy, tokenizer, out)
    log.finish(out)
    files.write_json(out / "trl_log.json", told)
    return {"steps": float(trainer.state.global_step), **log.work(), **cost.metrics()}


def make_trainer(
    recipe: PolicyGradientRecipe,
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    folder: Path,
) -> OwnAnswers:
    """The trainer, with checkpoints in `folder`; the reference is read anew from where the policy came from."""
    trl_adapters.score_labelled_positions_only()
    on_cpu = recipe.device == "cpu"
    config, trainer = (RLOOConfig, StageRLOOTrainer) if recipe.algorithm == "rloo" else (GRPOConfig, StageGRPOTrainer)
    rows = recipe.batch * recipe.samples
    arguments = config(
        output_dir=str(folder),
        seed=derive(seed, "trainer") % 2**32,
        max_steps=recipe.steps,
        per_device_train_batch_size=rows,
        num_generations=recipe.samples,
        steps_per_generation=1,
        max_completion_length=recipe.max_new_tokens,
        temperature=1.0,
        beta=recipe.beta,
        learning_rate=recipe.learning_rate,
        max_grad_norm=recipe.clip,
        weight_decay=0.0,
        use_cpu=on_cpu,
        bf16=not on_cpu,
        gradient_checkpointing=False,
        use_cache=True,
        dataloader_pin_memory=not on_cpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=recipe.checkpoint_every,
        report_to="none",
        disable_tqdm=True,
        pad_to_multiple_of=None,
        **({"loss_type": "grpo"} if recipe.algorithm == "grpo" else {}),  # the paper's; TRL's default is DAPO's
    )
    held: list[OwnAnswers] = []

    def rewards(**given: Any) -> list[float]:
        return held[0].rewards(**given)

    optimizer = torch.optim.AdamW(policy.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    schedule = Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share)
    made = trainer(
        model=policy,
        reward_funcs=rewards,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(place) for place in range(recipe.prompts)]}),
        processing_class=tokenizer,
        optimizers=(optimizer, LambdaLR(optimizer, lambda step: schedule.share(min(step, recipe.steps - 1)))),
    )
    held.append(made)
    if made.ref_model is not None:
        require_reference(policy, made.ref_model)
    return made


def require_reference(policy: PreTrainedModel, reference: PreTrainedModel) -> None:
    """Raises ValueError unless both have the same weights: TRL reads the reference from the path the config names."""
    own, other = policy.state_dict(), reference.state_dict()
    for name, tensor in own.items():
        if name not in other or not math.isclose((tensor - other[name]).abs().max().item(), 0.0):
            raise ValueError(f"the reference is not the policy's start: {name} differs")
