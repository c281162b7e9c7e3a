"""Acceptance length of speculative decoding (tau): from counts, and exactly in expectation from acceptance rates.

A verification pass of the target commits the drafted tokens that it accepts and one token of its own. Numbers alone:
no model and no torch. `decoding.acceptance` computes the rates from models.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from zephyr_lab.scoring.intervals import ALL_EQUAL, BOOTSTRAP, ONE_QUESTION, RESAMPLES, Estimate, ratio_interval


def acceptance_length(tokens: ArrayLike, passes: ArrayLike) -> float:
    """tau = sum of committed tokens / sum of target passes over all answers; 1 where every draft was rejected.

    The bonus token of each pass counts, the pass that reads the prompt does not, unless it verifies drafts too.
    Expected passes serve as well as counted ones. Raises ValueError for unlike lengths or answers without a pass.
    """
    tokens, passes = _counts(tokens, passes)
    return float(tokens.sum() / passes.sum())


def authors_acceptance_length(tokens: ArrayLike, passes: ArrayLike) -> float:
    """tau as the authors' script has it: the plain mean over answers of tokens / (passes - 1).

    Its divisor is the index of the last pass, counted from 0: one too small, and 0 for answers of one pass, which are
    dropped. Raises ValueError where no answer is left.
    """
    tokens, passes = _counts(tokens, passes)
    kept = passes >= 2
    if not kept.any():
        raise ValueError("every answer took a single pass, and the authors' tau drops those")
    return float((tokens[kept] / (passes[kept] - 1)).mean())


def constant_rate_length(rate: float, *, length: int) -> float:
    """tau of endless text where each of `length` drafted tokens is accepted with probability `rate`.

    (1 - rate^(length + 1)) / (1 - rate), Leviathan et al. 2023, eq. 1. Raises ValueError for a rate outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be from 0 to 1, got {rate}")
    return float(sum(rate**accepted for accepted in range(length + 1)))


def expected_passes(rates: ArrayLike, lengths: ArrayLike) -> np.ndarray:
    """Expected target passes that each answer took, given its tokens; shape (row,).

    rates[row, start, depth]: probability that the token at place start + depth of the answer was accepted, given that
    it was the draft's token number `depth` of a pass that began at `start` and those before it were accepted. Axes
    (row, start, depth); places past an answer's end are not read. lengths, (row,): tokens of each answer.

    C[s] = 1 + sum_i (prod_{j<i} r_j) (1 - r_i) C[s+i+1] + (prod_j r_j) C[s+depth+1], C = 0 past the end. Exact: a token
    is emitted by acceptance with probability min(p, q), and emitted at all with p, whatever came before.
    """
    rates, lengths = _rates(rates, lengths)
    rows, longest, depth = rates.shape
    ends = ending_weights(rates)
    passes = np.zeros((rows, longest + depth + 1))
    for start in range(longest - 1, -1, -1):
        after = passes[:, start + 1 : start + depth + 2]
        passes[:, start] = np.where(start < lengths, 1 + (ends[:, start] * after).sum(axis=1), 0.0)
    return passes[:, 0]


@dataclass(frozen=True, slots=True)
class AuthorsTerms:
    """Expected terms of the authors' tau, a pair an answer: its tau is sum(ratios) / sum(kept).

    ratios: E[tokens / (passes - 1)] over outcomes of two passes and more (else 0); kept: their probability.
    """

    ratios: np.ndarray
    kept: np.ndarray


def expected_authors_terms(rates: ArrayLike, lengths: ArrayLike) -> AuthorsTerms:
    """Expected terms of `authors_acceptance_length`, given the answers; arguments as of `expected_passes`."""
    chances = pass_distribution(rates, lengths)
    passes = np.arange(chances.shape[1])
    shares = chances[:, 2:] / np.maximum(passes[2:] - 1, 1)
    return AuthorsTerms(np.asarray(lengths, dtype=float) * shares.sum(axis=1), chances[:, 2:].sum(axis=1))


