"""How much faster a draft makes its target, measured the same way in both arms.

Both get the same prompts, limits, stop rules and warm-up, one prompt at a time, and take the first token of an answer
from the pass that reads the prompt. Both arms answer each prompt one right after the other: with plain decoding first
in the first order of the prompts, with drafting first in the reverse order.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from zephyr_lab.decoding.cached_steps import CachedSteps, CausalSteps, draft_steps
from zephyr_lab.decoding.drafting import Draft, Plan
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.speculative import SAMPLING, speculate
from zephyr_lab.models.causal import positions_of
from zephyr_lab.models.draft import FeatureDraft

WARM_UP = 3
ORDERS = ("forwards", "backwards")


@dataclass(frozen=True, slots=True)
class Timing:
    """What one arm took for one order of the prompts. seconds: wall time; cpu_seconds: of this process."""

    arm: str
    order: str
    seconds: float
    cpu_seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds of the target's pass over one token and over a whole draft, and of one step of the draft."""

    target_pass: float
    verifying_pass: float
    draft_step: float


def compare(
    target: PreTrainedModel,
    draft: Draft,
    plan: Plan,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    verify: str,
    temperature: float,
    seed: int,
) -> list[Timing]:
    """Four timings: arms "plain" and "drafted", orders "forwards" and "backwards". Errors as of `speculate`.

    Greedy answers are the same in both arms; sampled ones differ, so compare tokens a second.
    """

    def generator() -> torch.Generator | None:
        return torch.Generator().manual_seed(seed) if verify == SAMPLING else None

    def plain(prompt: Sequence[int]) -> int:
        (answer,) = sample(
            target, [prompt], max_new_tokens=max_new_tokens, temperatures=temperature, generator=generator()
        )
        return len(answer.ids)

    def drafted(prompt: Sequence[int]) -> int:
        (answer,) = speculate(
            target,
            draft,
            plan,
            [prompt],
            max_new_tokens=max_new_tokens,
            verify=verify,
            temperature=temperature,
            generator=generator(),
            first_from_prompt=True,
        )
        return len(answer.ids)

    for prompt in prompts[:WARM_UP]:
        plain(prompt), drafted(prompt)
    timings = []
    for order in ORDERS:
        arms = [("plain", plain), ("drafted", drafted)]
        if order == ORDERS[1]:
            arms.reverse()
        totals = {name: [0.0, 0.0, 0] for name, _ in arms}
        for prompt in prompts if order == ORDERS[0] else prompts[::-1]:
            for name, answer in arms:
                spent = _timed(partial(answer, prompt), target.device)
                totals[name] = [total + one for total, one in zip(totals[name], spent, strict=True)]
        timings += [Timing(name, order, spent[0], spent[1], int(spent[2])) for name, spent in totals.items()]
    return timings


def step_costs(
    target: PreTrainedModel, draft: Draft, *, nodes: int, context: int, repeats: int = 30, cpu: bool = True
) -> StepCosts:
    """Seconds of a pass of the target, over one token and over `nodes` + 1, and of a draft's step, after `context`.

    The least of `repeats` runs each, the three taken in turn. cpu: CPU time of the process, else wall time. Raises
    ValueError where tokens exceed the target's positions.
    """
    room = positions_of(target)
    if room is not None and context + nodes + 1 > room:
        raise ValueError(f"context {context} and {nodes + 1} tokens exceed the target's {room} positions")
    hidden = target.config.hidden_size if isinstance(draft, FeatureDraft) else None
    with torch.inference_mode():
        own, target_steps = draft_steps(draft, target, 1), CausalSteps(target, 1)
        for steps, width in ((target_steps, None), (own, hidden)):
            _feed(steps, context, 0, width, target)
            steps.keep(torch.ones(1, context, dtype=torch.bool, device=target.device))
        runs = {
            "target_pass": lambda: _feed(target_steps, 1, context, None, target),
            "verifying_pass": lambda: _feed(target_steps, nodes + 1, context, None, target),
            "draft_step": lambda: _feed(own, 1, context, hidden, target),
        }
        least = dict.fromkeys(runs, float("inf"))
        for _ in range(repeats):
            for name, run in runs.items():
                wall, used, _ = _timed(run, target.device)
                least[name] = min(least[name], used if cpu else wall)
                (own if name == "draft_step" else target_steps).drop()
    return StepCosts(**least)


def _feed(steps: CachedSteps, count: int, start: int, hidden: int | None, target: PreTrainedModel) -> None:
    """Run `count` tokens in a chain from place `start`."""
    device = target.device
    ids = torch.ones(1, count, dtype=torch.long, device=device)
    places = torch.arange(start, start + count, device=device)[None]
    features = None if hidden is None else torch.ones(1, count, hidden, dtype=target.dtype, device=device)
    steps.run(ids, places, features=features)


def _timed(call: Callable[[], Any], device: torch.device) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds and result of a call."""
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    wait()
    began, cpu = time.perf_counter(), time.process_time()
    result = call()
    wait()
    return time.perf_counter() - began, time.process_time() - cpu, result
