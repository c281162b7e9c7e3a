"""A whole step of KD, prediction and attention loss: ours beside whole logits and whole maps of both models."""

import sys

import torch

from benchmarks import harness, naive_kd
from benchmarks.attn_kd import eager
from benchmarks.models import head_products, layer_products, mistral
from benchmarks.report import Gate, Report, Row, seconds_ratio
from zephyr_lab.losses import kd
from zephyr_lab.losses.fast.kd_head import mean_of_tokens
from zephyr_lab.methods.lean_kd import lean_kd_losses, linear_head
from zephyr_lab.models.pairing import pair

OURS, NAIVE = "ours", "whole logits and maps (kd-dae)"
POSITIONS, LAYERS, ENTRIES, ROUNDS = 2048, 4, 1024, 3


def measure() -> Report:
    student, teacher = (mistral(seed, entries=ENTRIES, layers=LAYERS) for seed in (0, 1))
    teacher.requires_grad_(False)
    learned = list(student.parameters())
    ids = torch.randint(3, ENTRIES, (1, POSITIONS), generator=torch.Generator().manual_seed(0))
    answers = (torch.arange(POSITIONS) >= POSITIONS // 2)[None]
    counted = kd.predicting(answers)
    heads, shares = (linear_head(student), linear_head(teacher)), mean_of_tokens(counted)
    pairing = pair(student.config, teacher.config)

    def ours() -> None:
        harness.clear(learned)
        lean_kd_losses(
            student, teacher, {"input_ids": ids}, heads=heads, counted=counted, shares=shares, pairing=pairing,
            prediction_weight=1.0, attention_weight=1.0, ce_weight=0.0, temperature=1.0,
        ).loss.backward()  # fmt: skip

    def naive() -> None:
        harness.clear(learned)
        with eager(student, teacher):
            naive_kd.whole_step(student, teacher, ids, answers, counted).backward()

    contenders = {OURS: ours, NAIVE: naive}
    seconds = harness.interleaved(contenders, rounds=ROUNDS)
    error = harness.gradient_error(harness.gradients(learned, ours), harness.gradients(learned, naive))
    peaks = {name: harness.peak_bytes(call) for name, call in contenders.items()}
    harness.clear(learned)
    rows_answering = int(counted.sum())
    floor = harness.gemm_floor([
        *(one for trained in (True, False) for one in layer_products(POSITIONS, layers=LAYERS, trained=trained)),
        *(one for trained in (True, False) for one in head_products(rows_answering, ENTRIES, trained=trained)),
    ])  # fmt: skip
    case = f"T={POSITIONS} L={LAYERS} V=1k"
    return Report(
        "kd_full",
        "Prediction and attention loss of a batch from the forward passes of both models to the gradients.",
        OURS,
        (
            Row(case, OURS, seconds[OURS], peaks[OURS], error, floor / min(seconds[OURS])),
            Row(case, NAIVE, seconds[NAIVE], peaks[NAIVE]),
        ),
        (
            Gate.at_least("naive / ours", seconds_ratio(seconds[NAIVE], seconds[OURS]), 1.35, aim=2.0),
            Gate.at_most("peak, share of naive", peaks[OURS] / peaks[NAIVE], 0.1, aim=0.05),
            Gate.at_most("gradient error", error, 5e-5),
        ),
        ("GEMM share: projections and heads; attention's own products are not in it.",),
    )


def main() -> int:
    return harness.main(measure)


if __name__ == "__main__":
    sys.exit(main())
