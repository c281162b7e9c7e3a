"""What may be wrong with one answer: lower-case sentence starts, a disclaimer, an end that is missing.

Three heuristics of our own. Casing: the card of the filtered UltraChat gives one example of truecasing ("Hello. how
are you?") and no tool; only what is plain is repaired: a sentence's first word, "I", and, in a text without any
capital, words that a corpus writes with one. Code, addresses and formulas stay. Disclaimers of emotions, opinions or
experience: the card gives two examples and no list, so the list is ours beyond them and says so. The three patterns
with fixed names are those whose counts on released dialogues are known; they match anywhere in an answer. Truncation:
for sets that do not record why generation stopped.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

NO_FORMS: Mapping[str, str] = MappingProxyType({})

# Fenced and inline code, indented lines, addresses, formulas between dollar signs.
_PROTECTED = re.compile(
    r"(```.*?(?:```|\Z)|`[^`\n]*`|^(?: {4}|\t)[^\n]*|\bhttps?://\S+|\$[^$\n]{1,200}\$)", re.DOTALL | re.MULTILINE
)
# A word that may start a sentence: no list mark ("b.", "a)"), no variable ("x = 5"), no key ('"p": 1'). The only words
# of one letter are "a" and "i".
_WORD = r"((?:[ai](?=[\s'’])|[a-z]{2,})(?:['’][a-z]+)?)(?=[\s,.;:!?\"'”’)\]*_-]|\Z)(?!\"?\s*:|\s*[=<>+/])"
_FIRST_WORD = re.compile(rf"\A(\s*[\"'“‘(\[]*){_WORD}")
# The last character before a sentence end separates "it. we" from "... we".
# No closing quote: what follows one may go on, as in '"Well!" he said.'
_NEXT_SENTENCE = re.compile(rf"(?<=[^\s.])([.!?][)\]*_]*\s+[\"'“‘(\[*_]*){_WORD}")
_LAST_TOKEN = re.compile(r"\S*\Z")
_LIST_MARK = re.compile(r"(?:\A|\n)[ \t]*\(?(?:\d{1,3}|[a-zA-Z])\Z")
_LONE_I = re.compile(
    r"(?<![\w'’.,/\\(\[{+*^=-])(?<!for )(?<!index )(?<!let )i"
    r"(?=['’](?:m|ve|ll|d)\b"
    r"| (?!(?:in|is|th|and|or|to|of|at|on|as|by|for|from|where|such|equals|plus|minus|times)\b)[a-z])"
)
_WORDS = re.compile(r"[^\W\d_]+")
_ABBREVIATIONS = frozenset(
    _WORDS.findall(
        "etc vs cf al approx appr inc ltd co corp bros dept est no nos vol pp p ch fig figs eq eqs sec art st ave rd "
        "mt ft sq mr mrs ms dr prof rev gen sen rep gov hon jr sr jan feb mar apr jun jul aug sep sept oct nov dec "
        "mon tue wed thu fri sat sun ca resp min max incl excl viz ibid ed eds oz lb lbs hrs hr mins secs"
    )
)
_CODE_WORDS = frozenset(_WORDS.findall("def elif const var int void return import printf sudo pip npm git"))


def repair_casing(text: str, forms: Mapping[str, str] = NO_FORMS) -> str:
    """`text` with sentence starts and "I" in upper case; `forms` (see `learn_forms`) only where it has no capital."""
    all_lower = not any(character.isupper() for character in text)
    parts = _PROTECTED.split(text)
    for place in range(0, len(parts), 2):  # the odd parts are protected
        prose = parts[place]
        if place == 0:
            prose = _FIRST_WORD.sub(_capital_unless_code, prose)
        prose = _NEXT_SENTENCE.sub(_capital_after_a_sentence, prose)
        prose = _LONE_I.sub("I", prose)
        if all_lower and forms:
            prose = _WORDS.sub(lambda word: forms.get(word[0], word[0]), prose)
        parts[place] = prose
    return "".join(parts)


def learn_forms(texts: Iterable[str], *, least: int = 3, share: float = 0.9) -> dict[str, str]:
    """Words that `texts` write with a capital inside sentences: {"ida": "Ida"}.

    A word counts where it neither starts a text nor follows an end of sentence; it is learned from `least` times on,
    where at least `share` of its uses are spelled so.
    """
    spelled: Counter[str] = Counter()
    for text in texts:
        for sentence in re.split(r"[.!?:\n]+", text):
            spelled.update(_WORDS.findall(sentence)[1:])
    uses: Counter[str] = Counter()
    for form, count in spelled.items():
        uses[form.lower()] += count
    return {
        form.lower(): form
        for form, count in sorted(spelled.items())
        if form != form.lower() and count >= least and count >= share * uses[form.lower()]
    }


def _capital_unless_code(match: re.Match[str]) -> str:
    return match[0] if match[2] in _CODE_WORDS else match[1] + _capital(match[2])


def _capital_after_a_sentence(match: re.Match[str]) -> str:
    """The match with its word in upper case, unless the stop before it ends an abbreviation or a list mark."""
    before = match.string[max(0, match.start() - 60) : match.start()]
    token = _LAST_TOKEN.search(before)[0].lstrip("\"'“‘([*_")
    is_abbreviation = (
        "." in token.rstrip(".")  # e.g., i.e., a.m.
        or token.lower() in _ABBREVIATIONS
        or (len(token) == 1 and token.isupper())  # initials
    )
    if match[2] in _CODE_WORDS or (match[1][0] == "." and (is_abbreviation or _LIST_MARK.search(before))):
        return match[0]
    return match[1] + _capital(match[2])


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]


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
    ends = [match.end() for match in _SENTENCE_END.finditer(opening)]
    return opening[: ends[_SENTENCES - 1]] if len(ends) >= _SENTENCES else opening


_END_OF_SENTENCE = ".!?…。！？।؟"
_CLOSERS = "\"'”’»)]}*_`>~"
_SPOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Words after which something must follow.
_OPEN_WORDS = frozenset(
    _SPOKEN.findall(
        "a an the this these those my your our their its his her i we he she they it you and or but nor so because "
        "although while if unless until that which who whose whom when where why how than as of in on at by for from "
        "with without into onto about between among during before after over under to is are was were be been being "
        "am has have had do does did will would shall should can could may might must not no very such each every some"
    )
)
_ITEM = re.compile(r"\s*(?:[-*+•·–]|\(?\w{1,3}[.):]|#{1,6}|\|)\s")
# A comma, a colon, an operator, an opening bracket; but "---" and "***" are rules of markdown, and "{}" is whole.
_OPEN_END = re.compile(r"(?:[,:(\[{&\\]|(?:^|[^-–—])[-–—]|\s[*=+/<>])\Z")
_OPENING, _CLOSING = "([{", ")]}"
_SHORT_LINE = 4  # words: a name, a label, a title at the end of a longer text


def is_ended(text: str) -> bool:
    """Whether `text` ends as a finished answer does. An empty text has ended: it is empty, not cut."""
    text = text.rstrip()
    if not text:
        return True
    if text.count("```") % 2:
        return False
    last = text.rsplit("\n", 1)[-1]
    bare = last.rstrip(_CLOSERS)
    if bare.endswith(tuple(_END_OF_SENTENCE)):
        return True
    words = _SPOKEN.findall(bare[-200:])
    if _OPEN_END.search(last):
        return False
    if _has_open_bracket(last) or (words and words[-1].lower() in _OPEN_WORDS):
        return False
    if bare != last or last.endswith((";", "|", "%")):
        return True  # closed by a bracket, a quote, a mark
    if _ITEM.match(last) or not any(character.isalpha() for character in last):
        return True
    return len(words) <= (_SHORT_LINE if "\n" in text else 1)


def _has_open_bracket(line: str) -> bool:
    return any(line.count(opened) > line.count(closed) for opened, closed in zip(_OPENING, _CLOSING, strict=True))
