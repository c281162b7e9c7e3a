"""Statements decided by published facts: the verdicts, and that each of them follows its facts."""

import itertools
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from jaxtyping import TypeCheckError

from paper_notes import needs_notes, note
from zephyr_lab.reporting import claims, published, statements
from zephyr_lab.reporting.statements_facts import Facts, claimed_figure, of_two_versions, share_that_holds

IDS = statements.decidable()

# Where the verdict differs from the notes', and why.
DIFFERS = {
    "S0-8": "wrong without its word potential, which a scope that leaves safety out does not refute: unsupported",
    "S1-9": "internal contradiction: its own hours times GPUs give another product, so neither version is right: wrong",
    "S1-10": "internal contradiction: one of its two lists is right: imprecise",
    "S1-16": "internal contradiction: one of its two datings holds: imprecise",
    "S1-17": "internal contradiction: one of its two objectives is right: imprecise",
    "S1-21": "wrong for one of its two accounts of ORPO, and the other is right: imprecise",
    "S1-33": "wrong for DPO from the base, and elsewhere it has the two stages of the paper: imprecise",
    "S1-27": "not checked in the notes; the configuration has window and layers, the span is their product: right",
}


KNOWN = claims.everything()


def answers(id: str, changed: dict[str, Any]) -> dict[str, Any]:
    """What the rule of `id` reads: address -> answer."""
    facts = Facts(KNOWN[id], changed)
    statements.RULES[id](facts)
    return facts.used


def verdict(id: str, changed: dict[str, Any]) -> str | None:
    """None where the changed facts make no sense together: a word where a number belongs."""
    try:
        return statements.RULES[id](Facts(KNOWN[id], changed)).verdict
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError, IndexError, TypeCheckError):
        return None


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def mutations(value: Any, others: list[Any]) -> Iterator[Any]:
    """Other answers of the same kind; `others` are answers of the same rule, which is where agreement can come from."""
    yield from (other for other in others if other != value)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        small = [float(x) for x in leaves(others) if isinstance(x, int | float) and not isinstance(x, bool)]
        yield from (type(value)(x) for x in small)
        yield from (type(value)(value * factor) for factor in (0, -1, 0.01, 100))
        yield from (type(value)(value * percent / 100) for percent in (50, *range(80, 131, 2), 200))
    elif isinstance(value, str):
        yield from ("2023-10-15", "2023-10-01", "2024-01-01", "something else")
        yield from (x for x in leaves(others) if isinstance(x, str) and x != value)
    elif isinstance(value, list):
        yield from ([], [*value, "one more"], value[::-1])
        if all(isinstance(item, int | float) for item in value):
            yield from ([type(item)(item * factor) for item in value] for factor in (0.25, 0.5, 2, 4))
        words = [x for x in leaves(others) if isinstance(x, str)]
        yield [*value, *words]
        for place, item in enumerate(value):
            yield value[:place] + value[place + 1 :]
            if isinstance(item, int | float):
                for other in mutations(item, []):
                    yield [*value[:place], other, *value[place + 1 :]]
    elif isinstance(value, dict):
        for factor in (0.001, 1000.0):
            yield {k: v * factor if isinstance(v, float) else v for k, v in value.items()}
        yield dict.fromkeys(value)
        yield from ({k: v for k, v in value.items() if k != key} for key in value)
        for key, item in value.items():
            for other in mutations(item, [x for x in leaves(others) if type(x) is type(item)]):
                yield {**value, key: other}
    elif value is None:
        yield from (0.0, 0.001, 30.0, 1e6)
        yield from (type(x)(x) for x in leaves(others) if isinstance(x, float))


def candidates(read: dict[str, Any], address: str, generator: random.Random, most: int) -> list[Any]:
    """At most `most` other answers for one address, those that agree with other answers first."""
    others = [other for key, other in read.items() if key != address]
    found = list(itertools.islice(mutations(read[address], others), 2000))
    agreeing, rest = found[: len(others)], found[len(others) :]
    return agreeing + generator.sample(rest, min(most, len(rest)))


def turns(id: str, base: dict[str, Any], address: str, generator: random.Random, most: int) -> bool:
    """Whether changing this one answer, from the facts `base` on, can change the verdict."""
    now = verdict(id, base)
    read = {} if now is None else answers(id, base)
    if address not in read:
        return False
    tried = candidates(read, address, generator, most)
    return any(verdict(id, {**base, address: other}) not in (None, now) for other in tried)


# --- the verdicts ----------------------------------------------------------------------------------------------------


def test_every_decidable_claim_has_one_rule_and_no_rule_is_idle():
    assert len(IDS) == 55 and set(IDS) == set(statements.RULES)


@pytest.mark.parametrize("id", IDS)
def test_a_verdict_comes_with_figures_and_facts(id):
    told = statements.decide(id)
    assert told.verdict in claims.STATEMENT_VERDICTS
    assert told.facts and 15 < len(told.why) < 260
    assert "\n" not in told.why


