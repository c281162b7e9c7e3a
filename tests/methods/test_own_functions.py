"""Filters, rules of pairs and rubrics from a notebook: what they say is done, or refused under function and row."""

from dataclasses import asdict, replace

import numpy as np
import pytest

import zephyr_runs
from zephyr_lab.core.files import read_json, write_json
from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.data.splits import dialogue_rows, pair_rows
from zephyr_lab.engine.own_code import captured
from zephyr_lab.methods.recipes.data import OwnFilter, OwnWorldPairs
from zephyr_lab.methods.recipes.evaluate import OwnRubric
from zephyr_lab.methods.stages import own_functions, world_data
from zephyr_lab.world.benchmark import mt_bench
from zephyr_lab.world.judge import grade


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialogues")
    world_data.build_dialogues(zephyr_runs.DIALOGUES, seed=0, inputs={}, out=folder, context=None)
    return folder


def filtered(function, dialogues, out):
    recipe = OwnFilter(own_filter=captured(function))
    return own_functions.build_filter(recipe, seed=0, inputs={"dialogues": dialogues}, out=out, context=None)


def test_a_filter_that_keeps_all_leaves_every_dialogue_as_it_was(dialogues, tmp_path):
    def numpy_true(messages):
        return np.less(0, len(messages))

    for place, everything in enumerate((gives(True), numpy_true)):
        (tmp_path / str(place)).mkdir()
        counts = filtered(everything, dialogues, tmp_path / str(place))
        assert counts == {"rows": 40, "kept": 40, "dropped": 0, "repaired": 0}
        for split in ("train", "test"):
            assert dialogue_rows(tmp_path / str(place), split).rows == dialogue_rows(dialogues, split).rows


def test_a_filter_drops_and_repairs_and_says_how_many(dialogues, tmp_path):
    least = 8

    def long_enough(messages):
        if len(messages[1]["content"].split()) < least:
            return False
        return [message | {"content": message["content"].upper()} for message in messages]

    before = dialogue_rows(dialogues, "train").rows
    wanted = [one for one in before if len(one[1]["content"].split()) >= least]
    counts = filtered(long_enough, dialogues, tmp_path)
    left = dialogue_rows(tmp_path, "train").rows
    assert 0 < len(wanted) < 40
    assert left == [[{**message, "content": message["content"].upper()} for message in one] for one in wanted]
    assert counts == {"rows": 40, "kept": len(wanted), "dropped": 40 - len(wanted), "repaired": len(wanted)}
    assert read_json(tmp_path / "filters.json")["train"] == counts


def gives(value):
    def mine(*given):
        return value

    return mine


def test_what_is_no_answer_of_a_filter_is_refused_by_name_and_row(dialogues, tmp_path):
    def raises(messages):
        return messages[99]

    def in_place(messages):
        messages[1]["content"] = "Yes."
        return True

    cases = {
        "mine gave None for train dialogue 1; allowed: True": gives(None),
        "mine gave 1 for train dialogue 1; allowed: True": gives(1),
        "mine gave no dialogue for train dialogue 1: ": gives([{"role": "assistant", "content": "Yes."}]),
        "mine keeps none of 40 train dialogues": gives(False),
        "raises failed on train dialogue 1: IndexError: list index out of range": raises,
        "in_place changed the messages of train dialogue 1 in place": in_place,
    }
    for said, function in cases.items():
        with pytest.raises(ValueError, match=said):
            filtered(function, dialogues, tmp_path)


def pairs(out, *, choose=None, reject=None, **changes):
    own = {f"own_{name}": captured(one) if one else "" for name, one in (("choose", choose), ("reject", reject))}
    recipe = OwnWorldPairs(**asdict(replace(zephyr_runs.PAIRS, **changes)), **own)
    out.mkdir(exist_ok=True)
    return own_functions.build_pairs(recipe, seed=0, inputs={}, out=out, context=None)


def lowest(completions, chosen):
    """The place of the lowest score that is not the chosen one, the first of these."""
    others = (place for place in range(len(completions)) if place != chosen)
    return min(others, key=lambda place: completions[place].overall_score)


def highest(completions):
    return max(range(len(completions)), key=lambda place: completions[place].overall_score)


def local(function):
    """The function as a cell has it: no worker could import it from here."""
    function.__module__ = "__main__"
    return function


def test_a_named_rule_written_as_a_function_makes_the_published_pairs(tmp_path):
    """Word for word the same files and counts, whichever side is a function."""
    worst = replace(zephyr_runs.PAIRS, rejected="worst")
    counts = world_data.build_pairs(worst, seed=0, inputs={}, out=tmp_path, context=None)

    def both(completions, chosen):
        return highest(completions), lowest(completions, chosen)

    own = {
        "reject": {"reject": local(lowest)},
        "choose": {"choose": local(highest), "rejected": "worst"},
        "both": {"reject": both},
        "two functions": {"choose": local(highest), "reject": local(lowest)},
    }
    for name, functions in own.items():
        assert pairs(tmp_path / name, **functions) == counts
        for split in ("train.jsonl", "test.jsonl"):
            theirs, ours = ([row.data for row in iter_rows(folder / split)] for folder in (tmp_path, tmp_path / name))
            assert ours == theirs


def test_the_draw_of_a_named_reject_rule_is_that_of_the_published_pairs(tmp_path):
    (tmp_path / "published").mkdir()
    world_data.build_pairs(zephyr_runs.PAIRS, seed=0, inputs={}, out=tmp_path / "published", context=None)
    pairs(tmp_path / "own", choose=local(highest))
    assert pair_rows(tmp_path / "own", "train").rows == pair_rows(tmp_path / "published", "train").rows


