"""Filtering dialogues by named rules: what each finds, and what is kept.

A rule looks at one dialogue and names the messages at fault. Most drop the dialogue; `truecase` repairs it. Rules on
duplicates also remember what was kept before. Dialogues are handled one at a time, so that a set may be larger than
memory; no file is read or written here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zephyr_lab.data.filters_answers import (
    LOWER_CASE_SENTENCE_START,
    NARROW_REFUSAL,
    NO_FORMS,
    WIDE_REFUSAL,
    disclaimer,
    is_ended,
    repair_casing,
)
from zephyr_lab.data.filters_overlap import Benchmarks, ExactDuplicates, NearDuplicates
from zephyr_lab.data.schemas import Dialogue

Places = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`find` returns the positions of the messages at fault, () where there are none. `remember` is called with each
    dialogue that all rules keep. With `repair`, a message at fault is rewritten and the dialogue stays."""

    name: str
    find: Callable[[Dialogue], Places]
    remember: Callable[[Dialogue], None] | None = None
    repair: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one dialogue; `texts` are the repaired messages by place, empty where it is dropped."""

    dialogue: Dialogue
    hits: dict[str, Places]
    kept: bool
    texts: dict[int, str]


@dataclass(slots=True)
class RuleCount:
    """Dialogues with a message at fault by a rule, and the number of such messages."""

    dialogues: int = 0
    turns: int = 0


@dataclass(slots=True)
class FilterCounts:
    """`rows` are all rows read, unusable ones included; `empty_answers` are counted whatever the rules are."""

    rows: int = 0
    kept: int = 0
    rules: dict[str, RuleCount] = field(default_factory=dict)
    empty_answers: RuleCount = field(default_factory=RuleCount)

    def add(self, verdict: Verdict) -> None:
        self.rows += 1
        self.kept += verdict.kept
        empty = empty_answers(verdict.dialogue)
        self.empty_answers.dialogues += bool(empty)
        self.empty_answers.turns += len(empty)
        for name, places in verdict.hits.items():
            self.rules[name].dialogues += bool(places)
            self.rules[name].turns += len(places)


def run_rules(dialogues: Iterable[Dialogue], rules: Sequence[Rule]) -> Iterator[Verdict]:
    """One verdict a dialogue, in order. Every rule sees the text as it came, so that counts do not depend on the
    order of the rules; of duplicates the first that all rules keep stays."""
    for dialogue in dialogues:
        hits = {rule.name: rule.find(dialogue) for rule in rules}
        kept = not any(hits[rule.name] for rule in rules if rule.repair is None)
        texts: dict[int, str] = {}
        if kept:
            for rule in rules:
                if rule.remember is not None:
                    rule.remember(dialogue)
                if rule.repair is not None:
                    texts |= {place: rule.repair(dialogue.messages[place].content) for place in hits[rule.name]}
        yield Verdict(dialogue, hits, kept, texts)


def counts_for(rules: Sequence[Rule]) -> FilterCounts:
    return FilterCounts(rules={rule.name: RuleCount() for rule in rules})


def rule_names(listed: str | None, *, with_benchmarks: bool) -> list[str]:
    """The names in "truecase, truncated"; the default rules for None, `contaminated` too where there are benchmarks.

    Raises ValueError where no rule uses the benchmarks.
    """
    if listed is None:
        return [*DEFAULT_RULES, *(("contaminated",) if with_benchmarks else ())]
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if with_benchmarks and "contaminated" not in names:
        raise ValueError(f"--against is used by the rule contaminated alone; add it to --rules {listed}")
    return names


def named_rules(
    names: Sequence[str], *, benchmarks: Benchmarks | None = None, forms: Mapping[str, str] = NO_FORMS
) -> list[Rule]:
    """The rules of these names, in this order, fresh (rules on duplicates remember). `forms`: see `learn_forms`.

    Raises ValueError for an unknown or repeated name, none at all, or `contaminated` without benchmarks.
    """
    if not names:
        raise ValueError(f"no rule named; allowed: {', '.join(RULES)}")
    for place, name in enumerate(names):
        if name not in RULES:
            raise ValueError(f"no rule named {name!r}; allowed: {', '.join(RULES)}")
        if name in names[:place]:
            raise ValueError(f"rule {name!r} is named twice")
    return [_rule(name, benchmarks, forms) for name in names]


def empty_answers(dialogue: Dialogue) -> Places:
    """Places of the assistant messages without any text."""
    return tuple(place for place, text in dialogue.answers() if not text.strip())


def _on_answers(is_at_fault: Callable[[str], object]) -> Callable[[Dialogue], Places]:
    """A finder from a test of one answer."""
    return lambda dialogue: tuple(place for place, text in dialogue.answers() if is_at_fault(text))


def _truncated(dialogue: Dialogue) -> Places:
    """Answers that break off, and the last message where it is the user's: its answer is missing whole."""
    last = len(dialogue.messages) - 1
    broken = tuple(place for place, text in dialogue.answers() if not is_ended(text))
    return (*broken, last) if dialogue.messages[last].role == "user" else broken


_FINDERS: dict[str, Callable[[Dialogue], Places]] = {
    "disclaimer_preface": _on_answers(disclaimer),
    "truncated": _truncated,
    "empty_answer": empty_answers,
    "narrow_refusal": _on_answers(NARROW_REFUSAL.search),
    "wide_refusal": _on_answers(WIDE_REFUSAL.search),
    "lower_case_sentence_start": _on_answers(LOWER_CASE_SENTENCE_START.search),
}
RULES = ("truecase", "exact_duplicate", "near_duplicate", "contaminated", *_FINDERS)
# What `zephyr-lab filter` does by default: the published steps, and the three that every set needs.
DEFAULT_RULES = ("truecase", "disclaimer_preface", "truncated", "exact_duplicate", "near_duplicate")


def _rule(name: str, benchmarks: Benchmarks | None, forms: Mapping[str, str]) -> Rule:
    if name in _FINDERS:
        return Rule(name=name, find=_FINDERS[name])
    if name == "truecase":
        find = _on_answers(lambda text: repair_casing(text, forms) != text)
        return Rule(name=name, find=find, repair=lambda text: repair_casing(text, forms))
    if name == "contaminated":
        if benchmarks is None:
            raise ValueError("rule 'contaminated' needs benchmark questions: name a file of them (--against FILE)")
        return Rule(name=name, find=lambda dialogue: _contaminated(dialogue, benchmarks))
    known = ExactDuplicates() if name == "exact_duplicate" else NearDuplicates()
    all_answers = _on_answers(lambda text: True)

    def find_duplicate(dialogue: Dialogue) -> Places:
        return (all_answers(dialogue) or (len(dialogue.messages) - 1,)) if known.holds(dialogue) else ()

    return Rule(name=name, find=find_duplicate, remember=known.add)


def _contaminated(dialogue: Dialogue, benchmarks: Benchmarks) -> Places:
    return tuple(
        place
        for place, message in enumerate(dialogue.messages)
        if message.role == "user" and benchmarks.find(message.content) is not None
    )