@needs_notes
def test_verdicts_are_those_of_the_notes_but_for_named_differences():
    content = note("overview")
    theirs = {
        one["id"]: one["verdict"] for section in content if section.startswith("claims") for one in content[section]
    }
    assert set(theirs) == set(IDS) - {"Z6", "Z7", "Z8", "Z12", "Z17", "K11"}
    differing = {id for id, verdict in theirs.items() if verdict.split()[0] != statements.decide(id).verdict}
    assert differing == set(DIFFERS)
    for id in differing:
        assert DIFFERS[id].startswith(theirs[id])
        assert DIFFERS[id].endswith(statements.decide(id).verdict)


@pytest.mark.parametrize("id", ["S1-9", "S1-10", "S1-16", "S1-17", "S1-21", "S1-33"])
def test_a_document_that_contradicts_itself_is_told_so(id):
    assert "contradicts itself" in statements.decide(id).why


def test_z6_names_the_scores_on_both_sides():
    told = statements.decide("Z6")
    assert told.verdict == "right"
    for score in ("7.34", "6.86", "90.60", "92.66"):
        assert score in told.why


@pytest.fixture
def read_once(monkeypatch):
    """Thousands of look-ups: each file is found and parsed once."""
    monkeypatch.setattr(published, "load", cache(published.load))


# --- they follow the facts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
def test_one_changed_fact_can_change_the_verdict(id, read_once):
    """One fact; or, where a comparison lacks both sides, the two that no source prints."""
    generator, read = random.Random(0), answers(id, {})
    both = dict(zip([address for address, value in read.items() if value is None], (1.0, 2.0), strict=False))
    if len(both) == 2:
        assert verdict(id, both) not in (None, verdict(id, {}))
    else:
        assert any(turns(id, {}, address, generator, 60) for address in read)


@pytest.mark.parametrize("id", IDS)
def test_every_fact_that_is_named_matters(id, read_once):
    """For each answer that the rule reads there are circumstances in which changing it alone changes the verdict."""
    generator = random.Random(0)
    read = answers(id, {})
    waiting = {address for address in read if not turns(id, {}, address, generator, 60)}
    for _ in range(300):
        if not waiting:
            break
        moved = generator.sample(list(read), min(len(read), generator.choice([1, 1, 2, 3])))
        base = {address: generator.choice(candidates(read, address, generator, 20)) for address in moved}
        waiting -= {address for address in waiting if turns(id, base, address, generator, 20)}
    assert waiting == set()


def test_every_fact_of_the_overview_is_read_by_a_rule():
    """Also on the paths that are taken only where a quantity is printed."""
    read: set[str] = set()
    for id in IDS:
        read |= set(answers(id, {}))
        missing = {address: 100.0 for address, value in answers(id, {}).items() if value is None}
        if missing:
            read |= set(answers(id, missing))
    facts = {f"overview/{key}" for key in published.load("overview").facts}
    assert facts - read == set()


def test_what_no_source_prints_is_unsupported_until_it_is_printed():
    address = "overview/rlhf.gpu_hours"
    assert statements.decide("S1-24").verdict == "unsupported"
    assert verdict("S1-24", {address: 300.0}) == "imprecise"  # RLHF as said, DPO's 106 not within 50 to 100
    assert verdict("S1-24", {address: 30.0}) == "wrong"


def test_a_wrong_licence_put_right_turns_the_verdict():
    assert statements.decide("S1-14").verdict == "wrong"
    assert verdict("S1-14", {"overview/licence.mistral_7b": "MIT"}) == "right"


# --- the ways to decide ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "values", "expected"),
    [
        (["accuracy"], [87.3], "right"),
        (["accuracy"], [80.0], "wrong"),
        (["loss"], [87.3], "imprecise"),
        (["loss"], [80.0], "unsupported"),
        (["loss"], [87.51], "unsupported"),  # rounds to 88
        (["loss"], [87.0, 80.0], "unsupported"),  # all that is meant must have the figure
    ],
)
def test_a_figure_under_a_name(reported, values, expected):
    assert claimed_figure("accuracy", 87, 87, reported, {"x": values}).verdict == expected


def test_a_description_is_right_imprecise_or_wrong_by_its_parts():
    verdicts = [
        share_that_holds({"a": a, "b": b}, "why").verdict for a, b in itertools.product([True, False], repeat=2)
    ]
    assert verdicts == ["right", "imprecise", "imprecise", "wrong"]


def test_two_versions_of_one_document():
    verdicts = [of_two_versions(a, b, "why").verdict for a, b in itertools.product([True, False], repeat=2)]
    assert verdicts == ["right", "imprecise", "imprecise", "wrong"]


def test_a_claim_that_facts_do_not_decide_is_refused():
    with pytest.raises(ValueError, match="published facts do not decide 'Z1'; they decide Z6, Z7, Z8"):
        statements.decide("Z1")
