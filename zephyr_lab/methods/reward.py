"""A reward model from preference pairs: TRL's RewardTrainer on a model whose head is a single number.

Bradley-Terry (Rafailov et al. 2023, eq. 2). Ids are ours, so that content which spells a role tag is read as text.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import RewardConfig, RewardTrainer

from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.losses.reward_model import reward_model_loss
from zephyr_lab.methods import optimizers, trl_adapters
from zephyr_lab.methods.calling import (
    Progress,
    Run,
    device_of,
    log_frame,
    require_one_label,
    require_room,
    settings_by_keyword,
)
from zephyr_lab.methods.examples import PairExample, read_pairs, read_splits
from zephyr_lab.methods.recipes.limits import require_at_least
from zephyr_lab.methods.recipes.pairs import Reward
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models.causal import causal_model, without_dropout


class StageRewardTrainer(trl_adapters.StageTrainer, RewardTrainer):
    """TRL's RewardTrainer in a stage, fed with ids."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> trl_adapters.LengthBuckets:
        rows = self.train_dataset if train_dataset is None else train_dataset
        lengths = [
            max(len(chosen), len(rejected))
            for chosen, rejected in zip(rows["chosen_ids"], rows["rejected_ids"], strict=True)
        ]
        return trl_adapters.LengthBuckets(lengths, batch=self.args.train_batch_size, seed=self.args.seed)


@settings_by_keyword(Reward)
def train_reward(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Any,
    *,
    recipe: Reward,
    held_out: Any = None,
    most: int | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """Train `model`, one with a single label, with adapters or without, to rank each pair's chosen answer higher.

    The loss is -log sigmoid(reward of the chosen - reward of the rejected answer), in nats (Rafailov et al. 2023, eq.
    2), plus `centring` times the squared sum of both rewards, means over pairs. The reward is read off a row's last
    token. Such a model comes from `AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)`, or from a
    causal LM in memory by `models.reward.of_causal(model)`, whose head of zeros starts at ln 2. It leaves with a
    `config.pad_token_id` that no row of the pairs holds: the tokenizer's, unless that is the end token too.

    pairs: rows {"prompt", "chosen", "rejected"} as TRL has them, or a `Split`. held_out: such rows for a curve every
    `evaluate_every` steps, and for attrs["held_out_metrics"] (see `measured`) at the end. most: how many of the usable
    pairs are trained on, the first ones; None for all.

    Returns a row an optimiser step: step, loss (before the update), learning rate, gradient norm and what TRL logs
    besides; attrs: "rows" (an account a split), "pairs" and "tokens_trained" (read with a gradient).

    Raises ValueError for a model with other labels, on two devices or of another vocabulary, where no pair can be used,
    and at the first loss that is not finite.

    >>> from zephyr_lab.models.example import example_model
    >>> from zephyr_lab.models.reward import of_causal
    >>> model, tokenizer = example_model()
    >>> pairs = [{"prompt": "Capital of France?", "chosen": " Paris.", "rejected": " Lyon."}] * 4
    >>> log = train_reward(of_causal(model), tokenizer, pairs, epochs=2, batch=4, learning_rate=1e-3)
    train: 0 unusable rows; 4 rows, 4 used
    >>> round(float(log["loss"].iloc[0]), 4)  # ln 2: a head of zeros prefers nothing
    0.6931
    """
    run = Run.begin("reward model", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    require_one_label(model)
    by_split, accounts = read_splits(read_pairs, recipe, tokenizer, pairs, held_out)
    if most is not None:
        require_at_least(1, most=most)
    examples, kept = by_split[TRAIN][:most], by_split.get(TEST, [])
    require_room(max(example.longest for example in [*examples, *kept]), model)
    run.trains_on(examples, model)
    with without_dropout(model), trl_adapters.own_forwards(model):
        trainer = make_trainer(recipe, model, tokenizer, examples, kept, seed=seed, folder=run.folder("trainer"))
        log = trl_adapters.run(trainer, run, callbacks=callbacks)
    model.eval()
    return log_frame(
        log,
        method="train_reward",
        recipe=recipe,
        seed=seed,
        path="plain: a reward model has no vocabulary to spare",
        rows=accounts,
        pairs=len(examples),
        tokens_trained=recipe.epochs * sum(example.tokens for example in examples),
        held_out_metrics=measured(model, kept, rows_at_once=recipe.micro_batch) if kept else {},
    )


def make_trainer(
    recipe: Reward,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[PairExample],
    held_out: Sequence[PairExample],
    *,
    seed: int,
    folder: Path | None,
) -> StageRewardTrainer:
    """The trainer, with checkpoints in `folder`."""
    return StageRewardTrainer(
        model=model,
        args=RewardConfig(
            **trl_adapters.trainer_arguments(
                recipe,
                device=device_of(model),
                seed=seed,
                folder=folder,
                held_out=len(held_out),
                measure_start=recipe.evaluate_every > 0,
            ),
            max_length=None,
            center_rewards_coefficient=recipe.centring or None,
        ),
        train_dataset=_dataset(examples),
        eval_dataset=_dataset(held_out) if held_out else None,
        processing_class=padding_apart(tokenizer, [*examples, *held_out]),
        optimizers=(optimizers.muon_as_one(recipe, model), None),
    )


def padding_apart(tokenizer: PreTrainedTokenizerBase, examples: Sequence[PairExample]) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy whose padding is an id that no row holds.

    The model reads the reward off the last id that is no padding: where the end token pads, off the one before the
    answer's end, and the end itself, which counts elsewhere, would never be trained.
    """
    used = {id_ for one in examples for ids in (one.prompt_ids, one.chosen_ids, one.rejected_ids) for id_ in ids}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in used:
        return tokenizer
    free = next((id_ for id_ in range(len(tokenizer)) if id_ not in used), None)
    if free is None:
        raise ValueError("the rows use every id of the tokenizer, so none is free for padding; give it a pad_token")
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = tokenizer.convert_ids_to_tokens(free)
    return padded


def measured(model: nn.Module, examples: Sequence[PairExample], *, rows_at_once: int) -> dict[str, float]:
    """Means over pairs: loss in nats, accuracy (ties half), rewards of both sides; our own loss, all rows alike."""
    inner: PreTrainedModel = causal_model(model).eval()
    prompts = [example.prompt_ids for example in examples]
    chosen = reward_models.rewards(inner, prompts, [one.chosen_ids for one in examples], rows_at_once=rows_at_once)
    rejected = reward_models.rewards(inner, prompts, [one.rejected_ids for one in examples], rows_at_once=rows_at_once)
    return {
        "loss": reward_model_loss(chosen, rejected).mean().item(),
        "accuracy": ((chosen - rejected).sign() + 1).mean().item() / 2,
        "reward_chosen": chosen.mean().item(),
        "reward_rejected": rejected.mean().item(),
        "pairs": float(len(examples)),
    }


def _dataset(examples: Sequence[PairExample]) -> Dataset:
    return Dataset.from_list(
        [
            {"chosen_ids": one.prompt_ids + one.chosen_ids, "rejected_ids": one.prompt_ids + one.rejected_ids}
            for one in examples
        ]
    )
