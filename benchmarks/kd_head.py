"""The prediction loss from hidden states: one pass in tiles beside whole logits and TRL's chunked divergence."""

import sys

import torch
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from benchmarks import harness, naive_kd
from benchmarks.models import HIDDEN, head_products
from benchmarks.report import Gate, Report, Row, seconds_ratio
from zephyr_lab.losses.fast.kd_head import LinearHead, kd_head_losses

OURS, NAIVE, TRL = "ours", "whole logits (kd-dae)", "TRL chunked"
ROUNDS = 3
LARGE, SMALL = (32768, 1024), (1024, 2048)  # entries, tokens


def measure() -> Report:
    large, small = case(*LARGE), case(*SMALL)
    found = {row.contender: row for row in large}
    naive, ours = found[NAIVE], found[OURS]
    return Report(
        "kd_head",
        f"KL(teacher, student) from hidden states of {HIDDEN} features to the gradients of hidden states and head.",
        OURS,
        (*large, *small),
        (
            Gate.at_least("V=32k: naive / ours", seconds_ratio(naive.seconds, ours.seconds), 0.9, aim=1.25),
            Gate.at_least("V=32k: TRL / ours", seconds_ratio(found[TRL].seconds, ours.seconds), 1.4, aim=2.0),
            Gate.at_most("V=32k: peak, share of naive", ours.peak / naive.peak, 0.06, aim=0.02),
            Gate.at_most("gradient error", max(row.error for row in (*large, *small) if row.contender == OURS), 5e-5),
        ),
        (f"The gradient of the head alone is {LARGE[0] * HIDDEN * 4 / 2**20:.0f} MiB at V=32k; all methods make it.",),
    )


def case(entries: int, tokens: int) -> list[Row]:
    """All contenders on one size."""
    generator = torch.Generator().manual_seed(0)
    hidden, theirs = (torch.randn(tokens, HIDDEN, generator=generator) for _ in range(2))
    weight, teacher_weight = (0.12 * torch.randn(entries, HIDDEN, generator=generator) for _ in range(2))
    learned = [hidden.requires_grad_(), weight.requires_grad_()]
    head, teacher_head = LinearHead(weight), LinearHead(teacher_weight)
    counted, shares = torch.ones(tokens), torch.full((tokens,), 1 / tokens)
    weights = {"prediction_weight": 1.0, "ce_weight": 0.0, "temperature": 1.0}

    def ours() -> None:
        harness.clear(learned)
        kd_head_losses(
            hidden, head, teacher_hidden=theirs, teacher_head=teacher_head, next_ids=None, shares=shares, **weights
        ).loss.backward()

    def naive() -> None:
        harness.clear(learned)
        with torch.no_grad():
            teacher_logits = theirs @ teacher_weight.t()
        naive_kd.head_loss(hidden @ weight.t(), teacher_logits, counted).backward()

    def trl() -> None:
        harness.clear(learned)
        divergence, _ = ChunkedDivergenceFunction.apply(hidden, weight, None, theirs, teacher_weight, None, 0.0)
        (divergence @ shares).backward()

    contenders = {OURS: ours, NAIVE: naive, TRL: trl}
    seconds = harness.interleaved(contenders, rounds=ROUNDS)
    expected = harness.gradients(learned, naive)
    products = head_products(tokens, entries, trained=True)
    floor = harness.gemm_floor([*products, products[0]])  # the student's three and the teacher's one
    rows = []
    for name, call in contenders.items():
        error = harness.gradient_error(harness.gradients(learned, call), expected)
        peak = harness.peak_bytes(call)
        share = floor / min(seconds[name]) if name == OURS else None
        rows.append(Row(f"V={entries} N={tokens}", name, seconds[name], peak, error, share))
    harness.clear(learned)
    return rows


def main() -> int:
    return harness.main(measure)


if __name__ == "__main__":
    sys.exit(main())
