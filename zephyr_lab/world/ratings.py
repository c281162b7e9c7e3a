"""Noisy annotations of completions: four aspects from 1 to 5 and an overall score from 1 to 10.

The aspects are not one number in four coats. "I do not know" to a question whose answer is known is truthful but no
help; a made-up fact looks helpful but is neither true nor honest; length pleases the reader's sense of help while
padding breaks the wish for a short answer.
"""

import random
from dataclasses import dataclass, fields

from zephyr_lab.world.judge import Verdict

ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")
NOT_APPLICABLE = "N/A"
_CREATIVE = ("writing", "roleplay")  # where annotators may find truth and honesty not applicable
_USUAL_WORDS = 10


def true_aspects(verdict: Verdict) -> dict[str, float]:
    """The four aspects without noise, each from 1 to 5, read off the exact verdict of any writer's answer.

    An ideal answer has 5 in each, but for one: an honest "I do not know" helps little, and what is made up in its
    place looks like help.
    """
    false_claims = 0.0 if verdict.refused else 1 - verdict.core
    over_refused = verdict.refused and verdict.core == 0
    looks_answered = 1.0 if verdict.made_up else 0.25 * verdict.core if verdict.refused else verdict.core
    looks_explained = verdict.explanation or float(verdict.misled)
    kept_form = verdict.complete + 0.75 * (verdict.no_preface + (verdict.cost == 0))
    return {
        "instruction_following": 1 + 1.5 * verdict.core + kept_form,
        "truthfulness": 5 - 3 * false_claims - verdict.misled,
        "honesty": 5 - false_claims - 2 * verdict.made_up - 1.5 * over_refused - verdict.misled,
        "helpfulness": 1 + 2.5 * looks_answered + 1.5 * looks_explained,
    }


def domain_aspects(verdict: Verdict) -> dict[str, float]:
    """The four aspects by which e-commerce answers are judged, each from 1 to 10 without noise; 10 for an ideal answer.

    Instruction following is form, accuracy is the core, factuality falls with every false statement, helpfulness
    wants core and explanation.
    """
    form = (verdict.complete + verdict.no_preface + (verdict.cost == 0)) / 3
    false_claims = 0.0 if verdict.refused else 1 - verdict.core
    return {
        "instruction_following": 1 + 9 * form,
        "factuality": 10 - 6 * false_claims - 3 * verdict.misled,
        "accuracy": 1 + 9 * verdict.core,
        "helpfulness": 1 + 4.5 * (verdict.core + verdict.explanation),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rater:
    """An annotator. `overall_sd` is the noise of the overall score, on its scale of 1 to 10.

    `aspect_sd` is the noise of each rating on its scale of 1 to 5, `shared_sd` a noise that moves the four ratings of
    one completion together. `length_bias`: points of helpfulness a word beyond ten. `not_applicable`: probability that
    truthfulness or honesty of creative text is rated "N/A". `ten_for_one`: probability that an overall score of 1 is
    recorded as 10, as in the first release of UltraFeedback.
    """

    overall_sd: float = 2.5
    aspect_sd: float = 0.9
    shared_sd: float = 0.5
    length_bias: float = 0.05
    not_applicable: float = 0.1
    ten_for_one: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "length_bias" and getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} must not be negative, got {getattr(self, field.name)}")

    def overall(self, rng: random.Random, verdict: Verdict) -> float:
        """The overall score: exact + noise, in half points from 1 to 10."""
        noisy = verdict.exact + rng.gauss(0.0, self.overall_sd)
        rounded = min(max(round(2 * noisy) / 2, 1.0), 10.0)
        return 10.0 if rounded == 1.0 and rng.random() < self.ten_for_one else rounded

    def aspects(self, rng: random.Random, verdict: Verdict, category: str) -> dict[str, str]:
        """A rating "1" to "5" for each aspect, or "N/A"."""
        shared = rng.gauss(0.0, self.shared_sd)
        ratings = {}
        for aspect, value in true_aspects(verdict).items():
            if aspect == "helpfulness":
                value += self.length_bias * (verdict.words - _USUAL_WORDS)
            rating = min(max(round(value + shared + rng.gauss(0.0, self.aspect_sd)), 1), 5)
            may_lack = aspect in ("truthfulness", "honesty") and category in _CREATIVE
            ratings[aspect] = NOT_APPLICABLE if may_lack and rng.random() < self.not_applicable else str(rating)
        return ratings
