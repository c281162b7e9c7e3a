"""Restoring the case of sentence starts: the truecasing step of the filtered UltraChat, as a heuristic of our own.

The card gives one example ("Hello. how are you?") and no tool. Only what is plain gets repaired: a sentence's first
word, "I", and, in a text without any capital, words that a corpus writes with one. Code, addresses and formulas stay.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

NO_FORMS: Mapping[str, str] = MappingProxyType({})

# Fenced and inline code, indented lines, addresses, formulas between dollar signs.
_PROTECTED = re.compile(
    r"(```.*?(?:```|\Z)|`[^`\n]*`|^(?: {4}|\t)[^\n]*|\bhttps?://\S+|\$[^$\n]{1,200}\$)", re.DOTALL | re.MULTILINE
)
# A word that may start a sentence: no list mark ("b.", "a)"), no variable ("x = 5"), no key ('"p": 1'). The only words
# of one letter are "a" and "i".
_WORD = r"((?:[ai](?=[\s'’])|[a-z]{2,})(?:['’][a-z]+)?)(?=[\s,.;:!?\"'”’)\]*_-]|\Z)(?!\"?\s*:|\s*[=<>+/])"
_FIRST_WORD = re.compile(rf"\A(\s*[\"'“‘(\[]*){_WORD}")
# The last sign before a sentence end tells "it. we" from "... we".
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
            prose = _WORDS.sub(lambda found: forms.get(found[0], found[0]), prose)
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


def _capital_unless_code(found: re.Match[str]) -> str:
    return found[0] if found[2] in _CODE_WORDS else found[1] + _capital(found[2])


def _capital_after_a_sentence(found: re.Match[str]) -> str:
    """The match with its word in upper case, unless the stop before it ends an abbreviation or a list mark."""
    before = found.string[max(0, found.start() - 60) : found.start()]
    token = _LAST_TOKEN.search(before)[0].lstrip("\"'“‘([*_")
    is_abbreviation = (
        "." in token.rstrip(".")  # e.g., i.e., a.m.
        or token.lower() in _ABBREVIATIONS
        or (len(token) == 1 and token.isupper())  # initials
    )
    if found[2] in _CODE_WORDS or (found[1][0] == "." and (is_abbreviation or _LIST_MARK.search(before))):
        return found[0]
    return found[1] + _capital(found[2])


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]
