"""Distilled direct preference optimisation (dDPO), Zephyr's last step: TRL's DPOTrainer on pairs that a teacher ranked.

Tunstall et al. 2023, arXiv 2310.16944, section 3; Rafailov et al. 2023. Ids are ours, the loop is TRL's. The loss is
that of `losses.fast.shared_prompt`, each pair's prompt computed once, or with `shared_prompt = false` TRL's own. The
reference is always handed over, never left to the trainer, and its log-probabilities are computed once.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import DPOConfig

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods import process, trl_adapters
from zephyr_lab.methods.examples import PairExample, pair_examples
from zephyr_lab.methods.held_out_pairs import pair_log_probs, pair_metrics, sampled_metrics
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.dpo import DDPORecipe
from zephyr_lab.methods.shared_prompt_dpo import StageSharedPromptDPOTrainer
from zephyr_lab.models import saved

START, FINAL = "start", "final"  # rows of held_out.json, beside "epochs/N"
# Two forward passes of equal weights differ by the order of their sums: in float32, and under bfloat16 autocast.
LN_2_TOLERANCE = {"cpu": 1e-4, "cuda": 1e-2}


def build(recipe: DDPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train `inputs["policy"]` on the pairs of `inputs["pairs"]` (train.jsonl, test.jsonl in H4's layout).

    `inputs["reference"]`, where given, takes the place of the policy's start as the reference; unlike weights are
    refused unless the recipe allows them. Writes the model with its tokenizer to `out`, log.json (a row a log; "eval_"
    marks held-out pairs), rows.json (what was found in the pairs), held_out.json (a row each for the start, the kept
    epochs and the final model) and epochs/N where the recipe keeps them. Metrics: steps; rows, used, and a count for
    each finding in the training pairs; generation_calls during training; the final row of held_out.json.

    Raises ValueError where no pair can be trained on, for a foreign reference, and at the first loss that is no number.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    policy, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    # Read from files of its own: a copy of a model that a trainer has touched would run that model's weights.
    reference = saved.load_model(inputs.get("reference", start)).to(device)
    if not recipe.other_reference:
        require_same_weights(policy, reference)
    examples, accounts = {}, {}
    for split in (TRAIN, TEST):
        found = pair_rows(inputs["pairs"], split)
        examples[split], accounts[split] = pair_examples(
            tokenizer,
            found.rows,
            max_length=recipe.max_length,
            max_prompt_length=recipe.max_prompt_length,
            long_prompts=recipe.long_prompts,
            equal_answers=recipe.equal_answers,
            system_turn=recipe.system_turn,
            numbers=found.numbers,
        )
        print(f"{split}: {found.line(accounts[split].line())}")
    held_out = HeldOut.against(reference, examples[TEST], recipe, seed=seed)
    measured = [held_out.row(START, policy)]
    trainer = make_trainer(
        recipe, policy, reference, tokenizer, examples, seed=seed, folder=context.checkpoints / "trainer"
    )
    kept = context.checkpoints / "epochs" if recipe.keep_epochs else None
    with counting_generation(policy) as generated:
        log = trl_adapters.run(trainer, context, epochs=kept)
    saved.save(policy, tokenizer, out)
    if kept is not None:
        shutil.copytree(kept, out / "epochs")
        measured += [
            held_out.row(f"epochs/{epoch}", saved.load_model(kept / str(epoch)).to(device))
            for epoch in range(1, recipe.epochs)
        ]
    measured.append(held_out.row(FINAL, policy))
    files.write_json(out / "log.json", log)
    files.write_json(out / "held_out.json", measured)
    files.write_json(out / "rows.json", {split: asdict(account) for split, account in accounts.items()})
    return {
        "steps": float(trainer.state.global_step),
        "generation_calls": float(generated.calls),
        **accounts[TRAIN].metrics(),
        **{f"held_out_{name}": value for name, value in measured[-1].items() if name != "model"},
    }


def make_trainer(
    recipe: DDPORecipe,
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: dict[str, list[PairExample]],
    *,
    seed: int,
    folder: Path,
) -> trl_adapters.StageDPOTrainer:
    """The trainer, with checkpoints in `folder`; the reference's log-probabilities are computed here, once."""
    trl_adapters.score_labelled_positions_only()
    rows = {split: _dataset(given) for split, given in examples.items()}
    kind = StageSharedPromptDPOTrainer if recipe.shared_prompt else trl_adapters.StageDPOTrainer
    trainer = kind(
        model=policy,
        ref_model=reference,
        args=DPOConfig(
            **trl_adapters.trainer_arguments(
                recipe, device=policy.device, seed=seed, folder=folder, held_out=len(rows[TEST]), measure_start=True
            ),
            max_length=None,  # rows are cut already, and the cuts counted
            beta=recipe.beta,
            loss_type="sigmoid",
            precompute_ref_log_probs=True,
        ),
        train_dataset=rows[TRAIN],
        eval_dataset=rows[TEST],
        processing_class=tokenizer,
        optimizers=(trl_adapters.optimizer(recipe, policy), None),
    )
    trl_adapters.require_all_tokens(rows[TRAIN], trainer)
    if not recipe.other_reference:
        trainer.add_callback(StartsAtLn2(LN_2_TOLERANCE[recipe.device]))
    return trainer