def pass_distribution(rates: ArrayLike, lengths: ArrayLike) -> np.ndarray:
    """Probability of each number of passes, (row, passes 0 to the longest answer); arguments as `expected_passes`."""
    rates, lengths = _rates(rates, lengths)
    rows, longest, depth = rates.shape
    ends = ending_weights(rates)
    chances = np.zeros((rows, longest + depth + 1, longest + 1))
    chances[:, :, 0] = 1.0  # past the end no pass is left
    for start in range(longest - 1, -1, -1):
        after = np.einsum("rd,rdp->rp", ends[:, start], chances[:, start + 1 : start + depth + 2])
        inside = start < lengths
        chances[inside, start, 0] = 0.0
        chances[inside, start, 1:] = after[inside, :-1]
    return chances[:, 0]


def ending_weights(rates: np.ndarray) -> np.ndarray:
    """Probability that a pass accepts exactly 0, 1, ..., depth drafted tokens; (row, start, depth + 1)."""
    reached = np.cumprod(rates, axis=2)
    before = np.concatenate([np.ones_like(reached[:, :, :1]), reached], axis=2)
    stopped = np.concatenate([1 - rates, np.ones_like(reached[:, :, :1])], axis=2)
    return before * stopped


def acceptance_estimate(tokens: ArrayLike, passes: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """tau with its 95 % bootstrap interval over prompts, one entry a prompt; no interval for a single prompt, and for
    prompts of one tau: drawing again cannot tell what else there is."""
    tokens, passes = _counts(tokens, passes)
    return _estimate(acceptance_length(tokens, passes), [(tokens, passes)], seed, resamples)


def acceptance_difference(
    ours: tuple[ArrayLike, ArrayLike], theirs: tuple[ArrayLike, ArrayLike], *, seed: int, resamples: int = RESAMPLES
) -> Estimate:
    """tau of `ours` less that of `theirs`, (tokens, passes) each, paired by prompt: both get the same draws."""
    sides = [_counts(*ours), _counts(*theirs)]
    if len(sides[0][0]) != len(sides[1][0]):
        raise ValueError(f"pairs need the same prompts, got {len(sides[0][0])} and {len(sides[1][0])}")
    difference = acceptance_length(*ours) - acceptance_length(*theirs)
    return _estimate(difference, sides, seed, resamples)


def _estimate(value: float, sides: list[tuple[np.ndarray, np.ndarray]], seed: int, resamples: int) -> Estimate:
    """`value` with the percentile interval of its resamples, or why it has none."""
    prompts = len(sides[0][0])
    if prompts < 2:
        return Estimate(value, None, prompts, ONE_QUESTION.replace("question", "prompt"))
    interval = ratio_interval(sides, np.random.default_rng(seed), resamples, tail=2.5)
    return Estimate(value, interval, prompts, BOOTSTRAP if interval else ALL_EQUAL)


def _counts(tokens: ArrayLike, passes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    tokens, passes = np.asarray(tokens, dtype=float), np.asarray(passes, dtype=float)
    if tokens.ndim != 1 or tokens.shape != passes.shape or not len(tokens):
        raise ValueError(f"each answer needs its tokens and passes, got shapes {tokens.shape} and {passes.shape}")
    if not (np.isfinite(tokens).all() and np.isfinite(passes).all() and (passes > 0).all()):
        raise ValueError("tokens and passes must be finite, and each answer takes a pass at least")
    return tokens, passes


def _rates(rates: ArrayLike, lengths: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    rates, lengths = np.asarray(rates, dtype=float), np.asarray(lengths)
    if rates.ndim != 3 or lengths.shape != rates.shape[:1]:
        raise ValueError(f"rates must be (row, start, depth) with a length a row, got {rates.shape}, {lengths.shape}")
    if not ((rates >= 0) & (rates <= 1)).all():
        raise ValueError(f"rates must be probabilities from 0 to 1, got {np.nanmin(rates)} to {np.nanmax(rates)}")
    if (lengths < 0).any() or (lengths > rates.shape[1]).any():
        raise ValueError(f"lengths must be from 0 to {rates.shape[1]}, got {lengths.min()} to {lengths.max()}")
    return rates, lengths
