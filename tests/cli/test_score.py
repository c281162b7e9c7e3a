"""`zephyr-lab score`: what it prints, where bad rows go, and what it says when there is nothing to score."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from zephyr_lab.cli import score

app = typer.Typer(pretty_exceptions_enable=False)
app.command("mt-bench")(score.mt_bench)
app.command("alpaca-eval")(score.alpaca_eval)


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """Where rejected rows go by default."""
    root = tmp_path / "checkout"
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(root))
    return root


def run(*arguments):
    """A command that must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def failure(*arguments):
    """The error of a command that must fail with one line, which the program's `main` prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, (ValueError, OSError)), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    assert "Traceback" not in result.output
    return result


def judgment(question_id=81, turn=1, score=7, **others):
    return {
        "model": "m",
        "question_id": question_id,
        "turn": turn,
        "judgment": f"Rating: [[{score}]]",
        "score": score,
    } | others


def annotation(preference=2.0, **others):
    return {
        "instruction": "Say hello.",
        "generator_1": "baseline",
        "output_1": "Hello.",
        "generator_2": "m",
        "output_2": "Hello!",
        "preference": preference,
    } | others


def lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.fixture
def judged(tmp_path):
    """Two good judgments, one without a score, three bad rows."""
    return lines(
        tmp_path / "gpt-4_single.jsonl",
        judgment(),
        "{broken",
        judgment(question_id=91, score=4),
        judgment(question_id=500),
        judgment(turn=2, score=-1, judgment="no idea"),
        judgment(score=42),
    )


def test_mt_bench_prints_the_promised_json_and_its_own_keys_behind(judged):
    printed = json.loads(run("mt-bench", judged, "--json").stdout)
    model = printed["models"]["m"]
    assert list(printed)[:2] == ["unparsed", "models"]
    assert list(model)[:7] == ["turn_1", "turn_2", "mean", "n", "unparsed", "categories", "interval"]
    assert (model["turn_1"], model["turn_2"], model["mean"]) == (5.5, None, 5.5)
    assert (model["n"], model["unparsed"]) == (2, 1)
    assert model["categories"] == {"writing": 7, "roleplay": 4}
    assert model["interval"] == [4, 7]
    assert (printed["unparsed"], printed["rows"], printed["bad_rows"]) == ("drop", 3, 3)


def test_unparsed_judgments_are_kept_on_demand(judged):
    printed = json.loads(run("mt-bench", judged, "--json", "--unparsed", "keep").stdout)
    assert printed["unparsed"] == "keep"
    assert printed["models"]["m"]["mean"] == pytest.approx(10 / 3)


def test_alpaca_eval_prints_the_promised_json_and_its_own_keys_behind(tmp_path):
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([annotation(), annotation(1.0), annotation(0, output_2="x" * 9), annotation(None)]))
    printed = json.loads(run("alpaca-eval", file, "--json").stdout)
    model = printed["models"]["m"]
    assert next(iter(printed)) == "models"
    names = ["win_rate", "standard_error", "n", "nulls", "wins", "losses", "draws", "avg_length", "interval"]
    assert list(model)[:9] == names
    assert model["win_rate"] == 50
    assert model["standard_error"] == pytest.approx(100 * 0.5 / 3**0.5)
    assert [model[name] for name in names[2:8]] == [3, 1, 1, 1, 1, 6]
    assert (printed["bad_rows"], printed["rejected"]) == (0, None)


def test_the_same_seed_gives_the_same_bytes(judged):
    assert run("mt-bench", judged, "--json").stdout == run("mt-bench", judged, "--json", "--seed", "0").stdout


def test_bad_rows_are_written_below_build_and_told_on_stderr(judged, checkout):
    result = run("mt-bench", judged, "--json")
    rejected = checkout / "build/rejected/score-mt-bench/gpt-4_single.jsonl"
    written = [json.loads(line) for line in rejected.read_text().splitlines()]
    assert [(row["row"], row["column"]) for row in written] == [(2, None), (4, "question_id"), (6, "score")]
    assert written[0]["raw"] == "{broken"
    assert json.loads(result.stdout)["rejected"] == str(rejected)
    (told,) = result.stderr.splitlines()
    assert "3 of 6 rows are bad" in told
    assert "row 2: is not JSON" in told
    assert list(judged.parent.glob("*.jsonl")) == [judged]


def test_bad_rows_go_where_the_user_says(judged, tmp_path, checkout):
    printed = json.loads(run("mt-bench", judged, "--json", "--rejected-rows", tmp_path / "new/bad.jsonl").stdout)
    assert printed["rejected"] == str(tmp_path / "new/bad.jsonl")
    assert len((tmp_path / "new/bad.jsonl").read_text().splitlines()) == 3
    assert not checkout.exists()


def test_a_named_file_of_rejected_rows_is_written_even_when_there_are_none(tmp_path):
    (tmp_path / "bad.jsonl").write_text("from an earlier run")
    run("mt-bench", lines(tmp_path / "a.jsonl", judgment()), "--rejected-rows", tmp_path / "bad.jsonl")
    assert (tmp_path / "bad.jsonl").read_text() == ""


def test_a_file_without_bad_rows_leaves_nothing_behind_and_says_nothing(tmp_path, checkout):
    result = run("mt-bench", lines(tmp_path / "a.jsonl", judgment()))
    assert result.stderr == ""
    assert not checkout.exists()


def test_the_input_is_never_overwritten(judged):
    before = judged.read_bytes()
    failure("mt-bench", judged, "--rejected-rows", judged)
    failure("mt-bench", judged.parent, "--rejected-rows", judged.parent / "bad.jsonl")
    failure("mt-bench", judged, "--rejected-rows", judged.parent)
    assert judged.read_bytes() == before


def test_good_rows_are_scored_where_the_default_place_takes_no_file(judged, tmp_path, monkeypatch):
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path / "blocked"))
    result = run("mt-bench", judged, "--json")
    assert json.loads(result.stdout)["models"]["m"]["mean"] == 5.5
    assert json.loads(result.stdout)["rejected"] is None
    assert "could not be written" in result.stderr
    assert "--rejected-rows FILE names another place" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line_after_the_scores(judged):
    result = failure("mt-bench", judged, "--json", "--rejected-rows", "/dev/full")
    assert json.loads(result.stdout)["models"]["m"]["mean"] == 5.5
    assert "No space left on device" in str(result.exception)
    assert Path("/dev/full").is_char_device()


def test_nothing_usable_is_said_with_the_first_reason(tmp_path, checkout):
    result = failure("mt-bench", lines(tmp_path / "a.jsonl", judgment(turn=9), "nonsense"))
    assert "no usable row" in str(result.exception)
    assert "2 bad, first row 1, column turn: must be 1 or 2, got 9" in str(result.exception)
    assert (checkout / "build/rejected/score-mt-bench/a.jsonl").exists()
    result = failure("alpaca-eval", lines(tmp_path / "b.jsonl", annotation("2")))
    assert "column preference: must be a number or null, got '2'" in str(result.exception)


def test_nothing_but_unparsed_judgments_or_null_preferences_is_nothing_to_score(tmp_path):
    unparsed = lines(tmp_path / "a.jsonl", judgment(score=-1, judgment="?"))
    assert "--unparsed keep counts them as -1" in str(failure("mt-bench", unparsed).exception)
    assert json.loads(run("mt-bench", unparsed, "--json", "--unparsed", "keep").stdout)["models"]["m"]["mean"] == -1
    nulls = lines(tmp_path / "b.jsonl", annotation(None))
    assert "preference of all 1 rows is null" in str(failure("alpaca-eval", nulls).exception)


@pytest.mark.parametrize("command", ["mt-bench", "alpaca-eval"])
@pytest.mark.parametrize("name", ["absent.jsonl", "empty.jsonl", "other.csv", "empty folder"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, command, name):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "other.csv").write_text("model,score\n")
    (tmp_path / "empty folder").mkdir()
    assert name in str(failure(command, tmp_path / name).exception)


def test_an_unknown_convention_is_refused_before_anything_is_read(tmp_path):
    assert "'drop' or 'keep'" in str(failure("mt-bench", tmp_path / "absent.jsonl", "--unparsed", "both").exception)


def test_a_folder_of_judgments_names_the_file_of_a_bad_row(tmp_path):
    folder = tmp_path / "judged"
    folder.mkdir()
    lines(folder / "a.jsonl", judgment(), judgment(turn=3))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(judgment(model="other")).encode()))
    result = run("mt-bench", folder, "--json")
    assert set(json.loads(result.stdout)["models"]) == {"m", "other"}
    assert "a.jsonl row 2, column turn" in result.stderr


def test_the_table_shows_intervals_and_says_what_is_odd(tmp_path):
    file = lines(
        tmp_path / "a.jsonl",
        judgment(judge=["gpt-4", "single-v1"]),
        judgment(score=3, judge=["claude", "single-v1"]),
        judgment(question_id=91, score=9, judgment="[[8]]"),
        judgment(question_id=92, score=0),
        judgment(question_id=93, score=-1, judgment=""),
    )
    shown = run("mt-bench", file).stdout
    assert "4.75" in shown  # 7, 3, 9 and 0
    assert "[0.00, 9.00]" in shown
    assert "Judgments without a score are left out" in shown
    assert "stored scores that differ from the judge's text: 1" in shown
    assert "question 91 turn 1: stored 9, in the text 8" in shown
    assert "scores below the judge's scale of 1 to 10: 1" in shown
    assert "answers judged more than once: 1" in shown
    assert "several judges are pooled: claude, gpt-4" in shown


def test_the_table_of_win_rates_tells_ours_from_the_published_length_control(tmp_path):
    rows = [annotation(1.0 + (place % 3 > 0), output_2="x" * place, instruction=f"{place}") for place in range(30)]
    shown = run("alpaca-eval", lines(tmp_path / "a.jsonl", *rows, annotation(generator_1="another"))).stdout
    assert "67.74" in shown  # 21 of 31
    assert "not the published length control" in shown
    assert "several baselines are pooled: another, baseline" in shown


def test_names_from_a_file_cannot_steer_the_terminal(tmp_path):
    shown = run("mt-bench", lines(tmp_path / "a.jsonl", judgment(model="[red]\x1b[31m\n"))).stdout
    assert "\x1b" not in shown
    assert "[red]\\x1b[31m\\n" in shown
    told = run("mt-bench", lines(tmp_path / "b.jsonl", judgment(), {"\x1b[2J\n": 1})).stderr
    assert "\x1b" not in told
    assert len(told.splitlines()) == 1


def test_the_command_starts_without_the_heavy_libraries():
    heavy = {"numpy", "pandas", "scipy", "pyarrow"}
    code = f"import sys, zephyr_lab.cli.score; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_judgments_are_scored_without_pandas(tmp_path):
    file = lines(tmp_path / "a.jsonl", judgment())
    code = (
        "import sys, pathlib; from zephyr_lab.cli import score; "
        f"score.mt_bench(pathlib.Path({str(file)!r}), json=True); print('pandas' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "False"


def test_released_judgments_through_the_command(released):
    printed = json.loads(run("mt-bench", released("medusa/judgments.jsonl.gz"), "--json").stdout)
    expected = json.loads(released("medusa/expected.json").read_text())["models"]
    means = {name: model["mean"] for name, model in printed["models"].items()}
    assert means == pytest.approx({name: figures["average"] for name, figures in expected.items()}, abs=1e-6)
