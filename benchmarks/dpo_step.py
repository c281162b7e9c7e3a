"""One DPO step, forward and backward: a shared prompt beside TRL's trainer as it comes, TRL at its best, whole logits.

Pairs of 384 prompt and twice 128 response tokens. TRL's contenders are the losses of real trainers on the batches that
their own collator made. "TRL" at V=32k means its row selection for GPUs, switched on: on a CPU it scores all rows.
"""

import sys
import tempfile
from pathlib import Path

import trl.trainer.utils as trl_utils

from benchmarks import harness
from benchmarks.dpo_models import PairSizes, floor_products, random_pairs, trl_trainer, whole_logits_loss
from benchmarks.models import mistral
from benchmarks.report import Gate, Report, Row, seconds_ratio
from zephyr_lab.losses.fast import pair_losses, shared_prompt
from zephyr_lab.losses.fast.pair_packing import from_padded
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.models.lean_feed_forward import lean_feed_forward

OURS, DEFAULT, BEST, NAIVE = "ours", "TRL default", "TRL best (reference cached, no checkpointing)", "whole logits"
BETA, ROUNDS = 0.1, 3
SIZES = PairSizes(prompt=384, chosen=128, rejected=128)
SMALL, LARGE = (1024, 3), (32768, 2)  # entries of the vocabulary, pairs


def measure() -> Report:
    small, large = case(*SMALL), case(*LARGE)
    rows = [*small.values(), *large.values()]

    def times(found: dict[str, Row], name: str) -> float:
        return seconds_ratio(found[name].seconds, found[OURS].seconds)

    def share(name: str) -> float:
        return small[OURS].peak / small[name].peak

    return Report(
        "dpo_step",
        f"DPO forward and backward, {SIZES.prompt}:{SIZES.chosen}:{SIZES.rejected} tokens a pair, 4 layers of 256.",
        OURS,
        tuple(rows),
        (
            Gate.at_least("V=1k: TRL default / ours", times(small, DEFAULT), 2.5, aim=3.5),
            Gate.at_least("V=1k: TRL best / ours", times(small, BEST), 1.7, aim=2.3),
            Gate.at_least("V=32k: TRL default / ours", times(large, DEFAULT), 2.2, aim=3.5),
            Gate.at_least("V=32k: TRL best / ours", times(large, BEST), 1.5, aim=2.2),
            Gate.at_most("V=1k: peak, share of TRL default", share(DEFAULT), 0.40, aim=0.15),
            Gate.at_most("V=1k: peak, share of TRL best", share(BEST), 0.27, aim=0.10),
            Gate.at_least("GEMM floor / ours", min(small[OURS].floor, large[OURS].floor), 0.52, aim=0.75),
            Gate.at_most("gradient error", max(row.error for row in rows if row.contender == OURS), 5e-5),
        ),
        (
            "V=32k: all of TRL's with its GPU row selection switched on. Errors are against whole logits, at a policy "
            "that is not the reference.",
        ),
    )


def case(entries: int, count: int) -> dict[str, Row]:
    """All contenders at one size, by name."""
    pairs = random_pairs([SIZES] * count, entries=entries, seed=0)
    policy, reference = mistral(0, entries=entries), mistral(1, entries=entries)
    parameters = list(policy.parameters())
    with tempfile.TemporaryDirectory() as folder:
        default = trl_trainer(policy, reference, pairs, Path(folder) / "default", best=False)
        best = trl_trainer(policy, reference, pairs, Path(folder) / "best", best=True)
        batch = next(iter(best.get_train_dataloader()))
    packed = from_padded(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    cached = PairLogProbs(batch["ref_chosen_logps"].double(), batch["ref_rejected_logps"].double())
    trl_utils._use_triton = lambda device: entries == LARGE[0]

    def ours() -> None:
        harness.clear(parameters)
        with lean_feed_forward(policy):  # as our trainer does
            loss = shared_prompt.loss(policy, packed, cached, pair_losses.dpo(beta=BETA)).loss
        loss.backward()

    def whole() -> None:
        harness.clear(parameters)
        whole_logits_loss(policy, reference, batch, beta=BETA).backward()

    def trl(trainer) -> None:
        harness.clear(parameters)
        checkpointing = trainer is default
        policy.gradient_checkpointing_enable() if checkpointing else policy.gradient_checkpointing_disable()
        trainer.compute_loss(policy, batch).backward()
        policy.gradient_checkpointing_disable()

    contenders = {OURS: ours, DEFAULT: lambda: trl(default), BEST: lambda: trl(best), NAIVE: whole}
    policy.train()
    seconds = harness.interleaved(contenders, rounds=ROUNDS)
    expected = harness.gradients(parameters, whole)
    floor = harness.gemm_floor(floor_products([SIZES] * count, entries))
    rows = {}
    for name, call in contenders.items():
        error = harness.gradient_error(harness.gradients(parameters, call), expected)
        peak = harness.peak_bytes(call)
        harness.clear(parameters)
        share = floor / min(seconds[name]) if name == OURS else None
        rows[name] = Row(f"V={entries}, {count} pairs", name, seconds[name], peak, error, share)
    return rows


def main() -> int:
    return harness.main(measure)


if __name__ == "__main__":
    sys.exit(main())
