"""A reward model from preference pairs: TRL's RewardTrainer on a causal model that gets a single number as its head.

Bradley-Terry (Rafailov et al. 2023, eq. 2). Ids are ours, so that content which spells a role tag is read as text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.losses.reward_model import reward_model_loss
from zephyr_lab.methods import process, trl_adapters
from zephyr_lab.methods.examples import PairExample, pair_examples
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.recipes.rlhf import RewardRecipe
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved


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


def build(recipe: RewardRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train a reward model, started from `inputs["start"]`, on the pairs of `inputs["pairs"]`.

    Writes it with its tokenizer to `out`, log.json, and held_out.json: loss, accuracy (ties half) and mean reward of
    both sides on the test pairs. Metrics: steps, pairs, tokens read with a gradient, those of held_out.json, CPU
    seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["start"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    model = reward_models.from_causal(start, pad_id=tokenizer.pad_token_id).to(device)
    examples = {split: _examples(recipe, tokenizer, inputs["pairs"], split) for split in (TRAIN, TEST)}
    if recipe.pairs:
        examples[TRAIN] = examples[TRAIN][: recipe.pairs]
    with metered() as cost:
        trainer = make_trainer(recipe, model, tokenizer, examples, seed=seed, folder=context.checkpoints / "trainer")
        log = trl_adapters.run(trainer, context)
    saved.save(model, tokenizer, out)
    found = held_out(model, examples[TEST], rows_at_once=recipe.micro_batch)
    files.write_json(out / "log.json", log)
    files.write_json(out / "held_out.json", found)
    read = sum(
        2 * len(one.prompt_ids) + len(one.chosen_ids) + len(one.rejected_ids) for one in examples[TRAIN]
    )  # fmt: skip
    return {
        "steps": float(trainer.state.global_step),
        "pairs": float(len(examples[TRAIN])),
        "tokens_trained": float(read * recipe.epochs),
        **{f"held_out_{name}": value for name, value in found.items()},
        **cost.metrics(),
    }


def make_trainer(
    recipe: RewardRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: dict[str, list[PairExample]],
    *,
    seed: int,
    folder: Path,
) -> StageRewardTrainer:
    """The trainer, with checkpoints in `folder`."""
    rows = {split: _dataset(given) for split, given in examples.items()}
    return StageRewardTrainer(
        model=model,
        args=RewardConfig(
            **trl_adapters.trainer_arguments(
                recipe,
                device=model.device,
                seed=seed,
                folder=folder,
                held_out=len(rows[TEST]),
                measure_start=recipe.evaluate_every > 0,
            ),
            max_length=None,
            center_rewards_coefficient=recipe.centring or None,
        ),
        train_dataset=rows[TRAIN],
        eval_dataset=rows[TEST],
        processing_class=reward_models.padding_apart(tokenizer),
        optimizers=(trl_adapters.optimizer(recipe, model), None),
    )


def held_out(model: PreTrainedModel, examples: Sequence[PairExample], *, rows_at_once: int) -> dict[str, float]:
    """Means over pairs: loss in nats, accuracy (ties half), rewards of both sides; our own loss, all rows alike."""
    model.eval()
    prompts = [example.prompt_ids for example in examples]
    chosen = reward_models.rewards(model, prompts, [one.chosen_ids for one in examples], rows_at_once=rows_at_once)
    rejected = reward_models.rewards(model, prompts, [one.rejected_ids for one in examples], rows_at_once=rows_at_once)
    return {
        "loss": reward_model_loss(chosen, rejected).mean().item(),
        "accuracy": ((chosen - rejected).sign() + 1).mean().item() / 2,
        "reward_chosen": chosen.mean().item(),
        "reward_rejected": rejected.mean().item(),
        "pairs": float(len(examples)),
    }


def _examples(recipe: RewardRecipe, tokenizer: PreTrainedTokenizerBase, pairs: Path, split: str) -> list[PairExample]:
    found = pair_rows(pairs, split)
    examples, account = pair_examples(
        tokenizer,
        found.rows,
        max_length=recipe.max_length,
        max_prompt_length=recipe.max_prompt_length,
        long_prompts=recipe.long_prompts,
        equal_answers="set_aside",
        system_turn=recipe.system_turn,
        numbers=found.numbers,
    )
    print(f"{split}: {found.line(account.line())}")
    return examples


def _dataset(examples: Sequence[PairExample]) -> Dataset:
    return Dataset.from_list([
        {"chosen_ids": one.prompt_ids + one.chosen_ids, "rejected_ids": one.prompt_ids + one.rejected_ids}
        for one in examples
    ])  # fmt: skip
