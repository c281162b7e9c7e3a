"""The attention loss: blocks of answer rows beside whole maps of both models, and beside a step without it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import harness, naive_kd
from benchmarks.models import mistral
from benchmarks.report import Gate, Report, Row, seconds_ratio
from zephyr_lab.losses.fast.kd_head import mean_of_tokens
from zephyr_lab.methods.lean_kd import both_passes
from zephyr_lab.models.pairing import pair

OURS, NAIVE, WITHOUT = "ours", "whole maps (kd-dae)", "same step, no attention loss"
POSITIONS, LAYERS, ROUNDS = 2048, 4, 3


def measure() -> Report:
    student, teacher = mistral(0, entries=1024, layers=LAYERS), mistral(1, entries=1024, layers=LAYERS)
    teacher.requires_grad_(False)
    learned = [one for name, one in student.named_parameters() if not name.startswith("lm_head")]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 1024, (1, POSITIONS), generator=generator)
    counted = torch.zeros(1, POSITIONS, dtype=torch.bool)
    counted[:, POSITIONS // 2 - 1 : -1] = True  # the second half answers
    probe = torch.randn(POSITIONS, student.config.hidden_size, generator=generator) / POSITIONS
    shares, pairing = mean_of_tokens(counted), pair(student.config, teacher.config)

    def ours() -> None:
        harness.clear(learned)
        passes = both_passes(student, teacher, {"input_ids": ids}, counted=counted, shares=shares, pairing=pairing)
        (passes.attention + (passes.hidden * probe[counted[0]]).sum()).backward()

    def without() -> None:
        harness.clear(learned)
        passes = both_passes(student, teacher, {"input_ids": ids}, counted=counted, shares=shares, pairing=None)
        (passes.hidden * probe[counted[0]]).sum().backward()

    def naive() -> None:
        harness.clear(learned)
        with eager(student, teacher):
            arguments = {"input_ids": ids, "use_cache": False, "output_attentions": True}
            with torch.no_grad():
                theirs = teacher.base_model(**arguments)
            own = student.base_model(**arguments)
            loss = naive_kd.attention_loss(own.attentions, theirs.attentions, counted)
            (loss + (own.last_hidden_state[counted] * probe[counted[0]]).sum()).backward()

    contenders = {OURS: ours, WITHOUT: without, NAIVE: naive}
    seconds = harness.interleaved(contenders, rounds=ROUNDS)
    error = harness.gradient_error(harness.gradients(learned, ours), harness.gradients(learned, naive))
    peaks = {name: harness.peak_bytes(call) for name, call in contenders.items()}
    harness.clear(learned)
    case = f"T={POSITIONS} L={LAYERS}"
    rows = tuple(Row(case, name, seconds[name], peaks[name], error if name == OURS else None) for name in contenders)
    overhead = seconds_ratio(seconds[OURS], seconds[WITHOUT]) - 1
    return Report(
        "attn_kd",
        "Both models' passes with the attention loss of all layers and heads to the gradients; half the rows answer.",
        OURS,
        rows,
        (
            Gate.at_most("peak, share of naive", peaks[OURS] / peaks[NAIVE], 0.08, aim=0.05),
            Gate.at_most("peak over the step without, share", peaks[OURS] / peaks[WITHOUT] - 1, 0.05, aim=0.0),
            Gate.at_least("naive / ours", seconds_ratio(seconds[NAIVE], seconds[OURS]), 1.4, aim=2.0),
            Gate.at_most("overhead over the step without", overhead, 0.4, aim=0.1),
            Gate.at_most("gradient error", error, 5e-5),
            Gate.at_least("finite with a window where naive is not", float(finite_with_a_window()), 1.0),
        ),
        ("All contenders run the layers alone; a fixed linear function of their output stands for the head.",),
    )


@contextmanager
def eager(*models: PreTrainedModel) -> Iterator[None]:
    """Models by eager attention inside, which alone returns maps."""
    for model in models:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model in models:
            model.set_attn_implementation("sdpa")


def finite_with_a_window() -> bool:
    """Whether ours is finite and the formula on maps is not, on a short text with a window."""
    student, teacher = (mistral(seed, entries=64, layers=1, window=8) for seed in (0, 1))
    ids = torch.arange(3, 35)[None]
    counted = torch.ones(1, 32, dtype=torch.bool)
    counted[:, -1] = False
    with torch.no_grad():
        passes = both_passes(
            student, teacher, {"input_ids": ids}, counted=counted, shares=mean_of_tokens(counted),
            pairing=pair(student.config, teacher.config),
        )  # fmt: skip
        with eager(student, teacher):
            maps: list[tuple[Tensor, ...]] = [
                model(input_ids=ids, output_attentions=True).attentions for model in (student, teacher)
            ]
    return bool(passes.attention.isfinite()) and not bool(naive_kd.attention_loss(*maps, counted).isfinite())


def main() -> int:
    return harness.main(measure)


if __name__ == "__main__":
    sys.exit(main())
