"""Which language a text is in: a guess by its script and, in Latin letters, by stop words.

No model, no download: enough to see that a set holds prompts nobody expected. Short texts, names, code and languages
that are not listed come back as what they are: unclear.
"""

import re
import unicodedata
from collections import Counter

SCRIPTS = {
    "CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "ARABIC": "Arabic script",
    "CYRILLIC": "Cyrillic script", "DEVANAGARI": "Devanagari script", "GREEK": "Greek", "HEBREW": "Hebrew",
    "THAI": "Thai",
}  # fmt: skip
STOP_WORDS = {
    "English": "a an as i the of and to in is that it for you with what how are this be on no me can do name",
    "German": "der die das und ist nicht ein eine zu den mit wie was von für auf ich sie im dem schreibe warum",
    "French": "le la les des et est une un que pour dans vous du en je pas qui ce au avec quel quelle comment",
    "Spanish": "el la los las de que y en un una es por con para como del se su qué cómo cuál escribe no",
    "Italian": "il lo la gli le di che è un una per con del della non come sono scrivi quale cosa",
    "Portuguese": "de que é um uma para com não da em como por qual escreva os das dos na",
    "Dutch": "de het een en van is dat in op te voor met niet wat hoe zijn ik je schrijf waarom die",
}
UNCLEAR = "an unclear language"
FEWEST = 2  # stop words
_WORDS = re.compile(r"[^\W\d_]+")
_LOOKED_AT = 2000  # characters
_STOP_WORDS = {name: frozenset(words.split()) for name, words in STOP_WORDS.items()}


def guess(text: str) -> str:
    """The name of a language, of a script that several share, or `UNCLEAR`.

    >>> guess("What is the capital of France?"), guess("Was ist die Hauptstadt von Frankreich?"), guess("2 + 2?")
    ('English', 'German', 'an unclear language')
    """
    letters = [letter for letter in text[:_LOOKED_AT] if letter.isalpha()]
    scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in letters)
    if not scripts:
        return UNCLEAR
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    script = "HIRAGANA" if 10 * kana >= len(letters) else scripts.most_common(1)[0][0]
    if script != "LATIN":
        return SCRIPTS.get(script, UNCLEAR)
    words = _WORDS.findall(text[:_LOOKED_AT].lower())
    hits = Counter({name: sum(word in stops for word in words) for name, stops in _STOP_WORDS.items()})
    (best, most), (_, second) = hits.most_common(2)
    return best if most >= FEWEST and most > second else UNCLEAR
