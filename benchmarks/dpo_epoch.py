"""One epoch of DPO on ragged pairs by real trainers, optimiser, clipping and the reference's pass counted.

Lengths are lognormal, batches of eight. TRL is at its best: the reference's log-probabilities computed once, no
checkpointing; once with rows in random order, as ours, and once sorted by length, which spares it most padding.
"""

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import harness
from benchmarks.dpo_models import IdTrainer, InOrderTrainer, OurTrainer, PairSizes, random_pairs, trl_trainer
from benchmarks.models import mistral
from benchmarks.report import Gate, Report, Row, seconds_ratio

OURS, RANDOM, SORTED = "ours, random order", "TRL best, random order", "TRL best, sorted by length"
ENTRIES, PAIRS, ROUNDS = 1024, 64, 2
MEDIANS, SPREAD = (120, 60, 60), 0.7  # of prompt, chosen and rejected; standard deviation of the logarithm
SHORTEST, LONGEST = 8, 768


def measure() -> Report:
    pairs = random_pairs(ragged_sizes(PAIRS, seed=0), entries=ENTRIES, seed=0)
    by_length = sorted(pairs, key=lambda pair: len(pair[0]) + max(len(pair[1]), len(pair[2])))
    losses: dict[str, list[float]] = {}

    def epoch(name: str, kind: type, rows: list) -> Callable[[], None]:
        def train() -> None:
            policy, reference = mistral(0, entries=ENTRIES), mistral(1, entries=ENTRIES)
            with tempfile.TemporaryDirectory() as folder:
                trainer = trl_trainer(policy, reference, rows, Path(folder), best=True, kind=kind)
                trainer.train()
            losses[name] = [row["loss"] for row in trainer.state.log_history if "loss" in row]

        return train

    contenders = {
        OURS: epoch(OURS, OurTrainer, pairs),
        RANDOM: epoch(RANDOM, IdTrainer, pairs),
        SORTED: epoch(SORTED, InOrderTrainer, by_length),
    }
    seconds = harness.interleaved(contenders, rounds=ROUNDS, warm_up=0)
    # A step's loss shows what the gradients of all steps before it did.
    apart = max(abs(one - other) for one, other in zip(losses[OURS], losses[RANDOM], strict=True))
    rows = [Row(f"{PAIRS} pairs", name, found) for name, found in seconds.items()]
    return Report(
        "dpo_epoch",
        f"one epoch by train() on {PAIRS} ragged pairs, V=1k, reference pass and optimiser counted.",
        OURS,
        tuple(rows),
        (
            Gate.at_least("TRL best, random order / ours", seconds_ratio(seconds[RANDOM], seconds[OURS]), 2.4, aim=3.5),
            Gate.at_least("TRL best, sorted / ours", seconds_ratio(seconds[SORTED], seconds[OURS]), 1.7, aim=2.4),
            Gate.at_most("largest difference of a step's loss, random order", apart, 1e-4),
        ),
        ("Ours needs no order of rows: nothing is padded.",),
    )


def ragged_sizes(count: int, *, seed: int) -> list[PairSizes]:
    """Lognormal lengths around `MEDIANS`, within `SHORTEST` and `LONGEST`."""
    drawn = random.Random(seed)

    def length(median: int) -> int:
        return min(max(round(median * drawn.lognormvariate(0, SPREAD)), SHORTEST), LONGEST)

    return [PairSizes(*(length(median) for median in MEDIANS)) for _ in range(count)]


def main() -> int:
    return harness.main(measure)


if __name__ == "__main__":
    sys.exit(main())
