"""Whether an answer ended or broke off: a heuristic of our own, for sets that do not say why generation stopped."""

import re

_END_OF_SENTENCE = ".!?…。！？।؟"
_CLOSERS = "\"'”’»)]}*_`>~"
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Words after which something must follow.
_OPEN_WORDS = frozenset(
    _WORDS.findall(
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
    words = _WORDS.findall(bare[-200:])
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
