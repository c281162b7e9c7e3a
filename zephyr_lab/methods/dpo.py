"""Direct preference optimisation (DPO), Zephyr's last step: TRL's DPOTrainer with our loss, on ranked pairs.

Tunstall et al. 2023, arXiv 2310.16944, section 3; Rafailov et al. 2023, arXiv 2305.18290. The loss is
`losses.dpo.dpo_loss`, or a function of the caller's; each pair's prompt is computed once where the model allows it.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import DPOConfig
from trl.trainer.utils import disable_dropout_in_model

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.losses.fast import pair_losses, shared_prompt
from zephyr_lab.losses.fast.supported import SLOW_PATH, require_lengths
from zephyr_lab.methods import optimizers, trl_adapters
from zephyr_lab.methods.calling import (
    Progress,
    Run,
    device_of,
    log_frame,
    require_fit,
    require_room,
    settings_by_keyword,
)
from zephyr_lab.methods.examples import PairExample, read_splits
from zephyr_lab.methods.examples import read_pairs as read_examples
from zephyr_lab.methods.pair_trainer import PairLossTrainer, PlainPairTrainer
from zephyr_lab.methods.recipes.pairs import DPO
from zephyr_lab.methods.shared_prompt_dpo import StageSharedPromptDPOTrainer
from zephyr_lab.models.causal import in_mode, share_weights, without_dropout

LEAN = "lean: each pair's prompt is computed once"
# Two forward passes of equal weights differ by the order of their sums: in float32, and under bfloat16 autocast.
LN_2_TOLERANCE = 1e-4
LN_2_TOLERANCE_ELSEWHERE = 1e-2


@settings_by_keyword(DPO)
def train_dpo(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Any,
    *,
    recipe: DPO,
    reference: PreTrainedModel | None = None,
    loss: Callable[..., PairScores] | None = None,
    held_out: Any = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """Train `model` in place on preference pairs, and return the log, a row an optimiser step.

    model: a causal language model of transformers on one device, whole or with peft adapters. pairs: rows as TRL has
    them, {"prompt", "chosen", "rejected"} as strings or messages, or whole dialogues without "prompt"; rows that cannot
    be used are counted and named, the others train. Settings: the fields of `DPO`, e.g. beta=0.1 (Zephyr's; a larger
    one holds the model closer to the reference), epochs, batch, learning_rate.

    reference: the frozen model to compare with; without it the model as it starts, whose log-probabilities are computed
    once, before the first step (of adapters fresh from peft that is the model without them). loss: a function of
    (policy, reference), both `PairLogProbs`, that gives one loss a pair, shape (pair,); by default DPO's with `beta`;
    others are in `losses.fast.pair_losses`. held_out, checkpoints, progress: as for `train_sft`. No dropout is drawn,
    and no balancing loss of a mixture is added.

    The log has loss, rewards/chosen, rewards/rejected, rewards/margins, rewards/accuracies, logps/..., learning_rate
    and grad_norm: nats, means over the step's pairs before its update, the first row those of the starting model
    (loss ln 2). `log.attrs` has the settings, an account of the rows, and the path: lean, or plain and why.

    Raises ValueError where no pair can be trained on, for a model on two devices, a tokenizer of another vocabulary,
    a start away from ln 2, and at the first loss that is not finite.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> pairs = [{"prompt": "Capital of France?", "chosen": " Paris.", "rejected": " Lyon."}] * 4
    >>> log = train_dpo(model, tokenizer, pairs, beta=0.1, epochs=4, batch=4, learning_rate=1e-3)
    train: 0 unusable rows; 4 rows, 4 used
    DPO, lean: each pair's prompt is computed once
    >>> round(float(log["loss"].iloc[0]), 4)  # ln 2: before the first step the model is its own reference
    0.6931
    >>> bool(log["rewards/margins"].iloc[-1] > 0)
    True
    """
    if reference is not None:
        device_of(reference)
        require_fit(reference, tokenizer)
        if share_weights(model, reference):
            raise ValueError(
                "the reference is the policy itself, or carries its adapter; its start is the reference without it"
            )
    run = Run.begin("DPO", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    examples, accounts = read_splits(read_examples, recipe, tokenizer, pairs, held_out)
    require_room(max(example.longest for rows in examples.values() for example in rows), model, reference)
    run.trains_on(examples[TRAIN], model, loss="dpo" if loss is None else pair_losses.name_of(loss))
    with ExitStack() as stack:
        for one in (model, *([] if reference is None else [reference])):
            stack.enter_context(without_dropout(one))
        stack.enter_context(trl_adapters.own_forwards(model, reference))
        own = stack.enter_context(trl_adapters.settings_kept(model, tokenizer))
        trainer, path = make_trainer(
            recipe, model, reference, own, examples, loss=loss, seed=seed, folder=run.folder("trainer")
        )
        if reference is None and loss is None:
            trainer.add_callback(StartsAtLn2.on(model))
        print(f"DPO, {path}")
        log = trl_adapters.run(trainer, run, callbacks=callbacks)
    model.eval()
    return log_frame(
        log,
        method="train_dpo",
        recipe=recipe,
        seed=seed,
        path=path,
        steps=trainer.state.global_step,
        rows=accounts,
    )


def make_trainer(
    recipe: DPO,
    policy: nn.Module,
    reference: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    examples: dict[str, list[PairExample]],
    *,
    loss: Callable[..., PairScores] | None = None,
    seed: int,
    folder: Path | None,
) -> tuple[PairLossTrainer, str]:
    """The trainer, with checkpoints in `folder`, and its path; the reference's log-probabilities are computed here."""
    trl_adapters.score_labelled_positions_only()
    rows = {split: _dataset(of_split) for split, of_split in examples.items()}
    fault = lean_fault(recipe, policy, reference, longest=max(example.longest for example in examples[TRAIN]))
    trainer = (PlainPairTrainer if fault else StageSharedPromptDPOTrainer)(
        model=policy,
        ref_model=reference,
        args=DPOConfig(
            **trl_adapters.trainer_arguments(
                recipe,
                device=device_of(policy),
                seed=seed,
                folder=folder,
                held_out=len(rows.get(TEST, ())),
                measure_start=TEST in rows,
            ),
            max_length=None,  # rows are cut already, and the cuts counted
            beta=recipe.beta,
            router_aux_loss_coef=0.0,  # the loss is DPO's alone, on either path
            precompute_ref_log_probs=True,
        ),
        train_dataset=rows[TRAIN],
        eval_dataset=rows.get(TEST),
        processing_class=tokenizer,
        optimizers=(optimizers.muon_as_one(recipe, policy), None),
    )
    if "ref" in getattr(policy, "peft_config", {}):  # TRL's copy of the adapter, whose log-probabilities are taken
        policy.delete_adapter("ref")
    trl_adapters.require_all_tokens(rows[TRAIN], trainer)
    trainer.pair_loss = pair_losses.dpo(beta=recipe.beta) if loss is None else pair_losses.as_pair_loss(loss)
    return trainer, f"plain: {fault}" if fault else LEAN


