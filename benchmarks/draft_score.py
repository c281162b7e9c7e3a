"""Acceptance length of a draft: expected exactly from one pass over the target's answers, beside decoding itself."""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from transformers import GenerationConfig, MistralForCausalLM

from benchmarks import harness
from benchmarks.assisted import assisted
from benchmarks.models import mistral
from benchmarks.report import Gate, Report, Row, seconds_ratio
from zephyr_lab.decoding.acceptance import Answered, acceptance_rates
from zephyr_lab.decoding.drafting import Chain
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.speculative import speculate
from zephyr_lab.scoring.acceptance_length import acceptance_length

SCORING, SAMPLED = "ours: scoring answers", "ours: sampling and scoring"
LOOP, ASSISTED = "our loop, a prompt at a time", "transformers' assisted generation"
ENTRIES, HIDDEN, LAYERS, GAMMA, NEW_TOKENS = 1024, 128, 3, 4, 64
PROMPTS, TIMED, ROUNDS = 300, 12, 2
SHARPNESS = 1.5  # of next-token distributions: the draft then gains about 2.3 tokens a pass, as small trained ones do


def measure() -> Report:
    target, draft = pair()
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, ENTRIES, (PROMPTS, 16), generator=generator).tolist()
    few = prompts[:TIMED]
    answers = sampled(target, prompts, seed=1)

    def drafted(asked: Sequence[list[int]], rows_at_once: int, seed: int) -> list:
        return speculate(
            target, draft, Chain(GAMMA, drawn=True), asked, max_new_tokens=NEW_TOKENS, verify="sampling",
            temperature=1.0, generator=torch.Generator().manual_seed(seed), rows_at_once=rows_at_once,
        )  # fmt: skip

    def theirs() -> None:
        assisted(target, draft, few, length=GAMMA, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=2)

    contenders = {
        SCORING: (PROMPTS, lambda: scored(target, draft, answers)),
        SAMPLED: (PROMPTS, lambda: scored(target, draft, sampled(target, prompts, seed=3))),
        LOOP: (TIMED, lambda: drafted(few, 1, 4)),
        ASSISTED: (TIMED, theirs),
    }
    whole = harness.interleaved({name: call for name, (_, call) in contenders.items()}, rounds=ROUNDS)
    seconds = {name: tuple(one / contenders[name][0] for one in found) for name, found in whole.items()}
    looped = drafted(prompts, 100, 5)
    given = [Answered(tuple(prompt), answer.ids) for prompt, answer in zip(prompts, looped, strict=True)]
    differences = scored(target, draft, given) - np.array([answer.passes for answer in looped])
    error = abs(differences.mean()) / (differences.std(ddof=1) / np.sqrt(PROMPTS))
    tau = acceptance_length([len(answer.answer) for answer in answers], scored(target, draft, answers))
    looped_tau = acceptance_length([len(one.ids) for one in looped], [one.passes for one in looped])
    case = f"an answer of {NEW_TOKENS} tokens"
    return Report(
        "draft_score",
        f"Tokens a target pass with drafts of {GAMMA}: CPU seconds an answer.",
        SCORING,
        tuple(Row(case, name, seconds[name]) for name in contenders),
        (
            Gate.at_least("assisted / scoring", seconds_ratio(seconds[ASSISTED], seconds[SCORING]), 25, aim=80),
            Gate.at_least(
                "assisted / sampling and scoring", seconds_ratio(seconds[ASSISTED], seconds[SAMPLED]), 10, aim=30
            ),
            Gate.at_most("bias against the loop's own passes, standard errors", float(error), 3.0),
        ),
        (
            f"Tokens a pass: {tau:.3f} expected on {PROMPTS} fresh answers, {looped_tau:.3f} counted by the loop on "
            f"others. The bias is paired: expected less counted passes of the loop's own {PROMPTS} answers.",
        ),
    )


def pair() -> tuple[MistralForCausalLM, MistralForCausalLM]:
    """A target, and as its draft its own first layer under its norm and head, which agrees with it now and then."""
    target, draft = (mistral(0, entries=ENTRIES, layers=layers, hidden=HIDDEN).eval() for layers in (LAYERS, 1))
    target.lm_head.weight.data *= SHARPNESS
    draft.load_state_dict({name: target.state_dict()[name] for name in draft.state_dict()})
    for model in (target, draft):
        model.generation_config = GenerationConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return target, draft


def sampled(target: MistralForCausalLM, prompts: Sequence[list[int]], *, seed: int) -> list[Answered]:
    """Answers of the target at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    found = sample(target, prompts, max_new_tokens=NEW_TOKENS, temperatures=1.0, generator=generator, rows_at_once=300)
    return [Answered(tuple(prompt), answer.ids) for prompt, answer in zip(prompts, found, strict=True)]


def scored(target: MistralForCausalLM, draft: MistralForCausalLM, answers: Sequence[Answered]) -> np.ndarray:
    """Expected target passes of each answer."""
    return acceptance_rates(target, draft, answers, length=GAMMA, drawn=True, temperature=1.0).passes(GAMMA)


def main() -> int:
    return harness.main(measure)


if __name__ == "__main__":
    sys.exit(main())
