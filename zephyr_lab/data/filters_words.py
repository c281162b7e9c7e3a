"""Words as the comparisons of texts see them: lower case, no punctuation, operators kept ("5 + 3" is not "5 - 3")."""

import re

_TOKEN = re.compile(r"\w+|[+*/=<>^-]")


def words(text: str) -> list[str]:
    return _TOKEN.findall(text.lower())