def lean_fault(recipe: DPO, policy: nn.Module, reference: nn.Module | None, *, longest: int) -> str:
    """Why the shared prompt is not for these models and rows of up to `longest` tokens; "" where it is.

    Dropout is switched off here, as TRL does for DPO: else the two answers to a prompt would differ by chance.
    """
    if not recipe.shared_prompt:
        return "shared_prompt is false"
    for model in (policy, *([] if reference is None else [reference])):
        disable_dropout_in_model(model)
        try:
            with in_mode(model, training=model is policy):
                require_lengths(shared_prompt.require_exact(model), longest)
        except ValueError as error:
            return str(error).removesuffix(f"; or {SLOW_PATH}").removesuffix(f"; {SLOW_PATH}")
    if getattr(policy.config, "output_router_logits", False):
        return "a mixture's balancing loss would count shared prompts once"
    return ""


class StartsAtLn2(TrainerCallback):
    """Halts unless the loss before the first step is ln 2: else the reference is not the policy's start."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance

    @classmethod
    def on(cls, model: nn.Module) -> "StartsAtLn2":
        """With the tolerance that the sums on the model's device need."""
        return cls(LN_2_TOLERANCE if device_of(model).type == "cpu" else LN_2_TOLERANCE_ELSEWHERE)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        if state.global_step == 0:
            self._require(metrics["eval_loss"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if state.global_step == 1 and "loss" in logs and args.logging_steps == 1:
            self._require(logs["loss"])

    def _require(self, loss: float) -> None:
        if not abs(loss - math.log(2)) <= self._tolerance:
            raise ValueError(
                f"DPO's loss before the first step is {loss:.6f} instead of ln 2 = {math.log(2):.6f}: "
                "the reference is not the policy's start"
            )


def _dataset(examples: Sequence[PairExample]) -> Dataset:
    """Pairs by length, so that the reference's pass over them in this order needs little padding."""
    by_length = sorted(examples, key=lambda example: example.longest)
    return Dataset.from_list([asdict(example) for example in by_length])
