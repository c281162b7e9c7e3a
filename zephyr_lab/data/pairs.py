"""Preference pairs from scored completions: which answer is chosen, which is rejected.

Zephyr's paper (arXiv 2310.16944) takes the highest mean score and one of the other three at random; its data script
takes `overall_score`, and in the first release the seed was set anew at every prompt, which makes the draw a fixed
list position. Each way is a named rule here. No file is read or written.

Overall scores are read with UltraFeedback's repair of 29 December 2023: 2628 completions had a 10, many of them beside
low ratings of every aspect (README of OpenBMB/UltraFeedback); such a 10 was meant as a 1.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from zephyr_lab.data.schemas import Completion, Message, ScoredPrompt, message_list, prompt_id

_SUSPECT = 10.0
_SURELY_LOW, _SURELY_HIGH = 2.0, 4.0  # mean ratings
FIRST_RELEASE_SEED = 42


def repaired_score(completion: Completion) -> float | None:
    """The overall score after the repair; None where it has to be judged again (or has none to begin with).

    A 10 becomes 1 where the mean rating is at most 2, stays where it is above 4, and is open in between; without any
    rating there is nothing to doubt it by, so it stays too.
    """
    mean = completion.mean_rating
    if completion.overall_score != _SUSPECT or mean is None or mean > _SURELY_HIGH:
        return completion.overall_score
    return 1.0 if mean <= _SURELY_LOW else None


def as_meant(completion: Completion) -> Completion:
    """The completion with a 10 that stands for a 1 read as 1; one to be judged again stays (see `is_doubtful`)."""
    meant = repaired_score(completion)
    if meant is None or meant == completion.overall_score:
        return completion
    return replace(completion, overall_score=meant)


def is_doubtful(completion: Completion) -> bool:
    """Whether the score is a 10 that the ratings (means above 2, up to 4) neither bear out nor turn into a 1."""
    return completion.overall_score is not None and repaired_score(completion) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binarisation:
    """How a pair is made; raises ValueError for a rule that is not known.

    raw_scores: take each overall score as it is written, a 10 that means 1 too. drop_identical: no pair whose two
    answers are the same text, from which nothing can be learnt.
    """

    chosen: str
    rejected: str
    raw_scores: bool = False
    drop_identical: bool = False

    def __post_init__(self) -> None:
        for rule, known, side in ((self.chosen, SCORES, "chosen"), (self.rejected, REJECTED, "rejected")):
            if rule not in known:
                raise ValueError(f"no rule {side}={rule!r}; allowed: {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Scored:
    """A completion that has a score, and its place in the row."""

    place: int
    score: float
    completion: Completion

    def is_same(self, other: "Scored") -> bool:
        """Equal score, text and model: what the published script compares, so twins make no pair."""
        one, two = self.completion, other.completion
        return (self.score, one.response, one.model) == (other.score, two.response, two.model)


@dataclass(frozen=True, slots=True)
class Tens:
    """Completions of a prompt whose score by the rule is a 10: `meant_as_one` by their ratings, or in doubt."""

    meant_as_one: int = 0
    doubtful: int = 0


NO_TENS = Tens()


@dataclass(frozen=True, slots=True)
class Pair:
    """Places of the two completions in their prompt's list, with the scores they were picked by.

    `tens` counts scores that are a 10 by mistake.
    """

    prompt: ScoredPrompt
    scores: tuple[float, ...]
    chosen: int
    rejected: int
    score_chosen: float
    score_rejected: float
    tens: Tens = NO_TENS

    @property
    def is_identical(self) -> bool:
        """Whether both answers are the same text."""
        chosen, rejected = (self.prompt.completions[place].response for place in (self.chosen, self.rejected))
        return chosen == rejected


@dataclass(frozen=True, slots=True)
class NoPair:
    """A prompt that makes no pair, and why.

    `column` names what the row lacks; None where it lacks nothing and the rule has no answer to reject.
    `is_identical`: the pair was one text twice and is dropped.
    """

    prompt: ScoredPrompt
    scores: tuple[float, ...]
    column: str | None
    problem: str
    tens: Tens = NO_TENS
    is_identical: bool = False


def binarise(prompts: Iterable[ScoredPrompt], how: Binarisation, *, seed: int) -> Iterator[Pair | NoPair]:
    """One outcome a prompt, in order. One generator serves all prompts, so that the order of the rows matters."""
    generator = random.Random(seed)
    return (_outcome(prompt, how, generator) for prompt in prompts)


def choose(scored: list[Scored]) -> Scored:
    """The highest score; the first in the row's order where several share it."""
    return max(scored, key=lambda one: one.score)


def random_other(scored: list[Scored], chosen: Scored, generator: random.Random) -> Scored | None:
    """Uniform over all completions, drawn again while it is the chosen one; it may score as high."""
    if all(one.is_same(chosen) for one in scored):
        return None
    while (drawn := generator.choice(scored)).is_same(chosen):
        pass
    return drawn


