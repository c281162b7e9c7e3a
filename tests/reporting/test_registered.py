"""What is measured is what claims.toml registers: its arms, its measure, as many questions; and old words are kept."""

import ast
import json
import re
from datetime import date
from pathlib import Path

import pytest

from zephyr_lab.reporting import claims, registered
from zephyr_lab.reporting.claims import Claim, Registration

ROOT = Path(__file__).parents[2]
MEASURED = [one for one in claims.everything().values() if one.parts]
PARTS = [(one.id, part) for one in MEASURED for part in one.parts if part.arms]
FILES = [*sorted((ROOT / "notebooks").glob("*.ipynb")), ROOT / "zephyr_lab/lab/zephyr/run_epochs.py"]


def ledger(**n: int) -> dict:
    return {"profile": "tiny", "claims": [{"id": id, "n": asked} for id, asked in n.items()]}


def names_in(path: Path) -> set[str]:
    """Regular expressions of the strings in a notebook's or a module's code; what an f-string fills in is anything."""
    if path.suffix == ".py":
        sources = [path.read_text(encoding="utf-8")]
    else:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    found = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(re.escape(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts = [str(one.value) if isinstance(one, ast.Constant) else None for one in node.values]
            if sum(len(part or "") for part in parts) > 3:  # else it would be any string
                found.add("".join(".+" if part is None else re.escape(part) for part in parts))
    return found


# --- arms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("id", "part"), PARTS)
def test_a_part_names_its_arms_and_says_how_much_is_asked(id, part):
    """That metric and arms agree, claims.toml is held to as it is read; here, that nothing is left unsaid."""
    assert part.questions is not None and part.measure, id
    assert re.findall('"([^"]+)"', part.metric) == list(part.arms)


def test_every_arm_of_a_claim_stands_in_a_notebook():
    known = set().union(*map(names_in, FILES))
    arms = {arm: id for id, part in PARTS for arm in part.arms}
    assert {arm: id for arm, id in arms.items() if not any(re.fullmatch(name, arm) for name in known)} == {}


@pytest.mark.parametrize(
    ("metric", "arms", "message"),
    [
        (
            'length: "EDA, regenerated" - "Full-FT"',
            ["EDA (Ours)", "Full-FT"],
            r"names EDA, regenerated, Full-FT .* arms",
        ),
        ('length: "Full-FT" - "EDA (Ours)"', ["EDA (Ours)", "Full-FT"], "in the same order"),
        ("length: private part - full retraining", ["EDA (Ours)", "Full-FT"], "names no arms in quotes"),
    ],
)
def test_words_that_name_other_arms_are_refused_as_the_file_is_read(tmp_path, monkeypatch, metric, arms, message):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    path = tmp_path / "papers" / "eda" / "claims.toml"
    path.parent.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "zephyr-lab"\n')
    path.write_text(
        f'[[claims]]\nid = "E2"\nstatement = "s"\nkind = "directional"\ntest = "t"\nsource = "P"\n'
        f"metric = '{metric}'\narms = {json.dumps(arms)}\nmeasure = \"m\"\n"
        f'direction = "higher"\nmargin = 0.1\nmargin_reason = "r"\n'
    )
    with pytest.raises(ValueError, match=f"papers/eda/claims.toml E2: the metric .*{message}"):
        claims.load("eda")


# --- how much was asked ----------------------------------------------------------------------------------------------


def test_what_ran_for_the_committed_ledger_is_what_is_registered():
    committed = json.loads((ROOT / "figures" / "ledger.json").read_text(encoding="utf-8"))
    assert registered.disagreements(committed) == []


def test_another_number_of_questions_is_refused_by_name():
    registered.require(ledger(Z1=320, K1=240, K7=80))
    with pytest.raises(ValueError, match=r"K1 is registered over 240 two-turn chat questions; 320 were asked\. Mend"):
        registered.require(ledger(Z1=320, K1=320))


def test_the_decisive_part_of_several_gives_the_number_and_data_may_decide_it():
    registered.require(ledger(K7=240))  # its second part is over chat questions
    registered.require(ledger(Z4=173, K10=6))
    assert registered.disagreements({**ledger(K1=16), "profile": "smoke"}) == []


@pytest.mark.parametrize("one", MEASURED, ids=lambda one: one.id)
def test_words_of_a_test_name_no_other_number_of_questions(one):
    said = set(map(int, re.findall(r"(\d+) (?:two-turn |chat )*questions", one.test)))
    assert said <= {part.questions.number for part in one.parts if part.questions}


# --- parts that nothing tests, and what was registered before --------------------------------------------------------


def test_a_half_that_nothing_tests_leaves_open_what_holds_and_not_what_fails():
    (z13,) = (one for one in MEASURED if one.id == "Z13")
    assert registered.of_the_whole(z13, "reproduced") == "not testable here"
    assert registered.of_the_whole(z13, "contradicted") == "contradicted"
    (z1,) = (one for one in MEASURED if one.id == "Z1")
    assert registered.of_the_whole(z1, "reproduced") == "reproduced"


CHANGED = [(one, old) for one in claims.everything().values() for old in one.was]


def changes(one: Claim, old: Registration) -> list[str]:
    """What an old registration has otherwise."""
    names = ("statement", "metric", "arms", "measure", "direction", "margin", "also", "test", "not_testable")
    return [name for name in names if getattr(old, name) and getattr(old, name) != getattr(one, name)]


@pytest.mark.parametrize(("one", "old"), CHANGED, ids=lambda pair: getattr(pair, "id", ""))
def test_a_changed_registration_keeps_the_old_one_with_date_and_reason(one, old):
    assert old.date >= date(2026, 11, 30) and old.reason
    assert changes(one, old)


def test_the_arms_of_the_old_words_are_claims_of_their_own():
    known = claims.everything()
    assert known["E10"].arms == known["E11"].arms == ("EDA, regenerated", "Full-FT")
    assert known["E2"].arms == known["E8"].arms == ("EDA (Ours)", "Full-FT")
    assert "private part on regenerated data" in known["E2"].was[0].metric


def test_regime_maps_that_are_there_are_those_that_claims_name():
    named = {one.regime_map for one in claims.everything().values() if one.regime_map}
    there = {path.stem for number in ("15", "24") for path in (ROOT / "notebooks").glob(f"{number}_*.ipynb")}
    assert there <= named and len(named) == 2
