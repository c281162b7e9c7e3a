"""Questions of the categories writing, roleplay and extraction.

Small tasks: mood of a sentence, moderation of a post, summarising, translation into two little languages.
"""

import random

from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn
from zephyr_lab.world.vocabulary import COLOURS, TONES, other

_WRITING = (
    "Write a {tone} {kind} about the {topic}.",
    "Give me a {tone} {kind} about the {topic}.",
    "I want a {tone} {kind} about the {topic}.",
)
_ROLEPLAY = ("You are a {who}. Greet {name}.", "Play a {who} and greet {name}.", "Greet {name} like a {who}.")
_FIELDS = ("name", "city", "job")
_PERSON = "{name}, a {job}, lives in {city}."


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
    adjectives, wrong_adjectives = rng.sample(TONES[tone], 2), rng.sample(TONES[wrong_tone], 2)
    return Turn(
        prompt=prompt,
        core="The {} {topic} is {} today.".format(*adjectives, topic=topic),
        wrong_core="The {} {topic} is {} today.".format(*wrong_adjectives, topic=topic),
        checks=(Check((topic,), 0.4), Check(TONES[tone], 0.6)),
        explanation=f"These words sound {tone}.",
        wrong_explanation=f"These words sound {wrong_tone}.",
        key=f"sound {tone}",
        group="mood",
    )


def _add_person(rng: random.Random, facts: Facts, topic: str, tone: str, kind: str) -> Turn:
    name = rng.choice(facts.names)
    wrong_name = other(rng, facts.names, name)
    adjective = rng.choice(TONES[tone])
    return Turn(
        prompt=f"Add {name} to the {kind}.",
        core=f"{name} sees the {adjective} {topic}.",
        wrong_core=f"{wrong_name} sees the {adjective} {topic}.",
        checks=(Check((f"{name} sees",), 0.5), Check((topic,), 0.25), Check(TONES[tone], 0.25)),
        explanation=f"I added {name} to the {kind}.",
        wrong_explanation=f"I added {wrong_name} to the {kind}.",
        key=f"added {name}",
        group="person",
    )