def random_lower(scored: list[Scored], chosen: Scored, generator: random.Random) -> Scored | None:
    """Uniform over the completions with a lower score (Argilla's rule; section 3 of the paper words it so)."""
    lower = [one for one in scored if one.score < chosen.score]
    return generator.choice(lower) if lower else None


def worst(scored: list[Scored], chosen: Scored, generator: random.Random) -> Scored | None:
    """The lowest score of the others, the first of these."""
    return min(_others(scored, chosen), key=lambda one: one.score, default=None)


def second_best(scored: list[Scored], chosen: Scored, generator: random.Random) -> Scored | None:
    """The highest score of the others, the first of these; it ties with the chosen one where the top is shared."""
    return max(_others(scored, chosen), key=lambda one: one.score, default=None)


def first_release(scored: list[Scored], chosen: Scored, generator: random.Random) -> Scored | None:
    """As `random_other`, but from seed 42 at every call: of four, place 0, or 2 where 0 is the chosen one."""
    return random_other(scored, chosen, random.Random(FIRST_RELEASE_SEED))


SCORES: dict[str, Callable[[Completion], float | None]] = {
    "overall_score": lambda completion: completion.overall_score,
    "mean_rating": lambda completion: completion.mean_rating,
}
REJECTED: dict[str, Callable[[list[Scored], Scored, random.Random], Scored | None]] = {
    "random": random_other,
    "random_lower": random_lower,
    "worst": worst,
    "second_best": second_best,
    "first_release": first_release,
}
# The published sets: H4's two releases (the card says mean score, the script overall_score), the paper's, Argilla's.
PUBLISHED = {
    # before the set's own repair, so with every 10 that should have been a 1
    "first_release": Binarisation(chosen="overall_score", rejected="first_release", raw_scores=True),
    "repaired_release": Binarisation(chosen="overall_score", rejected="random"),
    "paper": Binarisation(chosen="mean_rating", rejected="random"),
    "argilla": Binarisation(chosen="mean_rating", rejected="random_lower"),
}


def _outcome(prompt: ScoredPrompt, how: Binarisation, generator: random.Random) -> Pair | NoPair:
    score = SCORES[how.chosen]
    scored = [
        Scored(place, value, completion)
        for place, completion in enumerate(prompt.completions)
        if (value := score(completion if how.raw_scores else as_meant(completion))) is not None
    ]
    scores, tens = tuple(one.score for one in scored), _tens(prompt, score)
    if len(scored) < 2:
        return NoPair(prompt, scores, *_lacking(prompt, how.chosen, len(scored)), tens)
    chosen = choose(scored)
    rejected = REJECTED[how.rejected](scored, chosen, generator)
    if rejected is None:
        return NoPair(prompt, scores, None, f"no completion that {how.rejected} could reject", tens)
    pair = Pair(prompt, scores, chosen.place, rejected.place, chosen.score, rejected.score, tens)
    if how.drop_identical and pair.is_identical:
        return NoPair(prompt, scores, None, "both answers are the same text", tens, is_identical=True)
    return pair


def _tens(prompt: ScoredPrompt, score: Callable[[Completion], float | None]) -> Tens:
    """Counts over the completions whose score by the rule the repair would change, or cannot decide."""
    meant_as_one = sum(score(one) != score(as_meant(one)) for one in prompt.completions)
    doubtful = sum(is_doubtful(one) and score(one) == one.overall_score for one in prompt.completions)
    return Tens(meant_as_one, doubtful) if meant_as_one or doubtful else NO_TENS


def _lacking(prompt: ScoredPrompt, chosen: str, scored: int) -> tuple[str, str]:
    """Column and problem of a row with fewer than two scored completions."""
    if len(prompt.completions) < 2:
        return "completions", "holds one completion; a pair takes two"
    if not scored and [completion.model for completion in prompt.completions] == ["chosen", "rejected"]:
        return "score_chosen", "is missing: the row is a pair already, which training takes as it is; nothing to choose"
    place = next(i for i, completion in enumerate(prompt.completions) if SCORES[chosen](completion) is None)
    column = f"completions[{place}].{'overall_score' if chosen == 'overall_score' else 'annotations'}"
    return column, f"{scored} of {len(prompt.completions)} completions have a score by {chosen}; a pair takes two"


def _others(scored: list[Scored], chosen: Scored) -> list[Scored]:
    return [one for one in scored if not one.is_same(chosen)]


def pair_row(pair: Pair) -> dict[str, Any]:
    """A pair in H4's layout; `messages`, for supervised fine-tuning, repeats the chosen ones."""
    chosen, rejected = (
        message_list((*pair.prompt.messages, Message("assistant", pair.prompt.completions[place].response)))
        for place in (pair.chosen, pair.rejected)
    )
    return {
        "prompt": pair.prompt.prompt,
        "prompt_id": prompt_id(pair.prompt.prompt, pair.prompt.messages[:-1]),
        "chosen": chosen,
        "rejected": rejected,
        "messages": chosen,
        "score_chosen": pair.score_chosen,
        "score_rejected": pair.score_rejected,
    }
