import json
from collections import Counter

import pytest

from zephyr_lab.world import benchmark, catalogue, choices
from zephyr_lab.world.answers import CLEAN, MEDIUM
from zephyr_lab.world.facts import LARGE, TINY, WorldSize
from zephyr_lab.world.shop import GROUPS


@pytest.mark.parametrize("size", [TINY, LARGE], ids=["tiny", "large"])
@pytest.mark.parametrize("count", [80, 320])
def test_every_category_has_an_eighth_of_the_questions_and_none_comes_twice(count, size):
    questions = benchmark.mt_bench(count, size=size)
    assert Counter(one.category for one in questions) == dict.fromkeys(catalogue.MT_BENCH, count // 8)
    assert len({one.key for one in questions}) == len({one.prompts[0] for one in questions}) == count
    assert [one.question_id for one in questions] == list(range(81, 81 + count))


def test_ids_of_the_80_questions_are_those_of_mt_bench():
    categories = {one.question_id: one.category for one in benchmark.mt_bench(80)}
    assert [categories[number] for number in (81, 91, 101, 111, 121, 131, 141, 151)] == list(catalogue.MT_BENCH)


def test_a_question_keeps_its_id_in_the_larger_set():
    large = {one.question_id: one for one in benchmark.mt_bench(320)}
    assert all(large[one.question_id] == one for one in benchmark.mt_bench(80))


def test_single_turn_prompts_share_nothing_with_the_questions():
    prompts = benchmark.single_turn(240)
    assert len({one.key for one in prompts}) == 240 and all(len(one.turns) == 1 for one in prompts)
    assert not {one.key for one in prompts} & {one.key for one in benchmark.mt_bench(320)}
    assert set(Counter(one.category for one in prompts).values()) == {20}
    assert benchmark.single_turn(100) == prompts[:100]


def test_each_shop_group_has_its_questions():
    questions = benchmark.domain(4)
    assert Counter(one.turns[0].group for one in questions) == dict.fromkeys(GROUPS, 4)
    assert len({one.key for one in questions}) == 80


def test_temperatures_are_those_of_mt_bench():
    # FastChat, temperature_config: creative 0.7, exact 0.0, knowledge 0.1
    asked = {one.category: one.temperature for one in benchmark.mt_bench(8)}
    assert asked["writing"] == asked["roleplay"] == 0.7
    assert asked["stem"] == asked["humanities"] == 0.1
    assert {asked[category] for category in ("extraction", "math", "coding", "reasoning")} == {0.0}


def test_a_row_is_a_line_of_fastchats_question_file():
    row = json.loads(json.dumps(benchmark.mt_bench(80)[0].row()))
    assert list(row) == ["question_id", "category", "turns", "reference"]
    assert row["question_id"] == 81 and row["category"] == "writing" and len(row["turns"]) == len(row["reference"]) == 2


def test_written_answers_hang_on_the_question_alone_and_clean_ones_are_ideal():
    questions = benchmark.single_turn(60)
    answers = benchmark.written_answers(questions, noise=MEDIUM, seed=1)
    assert benchmark.written_answers(questions[::-1], noise=MEDIUM, seed=1) == answers[::-1]
    assert benchmark.written_answers(questions, noise=MEDIUM, seed=2) != answers
    clean = benchmark.written_answers(benchmark.mt_bench(16), noise=CLEAN, seed=1)
    assert clean == [[turn.ideal for turn in one.turns] for one in benchmark.mt_bench(16)]


@pytest.mark.parametrize("count", [0, 12, 328])
def test_other_counts_are_refused(count):
    with pytest.raises(ValueError, match=f"multiple of 8 from 8 to 320, got {count}"):
        benchmark.mt_bench(count)


def test_a_world_too_small_for_the_questions_says_so():
    with pytest.raises(ValueError, match=r"this world has only .* free instances of roleplay, 40 are asked for"):
        benchmark.mt_bench(320, size=WorldSize(names=4, characters=2))
    for function in (benchmark.single_turn, benchmark.domain):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            function(0)


@pytest.mark.parametrize("kind", choices.SHOTS)
def test_options_differ_and_the_right_one_stands_anywhere(kind):
    asked = choices.items(kind)
    assert len({one.question for one in asked}) == 60
    assert all(len(set(one.options)) == len(one.options) >= 2 for one in asked)
    counts = Counter(one.answer for one in asked)
    assert len(counts) == max(len(one.options) for one in asked)
    assert max(counts.values()) < 45
    assert choices.items(kind, 10) == asked[:10]


def test_right_options_of_sums_are_right():
    for one in choices.items("reasoning"):
        if one.key.startswith("math/"):
            assert (
                one.options[one.answer]
                == f"The answer is {eval(one.key.removeprefix('math/').removeprefix('Compute '))}."
            )


def test_examples_come_solved_before_the_question():
    item, examples = choices.items("facts")[0], choices.shots("facts", 5)
    text = choices.prompt(item, examples)
    assert text.count("Question: ") == text.count("Answer:") == 6
    assert text.endswith(f"Question: {item.question}\nAnswer:")
    assert all(f"\nAnswer: {one.options[one.answer]}\n" in text for one in examples)


def test_unknown_sets_and_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="no multiple-choice set named 'law'; known: reasoning, endings, facts, myths"):
        choices.items("law")
    with pytest.raises(ValueError, match=r"only .* questions of the set endings, 200 are asked for"):
        choices.items("endings", 200)
    with pytest.raises(ValueError, match="only 0 questions of the set myths, 1 are asked for"):
        choices.shots("myths", 1)