def roleplay(rng: random.Random, facts: Facts) -> Task:
    """Greet somebody as a character would; then tell where the character lives, or what it carries."""
    who, name = rng.choice(facts.characters), rng.choice(facts.names)
    wrong = other(rng, facts.characters, who)
    prompt = rng.choice(_ROLEPLAY).format(who=who.name, name=name)
    first = Turn(
        prompt=prompt,
        core=f"{who.greeting} {name}, I am the {who.name}.",
        wrong_core=f"{wrong.greeting} {name}, I am the {wrong.name}.",
        checks=(Check((f"{who.greeting} {name}",), 0.6), Check((f"I am the {who.name}",), 0.4)),
        explanation=f"Every {who.name} says {who.greeting}.",
        wrong_explanation=f"Every {who.name} says {wrong.greeting}.",
        key=f"{who.name} says {who.greeting}",
        group="greeting",
    )
    if rng.random() < 0.5:
        second = Turn(
            prompt="Where do you live?",
            core=f"I live in the {who.home}.",
            wrong_core=f"I live in the {wrong.home}.",
            checks=(Check((f"live in the {who.home}", f"live in a {who.home}")),),
            explanation=f"The {who.home} is home to every {who.name}.",
            wrong_explanation=f"The {wrong.home} is home to every {who.name}.",
            key=f"{who.home} is home to every {who.name}",
            group="home",
        )
    else:
        second = Turn(
            prompt="What do you carry?",
            core=f"I carry a {who.thing}.",
            wrong_core=f"I carry a {wrong.thing}.",
            checks=(Check((f"carry a {who.thing}", f"carry the {who.thing}")),),
            explanation=f"A {who.thing} helps every {who.name}.",
            wrong_explanation=f"A {wrong.thing} helps every {who.name}.",
            key=f"{who.thing} helps every {who.name}",
            group="thing",
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
    first = Turn(
        prompt=f"Read: {_PERSON.format(**right)} Give {one} and {two}.",
        core=f"The {one} is {right[one]} and the {two} is {right[two]}.",
        wrong_core=f"The {one} is {spoilt[one]} and the {two} is {spoilt[two]}.",
        checks=tuple(Check((f"{field} is {right[field]}",), 0.5) for field in (one, two)),
        explanation=f"The text names {right['name']} of {right['city']}.",
        wrong_explanation=f"The text names {wrong['name']} of {wrong['city']}.",
        key=f"names {right['name']} of {right['city']}",
        group="two fields",
    )
    second = _field_turn(f"Give only the {last}.", last, right, wrong, "one field")
    return Task("extraction", "extraction/{name}/{job}/{city}".format(**right), (first, second))


def _two_persons(rng: random.Random, right: dict[str, str], wrong: dict[str, str]) -> Task:
    """The first turn asks about one person, the second about the other; wrong answers confuse the two."""
    told = [right, wrong]
    rng.shuffle(told)
    field, back = rng.choice(("city", "job")), rng.choice(("city", "job"))
    turns = (
        _field_turn(
            f"Read: {' '.join(_PERSON.format(**one) for one in told)} Give the {field} of {right['name']}.",
            field,
            right,
            wrong,
            "whose",
        ),
        _field_turn(f"Give the {back} of {wrong['name']}.", back, wrong, right, "whose"),
    )
    return Task("extraction", f"extraction/{'/'.join(_PERSON.format(**one) for one in told)}", turns)


def _field_turn(prompt: str, field: str, right: dict[str, str], wrong: dict[str, str], group: str) -> Turn:
    return Turn(
        prompt=prompt,
        core=f"The {field} is {right[field]}.",
        wrong_core=f"The {field} is {wrong[field]}.",
        checks=(Check((f"{field} is {right[field]}",)),),
        explanation=f"The text says so about the {right['job']}.",
        wrong_explanation=f"The text says so about the {wrong['job']}.",
        key=f"about the {right['job']}",
        group=group,
    )


_INSULTS = ("fool", "pig", "rat", "liar")
_LANGUAGES = ("Miro", "Suda")


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
    return Turn(
        prompt=prompt,
        core=f"The mood is {tone}.",
        wrong_core=f"The mood is {wrong_tone}.",
        checks=(Check((f"mood is {tone}",)),),
        explanation=f"The word {word} sounds {tone}.",
        wrong_explanation=f"The word {word} sounds {wrong_tone}.",
        key=f"word {word} sounds {tone}",
        group="mood",
    )


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
    first = Turn(
        prompt=f"Tag this post: {post}",
        core=f"The tag is {tag}.",
        wrong_core=f"The tag is {wrong}.",
        checks=(Check((f"tag is {tag}",)),),
        explanation=reason,
        wrong_explanation=posts[wrong][1],
        key=reason,
        group="tag",
    )
    keep, drop = "Yes, keep the post.", "No, remove the post."
    second = Turn(
        prompt="Should we keep it?",
        core=keep if tag == "safe" else drop,
        wrong_core=drop if tag == "safe" else keep,
        checks=(Check(("keep the post",) if tag == "safe" else ("remove the post",)),),
        explanation=f"It counts as {tag}.",
        wrong_explanation=f"It counts as {wrong}.",
        key=f"counts as {tag}",
        group="keep",
    )
    return Task("moderation", f"moderation/{post}", (first, second))


def summary(rng: random.Random, facts: Facts) -> Task:
    """One sentence out of three; then a title."""
    name, city, job = rng.choice(facts.names), rng.choice(facts.cities), rng.choice(facts.jobs)
    topic = rng.choice(facts.topics)
    wrong_city, wrong_job = other(rng, facts.cities, city), other(rng, facts.jobs, job)
    first = Turn(
        prompt=f"Sum up: {name} is a {job}. {name} lives in {city}. {name} likes the {topic}.",
        core=f"{name} is a {job} in {city}.",
        wrong_core=f"{name} is a {wrong_job} in {wrong_city}.",
        checks=(Check((f"{name} is a {job}",), 0.5), Check((f"in {city}",), 0.5)),
        explanation=f"I left out the {topic}.",
        wrong_explanation=f"I left out the {other(rng, facts.topics, topic)}.",
        key=f"left out the {topic}",
        group="summary",
    )
    second = Turn(
        prompt="Give it a title.",
        core=f"The title is {name} in {city}.",
        wrong_core=f"The title is {name} in {wrong_city}.",
        checks=(Check((f"{name} in {city}",)),),
        explanation="It names who and where.",
        wrong_explanation="It names the job.",
        key="who and where",
        group="title",
    )
    return Task("summary", f"summary/{name}/{job}/{city}/{topic}", (first, second))


def translation(rng: random.Random, facts: Facts) -> Task:
    """Two words into one language, then into the other; Miro keeps the English order, Suda puts the noun first."""
    colour, noun = rng.choice(COLOURS), rng.choice(facts.topics)
    wrong_colour, wrong_noun = other(rng, COLOURS, colour), other(rng, facts.topics, noun)
    order = rng.sample((0, 1), 2)
    turns = []
    for place, language in enumerate(order):
        name, words = _LANGUAGES[language], facts.languages[language]
        right, wrong = (words[colour], words[noun]), (words[wrong_colour], words[wrong_noun])
        said, slip = (right, (right[0], wrong[1])) if language == 0 else (right[::-1], (right[1], wrong[0]))
        turns.append(
            Turn(
                prompt=f"Say {colour} {noun} in {name}." if place == 0 else f"And in {name}?",
                core=f"In {name} it is {said[0]} {said[1]}.",
                wrong_core=f"In {name} it is {slip[0]} {slip[1]}.",
                checks=(Check((f"is {said[0]} {said[1]}",)),),
                explanation=f"The word {noun} is {right[1]}.",
                wrong_explanation=f"The word {noun} is {wrong[1]}.",
                key=f"word {noun} is {right[1]}",
                group=name,
            )
        )
    return Task("translation", f"translation/{_LANGUAGES[order[0]]}/{colour} {noun}", (turns[0], turns[1]))
