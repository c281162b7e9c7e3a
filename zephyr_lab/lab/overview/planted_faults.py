"""Dialogues with planted faults, what rules find in them, and what they leave.

The faults are planted by `world.answers`, whose phrases are not the filter's. World dialogues are drawn under seeds
0 to N-1, filtered seed by seed and pooled; intervals are over answers or dialogues. Shares are in percent. A rule is
one of `data.filters` by name, or a `Rule` of one's own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from zephyr_lab.core.rows import Row
from zephyr_lab.data.filters import Rule, Verdict, named_rules, run_rules
from zephyr_lab.data.filters_answers import PHRASES, learn_forms
from zephyr_lab.data.filters_overlap import Benchmarks
from zephyr_lab.data.filters_quality import Detection, detection
from zephyr_lab.data.schemas import Dialogue, dialogue
from zephyr_lab.lab import numbers
from zephyr_lab.lab.sizes import Filtering
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.reporting import tables
from zephyr_lab.world import benchmark, dialogues
from zephyr_lab.world.answers import PREFACES
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Turn

# Faults that stay in an answer, by the words for them, and what each is planted as.
FAULTS = {
    "wrong core": {"wrong"},
    "lower case": {"lower_start", "all_lower"},
    "disclaimer": {"preface"},
    "broken off": {"truncated"},
}


AnyRule = str | Rule


@dataclass(frozen=True)
class Planted:
    """Dialogues of one seed as read, what is wrong with each, and their questions; `rules` makes fresh rules."""

    dialogues: list[Dialogue]
    labels: list[dialogues.Label]
    turns: list[tuple[Turn, ...]]
    benchmarks: Benchmarks
    forms: Mapping[str, str]

    def rules(self, wanted: Sequence[AnyRule]) -> list[Rule]:
        """The rules, named ones fresh."""
        return [
            one if isinstance(one, Rule) else named_rules([one], benchmarks=self.benchmarks, forms=self.forms)[0]
            for one in wanted
        ]


@dataclass(frozen=True)
class Step:
    """One rule of a waterfall: dialogues that came, that went, and that were repaired."""

    rule: str
    came: int
    dropped: int
    repaired: int


def planted(sizes: Filtering, seeds: int) -> list[Planted]:
    """The dialogues of each seed. Casing is learned from their own answers, as it would be from any corpus."""
    size = require_world(sizes.world)
    # Made from templates, the world's questions share runs of words; only a whole prompt tells them apart.
    questions = [question.prompts[0] for question in benchmark.mt_bench(benchmark.LARGEST_MT_BENCH, size=size)]
    index = Benchmarks({"the world's MT-Bench": questions}, run=None)
    sets = []
    for seed in range(seeds):
        shares = {"duplicates": sizes.duplicates, "contamination": sizes.contamination}
        drawn = dialogues.dialogues(seed, sizes.rows, **shares, size=size)
        read = [dialogue(Row(number, row)) for number, row in enumerate(drawn.rows, start=1)]
        forms = learn_forms(text for one in read for _, text in one.answers())
        sets.append(Planted(read, drawn.labels, drawn.turns, index, forms))
    return sets


def phrase_list() -> pd.DataFrame:
    """The filter's own phrases: "card" where the card of ultrachat_200k quotes them, "ours" for the rest."""
    return pd.DataFrame([{"phrase": one.name, "source": one.source, "pattern": one.pattern.pattern} for one in PHRASES])


def counts(sets: Sequence[Planted], on_answers: Iterable[AnyRule], on_dialogues: Iterable[AnyRule]) -> pd.DataFrame:
    """Share of dialogues, and for rules on answers of answers, in which each rule finds something by itself."""
    rows = []
    judging = list(on_answers)
    for rule in (*judging, *on_dialogues):
        name = name_of(rule)
        verdicts = [verdict for one in sets for verdict in _alone(one, rule)]
        hits = [len(verdict.hits[name]) for verdict in verdicts]
        rows.append(numbers.share(name, "dialogues", sum(map(bool, hits)), len(hits), of="dialogues"))
        if rule in judging:
            answers = sum(1 for verdict in verdicts for _ in verdict.dialogue.answers())
            rows.append(numbers.share(name, "answers", sum(hits), answers, of="answers"))
    return tables.frame(rows)


def quality(
    sets: Sequence[Planted], on_answers: Mapping[AnyRule, Sequence[str]], on_dialogues: Iterable[AnyRule]
) -> pd.DataFrame:
    """Precision and recall of each rule by itself, on what was planted; a side with nothing to count is left out.

    Rules on answers are judged answer by answer on the planted faults that `on_answers` gives them, the others dialogue
    by dialogue: "contaminated" on planted benchmark questions, all else on planted duplicates.
    """
    rows = []
    for rule in (*on_answers, *on_dialogues):
        detected = _detection(sets, rule, on_answers.get(rule))
        of = "answers" if rule in on_answers else "dialogues"
        positives = detected.true_positives
        for metric, others in (("precision", detected.false_positives), ("recall", detected.false_negatives)):
            if positives + others:
                rows.append(numbers.share(name_of(rule), metric, positives, positives + others, of=of))
    return tables.frame(rows)