class StartsAtLn2(TrainerCallback):
    """Halts unless the held-out loss before the first step is ln 2: else the reference is not the policy's start."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        if state.global_step == 0 and abs(metrics["eval_loss"] - math.log(2)) > self._tolerance:
            raise ValueError(
                f"DPO's loss before the first step is {metrics['eval_loss']:.6f} instead of ln 2 = {math.log(2):.6f}: "
                "the reference is not the policy's start"
            )


@dataclass(frozen=True)
class HeldOut:
    """Measures models on the held-out pairs, all against one reference and with the same draws."""

    recipe: DDPORecipe
    seed: int
    examples: Sequence[PairExample]
    reference: PreTrainedModel
    reference_log_probs: PairLogProbs

    @classmethod
    def against(
        cls, reference: PreTrainedModel, examples: Sequence[PairExample], recipe: DDPORecipe, *, seed: int
    ) -> "HeldOut":
        log_probs = pair_log_probs(reference, examples, rows_at_once=recipe.micro_batch)
        return cls(recipe, seed, examples, reference, log_probs)

    def row(self, name: str, policy: PreTrainedModel) -> dict[str, Any]:
        """{"model": name, loss, accuracy, ..., kl, length, ...}; see `held_out_pairs`."""
        if name == START and not self.recipe.other_reference:
            log_probs = self.reference_log_probs
        else:
            log_probs = pair_log_probs(policy, self.examples, rows_at_once=self.recipe.micro_batch)
        sampled = sampled_metrics(
            policy,
            self.reference,
            [example.prompt_ids for example in self.examples[: self.recipe.sampled_prompts]],
            max_new_tokens=self.recipe.sampled_tokens,
            seed=derive(self.seed, "sampled answers"),
        )
        return {"model": name, **pair_metrics(log_probs, self.reference_log_probs, beta=self.recipe.beta), **sampled}


@dataclass
class GenerationCalls:
    """Forward passes that continued a text from its cache."""

    calls: int = 0


@contextmanager
def counting_generation(model: nn.Module) -> Iterator[GenerationCalls]:
    """Counts forward passes of `model` with a cache: every way of generating text makes them, and no training does."""
    counted = GenerationCalls()

    def count(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        counted.calls += bool(kwargs.get("use_cache")) or kwargs.get("past_key_values") is not None

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counted
    finally:
        hook.remove()


def require_same_weights(policy: nn.Module, reference: nn.Module) -> None:
    """Raises ValueError naming the first tensor in which the two models differ."""
    ours, theirs = policy.state_dict(), reference.state_dict()
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name]):
            raise ValueError(
                f"the reference is not the policy's start: {name} differs; set other_reference = true if that is meant"
            )


def _dataset(examples: Sequence[PairExample]) -> Dataset:
    """Pairs by length, so that the reference's pass over them in this order needs little padding."""
    by_length = sorted(examples, key=lambda example: example.longest)
    return Dataset.from_list([asdict(example) for example in by_length])
