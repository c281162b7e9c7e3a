"""Published values: carried over exactly, consistent in themselves, typed, with their sources."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from ledger_project import write_project
from paper_notes import FOLDER, needs_notes, note
from zephyr_lab.reporting import published, tables
from zephyr_lab.reporting.published import Exhibit, parse, source_keys

PAPERS = Path(__file__).resolve().parents[2] / "papers"
RENAMED = {
    ("zephyr", "beta_dpo_log"): "beta_log",
    ("zephyr", "alpha_dpo_log"): "alpha_log",
    ("zephyr", "figure3_left"): "fig3_left",
    ("zephyr", "figure3_right"): "fig3_right",
    ("zephyr", "figures4_7"): "figs4_7",
    ("eda", "medical_partial"): "medical",
    ("eda", "training_cost"): "cost",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    return write_project(tmp_path)


def minimal(**sections) -> dict:
    """The least content that parses, with `sections` put in."""
    return {"paper": {"key": "toy", "title": "Toy"}, "sources": [{"key": "P", "what": "a paper"}], **sections}


def toy_table(**changed) -> dict:
    table = {
        "id": "tab1",
        "printed": "Table 1",
        "caption": "scores",
        "columns": [{"name": "model", "role": "label"}, {"name": "score"}],
        "rows": [["a", 1.5], ["b", None]],
        "source": "P",
        "confidence": "verified",
    }
    return table | changed


# --- what the notes say is all there ---------------------------------------------------------------------------------


def numbers(text: str) -> set[float]:
    """Every number written in a text: 61,966 and 5e-7 are one each; digits inside words (Qwen2.5, a0b8d49) are none."""
    found = re.findall(r"(?<![A-Za-z0-9_.])\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?![A-Za-z_])", text)
    return {float(one.rstrip(",").replace(",", "")) for one in found}


def spoken(value) -> str:
    """A tree of values as text, every leaf on its own line."""
    if isinstance(value, dict):
        return "\n".join(f"{name}\n{spoken(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "\n".join(map(spoken, value))
    return str(value)


def our_text(paper: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((PAPERS / paper).iterdir()))


@needs_notes
@pytest.mark.parametrize("paper", ["zephyr", "kd_dae", "eda"])
def test_every_row_of_every_table_is_carried_over_exactly(paper):
    ours = {entry["id"]: entry for s in ("tables", "figures") for entry in yaml.safe_load(our_yaml(paper))[s]}
    compared = 0
    for theirs in note(paper)["tables"]:
        name = RENAMED.get((paper, theirs["id"]), theirs["id"].replace("table", "tab"))
        columns = [column["name"] for column in theirs["columns"]]
        for mine, row in zip(ours[name]["rows"], theirs["rows"], strict=True):
            cells = row if isinstance(row, list) else [row.get(column) for column in columns]
            assert [cell for cell in cells if cell not in mine] == [], (name, row)
            numeric = [cell for cell in cells if isinstance(cell, int | float)]
            assert [cell for cell in mine if isinstance(cell, int | float)] == numeric, (name, row)
            compared += 1
    assert compared >= 14


def our_yaml(paper: str) -> str:
    return (PAPERS / paper / "published.yaml").read_text(encoding="utf-8")


@needs_notes
def test_digitised_figure_is_carried_over_exactly():
    theirs = {entry["id"]: entry for entry in note("kd_dae")["figures"]}["figure1"]
    wide = published.wide("kd_dae", "fig1").set_index("model")
    for series in theirs["series"]:
        for axis in theirs["axes"]:
            value = wide.loc[series["model"], axis]
            assert (math.isnan(value) and series[axis] is None) or value == series[axis]


@needs_notes
@pytest.mark.parametrize("paper", ["zephyr", "kd_dae", "eda", "overview"])
def test_every_number_of_the_notes_survives(paper):
    content = note(paper)
    content.pop("seeds", None)  # names of files, not facts
    missing = numbers(spoken(content)) - numbers(our_text(paper))
    assert missing == set()


@needs_notes
def test_every_number_of_the_companion_page_survives():
    lines = (FOLDER / "NOTES.md").read_text(encoding="utf-8").splitlines()
    page = "\n".join(line for line in lines if not line.startswith("#"))  # headings carry section numbers
    everything = "\n".join(our_text(paper) for paper in ("zephyr", "kd_dae", "eda", "overview"))
    assert numbers(page) - numbers(everything) == set()


@needs_notes
@pytest.mark.parametrize("paper", ["zephyr", "kd_dae", "eda"])
def test_recipes_and_conflicts_are_all_there(paper):
    theirs, ours = note(paper), published.load(paper)
    assert list(ours.recipes) == [recipe["id"] for recipe in theirs["recipes"]]
    assert len(ours.conflicts) == len(theirs["conflicts"])
    for recipe in theirs["recipes"]:
        kept = ours.recipes[recipe["id"]].settings
        for name in ("lr", "beta", "max_length", "epochs", "schedule"):
            assert kept.get(name) == recipe.get(name), (recipe["id"], name)


# --- the values agree with each other --------------------------------------------------------------------------------


@pytest.mark.parametrize("log", ["beta_log", "alpha_log"])
def test_margin_is_chosen_minus_rejected_in_every_logged_row(log):
    wide = published.wide("zephyr", log)
    margin = wide["rewards_chosen"] - wide["rewards_rejected"]
    assert np.allclose(margin, wide["rewards_margin"], atol=1.01e-4, rtol=0)


@pytest.mark.parametrize(("log", "rows", "slope"), [("beta_log", 58, 10.0), ("alpha_log", 19, 20.0)])
def test_slope_of_log_prob_against_reward_is_one_over_beta(log, rows, slope):
    """Reward = beta * (logp - logp_ref): the fitted slope gives beta, the residual how exact the transcription is."""
    wide = published.wide("zephyr", log)
    assert len(wide) == rows
    for side in ("chosen", "rejected"):
        fitted, start = np.polyfit(wide[f"rewards_{side}"], wide[f"logps_{side}"], 1)
        assert fitted == pytest.approx(slope, abs=2e-3)
        assert np.abs(wide[f"logps_{side}"] - fitted * wide[f"rewards_{side}"] - start).max() < 2e-3
    derived = published.exhibit("zephyr", log).summary["derived"]
    assert derived["beta"] == pytest.approx(1 / slope)
    assert start == pytest.approx(derived["reference_logp_rejected"], abs=0.01)


def test_logged_accuracies_are_sixty_fourths():
    wide = published.wide("zephyr", "beta_log")
    assert np.abs(wide["rewards_accuracy"] * 64 - (wide["rewards_accuracy"] * 64).round()).max() < 64 * 5.1e-5


def test_epoch_means_follow_from_the_log():
    wide = published.wide("zephyr", "beta_log")
    grouped = wide.groupby(np.ceil(wide["epoch"]))[["train_loss", "eval_loss", "rewards_accuracy"]].mean()
    for told, (_, computed) in zip(
        published.exhibit("zephyr", "beta_log").summary["epoch_means"], grouped.iterrows(), strict=True
    ):
        assert [told["train_loss"], told["eval_loss"], told["eval_acc"]] == pytest.approx(list(computed), abs=5.1e-4)


@pytest.mark.parametrize("table", ["math_t0", "math_t1", "code_t0", "code_t1"])
def test_averages_of_eda_tables_are_the_means_of_their_rows(table):
    wide = published.wide("eda", table)
    for quantity in ("tau", "speedup"):
        cells = [name for name in wide.columns if name.endswith(quantity) and name != f"avg_{quantity}"]
        assert len(cells) == 5
        assert np.abs(wide[cells].mean(axis=1) - wide[f"avg_{quantity}"]).max() < 0.0101


def test_standard_errors_of_the_leaderboard_are_binomial():
    wide = published.wide("zephyr", "alpaca_eval_v1_repo").query("win_rate != 50")
    share = wide["win_rate"] / 100
    binomial = 100 * np.sqrt(share * (1 - share) / wide["n"])
    assert np.abs(binomial - wide["se"]).max() < 0.06  # draws make the real spread a little smaller


def test_cost_ratios_and_parameter_counts_are_derived_right():
    wide = published.wide("eda", "cost").set_index("method")
    derived = published.exhibit("eda", "cost").summary["derived"]
    ratio = wide.loc["EDA"] / wide.loc["Full-FT"]
    assert [derived["time_ratio"], derived["size_ratio"]] == pytest.approx(list(ratio), abs=5e-4)
    counts = published.load("eda").entries["draft"].values["parameters"]
    full = counts["single_ffn_draft_without_embedding"] + counts["one_full_expert"] + 7168  # two routers of 3584
    assert derived["two_full_experts_without_embedding"] == counts["two_full_experts_without_embedding"] == full


# --- the tidy frame --------------------------------------------------------------------------------------------------


def tidy(paper: str, name: str, row: str, metric: str):
    frame = published.table(paper, name)
    return frame[(frame["row"] == row) & (frame["metric"] == metric)].squeeze()


def test_tidy_frame_has_the_columns_of_scores_and_quotes_only():
    frame = published.table("zephyr", "tab1")
    assert list(frame.columns) == list(tables.COLUMNS)
    assert set(frame["kind"]) == {"quoted"} and frame["seeds"].isna().all()
    assert set(frame["metric"]) == {"mt_bench", "alpaca_eval"}  # the error is an interval, not a number of its own
    assert set(frame["source"]) == {"Table 1"}


def test_a_cell_that_prints_nothing_is_left_out():
    assert tidy("zephyr", "tab1", "MPT-Chat", "alpaca_eval").empty
    assert tidy("zephyr", "tab1", "MPT-Chat", "mt_bench")["value"] == 5.42


def test_a_printed_standard_error_becomes_an_interval():
    told = tidy("zephyr", "tab1", "Zephyr", "alpaca_eval")
    assert (told["low"], told["high"]) == pytest.approx((90.6 - 1.96 * 1.03, 90.6 + 1.96 * 1.03))
    assert told["interval"] == "standard error x 1.96, published"


def test_a_printed_spread_over_runs_becomes_a_t_interval():
    told = tidy("kd_dae", "tab2", "SFT random", "mt_bench")
    half = 2.7764451 * 0.368 / math.sqrt(5)  # t at 97.5 % with 4 degrees of freedom, from a printed table
    assert (told["low"], told["high"]) == pytest.approx((5.77 - half, 5.77 + half))
    assert told["n"] == 5


def test_a_number_without_a_printed_error_has_no_interval():
    told = tidy("zephyr", "tab1", "Zephyr", "mt_bench")
    assert math.isnan(told["low"]) and told["interval"] is None


def test_rows_that_share_a_name_carry_what_tells_them_apart():
    rows = set(published.table("zephyr", "tab1")["row"])
    assert {"Xwin-LM v0.1 7B", "Xwin-LM v0.1 70B", "Zephyr", "GPT-4"} <= rows
    assert published.cell("kd_dae", "tab2", "KD Mixtral-8x7B-Instruct-v0.1", "mt_bench") == 7.24


def test_a_digitised_figure_is_a_table_too():
    assert tidy("kd_dae", "fig1", "GPT-4", "math")["value"] == 6.84


# --- sources, errors, typing -----------------------------------------------------------------------------------------


def test_source_tells_table_key_meaning_and_confidence():
    told = published.source("zephyr", "tab1")
    assert (told.printed, told.confidence, list(told.keys)) == ("Table 1", "verified", ["P", "AE"])
    assert "arXiv 2310.16944" in str(told) and "(verified)" in str(told)


def test_source_keys_are_words_of_their_own():
    assert source_keys("P, section A.1 and AE (configs)", ["A", "AE", "P"]) == ["P", "AE"]


def test_every_sourced_entry_names_a_known_source():
    for paper in published.papers():
        content = published.load(paper)
        for group in (content.exhibits, content.entries, content.recipes, content.facts):
            for name, entry in group.items():
                assert source_keys(entry.source, content.sources), (paper, name, entry.source)


def test_fact_gives_value_source_and_confidence():
    told = published.fact("overview", "makers.vllm")
    assert told.value == ["Sky Computing Lab of UC Berkeley", "community"] and told.confidence == "verified"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: published.load("zephir"), r"paper named 'zephir'; known: eda, kd_dae, overview, zephyr"),
        (lambda: published.table("zephyr", "tab9"), r"no table or figure of zephyr named 'tab9'; known: tab1, tab2"),
        (lambda: published.cell("zephyr", "tab1", "Zepyhr", "mt_bench"), r"no row 'Zepyhr'; known: StableLM"),
        (lambda: published.cell("zephyr", "tab1", "Zephyr", "mtbench"), r"no column 'mtbench'; known: model, size"),
        (
            lambda: published.fact("overview", "makers.vlm"),
            r"no fact named 'makers.vlm'.*known: makers.vllm, makers.tgi$",
        ),
        (lambda: published.recipe("kd_dae", "paper"), r"no recipe of kd_dae named 'paper'; known: paper_3_1_1"),
        (lambda: published.source("eda", "tab1"), r"named 'tab1'; known: .*math_t0"),
    ],
)
def test_a_wrong_name_is_answered_with_those_that_exist(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (minimal(tabels=[]), "unknown section 'tabels'"),
        (minimal(tables=[toy_table(captoin="x")]), r"tables\[0\]: unknown key 'captoin'"),
        (minimal(tables=[{k: v for k, v in toy_table().items() if k != "source"}]), "key 'source' is missing"),
        (minimal(tables=[toy_table(rows=[["a", 1.5, 2.0]])]), "3 cells for 2 columns"),
        (minimal(tables=[toy_table(rows=[["a", 1.5], ["a", 2.0]])]), "rows share a name"),
        (
            minimal(tables=[toy_table(columns=[{"name": "model", "role": "lable"}])]),
            "role 'lable'; known: label, value",
        ),
        (minimal(tables=[toy_table(), toy_table()]), "duplicate id 'tab1'"),
        (minimal(facts=[{"key": "a", "value": 1, "source": "P", "confidence": "verified", "n": 3}]), "unknown key 'n'"),
    ],
)
def test_a_file_that_breaks_the_schema_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse(content, "papers/toy/published.yaml")


def test_a_value_of_another_type_is_refused():
    with pytest.raises(TypeError, match=r"tables\[0\]: caption must be of type str, got 7"):
        parse(minimal(tables=[toy_table(caption=7)]), "papers/toy/published.yaml")
    with pytest.raises(TypeError, match=r"confidence must be of type Literal\['verified', .*\], got 'sure'"):
        parse(minimal(tables=[toy_table(confidence="sure")]), "papers/toy/published.yaml")
    with pytest.raises(
        TypeError, match=r"columns must be of type .* \(Object contains unknown field `kind` - at `\$\[0\]"
    ):
        parse(minimal(tables=[toy_table(columns=[{"name": "a", "kind": "b"}])]), "papers/toy/published.yaml")


def test_an_exhibit_cannot_be_changed():
    shown = published.exhibit("zephyr", "tab1")
    assert isinstance(shown, Exhibit) and isinstance(shown.rows, tuple)
    with pytest.raises(AttributeError):
        shown.caption = "other"


def test_reading_is_registered_with_the_running_notebook(monkeypatch, tmp_path):
    record = tmp_path / "record.jsonl"
    monkeypatch.setenv("ZEPHYR_LAB_RECORD", str(record))
    published.table("kd_dae", "tab2")
    told = [json.loads(line) for line in record.read_text().splitlines()]
    assert {event["name"] for event in told if event["event"] == "input"} == {"papers/kd_dae/published.yaml"}


def test_a_changed_file_is_read_again(checkout):
    assert published.cell("zephyr", "tab1", "Zephyr", "mt_bench") == 7.34
    path = checkout / "papers" / "zephyr" / "published.yaml"
    path.write_text(path.read_text().replace("7.34,  90.6, 1.03", "7.77,  90.6, 1.03"))
    assert published.cell("zephyr", "tab1", "Zephyr", "mt_bench") == 7.77


def test_broken_yaml_is_one_plain_line(checkout):
    (checkout / "papers" / "zephyr" / "published.yaml").write_text("paper: [")
    with pytest.raises(ValueError, match=r"papers/zephyr/published\.yaml is not YAML"):
        published.load("zephyr")


def test_pages_name_only_functions_and_tests_that_exist():
    """Rows of EQUATIONS.md: what is not there yet says so."""
    rows = 0
    for page in sorted(PAPERS.glob("*/EQUATIONS.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
            if len(cells) != 3 or cells[0] in ("equation", "---"):
                continue
            rows += 1
            for cell in cells[1:]:
                named = re.match(r"`([^`]+)`", cell)
                assert named or cell == "not built yet", (page.parent.name, line)
                if named and named[1].endswith(".py"):
                    assert (PAPERS.parent / named[1]).is_file(), (page.parent.name, named[1])
                elif named:
                    module, _, function = named[1].rpartition(".")
                    source = (PAPERS.parent / "zephyr_lab" / module.replace(".", "/")).with_suffix(".py")
                    assert re.search(rf"^def {function}\(", source.read_text(encoding="utf-8"), re.M), named[1]
    assert rows > 30
