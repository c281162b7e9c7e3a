"""Rules on dialogues: each finds what it says, on written cases, planted defects and released dialogues."""

import json
import time

import pytest

from data_rows import answered, message, talk
from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import Row
from zephyr_lab.data import filters, schemas
from zephyr_lab.data.filters_answers import PHRASES, disclaimer, is_ended, learn_forms, repair_casing
from zephyr_lab.data.filters_quality import detection, wilson_interval
from zephyr_lab.world import answers, dialogues

# --- casing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, repaired",
    [
        ("Hello. how are you?", "Hello. How are you?"),  # the card's example
        ("the answer is 24. we have 3 * 8 = 24.", "The answer is 24. We have 3 * 8 = 24."),
        ("yes! so it is? of course.", "Yes! So it is? Of course."),
        ('"well done," she said. "thank you!" he said.', '"Well done," she said. "Thank you!" he said.'),
        ("One.\nand two.", "One.\nAnd two."),
        ("i am sure that i'm right, and i know it.", "I am sure that I'm right, and I know it."),
        ("use def h(x): return x * 3. it multiplies.", "Use def h(x): return x * 3. It multiplies."),
        ("It is called x. it is new.", "It is called x. It is new."),
    ],
)
def test_sentence_starts_get_their_capital(given, repaired):
    assert repair_casing(given) == repaired
    assert repair_casing(repaired) == repaired


@pytest.mark.parametrize(
    "text",
    [
        "Fruit (e.g. apples, i.e. not meat) etc. are fine. Vs. what?",
        "Rossi et al. found it in approx. two hours, cf. fig. two.",
        "Brewed by Kona Brewing Co. beers are good. See J. smith.",
        "Wait... what is it?",
        "1. first\n2. second\na. third\nb) fourth",
        "def f(x):\n    return x",
        "x = 5. y = 6.",
        "```\nfoo. bar\n```",
        "Call `a. b` now. See https://example.org/a. b",
        "Let $x. y$ be it.",
        "Write for i in range(3): index i is a part of i and j. It is the i-th.",
        "iPhone users. eBay too.",
        '{"p": ["a"]}',
        "",
        "123. 456",
        "你好。再见",
    ],
)
def test_what_is_no_sentence_start_stays(text):
    assert repair_casing(text) == text


def test_names_come_back_only_where_a_text_has_no_capital():
    forms = learn_forms(["Here is Ida of Rome. Ask Ida and Ida again.", "The book of Ida. In Rome, by Rome, to Rome."])
    assert forms == {"ida": "Ida", "rome": "Rome"}
    assert repair_casing("the name is ida. she is in rome.", forms) == "The name is Ida. She is in Rome."
    assert repair_casing("The name is ida.", forms) == "The name is ida."


def test_words_that_only_start_sentences_are_no_names():
    assert learn_forms(["Here it is. Here he is. Here I am: Here."] * 9, least=3) == {"i": "I"}


# --- disclaimers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, source",
    [
        ("I do not have emotions, but here it is.", "card"),
        ("Sure. Sure. Sure. But i don’t have opinions.", "card"),
        ("As an AI language model, I cannot do that.", "ours"),
        ("I'm just an AI, so ask a doctor.", "ours"),
        ("Well, I don't have any personal feelings about it.", "ours"),
        ("I lack personal experiences. Still, mix flour and water.", "ours"),
        ("I am not able to feel pain.", "ours"),
    ],
)
def test_a_disclaimer_is_found(answer, source):
    found = disclaimer(answer)
    assert found is not None and found.source == source


@pytest.mark.parametrize(
    "answer",
    [
        "Mix flour and water. Bake it.",
        "I do not have the book at hand.",
        "He said: you have opinions. They have emotions.",
        "Once there was a robot. It sang. One day it said: as an AI, I am happy.",
        "As an aid to memory, write it down.",
        "",
    ],
)
def test_other_answers_are_left_alone(answer):
    assert disclaimer(answer) is None


def test_the_card_s_phrases_are_its_two_examples():
    assert [phrase.name for phrase in PHRASES if phrase.source == "card"] == ["no emotions", "no opinions"]


