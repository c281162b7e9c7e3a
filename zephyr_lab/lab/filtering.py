"""Notebook 02: what each filter finds in dialogues with planted faults, what filtering leaves, and real rows.

The faults are planted by `world.defects`, whose phrases are not the filter's. World dialogues are drawn under seeds
0 to N-1, filtered seed by seed and pooled; intervals are over answers or dialogues. Shares are in percent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.core.row_types import Row
from zephyr_lab.data.decontamination import Benchmarks
from zephyr_lab.data.filters import Rule, Verdict, named_rules, run_rules
from zephyr_lab.data.filters_casing import learn_forms
from zephyr_lab.data.filters_disclaimers import PHRASES
from zephyr_lab.data.filters_quality import Detection, detection
from zephyr_lab.data.schemas import Dialogue, dialogue
from zephyr_lab.lab import numbers
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.reporting import tables
from zephyr_lab.world import benchmark, dialogues
from zephyr_lab.world.defects import PREFACES
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Turn

# Which planted faults a rule is meant to find in an answer; the last three rules are others' plain patterns.
IN_ANSWERS: dict[str, tuple[str, ...]] = {
    "truecase": ("lower_start", "all_lower"),
    "disclaimer_preface": ("preface",),
    "truncated": ("truncated",),
    "narrow_refusal": ("preface",),
    "wide_refusal": ("preface",),
    "lower_case_sentence_start": ("lower_start", "all_lower"),
}
IN_DIALOGUES = ("exact_duplicate", "near_duplicate", "contaminated")
# In this order the rules are taken in the waterfall: the two that were published, then ours.
PUBLISHED_STEPS = ("truecase", "disclaimer_preface")
STEPS = (*PUBLISHED_STEPS, "truncated", "exact_duplicate", "near_duplicate", "contaminated")
_FAULTS = {
    "wrong core": {"wrong"},
    "lower case": {"lower_start", "all_lower"},
    "disclaimer": {"preface"},
    "broken off": {"truncated"},
}


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """`rows` dialogues a seed; shares of them repeat an earlier one, or ask a benchmark question."""

    world: str
    rows: int
    duplicates: float
    contamination: float

    def __post_init__(self) -> None:
        require_world(self.world)


@dataclass(frozen=True)
class Planted:
    """Dialogues of one seed as read, what is wrong with each, and their questions; `rules` makes fresh rules."""

    dialogues: list[Dialogue]
    labels: list[dialogues.Label]
    turns: list[tuple[Turn, ...]]
    benchmarks: Benchmarks
    forms: Mapping[str, str]

    def rules(self, names: Sequence[str]) -> list[Rule]:
        return named_rules(names, benchmarks=self.benchmarks, forms=self.forms)


@dataclass(frozen=True)
class Step:
    """One rule of a waterfall: dialogues that came, that went, and that were repaired."""

    rule: str
    came: int
    dropped: int
    repaired: int


def planted(profile: str, seeds: int) -> list[Planted]:
    """The dialogues of each seed. Casing is learned from their own answers, as it would be from any corpus."""
    chosen = settings.load("overview", profile, "filtering", Filtering)
    size = require_world(chosen.world)
    # Made from templates, the world's questions share runs of words; only a whole prompt tells them apart.
    questions = [question.prompts[0] for question in benchmark.mt_bench(benchmark.LARGEST_MT_BENCH, size=size)]
    index = Benchmarks({"the world's MT-Bench": questions}, run=None)
    sets = []
    for seed in range(seeds):
        made = dialogues.dialogues(
            seed, chosen.rows, duplicates=chosen.duplicates, contamination=chosen.contamination, size=size
        )
        read = [dialogue(Row(number, row)) for number, row in enumerate(made.rows, start=1)]
        forms = learn_forms(text for one in read for _, text in one.answers())
        sets.append(Planted(read, made.labels, made.turns, index, forms))
    return sets


def phrase_list() -> pd.DataFrame:
    """The filter's own phrases: "card" where the card of ultrachat_200k quotes them, "ours" for the rest."""
    return pd.DataFrame([{"phrase": one.name, "source": one.source, "pattern": one.pattern.pattern} for one in PHRASES])


def counts(sets: Sequence[Planted]) -> pd.DataFrame:
    """Share of dialogues and of answers in which each rule finds something, every rule on its own."""
    rows = []
    for name in (*IN_ANSWERS, *IN_DIALOGUES):
        verdicts = [verdict for made in sets for verdict in _alone(made, name)]
        rows.append(
            numbers.share(name, "dialogues", sum(bool(v.hits[name]) for v in verdicts), len(verdicts), of="dialogues")
        )
        if name in IN_ANSWERS:
            answers = sum(1 for verdict in verdicts for _ in verdict.dialogue.answers())
            found = sum(len(verdict.hits[name]) for verdict in verdicts)
            rows.append(numbers.share(name, "answers", found, answers, of="answers"))
    return tables.frame(rows)


def quality(sets: Sequence[Planted]) -> pd.DataFrame:
    """Precision and recall of each rule on its own, on what was planted; a side with nothing to count is left out.

    Rules on answers are judged answer by answer, the others dialogue by dialogue.
    """
    rows = []
    for name in (*IN_ANSWERS, *IN_DIALOGUES):
        found = _detection(sets, name)
        of = "answers" if name in IN_ANSWERS else "dialogues"
        positives = found.true_positives
        for metric, others in (("precision", found.false_positives), ("recall", found.false_negatives)):
            if positives + others:
                rows.append(numbers.share(name, metric, positives, positives + others, of=of))
    return tables.frame(rows)


