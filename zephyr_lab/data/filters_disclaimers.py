"""Phrases by which an assistant disclaims emotions, opinions, experience: what the filtered UltraChat leaves out.

The card of ultrachat_200k gives two examples and no list, so the list is ours beyond them and says so. The three
patterns with fixed names are those whose counts on released dialogues are known; they match anywhere in an answer.
"""

import re
from dataclasses import dataclass
from typing import Literal

NARROW_REFUSAL = re.compile("i (?:do not|don['\u2019]t) have (?:emotions|opinions)", re.IGNORECASE)
WIDE_REFUSAL = re.compile("i (?:do not|don['\u2019]t) have (?:personal )?(?:emotions|opinions|feelings)", re.IGNORECASE)
LOWER_CASE_SENTENCE_START = re.compile("(?<=[a-z][.!?]) [a-z]")

_THINGS = (
    r"(?:emotions?|opinions?|feelings?|experiences?|beliefs?|preferences?|thoughts|views?|tastes?|desires?|"
    r"consciousness|biases)"
)
_KIND = r"(?:(?:any|a|real|personal|human|own|my|subjective|individual|physical|direct|the ability to have) ){0,3}"
_MACHINE = (
    r"(?:an? )?(?:(?:large|mere|simple|virtual|digital|automated|computer|just|only) ){0,2}"
    r"(?:ai|a\.i\.|artificial intelligence|language model|machine learning model|chat ?bot|computer program|"
    r"(?:ai|virtual|digital) assistant)\b"
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A disclaimer; `source` is "card" for the published examples, "ours" for the rest."""

    name: str
    pattern: re.Pattern[str]
    source: Literal["card", "ours"]


def _phrase(name: str, pattern: str, source: Literal["card", "ours"] = "ours") -> Phrase:
    return Phrase(name, re.compile(pattern.replace("'", "['\u2019]"), re.IGNORECASE), source)


PHRASES = (
    _phrase("no emotions", r"\bi (?:do not|don't) have emotions\b", "card"),
    _phrase("no opinions", r"\bi (?:do not|don't) have opinions\b", "card"),
    _phrase("have none", rf"\bi (?:do not|don't|cannot|can't) (?:have|possess|hold) {_KIND}{_THINGS}\b"),
    _phrase("have no", rf"\bi (?:have no|lack) {_KIND}{_THINGS}\b"),
    _phrase("not able", r"\bi(?: am|'m) (?:not able|unable|not capable of|incapable of) (?:to )?(?:feel|experienc)"),
    _phrase("cannot feel", r"\bi (?:cannot|can't|do not|don't) (?:feel|experience) (?:emotion|anything|feelings)"),
    _phrase("as a machine", rf"\bas {_MACHINE}"),
    _phrase("being a machine", rf"\bi(?: am|'m) (?:just |only |merely |simply )?{_MACHINE}"),
)

_SENTENCE_END = re.compile(r"[.!?]\s")
_LONGEST_PREFACE = 400  # characters of an answer in which a preface is looked for
_SENTENCES = 2


def disclaimer(answer: str) -> Phrase | None:
    """The first phrase of the list that an answer holds: one of the card anywhere, one of ours in its preface (a story
    may have a robot in it)."""
    opening = preface(answer)
    for phrase in PHRASES:
        if phrase.pattern.search(answer if phrase.source == "card" else opening):
            return phrase
    return None


def preface(answer: str) -> str:
    """The first two sentences, at most 400 characters: where a disclaimer delays the answer proper."""
    opening = answer.lstrip()[:_LONGEST_PREFACE]
    ends = [found.end() for found in _SENTENCE_END.finditer(opening)]
    return opening[: ends[_SENTENCES - 1]] if len(ends) >= _SENTENCES else opening
