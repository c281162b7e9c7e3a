"""Questions on words: writing, roleplay, extraction; and the small tasks sentiment, moderation, summary, translation.

Translation is into two little languages: Miro keeps the English order, Suda puts the noun first.
"""

import random

from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn, ask, both
from zephyr_lab.world.vocabulary import COLOURS, TONES, other

_WRITING = (
    "Write a {tone} {kind} about the {topic}.",
    "Give me a {tone} {kind} about the {topic}.",
    "I want a {tone} {kind} about the {topic}.",
)
_ROLEPLAY = ("You are a {who}. Greet {name}.", "Play a {who} and greet {name}.", "Greet {name} like a {who}.")
_FIELDS = ("name", "city", "job")
_PERSON = "{name}, a {job}, lives in {city}."
_INSULTS = ("fool", "pig", "rat", "liar")
_LANGUAGES = ("Miro", "Suda")


def writing(rng: random.Random, facts: Facts) -> Task:
    """Write two words of a mood about a topic; then add a person, or change the mood."""
    tone = rng.choice(tuple(TONES))
    kind = rng.choice(("note", "poem", "letter"))
    topic = rng.choice(facts.topics)
    prompt = rng.choice(_WRITING).format(tone=tone, kind=kind, topic=topic)
    first = _mood_turn(rng, prompt, topic, tone, other(rng, tuple(TONES), tone))
    if rng.random() < 0.7:
        second = _add_person(rng, facts, topic, tone, kind)
    else:
        changed = other(rng, tuple(TONES), tone)
        second = _mood_turn(rng, f"Make it {changed}.", topic, changed, tone)
    return Task("writing", f"writing/{prompt}", (first, second))


def _mood_turn(rng: random.Random, prompt: str, topic: str, tone: str, wrong_tone: str) -> Turn:
    """One sentence with two words of the tone; the wrong one takes them from another tone."""
    words, wrong = (tuple(rng.sample(TONES[one], 2)) for one in (tone, wrong_tone))
    core = both(f"The {{}} {topic} is {{}} today.", words, wrong)
    checks = (Check((topic,), 0.4), Check(TONES[tone], 0.6))
    return ask(prompt, core, checks, both("These words sound {}.", tone, wrong_tone), f"sound {tone}", "mood")


def _add_person(rng: random.Random, facts: Facts, topic: str, tone: str, kind: str) -> Turn:
    name = rng.choice(facts.names)
    wrong_name = other(rng, facts.names, name)
    adjective = rng.choice(TONES[tone])
    return ask(
        f"Add {name} to the {kind}.",
        both(f"{{}} sees the {adjective} {topic}.", name, wrong_name),
        (Check((f"{name} sees",), 0.5), Check((topic,), 0.25), Check(TONES[tone], 0.25)),
        both(f"I added {{}} to the {kind}.", name, wrong_name),
        f"added {name}",
        "person",
    )


def roleplay(rng: random.Random, facts: Facts) -> Task:
    """Greet somebody as a character would; then say where the character lives, or what it carries."""
    who, name = rng.choice(facts.characters), rng.choice(facts.names)
    wrong = other(rng, facts.characters, who)
    prompt = rng.choice(_ROLEPLAY).format(who=who.name, name=name)
    first = ask(
        prompt,
        both(f"{{}} {name}, I am the {{}}.", (who.greeting, who.name), (wrong.greeting, wrong.name)),
        (Check((f"{who.greeting} {name}",), 0.6), Check((f"I am the {who.name}",), 0.4)),
        both(f"Every {who.name} says {{}}.", who.greeting, wrong.greeting),
        f"{who.name} says {who.greeting}",
        "greeting",
    )
    if rng.random() < 0.5:
        second = ask(
            "Where do you live?",
            both("I live in the {}.", who.home, wrong.home),
            (Check((f"live in the {who.home}", f"live in a {who.home}")),),
            both(f"The {{}} is home to every {who.name}.", who.home, wrong.home),
            f"{who.home} is home to every {who.name}",
            "home",
        )
    else:
        second = ask(
            "What do you carry?",
            both("I carry a {}.", who.thing, wrong.thing),
            (Check((f"carry a {who.thing}", f"carry the {who.thing}")),),
            both(f"A {{}} helps every {who.name}.", who.thing, wrong.thing),
            f"{who.thing} helps every {who.name}",
            "thing",
        )
    return Task("roleplay", f"roleplay/{prompt}", (first, second))