def phrases(sets: Sequence[Planted], rules: Sequence[AnyRule]) -> pd.DataFrame:
    """Recall by planted phrase: in percent of the answers that open with it, those that each rule finds."""
    rows = []
    for phrase in PREFACES:
        texts = [text for planted in sets for one in planted.dialogues for _, text in one.answers()]
        holders = [text for text in texts if text.lower().startswith(phrase.lower())]
        for rule in sets[0].rules(rules) if holders else []:
            hits = sum(bool(rule.find(dialogue(Row(1, {"data": ["?", text]})))) for text in holders)
            rows.append(numbers.share(phrase, rule.name, hits, len(holders), of="answers that open so"))
    return tables.frame(rows)


def waterfall(sets: Sequence[Planted], steps: Sequence[AnyRule]) -> list[Step]:
    """The steps one after the other, each on what the one before left, summed over the seeds."""
    return [
        Step(name, len(verdicts), sum(not one.kept for one in verdicts), sum(bool(one.texts) for one in verdicts))
        for name, verdicts in _in_turn(sets, steps)
    ]


def waterfall_frame(steps: Sequence[Step]) -> pd.DataFrame:
    """Each step as shares of all dialogues: metrics "dropped" and "repaired"; the last row is what is kept."""
    total = steps[0].came
    rows = [
        numbers.share(step.rule, metric, count, total, of="dialogues")
        for step in steps
        for metric, count in (("dropped", step.dropped), ("repaired", step.repaired))
        if count
    ]
    kept = steps[-1].came - steps[-1].dropped
    return tables.frame([*rows, numbers.share("kept", "dialogues", kept, total, of="dialogues")])


def before_and_after(sets: Sequence[Planted], steps: Sequence[AnyRule]) -> pd.DataFrame:
    """The first message that each step, one after the other, finds: its question, as it was, and what becomes of it."""
    rows = []
    for name, verdicts in _in_turn(sets, steps):
        verdict = next((verdict for verdict in verdicts if verdict.hits[name]), None)
        if verdict is None:
            continue
        place = verdict.hits[name][0]
        message = verdict.dialogue.messages[place]
        question = "" if message.role == "user" else verdict.dialogue.messages[place - 1].content
        after = verdict.texts.get(place, "dialogue dropped")
        rows.append({"rule": name, "question": question, "before": message.content, "after": after})
    return pd.DataFrame(rows)


def left_over(sets: Sequence[Planted], stages: Mapping[str, Sequence[AnyRule]]) -> pd.DataFrame:
    """What the answers are like after the rules of each stage: mean exact score, and the share of answers with each
    planted fault. Repaired texts are scored as repaired; a fault in case counts until it is gone.
    """
    rows = []
    for stage, rules in stages.items():
        answers = [one for planted in sets for one in _kept_answers(planted, rules)]
        rows.append(numbers.mean(stage, "exact score", [score for score, _ in answers], of="answers"))
        for fault, planted_as in FAULTS.items():
            hits = sum(bool(planted_as & defects) for _, defects in answers)
            rows.append(numbers.share(stage, fault, hits, len(answers), of="answers"))
    return tables.frame(rows)


def name_of(rule: AnyRule) -> str:
    """What a rule is called."""
    return rule if isinstance(rule, str) else rule.name


def _alone(planted: Planted, rule: AnyRule) -> Iterator[Verdict]:
    return run_rules(planted.dialogues, planted.rules([rule]))


def _in_turn(sets: Sequence[Planted], steps: Sequence[AnyRule]) -> Iterator[tuple[str, list[Verdict]]]:
    """The verdicts of each step on what the one before left, all seeds after one another."""
    rest = [planted.dialogues for planted in sets]
    for step in steps:
        judged = [list(run_rules(left, planted.rules([step]))) for planted, left in zip(sets, rest, strict=True)]
        yield name_of(step), [verdict for verdicts in judged for verdict in verdicts]
        rest = [[verdict.dialogue for verdict in verdicts if verdict.kept] for verdicts in judged]


def _detection(sets: Sequence[Planted], rule: AnyRule, faults: Sequence[str] | None) -> Detection:
    """What the rule says beside the truth: of answers where `faults` are given, else of dialogues."""
    name = name_of(rule)
    judged: list[tuple[bool, bool]] = []  # what the rule says, and the truth
    for planted in sets:
        for verdict, label in zip(_alone(planted, rule), planted.labels, strict=True):
            if faults is None:
                truth = label.contaminated if name == "contaminated" else label.duplicate_of is not None
                judged.append((bool(verdict.hits[name]), truth))
                continue
            for (place, _), defects in zip(verdict.dialogue.answers(), label.defects, strict=True):
                judged.append((place in verdict.hits[name], bool(set(faults) & set(defects))))
    return detection([said for said, _ in judged], [truth for _, truth in judged])


def _kept_answers(planted: Planted, rules: Sequence[AnyRule]) -> Iterator[tuple[float, set[str]]]:
    """Exact score and remaining planted faults of each answer of the dialogues that the rules keep."""
    verdicts = run_rules(planted.dialogues, planted.rules(rules))
    for verdict, label, turns in zip(verdicts, planted.labels, planted.turns, strict=True):
        if not verdict.kept:
            continue
        for (place, text), turn, defects in zip(verdict.dialogue.answers(), turns, label.defects, strict=True):
            graded = grade(turn, verdict.texts.get(place, text))
            in_case = {"lower_start", "all_lower"} if graded.capital else set()
            yield graded.exact, set(defects) - in_case
