"""Claims as data, and verdicts that turn round when the data does."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_project import write_project
from paper_notes import needs_notes, note
from zephyr_lab.reporting import claims
from zephyr_lab.reporting.claims import Claim, Part
from zephyr_lab.scoring.intervals import Estimate, Interval

IDS = [
    *(f"Z{n}" for n in range(1, 18)),
    *(f"K{n}" for n in range(1, 18)),
    *(f"E{n}" for n in range(1, 12)),
    *(f"S0-{n}" for n in range(1, 11)),
    *(f"S1-{n}" for n in range(1, 34)),
    *(f"S3-{n}" for n in range(1, 7)),
]
FINITE = st.floats(-1e6, 1e6)
MARGINS = st.floats(0, 1e5)


def measured(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, Interval(low, high), n=5, seeds=5)


@st.composite
def intervals(draw) -> Estimate:
    low, effect, high = sorted(draw(st.tuples(FINITE, FINITE, FINITE)))
    return Estimate(effect, Interval(low, high), n=draw(st.integers(1, 1000)))


def negated(one: Estimate) -> Estimate:
    low, high = one.interval
    return Estimate(-one.value, Interval(-high, -low), one.n, seeds=one.seeds)


def claim(*parts: tuple[str, float]) -> Claim:
    """A claim with one part for each (direction, margin)."""
    (direction, margin), *rest = parts
    return Claim(
        id="Z1",
        statement="s",
        kind="directional",
        test="t",
        source="P",
        metric="m0",
        direction=direction,
        margin=margin,
        also=tuple(Part(f"m{n}", d, m, "why") for n, (d, m) in enumerate(rest, 1)),
    )


# --- the registry ----------------------------------------------------------------------------------------------------


NEW = ("Z16", "Z17", "K15", "K16", "K17", "E10", "E11")  # registered after the first 87; the notes have none of them


def test_the_claims_are_there_in_the_order_of_the_ledger_none_of_the_first_87_lost():
    assert len(IDS) == 87 + len(NEW)
    assert list(claims.everything()) == IDS


def test_every_claim_is_fixed_before_it_is_measured():
    """Measured claims: metric, direction, margin, a reason for it and a test; the others say what decides them or why
    nothing does."""
    for one in claims.everything().values():
        assert one.test and one.source
        if one.parts:
            assert all(part.margin_reason for part in one.parts), one.id
            assert not one.said, one.id
        elif not one.not_testable:
            assert one.decided_by == "published facts", one.id


def test_claims_without_a_measurement_are_those_that_printed_numbers_decide_and_two_that_nothing_can_test():
    known = claims.everything().values()
    decided = [one.id for one in known if one.decided_by == claims.PUBLISHED_FACTS]
    assert decided == ["Z6", "Z7", "Z8", "Z12", "Z17", "K11", *(id for id in IDS if id.startswith("S"))]
    assert [one.id for one in known if one.not_testable] == ["Z11", "K17"]


@needs_notes
@pytest.mark.parametrize("paper", ["zephyr", "kd_dae", "eda", "overview"])
def test_kinds_and_published_numbers_are_those_of_the_notes(paper):
    content = note(paper)
    theirs = [one for section in content if section.startswith("claims") for one in content[section]]
    ours = {one.id: one for one in claims.load(paper) if one.id not in NEW}
    assert list(ours) == [one["id"] for one in theirs]
    for one in theirs:
        assert ours[one["id"]].kind == one["kind"]
        told = f"{ours[one['id']].published} {ours[one['id']].statement}"
        missing = set(re.findall(r"\d+(?:\.\d+)?", str(one["number"] or ""))) - set(re.findall(r"\d+(?:\.\d+)?", told))
        assert missing == set(), (one["id"], told)


# --- the verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.11, 0.50, "reproduced"),
        (0.10, 0.50, "direction only"),  # touching the margin is not beyond it
        (0.01, 0.50, "direction only"),
        (0.00, 0.50, "not resolved"),
        (-0.50, 0.50, "not resolved"),
        (-0.50, 0.00, "not resolved"),
        (-0.50, -0.01, "contradicted"),
        (-0.50, -0.30, "contradicted"),
    ],
)
def test_higher_by_a_margin_of_a_tenth(low, high, verdict):
    assert claims.verdict(measured(low, high), direction="higher", margin=0.1) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.10, 0.20, "reproduced"),
        (-0.09, 0.20, "reproduced"),  # a loss within the tolerance
        (-0.10, 0.20, "not resolved"),
        (-0.30, 0.20, "not resolved"),
        (-0.30, -0.10, "not resolved"),
        (-0.30, -0.11, "contradicted"),
    ],
)
def test_not_lower_tolerates_a_loss_of_a_tenth(low, high, verdict):
    assert claims.verdict(measured(low, high), direction="not lower", margin=0.1) == verdict


@given(intervals(), MARGINS, st.sampled_from([("higher", "lower"), ("not lower", "not higher")]))
def test_negated_data_is_the_other_direction(one, margin, directions):
    up, down = directions
    assert claims.verdict(one, direction=up, margin=margin) == claims.verdict(
        negated(one), direction=down, margin=margin
    )


@given(intervals(), MARGINS)
def test_flipping_the_data_flips_the_verdict(one, margin):
    """Support becomes contradiction and back; what is not resolved stays so."""
    before = claims.verdict(one, direction="higher", margin=margin)
    after = claims.verdict(negated(one), direction="higher", margin=margin)
    flipped = {
        "reproduced": {"contradicted"},
        "direction only": {"contradicted"},
        "contradicted": {"reproduced", "direction only"},
        "not resolved": {"not resolved"},
    }
    assert after in flipped[before]


@given(intervals(), MARGINS, MARGINS)
def test_a_larger_margin_never_strengthens_a_verdict(one, margin, more):
    strength = claims.MEASURED_VERDICTS.index
    low, high = sorted((margin, more))
    strict, loose = (claims.verdict(one, direction="higher", margin=m) for m in (high, low))
    assert strength(strict) <= strength(loose)


@given(intervals(), MARGINS, st.floats(0, 1e5))
def test_moving_the_data_upwards_never_weakens_a_verdict(one, margin, shift):
    strength = claims.MEASURED_VERDICTS.index
    moved = Estimate(one.value + shift, Interval(*(end + shift for end in one.interval)), one.n)
    for direction in ("higher", "not lower"):
        before, after = (claims.verdict(x, direction=direction, margin=margin) for x in (one, moved))
        assert strength(before) <= strength(after)


def test_the_weakest_part_gives_the_verdict():
    strong, weak, against = measured(0.2, 0.4), measured(0.05, 0.4), measured(-0.4, -0.2)
    both = claim(("higher", 0.1), ("higher", 0.1))
    assert claims.judge(both, [strong, strong]) == ("reproduced", strong)
    assert claims.judge(both, [strong, weak]) == ("direction only", weak)
    assert claims.judge(both, [against, weak]) == ("contradicted", against)
    assert claims.judge(claim(("higher", 0.1), ("lower", 0.1)), [strong, against]) == ("reproduced", strong)


def test_as_many_measurements_as_parts():
    with pytest.raises(ValueError, match=r"Z1 has 1 part\(s\), got 2"):
        claims.judge(claim(("higher", 0.1)), [measured(0.0, 1.0), measured(0.0, 1.0)])


def test_a_claim_that_nothing_can_test_is_not_judged():
    with pytest.raises(ValueError, match=r"Z11 is not decided by measurement \(needs the 7B model"):
        claims.judge(claims.everything()["Z11"], [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, float("nan"), 2.0, 5), "must be finite"),
        ((1.0, 0.0, float("inf"), 5), "must be finite"),
        ((3.0, 0.0, 2.0, 5), r"effect 3.0 lies outside its interval \[0.0, 2.0\]"),
        ((1.0, 0.0, 2.0, 0), "at least 1, got n = 0"),
        ((1.0, 0.0, 2.0, 5, 0), "seeds = 0"),
    ],
)
def test_an_effect_needs_an_interval_and_a_count(values, message):
    value, low, high, n, *seeds = values
    effect = Estimate(value, Interval(low, high), n, seeds=seeds[0] if seeds else None)
    with pytest.raises(ValueError, match=message):
        claims.verdict(effect, direction="higher", margin=0.0)


@pytest.mark.parametrize(
    ("direction", "margin", "message"),
    [
        ("up", 0.1, "one of higher, lower, not lower, not higher; got 'up'"),
        ("higher", -0.1, "margin must be 0 or more"),
    ],
)
def test_a_verdict_refuses_other_directions_and_margins(direction, margin, message):
    with pytest.raises(ValueError, match=message):
        claims.verdict(measured(0.0, 1.0), direction=direction, margin=margin)


# --- the files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_claim(tmp_path, monkeypatch):
    """Write papers/zephyr/claims.toml with the given lines after a head that is complete but for what decides it."""
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    path = write_project(tmp_path) / "papers" / "zephyr" / "claims.toml"
    head = '[[claims]]\nid = "Z1"\nstatement = "s"\nkind = "directional"\ntest = "t"\nsource = "P"\n'

    def write(*lines: str) -> Path:
        path.write_text(head + "\n".join(lines))
        return path

    return write


MEASURABLE = ('metric = "m"', 'direction = "higher"', "margin = 0.1", 'margin_reason = "r"')


def test_a_complete_claim_is_read(one_claim):
    one_claim(*MEASURABLE, 'also = [{ metric = "n", direction = "lower", margin = 0, margin_reason = "r" }]')
    (only,) = claims.load("zephyr")
    assert [(part.metric, part.direction, part.margin) for part in only.parts] == [
        ("m", "higher", 0.1),
        ("n", "lower", 0),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "needs exactly one of metric with direction and margin"),
        ((*MEASURABLE, 'not_testable = "why"'), "needs exactly one of"),
        ((*MEASURABLE[:2], "margin = -0.1"), r"Z1: direction 'higher', margin -0.1"),
        (('metric = "m"', 'direction = "up"', "margin = 0.1"), "direction 'up'"),
        ((*MEASURABLE, 'verdict = "right"'), "unknown key 'verdict'"),
        ((*MEASURABLE, "[other]"), "tables only, got claims, other"),
        (("statement = 'twice'",), "is not TOML"),
    ],
)
def test_a_claim_that_is_not_fixed_is_refused(one_claim, lines, message):
    one_claim(*lines)
    with pytest.raises(ValueError, match=f"papers/zephyr/claims.toml.*{message}"):
        claims.load("zephyr")


def test_a_duplicate_claim_is_refused(one_claim):
    path = one_claim(*MEASURABLE)
    path.write_text(path.read_text() + "\n" + path.read_text())
    with pytest.raises(ValueError, match="duplicate claim 'Z1'"):
        claims.load("zephyr")


def test_an_unknown_paper_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="paper named 'zephir'; known: zephyr, kd_dae, eda, overview"):
        claims.load("zephir")