# --- truncation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "It is done.", "Is it?", 'He said "yes."', "See (above).", "**Done!**", "好。", "", "42", "Art", "[5, 1, 3]",
        '{"a": 1}', "- one\n- two", "1. Art\n2. Music", "| a | b |", "```\nx = 1\n```", "Yours truly,\nAda Lovelace",
        "It is:\n\n---", "## Contents", "return list(x)", "50%", "A smile 😀.",
    ],
)  # fmt: skip
def test_finished_answers_have_ended(text):
    assert is_ended(text)


@pytest.mark.parametrize(
    "text",
    [
        "The answer is", "We have 14 +", "Rob wrote", "I hope that these ideas", "Here are the results:", "Red, green,",
        "```\nx = 1", "Call f(x", "[Your Name", "- one\n- two and the", "The", "Use def q(x): return x *",
        "It grows in the north and south\nand is of", "They go from here to there –",
    ],
)  # fmt: skip
def test_answers_that_break_off_have_not(text):
    assert not is_ended(text)


# --- the rules together --------------------------------------------------------------------------------------------


def run(names, *dialogue, **named):
    return list(filters.run_rules(dialogue, filters.named_rules(names, **named)))


def test_a_dropping_rule_drops_and_a_repairing_one_repairs():
    kept, dropped = run(["truecase", "truncated"], talk("Hi", "yes. it is."), talk("Hi", "yes it"))
    assert (kept.kept, kept.texts) == (True, {1: "Yes. It is."})
    assert (dropped.kept, dropped.texts, dropped.hits) == (False, {}, {"truecase": (1,), "truncated": (1,)})


def test_only_answers_are_looked_at():
    (verdict,) = run(["truecase", "narrow_refusal"], talk("hi. i do not have emotions", "Good. I see."))
    assert verdict.kept and verdict.texts == {}


def test_counts_are_of_dialogues_and_turns():
    rules = filters.named_rules(["lower_case_sentence_start"])
    counts = filters.counts_for(rules)
    for verdict in filters.run_rules([talk("a", "Yes. no.", "b", "No. yes. no."), talk("a", "Yes.")], rules):
        counts.add(verdict)
    assert (counts.rows, counts.kept) == (2, 1)
    assert counts.rules["lower_case_sentence_start"] == filters.RuleCount(dialogues=1, turns=2)


def test_empty_answers_are_counted_and_stay_unless_their_rule_is_named():
    rules = filters.named_rules(["narrow_refusal", "truncated"])
    counts = filters.counts_for(rules)
    for verdict in filters.run_rules([talk("a", "", "b", " \n"), talk("a", "Yes.")], rules):
        counts.add(verdict)
    assert (counts.kept, counts.empty_answers) == (2, filters.RuleCount(dialogues=1, turns=2))
    assert [verdict.kept for verdict in run(["empty_answer"], talk("a", ""), talk("a", "Yes."))] == [False, True]


def test_a_question_without_an_answer_is_truncated():
    (verdict,) = run(["truncated"], talk("a", "Yes.", "b"))
    assert verdict.hits == {"truncated": (2,)}


@pytest.mark.parametrize("names", [["trucase"], [], ["truecase", "truecase"], ["contaminated"]])
def test_rules_that_cannot_run_are_refused(names):
    with pytest.raises(ValueError, match=r"no rule named 'trucase'; allowed: truecase|no rule named|twice|--against"):
        filters.named_rules(names)


def test_rule_names_as_the_command_line_gives_them():
    assert filters.rule_names(None, with_benchmarks=False) == list(filters.DEFAULT_RULES)
    assert filters.rule_names(None, with_benchmarks=True) == [*filters.DEFAULT_RULES, "contaminated"]
    assert filters.rule_names(" truecase, truncated,", with_benchmarks=False) == ["truecase", "truncated"]
    with pytest.raises(ValueError, match="used by the rule contaminated alone"):
        filters.rule_names("truecase", with_benchmarks=True)


def test_the_order_of_the_rules_changes_no_count():
    made = [schemas.dialogue(Row(1, row)) for row in dialogues.dialogues(0, 300).rows]
    counted = []
    for names in (filters.DEFAULT_RULES, filters.DEFAULT_RULES[::-1]):
        counts = filters.counts_for(rules := filters.named_rules(names))
        for verdict in filters.run_rules(made, rules):
            counts.add(verdict)
        counted.append((counts.kept, counts.rules))
    assert counted[0] == counted[1]


