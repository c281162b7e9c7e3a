"""Training text and benchmarks share no instance, by key and by text; and everything comes from the seed alone."""

import hashlib
import json
import os
import random
import subprocess
import sys

import pytest

from zephyr_lab.world import benchmark, catalogue, choices, completions, corpus, dialogues
from zephyr_lab.world.facts import LARGE, TINY, build
from zephyr_lab.world.task import is_held_out, normalise


@pytest.fixture(scope="module", params=[TINY, LARGE], ids=["tiny", "large"])
def world(request):
    size = request.param
    asked = [*benchmark.mt_bench(320, size=size), *benchmark.single_turn(size=size), *benchmark.domain(size=size)]
    return size, asked


def test_no_dialogue_or_preference_prompt_is_a_benchmark_question(world):
    size, asked = world
    keys, texts = {one.key for one in asked}, {normalise(one.prompts[0]) for one in asked}
    made = dialogues.dialogues(0, 3000, domain_share=0.2, size=size)
    assert not keys & {label.key for label in made.labels}
    assert not texts & {normalise(row["data"][0]) for row in made.rows}
    prompts = completions.prompts(0, 1500, domain_share=0.2, size=size)
    assert not keys & {prompt.task.key for prompt in prompts}
    assert not texts & {normalise(prompt.task.turns[0].prompt) for prompt in prompts}


def test_no_document_holds_a_benchmark_question(world):
    size, asked = world
    text = "\n".join(corpus.documents(0, 8_000, size=size)).lower()
    assert not [one.key for one in asked if one.prompts[0].lower() in text]


def test_no_document_holds_a_larger_sum_of_the_benchmark():
    text = "".join(normalise(document) for document in corpus.documents(1, 10_000))
    asked = [one.turns[0] for one in benchmark.mt_bench(320) if one.category == "math"]
    sums = [normalise(turn.explanation.removeprefix("We have ")) for turn in asked]
    larger = [one for one in sums if any(int(number) >= 10 for number in one.split()[0:3:2])]
    assert len(asked) == 40 and len(larger) >= 10
    assert not [one for one in larger if one in text]


def test_multiple_choice_questions_are_held_out_and_their_examples_are_not():
    for kind, count in choices.SHOTS.items():
        asked = choices.items(kind)
        assert kind == "myths" or all(is_held_out(one.key) for one in asked)
        assert not any(is_held_out(one.key) for one in choices.shots(kind, count))
    text = "\n".join(corpus.documents(2, 8_000)).lower()
    assert not [one.key for kind in choices.SHOTS for one in choices.items(kind) if one.question.lower() in text]


@pytest.mark.parametrize("category", catalogue.MAKERS)
def test_about_a_fifth_of_the_instances_is_held_out(category):
    rng = random.Random(0)
    keys = {catalogue.MAKERS[category](rng, build()).key for _ in range(2000)}
    share = sum(map(is_held_out, keys)) / len(keys)
    assert abs(share - 0.2) < 4 * (0.16 / len(keys)) ** 0.5  # four standard errors of a fair fifth


def test_drawing_keeps_to_its_side():
    rng = random.Random(0)
    for category in catalogue.MAKERS:
        for held_out in (True, False):
            assert is_held_out(catalogue.draw(rng, build(), category, held_out=held_out).key) == held_out


SAMPLE = """
import hashlib, json
from zephyr_lab.world import benchmark, choices, completions, corpus, dialogues
from zephyr_lab.world.facts import LARGE
print(hashlib.sha256(json.dumps([
    corpus.documents(3, 200), corpus.documents(3, 50, size=LARGE),
    dialogues.dialogues(3, 100, domain_share=0.2, duplicates=0.1, contamination=0.1).rows,
    completions.completions(3, 50).rows, [one.row() for one in benchmark.mt_bench(80)],
    [one.row() for one in benchmark.single_turn()], [one.row() for one in benchmark.domain()],
    [[one.question, one.options] for kind in choices.SHOTS for one in choices.items(kind)],
]).encode()).hexdigest())
"""
# Pinned: a change of this digest is a change of the world, and of every number that comes from it.
DIGEST = "f446393cb5f13479b7bdb12892759c169acc75dcb58f6e7b6188cdb5a088e28e"


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_same_seed_gives_the_same_bytes_in_every_process(hash_seed):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    printed = subprocess.run(
        [sys.executable, "-c", SAMPLE], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert printed.stdout.strip() == DIGEST


def test_another_seed_gives_other_text():
    def digest(seed):
        rows = [corpus.documents(seed, 20), dialogues.dialogues(seed, 20).rows, completions.completions(seed, 5).rows]
        return [hashlib.sha256(json.dumps(one).encode()).hexdigest() for one in rows]

    assert all(one != two for one, two in zip(digest(0), digest(1), strict=True))
