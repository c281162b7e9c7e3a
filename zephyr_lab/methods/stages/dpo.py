"""dDPO as a stage: the policy and the pairs of its inputs, `train_dpo`, and what the models do on held-out pairs."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.engine import own_code
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods import process
from zephyr_lab.methods.calling import log_rows
from zephyr_lab.methods.dpo import StartsAtLn2, train_dpo
from zephyr_lab.methods.examples import PairExample, counts, read_pairs
from zephyr_lab.methods.held_out_pairs import pair_log_probs, pair_metrics, sampled_metrics
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.pairs import DDPORecipe, OwnLossDPO
from zephyr_lab.methods.trl_adapters import KeepEpochs
from zephyr_lab.models import saved

START, FINAL = "start", "final"  # rows of held_out.json, beside "epochs/N"


def build(recipe: DDPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train `inputs["policy"]` on the pairs of `inputs["pairs"]` (train.jsonl, test.jsonl in H4's layout or TRL's).

    `inputs["reference"]`, where given, takes the place of the policy's start as the reference; unlike weights are
    refused unless the recipe allows them. Writes the model with its tokenizer to `out`, log.json (a row a log; "eval_"
    marks held-out pairs), rows.json (an account of the pairs), held_out.json (a row each for the start, the kept
    epochs and the final model) and epochs/N where the recipe keeps them. Metrics: steps; rows, used, and a count for
    each finding in the training pairs; generation_calls during training; the final row of held_out.json.

    Raises ValueError for a foreign reference, and as `train_dpo`.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    policy, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    # Read from files of its own: a copy of a model that a trainer has touched would run that model's weights.
    reference = saved.load_model(inputs.get("reference", start)).to(device)
    callbacks = []
    if not recipe.other_reference:
        require_same_weights(policy, reference)
    if not recipe.other_reference and not isinstance(recipe, OwnLossDPO):
        callbacks.append(StartsAtLn2.on(policy))
    kept = context.checkpoints / "epochs" if recipe.keep_epochs else None
    if kept is not None:
        callbacks.append(KeepEpochs(kept))
    pairs = {split: pair_rows(inputs["pairs"], split) for split in (TRAIN, TEST)}
    examples, _ = read_pairs(recipe, tokenizer, pairs[TEST])
    held_out = HeldOut.against(reference, examples, recipe, seed=seed)
    measured = [held_out.row(START, policy)]
    with counting_generation(policy) as generated:
        log = train_dpo(
            policy,
            tokenizer,
            pairs[TRAIN],
            recipe=recipe,
            reference=reference,
            loss=own_code.restored(recipe.own_loss) if isinstance(recipe, OwnLossDPO) else None,
            held_out=pairs[TEST],
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
            callbacks=callbacks,
        )
    saved.save(policy, tokenizer, out)
    if kept is not None:
        shutil.copytree(kept, out / "epochs")
        measured += [
            held_out.row(f"epochs/{epoch}", saved.load_model(kept / str(epoch)).to(device))
            for epoch in range(1, recipe.epochs)
        ]
    measured.append(held_out.row(FINAL, policy))
    files.write_json(out / "log.json", log_rows(log))
    files.write_json(out / "held_out.json", measured)
    files.write_json(out / "rows.json", log.attrs["rows"])
    return {
        "steps": float(log.attrs["steps"]),
        "generation_calls": float(generated()),
        **counts(log.attrs["rows"][TRAIN]),
        **{f"held_out_{name}": value for name, value in measured[-1].items() if name != "model"},
    }


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


@contextmanager
def counting_generation(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Counts forward passes of `model` with a cache: every way of generating text makes them, and no training does."""
    calls = 0

    def count(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal calls
        calls += bool(kwargs.get("use_cache")) or kwargs.get("past_key_values") is not None

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield lambda: calls
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
