"""How sure the verdict on a claim is: its p-value, and whether the run was large enough for the claim's margin.

Nothing here changes a verdict; the ledger shows it beside one.
"""

from collections.abc import Sequence
from typing import Any

from zephyr_lab.reporting.claims import DIRECTION_ONLY, NOT_RESOLVED, Claim, Part
from zephyr_lab.scoring.intervals import TAIL, Estimate
from zephyr_lab.scoring.p_values import chances, mean_squares_of

# What the ledger says of a measured claim beside verdict and effect; null where there is none to give.
KEYS = ("basis", "part", "one", "p", "half_width", "needs", "reached", "more")


def of_verdict(claim: Claim, effects: Sequence[Estimate], verdict: str, place: int) -> dict[str, Any]:
    """`KEYS` of a measured claim, from one effect for each of its parts; verdict, place: what `claims.judge` gave.

    basis: what its interval is. part: its metric, where there are several. one: what all seeds share. p: `p_value` of
    the claim. half_width: of the interval. needs: the half-width under which no effect at all is told from one of the
    claimed size, the margin; None where it is 0, for which any interval clear of 0 is enough. reached: whether it is
    that narrow. more: what a larger run would take, where it is not and the verdict is open.
    """
    part, effect = claim.parts[place], effects[place]
    half, needs = effect.spread / 2, part.margin or None
    is_open = verdict in (NOT_RESOLVED, DIRECTION_ONLY)
    return {
        "basis": effect.basis or None,
        "part": part.metric if len(claim.parts) > 1 else None,
        "one": claim.one or None,
        "p": p_value(claim.parts, effects),
        "half_width": half,
        "needs": needs,
        "reached": None if needs is None else half < needs,
        "more": larger_run(effect, needs) if is_open and needs and half >= needs else None,
    }


def p_value(parts: Sequence[Part], effects: Sequence[Estimate]) -> float | None:
    """Two-sided p of a claim at its edge, the effect between holding and not holding; None without any chance.

    All parts must hold for the claim to hold: the largest p of them. One that fails is enough for it to fail: the
    smallest, times their number. The claim has twice the smaller of both. So p is below 0.05 where a claim of one part
    is reproduced, ruled out or contradicted, and not where its interval holds the edge (direction only, not resolved).
    A part that is a count has no chance in it and takes no part.
    """
    holds, fails = [], []
    for part, effect in zip(parts, effects, strict=True):
        if (chance := chances(effect, part.edge)) is not None:
            for_it, against_it = chance if part.sign > 0 else reversed(chance)
            holds.append(for_it)
            fails.append(against_it)
    if not holds:
        return None
    return min(1.0, 2 * min(max(holds), len(fails) * min(fails)))


def larger_run(effect: Estimate, needs: float) -> str | None:
    """How many seeds or questions would give a half-width under `needs`, were the variances seen here the true ones."""
    squares = mean_squares_of(effect)
    if squares is None:
        return None
    seeds, questions = squares.sizes_for(needs, TAIL)
    ways = [
        f"about {count:,} {what} in place of {now:,}"
        for count, what, now in ((seeds, "seeds", squares.seeds), (questions, "questions", squares.questions))
        if count is not None
    ]
    return " or ".join(ways) or "neither more seeds nor more questions alone"