def phrases(sets: Sequence[Planted]) -> pd.DataFrame:
    """Recall by planted phrase: which disclaimers of the world each list of phrases finds, in percent of the answers
    that hold it."""
    rows = []
    for phrase in PREFACES:
        holders = [text for made in sets for one in made.dialogues for _, text in one.answers() if _opens(text, phrase)]
        if not holders:
            continue
        for name in ("disclaimer_preface", "wide_refusal", "narrow_refusal"):
            rule = sets[0].rules([name])[0]
            hits = sum(bool(rule.find(_said(text))) for text in holders)
            rows.append(numbers.share(phrase, name, hits, len(holders), of="answers that open so"))
    return tables.frame(rows)


def waterfall(sets: Sequence[Planted]) -> list[Step]:
    """`STEPS` one after the other, each on what the one before left, summed over the seeds."""
    return [
        Step(
            rule=name,
            came=len(verdicts),
            dropped=sum(not verdict.kept for verdict in verdicts),
            repaired=sum(bool(verdict.texts) for verdict in verdicts),
        )
        for name, verdicts in _in_turn(sets)
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


def before_and_after(sets: Sequence[Planted]) -> pd.DataFrame:
    """The first message that each step of the waterfall finds: its question, as it was, and what becomes of it."""
    rows = []
    for name, verdicts in _in_turn(sets):
        verdict = next((verdict for verdict in verdicts if verdict.hits[name]), None)
        if verdict is None:
            continue
        place = verdict.hits[name][0]
        said = verdict.dialogue.messages[place]
        question = "" if said.role == "user" else verdict.dialogue.messages[place - 1].content
        after = verdict.texts.get(place, "dialogue dropped")
        rows.append({"rule": name, "question": question, "before": said.content, "after": after})
    return pd.DataFrame(rows)


def left_over(sets: Sequence[Planted]) -> pd.DataFrame:
    """What the answers are like as drawn, after the published steps, and after all: mean exact score, and the share of
    answers with each planted fault. Repaired texts are scored as repaired; a fault in case counts until it is gone.
    """
    stages: dict[str, tuple[str, ...]] = {"as drawn": (), "casing, disclaimers": PUBLISHED_STEPS, "all rules": STEPS}
    rows = []
    for stage, names in stages.items():
        answers = [one for made in sets for one in _kept_answers(made, names)]
        rows.append(numbers.mean(stage, "exact score", [score for score, _ in answers], of="answers"))
        for fault, planted_as in _FAULTS.items():
            hits = sum(bool(planted_as & defects) for _, defects in answers)
            rows.append(numbers.share(stage, fault, hits, len(answers), of="answers"))
    return tables.frame(rows)


def _alone(made: Planted, name: str) -> Iterator[Verdict]:
    return run_rules(made.dialogues, made.rules([name]))


def _in_turn(sets: Sequence[Planted]) -> Iterator[tuple[str, list[Verdict]]]:
    """The verdicts of each of `STEPS` on what the one before left, all seeds after one another."""
    rest = [made.dialogues for made in sets]
    for name in STEPS:
        judged = [list(run_rules(left, made.rules([name]))) for made, left in zip(sets, rest, strict=True)]
        yield name, [verdict for verdicts in judged for verdict in verdicts]
        rest = [[verdict.dialogue for verdict in verdicts if verdict.kept] for verdicts in judged]


def _detection(sets: Sequence[Planted], name: str) -> Detection:
    found: list[bool] = []
    truth: list[bool] = []
    for made in sets:
        for verdict, label in zip(_alone(made, name), made.labels, strict=True):
            if name in IN_ANSWERS:
                for (place, _), defects in zip(verdict.dialogue.answers(), label.defects, strict=True):
                    found.append(place in verdict.hits[name])
                    truth.append(bool(set(IN_ANSWERS[name]) & set(defects)))
            else:
                found.append(bool(verdict.hits[name]))
                truth.append(label.contaminated if name == "contaminated" else label.duplicate_of is not None)
    return detection(found, truth)


def _opens(text: str, phrase: str) -> bool:
    return text.lower().startswith(phrase.lower())


def _said(text: str) -> Dialogue:
    return dialogue(Row(1, {"data": ["?", text]}))


def _kept_answers(made: Planted, names: Sequence[str]) -> Iterator[tuple[float, set[str]]]:
    """Exact score and remaining planted faults of each answer of the dialogues that the rules keep."""
    # without a rule everything is kept as it is, which run_rules says too
    verdicts = run_rules(made.dialogues, made.rules(names) if names else [])
    for verdict, label, turns in zip(verdicts, made.labels, made.turns, strict=True):
        if not verdict.kept:
            continue
        for (place, text), turn, defects in zip(verdict.dialogue.answers(), turns, label.defects, strict=True):
            graded = grade(turn, verdict.texts.get(place, text))
            in_case = {"lower_start", "all_lower"} if graded.capital else set()
            yield graded.exact, set(defects) - in_case