def extraction(rng: random.Random, facts: Facts) -> Task:
    """Two texts of three are about one person: two fields, then the third alone. One is about two: whose is what?"""
    choices = {"name": facts.names, "city": facts.cities, "job": facts.jobs}
    right = {field: rng.choice(words) for field, words in choices.items()}
    wrong = {field: other(rng, choices[field], word) for field, word in right.items()}
    return _one_person(rng, right, wrong) if rng.random() < 2 / 3 else _two_persons(rng, right, wrong)


def _one_person(rng: random.Random, right: dict[str, str], wrong: dict[str, str]) -> Task:
    one, two, last = rng.sample(_FIELDS, 3)
    spoilt = right | {(slip := rng.choice((one, two))): wrong[slip]}
    first = ask(
        f"Read: {_PERSON.format(**right)} Give {one} and {two}.",
        both(f"The {one} is {{}} and the {two} is {{}}.", (right[one], right[two]), (spoilt[one], spoilt[two])),
        [f"{field} is {right[field]}" for field in (one, two)],
        both("The text names {} of {}.", (right["name"], right["city"]), (wrong["name"], wrong["city"])),
        f"names {right['name']} of {right['city']}",
        "two fields",
    )
    second = _field_turn(f"Give only the {last}.", last, right, wrong, "one field")
    return Task("extraction", "extraction/{name}/{job}/{city}".format(**right), (first, second))


def _two_persons(rng: random.Random, right: dict[str, str], wrong: dict[str, str]) -> Task:
    """The first turn asks about one person, the second about the other; wrong answers confuse the two."""
    persons = [right, wrong]
    rng.shuffle(persons)
    texts = [_PERSON.format(**one) for one in persons]
    field, back = rng.choice(("city", "job")), rng.choice(("city", "job"))
    prompt = f"Read: {' '.join(texts)} Give the {field} of {right['name']}."
    first = _field_turn(prompt, field, right, wrong, "whose")
    second = _field_turn(f"Give the {back} of {wrong['name']}.", back, wrong, right, "whose")
    return Task("extraction", f"extraction/{'/'.join(texts)}", (first, second))


def _field_turn(prompt: str, field: str, right: dict[str, str], wrong: dict[str, str], group: str) -> Turn:
    core = both(f"The {field} is {{}}.", right[field], wrong[field])
    explained = both("The text says so about the {}.", right["job"], wrong["job"])
    return ask(prompt, core, (f"{field} is {right[field]}",), explained, f"about the {right['job']}", group)


def sentiment(rng: random.Random, facts: Facts) -> Task:
    """The mood of a sentence; then of the sentence with its two mood words swapped for others."""
    tone, topic = rng.choice(tuple(TONES)), rng.choice(facts.topics)
    changed = other(rng, tuple(TONES), tone)
    old, new = rng.sample(TONES[tone], 2), rng.sample(TONES[changed], 2)
    turns = (
        _mood(f"What is the mood: the {old[0]} {topic} is {old[1]}.", tone, changed, old[0]),
        _mood(f"Change {old[0]} to {new[0]} and {old[1]} to {new[1]}.", changed, tone, new[0]),
    )
    return Task("sentiment", f"sentiment/{old[0]}/{topic}/{old[1]}", turns)


