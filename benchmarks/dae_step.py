"""A step of DAE: each text through its own teacher, beside three models on everything."""

import math
import sys
from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from benchmarks import harness, naive_kd
from benchmarks.models import Product, head_products, layer_products, mistral
from benchmarks.report import Gate, Report, Row, seconds_ratio
from zephyr_lab.losses.kd import predicting
from zephyr_lab.methods.lean_dae import Text, lean_dae_losses, online, token_shares
from zephyr_lab.methods.lean_kd import linear_head

OURS = "ours, routed"
NAIVE = "all on everything (kd-dae)"
RAGGED, FIXED, LARGE = "V=1k ragged", "V=1k fixed", "V=32k fixed"
LAYERS, ROUNDS = 4, 3


def measure() -> Report:
    cases = {
        RAGGED: case(RAGGED, 1024, ragged()),
        FIXED: case(FIXED, 1024, [256] * 4),
        LARGE: case(LARGE, 32768, [256] * 4),
    }
    gates = []
    for name, least, aim in ((RAGGED, 3.0, 5.0), (LARGE, 1.8, 3.0)):
        found = {row.contender: row.seconds for row in cases[name]}
        gates.append(Gate.at_least(f"{name}: naive / routed", seconds_ratio(found[NAIVE], found[OURS]), least, aim=aim))
    rows = tuple(row for found in cases.values() for row in found)
    gates.append(Gate.at_most("gradient error", max(row.error or 0.0 for row in rows), 5e-5))
    return Report(
        "dae_step",
        "Student, domain teacher and reference to the gradients; half the texts are domain texts, half their tokens "
        "answers.",
        OURS,
        rows,
        tuple(gates),
        (f"Ragged: {len(ragged())} texts of {sum(ragged())} tokens, lognormal, the longest {max(ragged())}.",),
    )


def ragged() -> list[int]:
    """Lengths of eight texts: lognormal with median 160 and sigma 0.8, at most 768 tokens."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.exp(math.log(160) + 0.8 * torch.randn(8, generator=generator))
    return [int(length) for length in drawn.clamp(32, 768)]


def case(name: str, entries: int, lengths: Sequence[int]) -> list[Row]:
    """All contenders on texts of these lengths."""
    student, expert, reference = (mistral(seed, entries=entries, layers=LAYERS) for seed in range(3))
    for teacher in (expert, reference):
        teacher.requires_grad_(False)
    learned = list(student.parameters())
    texts = [text(length, entries, seed) for seed, length in enumerate(lengths)]
    is_domain = [place % 2 == 0 for place in range(len(texts))]
    head, shares = linear_head(student), token_shares(texts)

    sides = [online(teacher, linear_head(teacher)) for teacher in (expert, reference)]

    def lean() -> None:
        harness.clear(learned)
        lean_dae_losses(
            student, head, texts, is_domain=is_domain, expert=sides[0], reference=sides[1], shares=shares,
            temperature=1.0,
        ).loss.backward()  # fmt: skip

    ids = pad_sequence([one.ids for one in texts], batch_first=True)
    counted = pad_sequence([one.counted for one in texts], batch_first=True)
    answers = counted.roll(1, dims=1)
    flags = torch.tensor(is_domain)

    def naive() -> None:
        harness.clear(learned)
        naive_kd.dae_step(student, expert, reference, ids, answers, counted, flags).backward()

    contenders = {OURS: lean, NAIVE: naive}
    seconds = harness.interleaved(contenders, rounds=ROUNDS)
    expected = harness.gradients(learned, naive)
    errors = {
        one: harness.gradient_error(harness.gradients(learned, call), expected) for one, call in contenders.items()
    }
    peaks = {one: harness.peak_bytes(call) for one, call in contenders.items()}
    harness.clear(learned)
    floor = harness.gemm_floor(products(texts, entries)) / min(seconds[OURS])
    return [Row(name, one, seconds[one], peaks[one], errors[one], floor if one == OURS else None) for one in contenders]


def text(length: int, entries: int, seed: int) -> Text:
    """Random tokens of which the second half answers."""
    generator = torch.Generator().manual_seed(seed)
    answers = torch.arange(length) >= length // 2
    return Text(torch.randint(3, entries, (length,), generator=generator), predicting(answers[None])[0])


def products(texts: Sequence[Text], entries: int) -> list[Product]:
    """Matrix products of the routed step: student trained, one teacher a text, heads on the answers."""
    tokens = sum(len(one.ids) for one in texts)
    counted = sum(int(one.counted.sum()) for one in texts)
    return [
        *layer_products(tokens, layers=LAYERS, trained=True),
        *layer_products(tokens, layers=LAYERS, trained=False),
        *head_products(counted, entries, trained=True),
        *head_products(counted, entries, trained=False),
    ]


def main() -> int:
    return harness.main(measure)


if __name__ == "__main__":
    sys.exit(main())
