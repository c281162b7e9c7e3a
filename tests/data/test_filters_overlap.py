"""Duplicates and contamination, against brute force on words."""

import random

import pytest

from data_rows import talk
from zephyr_lab.data import filters
from zephyr_lab.data.filters_overlap import (
    NEAR,
    NEAR_RUN,
    Benchmarks,
    ExactDuplicates,
    NearDuplicates,
    comparable,
    read_questions,
    words,
)

LONG = "Compose an engaging travel blog post about a recent trip to Hawaii, highlighting cultural experiences."


def test_case_and_spacing_make_no_other_dialogue_and_operators_do():
    known = ExactDuplicates()
    known.add(talk("What is  5 + 3?", "It is 8."))
    assert known.holds(talk("what is 5 + 3? ", "IT is\n8."))
    assert not known.holds(talk("What is 5 - 3?", "It is 8."))
    assert not known.holds(talk("What is 5 + 3? It", "is 8."))


def runs_of(dialogue) -> set[tuple[str, ...]]:
    spoken = [word for message in dialogue.messages for word in words(message.content)]
    return {tuple(spoken[i : i + NEAR_RUN]) for i in range(max(1, len(spoken) - NEAR_RUN + 1))}


def test_near_duplicates_are_those_of_brute_force():
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(400)]
    texts = [rng.choices(vocabulary, k=rng.randint(3, 120)) for _ in range(60)]
    for original in texts[:60]:  # copies with a few words changed, on both sides of the threshold
        changed = list(original)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.choice(vocabulary)
        texts.append(changed)
    dialogues = [talk("Tell me.", " ".join(text)) for text in texts]
    verdicts = list(filters.run_rules(dialogues, filters.named_rules(["near_duplicate"])))
    kept, expected = [], []
    for dialogue in dialogues:
        runs = runs_of(dialogue)
        is_near = any(len(runs & other) / len(runs | other) >= NEAR for other in kept)
        expected.append(not is_near)
        if not is_near:
            kept.append(runs)
    assert [verdict.kept for verdict in verdicts] == expected
    assert 5 < expected.count(False) < 60


def test_a_dialogue_without_words_is_near_another_without():
    known = NearDuplicates()
    known.add(talk("?!", "..."))
    assert known.holds(talk("...", "!"))
    assert not known.holds(talk("...", "Yes."))


def test_the_first_that_is_kept_stays():
    first, again = talk("Hi", "I do not have emotions. Bye"), talk("Hi", "Bye now.")
    rules = filters.named_rules(["narrow_refusal", "exact_duplicate"])
    verdicts = list(filters.run_rules([first, first, again, again], rules))
    assert [verdict.kept for verdict in verdicts] == [False, False, True, False]


@pytest.mark.parametrize("least", [0.4, 1.1])
def test_a_threshold_out_of_reach_is_refused(least):
    with pytest.raises(ValueError, match=r"from 0\.5 to 1"):
        NearDuplicates(least)


# --- contamination -------------------------------------------------------------------------------------------------


def test_a_question_is_found_inside_a_longer_prompt():
    benchmarks = Benchmarks({"mt_bench": [LONG]})
    found = benchmarks.find(f"Please do this for me: {LONG.upper()} Make it short.")
    assert found is not None and (found.benchmark, found.share) == ("mt_bench", 1.0)


def test_the_share_of_runs_decides():
    # 14 words have 7 runs of eight; the first 11 of them hold four runs, the first 10 only three
    question = " ".join(f"w{i}" for i in range(14))
    benchmarks = Benchmarks({"b": [question]})
    found = benchmarks.find(" ".join(f"w{i}" for i in range(11)) + " and more")
    assert found is not None and found.share == 4 / 7
    assert benchmarks.find(" ".join(f"w{i}" for i in range(10)) + " and more") is None


def test_a_short_question_must_be_the_whole_prompt():
    benchmarks = Benchmarks({"b": ["What is gold?"]})
    assert benchmarks.find("what is gold") is not None
    assert benchmarks.find("Tell me, what is gold?") is None


def test_the_best_match_is_named():
    benchmarks = Benchmarks({"one": [f"{LONG} And do it in the style of a pirate who lost his ship"], "two": [LONG]})
    found = benchmarks.find(f"{LONG} Thanks.")
    assert found is not None and found.benchmark == "two"


def test_short_follow_ups_belong_to_nobody():
    assert comparable(["What is gold?", "Make it shorter.", LONG]) == ["What is gold?", LONG]


@pytest.mark.parametrize(
    "questions, named", [({}, {}), ({"b": ["?!"]}, {}), ({"b": ["a"]}, {"run": 0}), ({"b": ["a"]}, {"share": 0.0})]
)
def test_benchmarks_without_a_question_or_sense_are_refused(questions, named):
    with pytest.raises(ValueError, match=r"no benchmark question|run must be at least 1"):
        Benchmarks(questions, **named)


def test_the_rule_names_the_user_s_turns():
    rules = filters.named_rules(["contaminated"], benchmarks=Benchmarks({"b": ["What is gold?"]}))
    verdicts = list(filters.run_rules([talk("Hi", "What is gold?"), talk("Hi", "Yes?", "What is gold?", "Au.")], rules))
    assert [verdict.hits["contaminated"] for verdict in verdicts] == [(), (2,)]


def test_the_world_s_training_prompts_are_clean_and_planted_questions_are_found():
    from zephyr_lab.world import benchmark, dialogues

    questions = [question.prompts[0] for question in benchmark.mt_bench(320)]
    # Made from templates, questions share runs of words with others and stand inside longer ones.
    index = Benchmarks({"world": questions}, run=None)
    made = dialogues.dialogues(0, 500)
    assert [row["data"][0] for row in made.rows if index.find(row["data"][0])] == []
    assert all(index.find(question.upper()) for question in questions)


@pytest.mark.parametrize("column", ["prompt", "instruction", "question", "text"])
def test_questions_are_read_from_a_column(tmp_path, column):
    file = tmp_path / "questions.jsonl"
    file.write_text(f'{{"{column}": "What is gold?"}}\n{{"other": 1}}\nbroken\n', encoding="utf-8")
    assert read_questions(file) == ["What is gold?"]


def test_a_file_without_questions_is_refused(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"other": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="holds no benchmark questions; looked for turns, prompt"):
        read_questions(file)


def test_every_released_dialogue_stands_in_mt_bench(released):
    # They are answers to MT-Bench's own questions.
    import gzip
    import json

    index = Benchmarks({"mt_bench": read_questions(released("fastchat/question.jsonl"))})
    with gzip.open(released("alvarobartt_fastchat/dialogues.jsonl.gz"), "rt", encoding="utf-8") as lines:
        assert all(index.find(json.loads(line)["data"][0]) for line in lines)