@pytest.mark.parametrize(
    "text",
    [
        "a. " * 2**16, "`a` " * 2**16, '"' * 2**18, "I do not have " * 2**14, "a" * 2**18, "$a" * 2**17, ". " * 2**17,
        " " * 2**18 + "x", "(" * 2**18, "\n" * 2**18,
    ],
)  # fmt: skip
def test_a_quarter_megabyte_of_anything_takes_no_quadratic_time(text):
    started = time.perf_counter()
    run([name for name in filters.RULES if name != "contaminated"], answered(text))
    assert time.perf_counter() - started < 5


# --- released dialogues, planted defects ---------------------------------------------------------------------------


def test_known_counts_of_released_dialogues(released):
    known = json.loads(released("alvarobartt_fastchat/expected_dialogues.json").read_text(encoding="utf-8"))
    rows = iter_rows(released("alvarobartt_fastchat/dialogues.jsonl.gz"))
    names = ("narrow_refusal", "wide_refusal", "lower_case_sentence_start")
    counts = filters.counts_for(rules := filters.named_rules(names))
    answers = 0
    for verdict in filters.run_rules(schemas.checked(rows, schemas.dialogue), rules):
        counts.add(verdict)
        answers += len(list(verdict.dialogue.answers()))
    assert (counts.rows, answers) == (known["dialogues"], known["assistant_turns"])
    assert counts.empty_answers.turns == known["empty_assistant_turns"]
    for name in names:
        assert counts.rules[name].dialogues == known[f"{name}_dialogues"]
        assert counts.rules[name].turns == known[f"{name}_turns"]


def test_the_narrow_rule_keeps_the_known_number(released):
    known = json.loads(released("alvarobartt_fastchat/expected_dialogues.json").read_text(encoding="utf-8"))
    rows = schemas.checked(iter_rows(released("alvarobartt_fastchat/dialogues.jsonl.gz")), schemas.dialogue)
    verdicts = filters.run_rules(rows, filters.named_rules(["narrow_refusal"]))
    assert sum(verdict.kept for verdict in verdicts) == known["kept_after_narrow_filter"]


@pytest.mark.parametrize(
    "rule, planted, precision, recall",
    [
        ("truecase", {"lower_start", "all_lower"}, 0.98, 0.98),
        ("truncated", {"truncated"}, 0.98, 0.95),
        # the planted phrases come from another list than the filter's, so recall is what it is
        ("disclaimer_preface", {"preface"}, 0.98, 0.15),
    ],
)
def test_planted_defects_are_found(rule, planted, precision, recall):
    made = dialogues.dialogues(5, 800)
    verdicts = run([rule], *(schemas.dialogue(Row(1, row)) for row in made.rows))
    found = [place in verdict.hits[rule] for verdict in verdicts for place in (1, 3)]
    truth = [bool(planted & set(of_answer)) for label in made.labels for of_answer in label.defects]
    measured = detection(found, truth)
    assert measured.precision >= precision
    assert measured.recall >= recall


def test_clean_answers_of_the_world_are_left_alone():
    made = dialogues.dialogues(6, 500, noise=answers.CLEAN, domain_share=0.3)
    verdicts = run(["truecase", "truncated", "disclaimer_preface"], *(schemas.dialogue(Row(1, r)) for r in made.rows))
    assert [verdict.dialogue.row.data["data"] for verdict in verdicts if any(verdict.hits.values())] == []


def test_detection_by_hand():
    measured = detection([True, True, False, False, True], [True, False, True, False, True])
    assert (measured.precision, measured.recall) == (2 / 3, 2 / 3)
    assert measured.true_negatives == 1
    nothing = detection([False], [False])
    assert (nothing.precision, nothing.recall) == (None, None)
    with pytest.raises(ValueError, match="equally long, got 1 and 2"):
        detection([True], [True, False])


def test_wilson_interval_is_scipy_s():
    from scipy.stats import binomtest

    for successes, trials in ((0, 10), (3, 10), (10, 10), (500, 1000)):
        theirs = binomtest(successes, trials).proportion_ci(method="wilson")
        assert wilson_interval(successes, trials) == pytest.approx((theirs.low, theirs.high))


def test_messages_are_filtered_like_data():
    rows = [{"messages": [message("system", "x"), message("user", "Hi"), message("assistant", "yes. it is.")]}]
    (verdict,) = run(["truecase"], schemas.dialogue(Row(1, rows[0])))
    assert verdict.texts == {2: "Yes. It is."}
