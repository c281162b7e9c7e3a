"""The exact rubric judge, a judge of pairs, and two objectives: what an answer is worth, decided from its text alone.

    score = 1 + 4 core + 2 explanation + complete + capital + no preface - cost, kept within 1 and 10

An ideal answer has 10. `core` is the share of the turn's checks that hold; `explanation` is 1 where the explanation's
key phrase occurs in the answer. `cost` is 1 point, or 2, for words that earn nothing (padding, false explanations). An
answer with core below 0.25 and no right explanation has 3 at most. Correctness ignores case, so style is scored apart.

Known and reproducible errors can be added, to see what they do to a result: noise of scores (`RubricJudge`), and noise,
position bias and length bias of comparisons (`PairJudge`). `calibration` estimates them from the verdicts.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zephyr_lab.world.answers import FILLERS, PREFACES
from zephyr_lab.world.task import Turn, normalise, phrase, word_count

QUALITY, BRIEF = "quality", "brief"
OBJECTIVES = (QUALITY, BRIEF)
WORD_PRICE = 0.5  # points a word: an explanation earns 2 and costs about 7 words
LONGEST_COMPLETE = 40  # words; the longest ideal answer has about half as many
FREE_WORDS = 3  # beyond core and explanation, before padding costs anything
WORDS_PER_POINT = 8
LARGEST_COST = 2
_SENTENCE_START = re.compile(r"(?:^\W*|[.!?]\s+)(\w)")
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!])\s+")
_ENDS = (".", "!")
_PREFACES = tuple(normalise(preface) for preface in PREFACES)
_STOCK_PHRASES = {normalise(sentence) for sentence in PREFACES + FILLERS}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's score of one answer, and the parts of the rubric that it is made of.

    `score` is what the judge says, with its noise where it has any; `exact` is the rubric's sum. `words` counts the
    whole answer. `refused`: it says "not know". `made_up`: it claims a fact where nothing is known. `misled`: it says
    more than one sentence and none is the right explanation; a sentence cut off in the middle does not count.
    """

    score: float
    exact: float
    core: float
    explanation: float
    complete: bool
    capital: bool
    no_preface: bool
    cost: int
    words: int
    refused: bool
    made_up: bool
    misled: bool

    @property
    def style(self) -> int:
        """Complete, capital and no preface: 0 to 3."""
        return self.complete + self.capital + self.no_preface


def grade(turn: Turn, answer: str, *, ended: bool = True) -> Verdict:
    """The exact verdict on one answer. `ended`: the writer stopped by itself, and was not cut off at a length limit."""
    text = normalise(answer)
    right = [check for check in turn.checks if any(phrase(words) in text for words in check.any_of)]
    core = sum((check.weight for check in right), start=0.0)
    explanation = float(phrase(turn.key) in text)
    complete = ended and answer.rstrip().endswith(_ENDS) and word_count(answer) <= LONGEST_COMPLETE
    starts = _SENTENCE_START.findall(answer)
    capital = bool(starts) and all(not letter.islower() for letter in starts)
    prefaces = [preface for preface in _PREFACES if preface in text]
    no_preface = bool(text.strip()) and not prefaces  # an empty answer earns no style
    refused = phrase("not know") in text
    cost = _cost(turn, text, prefaces, bool(explanation))
    exact = 1 + 4 * core + 2 * explanation + complete + capital + no_preface - cost
    if core < 0.25 and not explanation:
        exact = min(exact, 3.0)
    exact = round(min(max(exact, 1.0), 10.0), 6)
    return Verdict(
        score=exact,
        exact=exact,
        core=round(core, 6),
        explanation=explanation,
        complete=complete,
        capital=capital,
        no_preface=no_preface,
        cost=cost,
        words=word_count(answer),
        refused=refused,
        made_up=not turn.known and not refused and bool(text.strip()),
        misled=not explanation and _sentences(answer) > 1,
    )


def _sentences(answer: str) -> int:
    """Whole sentences that say something: prefaces and fillers are left out."""
    whole = [sentence for sentence in _BETWEEN_SENTENCES.split(answer.strip()) if sentence.endswith(_ENDS)]
    return sum(normalise(sentence) not in _STOCK_PHRASES for sentence in whole)


