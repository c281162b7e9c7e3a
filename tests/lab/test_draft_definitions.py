"""The study of acceptance length: numbers by hand, and verdicts that follow the data whichever way they go."""

import json

import pandas as pd
import pytest

from zephyr_lab.core import files, session
from zephyr_lab.lab import draft_definitions, draft_stages
from zephyr_lab.lab import draft_tau as tau
from zephyr_lab.lab.draft_definitions import OWN, Definitions, rate_of, same_prompts, tuned
from zephyr_lab.lab.draft_stages import DPO, MATH, SPECIALTIES, STAGE_1
from zephyr_lab.methods.recipes.draft_data import CHAT
from zephyr_lab.reporting import check
from zephyr_lab.scoring.acceptance_length import constant_rate_length

SEEDS = 3
LOOP_COLUMNS = ["seed", "rule", "method", "prompt", "tokens", "passes"]


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A session that writes below a folder of the test."""
    monkeypatch.setattr(session, "_current", session.Session("tiny", SEEDS, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def compared(tmp_path, monkeypatch):
    """What comparing with and without a draft found, without decoding anything."""
    found = {"differing": 0.0, "variation": 0.05, "variation_plain": 0.05}

    def get_many(wanted):
        folders = []
        for number, stage in enumerate(wanted):
            folder = tmp_path / "store" / str(number)
            shift = stage.seed / 10_000
            columns = {"prompt": [0, 1], "p": [0.5, 0.01]}
            columns |= {"variation": [found["variation"] + shift] * 2}
            columns |= {"variation_plain": [found["variation_plain"]] * 2}
            files.write_json(folder / "sampled.json", columns)
            folders.append(folder)
        return folders

    monkeypatch.setattr(draft_definitions, "get_many", get_many)
    monkeypatch.setattr(
        draft_definitions, "metrics", lambda stage: {"prompts": 1000.0, "differing": found["differing"]}
    )
    return found


def frame(level, *, hot=None, seeds=SEEDS):
    """Scores of one draft whose tau is `level` (at temperature 1 `hot`), a little apart from seed to seed."""
    rows = []
    for seed in range(seeds):
        for rule, temperature, wanted in (("greedy", 0.0, level), ("drawn", 1.0, hot or level)):
            for length, factor in ((6, 1.0), (3, 0.8)):
                for prompt, tokens in enumerate((4, 6, 10)):
                    passes = tokens / (factor * wanted + seed / 100)
                    rows.append({
                        "seed": seed, "draft": STAGE_1, "rule": rule, "temperature": temperature, "length": length,
                        "prompt": prompt, "sample": 0, "tokens": tokens, "passes": passes,
                        "authors_sum": 3.0, "authors_kept": 1.0,
                    })  # fmt: skip
    return pd.DataFrame(rows)


def done_with(*, own=3.0, others=1.5, seeds=SEEDS, loop_passes=None):
    scored = {OWN: frame(own, seeds=seeds), tuned(DPO): frame(2.5, seeds=seeds)}
    scored |= {same_prompts(name): frame(own, seeds=seeds) for name in SPECIALTIES}
    scored |= {tuned(name): frame(others, seeds=seeds) for name in SPECIALTIES}
    loops = {}
    for row in (OWN, tuned(MATH)):
        greedy = tau.rows(scored[row], STAGE_1, temperature=0)
        passes = greedy["passes"] if loop_passes is None else loop_passes
        counted = [
            greedy.assign(method=method, rule=rule, passes=passes)[
                ["seed", "rule", "method", "prompt", "tokens", "passes"]
            ]
            for rule, method in (("greedy", "chain"), ("drawn", "chain"), ("greedy", "tree"), ("candidates", "tree"))
        ]
        loops[row] = pd.concat(counted, ignore_index=True)
    lossless = {
        name: [draft_definitions._lossless("tiny", seed, name) for seed in range(seeds)] for name in (CHAT, MATH)
    }
    return Definitions(scored=scored, loops=loops, lossless=lossless, loop_prompts=3, length=6, seeds=seeds)


def verdicts(done, running):
    check.claims("eda", ["E1", "E9"], draft_definitions.measured(done))
    (fragment,) = (running / "ledger").glob("*.json")
    return {one["id"]: one["verdict"] for one in json.loads(fragment.read_text())["claims"]}


def test_tau_is_the_ratio_of_sums_of_each_seed():
    scored = frame(2.0)
    assert tau.by_seed(scored, STAGE_1, temperature=0) == pytest.approx([2.0, 2.01, 2.02])
    assert tau.by_seed(scored, STAGE_1, temperature=0, length=3) == pytest.approx([1.6, 1.61, 1.62])
    with pytest.raises(ValueError, match="no scores of a draft named 'x'; there are stage 1"):
        tau.by_seed(scored, "x", temperature=0)


def test_one_seed_has_an_interval_over_prompts():
    line = tau.number("row", "tau", frame(2.0, seeds=1), STAGE_1, temperature=0)
    assert line["interval"] == "1 seed: 3 prompts, all equal, no interval"  # one tau in every prompt
    assert line["low"] == line["value"] == line["high"]
    scored = frame(2.0, seeds=1)
    scored.loc[scored["prompt"] == 0, "passes"] *= 2
    line = tau.number("row", "tau", scored, STAGE_1, temperature=0)
    assert line["interval"] == "1 seed: 3 prompts, bootstrap 95 %"
    assert line["low"] < line["value"] < line["high"]


def test_the_authors_tau_is_the_mean_over_the_answers_it_keeps():
    table = draft_definitions.two_definitions(done_with()).set_index(["row", "metric"])["value"]
    assert table[OWN, "tau, authors' script, T = 0"] == 3.0
    kept = pd.DataFrame({"authors_sum": [4.0, 0.0, 2.0], "authors_kept": [1.0, 0.0, 1.0]})
    assert draft_definitions.authors_tau(kept) == 3.0  # an answer of one pass counts nowhere


def test_a_loop_that_counts_other_passes_is_seen():
    assert draft_definitions.loop_differences(done_with()) == 0
    assert draft_definitions.loop_differences(done_with(loop_passes=1.0)) == 2 * SEEDS * 3
    table = draft_definitions.exact_and_counted(done_with())
    assert {"exact, T = 0", "chain, T = 0", "tree, T = 0", "exact, T = 1", "chain, T = 1"} <= set(table["metric"])


def test_one_rate_gives_back_the_length_it_was_read_from():
    for rate in (0.0, 0.3, 0.9):
        assert rate_of(constant_rate_length(rate, length=6), length=6) == pytest.approx(rate, abs=1e-9)
    curve = draft_definitions.by_length(done_with())
    assert list(curve[curve["series"] == "exact, T = 0"]["x"]) == [3, 6]


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_world_where_the_paper_is_right(running):
    assert verdicts(done_with(), running) == {"E1": "reproduced", "E9": "reproduced"}


def test_a_draft_that_transfers_contradicts_e1(running):
    assert verdicts(done_with(others=3.5), running)["E1"] == "contradicted"


def test_answers_that_differ_contradict_e9(running, compared):
    compared["differing"] = 30.0
    assert verdicts(done_with(), running)["E9"] == "contradicted"


def test_a_shifted_distribution_contradicts_e9(running, compared):
    compared["variation"] = 0.2
    assert verdicts(done_with(), running)["E9"] == "contradicted"


def test_one_seed_leaves_verdicts_open(running):
    assert set(verdicts(done_with(seeds=1), running).values()) == {"not resolved"}


def test_targets_of_every_kind_are_rows():
    rows = set(draft_definitions.targets(done_with())["row"])
    assert rows == {OWN, tuned(DPO), *map(same_prompts, SPECIALTIES), *map(tuned, SPECIALTIES)}
    assert draft_stages.DPO == DPO