def test_a_rule_may_leave_prompts_out(tmp_path):
    def only_clear(completions, chosen):
        scores = [one.overall_score for one in completions]
        return scores.index(min(scores)) if max(scores) - min(scores) > 4 else None

    counts = pairs(tmp_path, reject=only_clear)
    rows = [row.data for row in iter_rows(tmp_path / "train.jsonl")]
    assert 0 < counts["no_pair"] < 40 and counts["pairs"] == 40 - counts["no_pair"] == len(rows)
    assert all(row["score_chosen"] - row["score_rejected"] > 4 for row in rows)


def test_what_is_no_answer_of_a_pair_rule_is_refused_by_name_and_row(tmp_path):
    def chosen_too(completions, chosen):
        return chosen

    for value in (4, -1, True, 1.5, "0", (0, 1, 2), (0, 4)):
        with pytest.raises(ValueError, match=r"mine gave .* for train prompt 1; allowed: a place from 0 to 3"):
            pairs(tmp_path, reject=gives(value))
    with pytest.raises(ValueError, match=r"chosen_too gave . for train prompt 1; allowed: another place than that of"):
        pairs(tmp_path, reject=chosen_too)
    with pytest.raises(ValueError, match="allowed: one place: highest gives the chosen answer"):
        pairs(tmp_path, reject=gives((0, 1)), choose=local(highest))
    with pytest.raises(ValueError, match="the rule makes no pair of 40 prompts"):
        pairs(tmp_path, reject=gives(None))
    with pytest.raises(ValueError, match="own_choose or own_reject must be a function"):
        OwnWorldPairs(**asdict(zephyr_runs.PAIRS), own_choose="", own_reject="")


TURNS = {(one.question_id, place): turn for one in mt_bench(8) for place, turn in enumerate(one.turns, 1)}


@pytest.fixture
def evaluation(tmp_path):
    """Finished answers of one model: ideal ones first, then wrong cores."""
    columns = {name: [] for name in (*own_functions.FACTS, "score", "core")}
    for run, (key, turn) in ((run, one) for run in ("near-greedy", "hot") for one in TURNS.items()):
        text = turn.ideal if run == "near-greedy" else turn.wrong_core
        row = dict.fromkeys(own_functions.FACTS, 0) | {
            "model": "m",
            "run": run,
            "text": text,
            "score": 5.0,
            "core": 0.0,
        }
        row |= {"question_id": key[0], "turn": key[1]}
        for name, column in columns.items():
            column.append(row[name])
    folder = tmp_path / "evaluation"
    folder.mkdir()
    write_json(folder / "answers.json", columns)
    write_json(folder / "pairs.json", [{"model": "m", "sum": 0.5}])
    return folder


def judged(function, evaluation):
    recipe = OwnRubric(world="tiny", questions=8, own_rubric=captured(function))
    out = evaluation.parent / "out"
    out.mkdir(exist_ok=True)
    metrics = own_functions.build_rubric(recipe, seed=0, inputs={"evaluation": evaluation}, out=out, context=None)
    return metrics, read_json(out / "answers.json")


def test_the_exact_judge_written_as_a_rubric_gives_its_scores_and_parts(evaluation):
    def exact(turn, text):
        verdict = grade(turn, text)
        return {"score": verdict.score, "core": verdict.core}

    metrics, columns = judged(exact, evaluation)
    verdicts = [grade(turn, turn.ideal) for turn in TURNS.values()]
    verdicts += [grade(turn, turn.wrong_core) for turn in TURNS.values()]
    assert columns["score"] == [one.score for one in verdicts] and columns["core"] == [one.core for one in verdicts]
    assert metrics == {"m": pytest.approx(sum(columns["score"]) / len(verdicts))}
    assert columns["text"] == read_json(evaluation / "answers.json")["text"]
    assert read_json(evaluation.parent / "out" / "pairs.json") == [{"model": "m", "sum": 0.5}]


def test_a_rubric_of_a_score_alone_leaves_no_part_of_another_judge(evaluation):
    def short(turn, text):
        return 10 - min(9, len(text.split()) / 10)

    _, columns = judged(short, evaluation)
    assert set(columns) == {*own_functions.FACTS, "score"}


def test_what_is_no_answer_of_a_rubric_is_refused_by_name_model_and_question(evaluation):
    def raises(turn, text):
        return 1 / 0

    def uneven(turn, text):
        return {"score": 5, "long" if len(text) > 20 else "short": 1}

    where = r"m, question \d+, turn 1"

    def not_a_number(turn, text):
        return float("nan")

    def part_is_none(turn, text):
        return {"score": 5.0, "a": None}

    for function in (not_a_number, part_is_none, *map(gives, (0.5, 10.5, True, None, "7", {"core": 5.0}))):
        with pytest.raises(ValueError, match=rf"gave .* for {where}; allowed: a number from 1 to 10"):
            judged(function, evaluation)
    with pytest.raises(ValueError, match=rf"raises failed on {where}: ZeroDivisionError"):
        judged(raises, evaluation)
    with pytest.raises(ValueError, match=r"uneven gave .* allowed: the parts of every answer: score, "):
        judged(uneven, evaluation)
    with pytest.raises(ValueError, match="allowed: parts under names of their own, not 'text'"):
        judged(gives({"score": 5.0, "text": 1.0}), evaluation)