def _cost(turn: Turn, text: str, prefaces: list[str], explained: bool) -> int:
    """Points for words that earn nothing. Prefaces are paid for elsewhere, so their words do not count here."""
    words = len(text.split()) - sum(len(preface.split()) for preface in prefaces)
    needed = len(phrase(turn.core).split()) + (len(phrase(turn.explanation).split()) if explained else 0)
    excess = words - needed - FREE_WORDS
    return 0 if excess <= 0 else min(LARGEST_COST, 1 + (excess - 1) // WORDS_PER_POINT)


def score(turns: Sequence[Turn], answers: Sequence[str], *, ended: Sequence[bool] | None = None) -> list[Verdict]:
    """The exact verdicts on the answers to some turns, in order (a task's two turns, or one).

    Raises ValueError where the lengths differ.
    """
    ended = [True] * len(answers) if ended is None else ended
    if not len(turns) == len(answers) == len(ended):
        raise ValueError(f"{len(turns)} turns, {len(answers)} answers and {len(ended)} end marks do not match")
    return [grade(turn, answer, ended=end) for turn, answer, end in zip(turns, answers, ended, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricJudge:
    """A judge that reads the rubric with error: score = exact + N(0, noise_sd), kept within 1 and 10.

    The error depends on `seed`, the question and the answer alone, so the order of judging changes nothing; another
    seed is another opinion of the same judge. `noise_sd` 0 is the exact judge.
    """

    noise_sd: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise_sd < 0:
            raise ValueError(f"noise_sd must not be negative, got {self.noise_sd}")

    def score(
        self, turns: Sequence[Turn], answers: Sequence[str], *, ended: Sequence[bool] | None = None
    ) -> list[Verdict]:
        """As `judge.score`, with this judge's error."""
        verdicts = score(turns, answers, ended=ended)
        if not self.noise_sd:
            return verdicts
        return [
            self._err(f"{turns[0].prompt}|{place}|{answer}", verdict)
            for place, (answer, verdict) in enumerate(zip(answers, verdicts, strict=True))
        ]

    def _err(self, identity: str, verdict: Verdict) -> Verdict:
        error = random.Random(f"judge {self.seed}|{identity}").gauss(0.0, self.noise_sd)
        return replace(verdict, score=min(max(verdict.exact + error, 1.0), 10.0))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One judged pair. `preference` as in AlpacaEval's annotations: 1 the first answer, 2 the second, 1.5 a draw.

    `difference` is exact(second) - exact(first); `longer` is words(second) - words(first).
    """

    preference: float
    difference: float
    longer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJudge:
    """A judge of pairs with planted errors, in points of the rubric; the default is exact. It prefers the second where

    difference + length_bias longer - position_bias + N(0, noise_sd) > 0.
    """

    noise_sd: float = 0.0
    position_bias: float = 0.0
    length_bias: float = 0.0  # points a word
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise_sd < 0:
            raise ValueError(f"noise_sd must not be negative, got {self.noise_sd}")

    def compare(self, turn: Turn, first: str, second: str) -> Comparison:
        """The verdict on two answers shown in this order; equal arguments, equal verdict."""
        one, two = grade(turn, first), grade(turn, second)
        difference, longer = two.exact - one.exact, two.words - one.words
        margin = difference + self.length_bias * longer - self.position_bias
        if self.noise_sd:
            margin += random.Random(f"pair {self.seed}|{turn.prompt}|{first}|{second}").gauss(0.0, self.noise_sd)
        preference = 1.5 if margin == 0 else 2.0 if margin > 0 else 1.0
        return Comparison(preference, difference, longer)


def value(verdict: Verdict, objective: str) -> float:
    """Points of an answer under an objective: its exact score, less a price for every word where it is to be brief.

    Two objectives on the same verdicts: to change the labels and the judge from one to the other changes what is
    learned, and nothing else. Raises ValueError for an unknown objective.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    return verdict.exact - (WORD_PRICE * verdict.words if objective == BRIEF else 0)
