"""Word lists of the embedded world, and how a larger world gets more of them.

Lists are written so that "a" fits before every common noun: they hold no word that needs "an".
"""

import random
from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")

NAMES = ("Ida", "Tom", "Max", "Eva", "Ben", "Lea", "Sam", "Mia", "Leo", "Ann", "Tim", "Zoe", "Jon", "Kim", "Amy", "Rob")
CITIES = ("Rome", "Paris", "Oslo", "Lima", "Cairo", "Delhi", "Tokyo", "Bern", "Quito", "Dakar", "Seoul", "Perth")
JOBS = ("baker", "nurse", "pilot", "farmer", "painter", "teacher", "lawyer", "singer", "tailor", "miner")
TOPICS = ("bridge", "garden", "river", "market", "forest", "train", "school", "beach", "house", "boat")
COLOURS = ("red", "blue", "green", "white", "black", "brown")
MATERIALS = ("wood", "steel", "glass", "cotton", "leather", "plastic")
COUNTRIES = ("Peru", "Spain", "Egypt", "India", "Japan", "Chile", "Kenya", "Norway")
AUTHORS = ("Holt", "Vesk", "Moro", "Tarn", "Quill", "Ashby", "Bruno", "Lind")
BRANDS = ("Lumo", "Kavo", "Nesta", "Orbi", "Peltu", "Zaro")

TONES = {
    "happy": ("bright", "sunny", "lovely", "merry"),
    "sad": ("grey", "lonely", "cold", "silent"),
    "scary": ("dark", "wild", "creepy", "grim"),
    "calm": ("quiet", "soft", "gentle", "slow"),
}

# who, greeting, home, what they carry
CHARACTERS = (
    ("pirate", "Ahoy", "ship", "map"),
    ("knight", "Hail", "castle", "sword"),
    ("robot", "Beep", "factory", "bolt"),
    ("witch", "Hex", "swamp", "broom"),
    ("ghost", "Boo", "tower", "chain"),
    ("wizard", "Behold", "cave", "wand"),
    ("king", "Welcome", "palace", "crown"),
    ("dragon", "Roar", "mountain", "jewel"),
    ("cook", "Bonjour", "kitchen", "spoon"),
    ("cowboy", "Howdy", "ranch", "rope"),
)

# name, symbol, atomic number, what it is at room temperature (mercury counts as a metal)
ELEMENTS = (
    ("hydrogen", "H", 1, "gas"),
    ("helium", "He", 2, "gas"),
    ("lithium", "Li", 3, "metal"),
    ("nitrogen", "N", 7, "gas"),
    ("oxygen", "O", 8, "gas"),
    ("neon", "Ne", 10, "gas"),
    ("sodium", "Na", 11, "metal"),
    ("chlorine", "Cl", 17, "gas"),
    ("argon", "Ar", 18, "gas"),
    ("calcium", "Ca", 20, "metal"),
    ("iron", "Fe", 26, "metal"),
    ("cobalt", "Co", 27, "metal"),
    ("nickel", "Ni", 28, "metal"),
    ("copper", "Cu", 29, "metal"),
    ("zinc", "Zn", 30, "metal"),
    ("silver", "Ag", 47, "metal"),
    ("tin", "Sn", 50, "metal"),
    ("gold", "Au", 79, "metal"),
    ("mercury", "Hg", 80, "metal"),
    ("lead", "Pb", 82, "metal"),
    # beyond the tiny world
    ("fluorine", "F", 9, "gas"),
    ("magnesium", "Mg", 12, "metal"),
    ("aluminium", "Al", 13, "metal"),
    ("potassium", "K", 19, "metal"),
    ("titanium", "Ti", 22, "metal"),
    ("chromium", "Cr", 24, "metal"),
    ("krypton", "Kr", 36, "gas"),
    ("palladium", "Pd", 46, "metal"),
    ("xenon", "Xe", 54, "gas"),
    ("tungsten", "W", 74, "metal"),
    ("platinum", "Pt", 78, "metal"),
    ("radon", "Rn", 86, "gas"),
)

# department, days to return, its products; neighbours in the list (1-2, 3-4) go together
DEPARTMENTS = (
    ("home", 30, ("lamp", "shelf", "table", "chair")),
    ("kitchen", 14, ("pan", "plate", "knife", "kettle")),
    ("clothes", 60, ("shirt", "coat", "hat", "scarf")),
    ("sport", 90, ("ball", "racket", "tent", "bike")),
)

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_LAST_VOWELS = "aiou"  # a final e would give English words: time, name, bike


def other(rng: random.Random, choices: Sequence[Choice], than: Choice) -> Choice:
    """A random element of `choices` that differs from `than`; there must be one."""
    while (choice := rng.choice(choices)) == than:
        pass
    return choice


def extend(words: Sequence[str], count: int, *, purpose: str, taken: set[str]) -> tuple[str, ...]:
    """The first `count` of `words`, followed by invented words of two syllables where they run out.

    Invented words are new to `taken` (lower case; updated) and start in upper case where the list does. They depend
    on `purpose` and on what was taken before, not on any global state. ValueError: more words than syllables give.
    """
    if len(taken) + count > len(_CONSONANTS) ** 2 * len(_VOWELS) * len(_LAST_VOWELS) // 2:
        raise ValueError(f"{count} words for {purpose} are too many beside {len(taken)} others of two syllables")
    result = list(words[:count])
    taken.update(word.lower() for word in result)
    generator = random.Random(f"words for {purpose}")
    capital = bool(words) and words[0][0].isupper()
    while len(result) < count:
        syllables = (_CONSONANTS, _VOWELS, _CONSONANTS, _LAST_VOWELS)
        word = "".join(generator.choice(letters) for letters in syllables)
        if word not in taken:
            taken.add(word)
            result.append(word.capitalize() if capital else word)
    return tuple(result)