def _mood(prompt: str, tone: str, wrong_tone: str, word: str) -> Turn:
    explained = both(f"The word {word} sounds {{}}.", tone, wrong_tone)
    core = both("The mood is {}.", tone, wrong_tone)
    return ask(prompt, core, (f"mood is {tone}",), explained, f"word {word} sounds {tone}", "mood")


def moderation(rng: random.Random, facts: Facts) -> Task:
    """Tag a post as insult, spam or safe; then say whether to keep it."""
    name, topic = rng.choice(facts.names), rng.choice(facts.topics)
    insult, product = rng.choice(_INSULTS), rng.choice(facts.products).name
    posts = {
        "insult": (f"{name} is a {insult}.", f"It calls {name} a {insult}."),
        "spam": (f"{name}, buy this {product} and win.", f"It wants to sell a {product}."),
        "safe": (f"{name} likes the {topic}.", f"It is kind to {name}."),
    }
    tag = rng.choice(tuple(posts))
    wrong = other(rng, tuple(posts), tag)
    post, reason = posts[tag]
    first = ask(
        f"Tag this post: {post}",
        both("The tag is {}.", tag, wrong),
        (f"tag is {tag}",),
        (reason, posts[wrong][1]),
        reason,
        "tag",
    )
    keep, drop = "Yes, keep the post.", "No, remove the post."
    second = ask(
        "Should we keep it?",
        (keep, drop) if tag == "safe" else (drop, keep),
        ("keep the post" if tag == "safe" else "remove the post",),
        both("It counts as {}.", tag, wrong),
        f"counts as {tag}",
        "keep",
    )
    return Task("moderation", f"moderation/{post}", (first, second))


def summary(rng: random.Random, facts: Facts) -> Task:
    """One sentence out of three; then a title."""
    name, city, job = rng.choice(facts.names), rng.choice(facts.cities), rng.choice(facts.jobs)
    topic = rng.choice(facts.topics)
    wrong_city, wrong_job = other(rng, facts.cities, city), other(rng, facts.jobs, job)
    first = ask(
        f"Sum up: {name} is a {job}. {name} lives in {city}. {name} likes the {topic}.",
        both(f"{name} is a {{}} in {{}}.", (job, city), (wrong_job, wrong_city)),
        (f"{name} is a {job}", f"in {city}"),
        both("I left out the {}.", topic, other(rng, facts.topics, topic)),
        f"left out the {topic}",
        "summary",
    )
    second = ask(
        "Give it a title.",
        both(f"The title is {name} in {{}}.", city, wrong_city),
        (f"{name} in {city}",),
        both("It names {}.", "who and where", "the job"),
        "who and where",
        "title",
    )
    return Task("summary", f"summary/{name}/{job}/{city}/{topic}", (first, second))


def translation(rng: random.Random, facts: Facts) -> Task:
    """Two words into one language, then into the other."""
    colour, noun = rng.choice(COLOURS), rng.choice(facts.topics)
    wrong_colour, wrong_noun = other(rng, COLOURS, colour), other(rng, facts.topics, noun)
    order = rng.sample((0, 1), 2)
    turns = []
    for place, language in enumerate(order):
        name, words = _LANGUAGES[language], facts.languages[language]
        right, wrong = (words[colour], words[noun]), (words[wrong_colour], words[wrong_noun])
        said, slip = (right, (right[0], wrong[1])) if language == 0 else (right[::-1], (right[1], wrong[0]))
        turns.append(
            ask(
                f"Say {colour} {noun} in {name}." if place == 0 else f"And in {name}?",
                both(f"In {name} it is {{}} {{}}.", said, slip),
                (f"is {said[0]} {said[1]}",),
                both(f"The word {noun} is {{}}.", right[1], wrong[1]),
                f"word {noun} is {right[1]}",
                name,
            )
        )
    return Task("translation", f"translation/{_LANGUAGES[order[0]]}/{colour} {noun}", (turns[0], turns[1]))
