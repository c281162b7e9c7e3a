"""Small tasks: mood of a sentence, moderation of a post, summarising, translation into two little languages."""

import random

from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn
from zephyr_lab.world.vocabulary import COLOURS, TONES, other

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
