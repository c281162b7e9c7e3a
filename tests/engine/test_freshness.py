"""What makes a notebook run again, and what does not. One finished toy project, copied for each test."""

import json
import shutil
import time

import pytest

ALL_FRESH = {"10_one": "fresh", "11_two": "fresh", "12_three": "fresh", "90_last": "fresh"}


def states(toy):
    return toy.states("-p", "pause=0")


def test_a_second_run_runs_nothing(finished):
    before = finished.builds()
    assert states(finished) == ALL_FRESH
    assert finished.builds() == before


def test_prose_comments_and_docstrings_rerun_nothing(copy):
    path = copy.root / "notebooks" / "10_one.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][2]["source"] = ["Another text."]
    notebook["cells"][3]["source"].append("\n# a comment")
    path.write_text(json.dumps(notebook))
    copy.edit("toy_recipes/steps.py", "One step of the walk.", "A step of the walk.")
    copy.edit("toy_recipes/other.py", "    return 2 * value", "    # twice\n    return 2 * value")
    assert states(copy) == ALL_FRESH


def test_a_changed_function_reruns_exactly_its_users_and_what_follows_from_them(copy):
    copy.edit("toy_recipes/other.py", "2 * value", "3 * value")  # 11 imports the module, but uses its neighbour
    before = copy.builds()
    assert states(copy) == {"10_one": "fresh", "11_two": "fresh", "12_three": "ran", "90_last": "ran"}
    assert copy.builds() == before  # no stage depends on it
    copy.edit("toy_recipes/other.py", "walks and sums", "ends")
    assert states(copy) == {"10_one": "fresh", "11_two": "ran", "12_three": "fresh", "90_last": "ran"}


def test_a_change_that_moves_no_product_stops_there(copy):
    copy.edit("toy_recipes/other.py", "2 * value", "value + value")
    assert states(copy) == {"10_one": "fresh", "11_two": "fresh", "12_three": "ran", "90_last": "fresh"}


def test_a_changed_stage_function_trains_again_and_the_old_results_are_still_there(copy):
    old = copy.products()
    copy.edit("toy_recipes/steps.py", "12345", "54321")
    assert set(states(copy).values()) == {"ran"}
    assert len(copy.builds()) == 28
    assert copy.products() != old
    copy.edit("toy_recipes/steps.py", "54321", "12345")
    assert set(states(copy).values()) == {"ran"}
    assert len(copy.builds()) == 28  # from the store
    assert copy.products() == old


def test_a_parameter_reruns(copy):
    why = json.loads(copy.run("run", "--explain", "--json", "--seeds", "4", "-p", "pause=0").stdout)
    assert why["10_one"] == ["parameter seeds 3 -> 4"]


def test_a_product_changed_by_hand_is_noticed_and_made_again(copy):
    product = copy.root / "build/tiny/tables/11_two.txt"
    good = product.read_text()
    product.write_text("7\n")
    why = json.loads(copy.run("run", "--explain", "--json", "-p", "pause=0").stdout)
    assert why["11_two"] == ["product tables/11_two.txt was changed by hand"]
    assert states(copy)["11_two"] == "ran"
    assert product.read_text() == good


def test_an_artefact_changed_by_hand_is_built_again(copy):
    end = next((copy.root / "runs/tiny/walk").glob("*/end.txt"))
    good = end.read_bytes()
    end.write_bytes(good[::-1])  # same size
    (copy.root / "build/tiny/notebooks/10_one.run.json").unlink()
    assert states(copy)["10_one"] == "ran"
    assert len(copy.builds()) == 15
    assert end.read_bytes() == good


def test_a_changed_lock_reruns_all(copy):
    (copy.root / "constraints.txt").write_text("torch==9.9\n")
    why = json.loads(copy.run("run", "--explain", "--json", "-p", "pause=0").stdout)
    assert all("constraints.txt changed" in reasons for reasons in why.values())


@pytest.mark.slow
def test_a_product_no_longer_made_is_removed(copy):
    copy.edit("toy_recipes/study.py", '/ f"{name}.txt"', '/ f"{name}_new.txt"')
    assert states(copy)["10_one"] == "ran"
    tables = {path.name for path in (copy.root / "build/tiny/tables").iterdir()}
    assert "10_one_new.txt" in tables and "10_one.txt" not in tables


def test_a_failing_notebook_is_named_and_leaves_no_record(copy):
    copy.edit("toy_recipes/other.py", "return 2 * value", 'raise KeyError("no such end")')
    result = copy.run("run", "-p", "pause=0")
    assert result.returncode == 1
    assert "12_three  FAILED  cell [" in result.stdout and "KeyError: 'no such end'" in result.stdout
    assert "90_last  FAILED  not run: 12_three failed before it" in result.stdout
    assert not (copy.root / "build/tiny/notebooks/12_three.run.json").exists()
    assert "12_three" in copy.run("list").stdout


def test_code_changed_while_a_notebook_runs_makes_the_run_not_count(copy):
    copy.edit(
        "notebooks/12_three.ipynb",
        'study.save(\\"12_three\\"',
        '__import__(\\"time\\").sleep(6); study.save(\\"12_three\\"',
    )
    process = copy.start("run", "12", "-p", "pause=0")
    time.sleep(4)
    copy.edit("toy_recipes/other.py", "2 * value", "3 * value")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "code that it uses changed while it ran; run again" in out
    why = json.loads(copy.run("run", "12", "--explain", "--json", "-p", "pause=0").stdout)
    assert why["12_three"] == ["never run to its end"]


def test_what_a_notebook_that_is_gone_made_is_removed(copy):
    (copy.root / "notebooks/11_two.ipynb").rename(copy.root / "notebooks/14_two.ipynb")
    copy.edit("notebooks/14_two.ipynb", "11_two", "14_two")
    assert states(copy)["14_two"] == "ran"
    left = {path.name for path in (copy.root / "build/tiny").rglob("*two*")}
    assert left == {
        "14_two.txt",
        "14_two.ipynb",
        "14_two.run.json",
        "14_two.json",
        "14_two.log",
        "14_two",
        "11_two.log",
        "11_two",
    }


def test_executed_notebooks_hold_no_path_of_this_machine(finished):
    executed = (finished.root / "build/tiny/notebooks").glob("*.ipynb")
    assert all(str(finished.root) not in path.read_text() for path in executed)


def test_a_deleted_input_of_a_finished_stage_is_not_built_again(copy):
    shutil.rmtree(copy.root / "runs/tiny/walk")
    one_sum = "from zephyr_lab.engine.scheduler import get; print(get(study.stages(11, 6, 0.0)[-1]))"
    assert copy.python(f"from toy_recipes import study; {one_sum}").stdout.strip().split("/")[-2] == "sum"
    assert not (copy.root / "runs/tiny/walk").exists()


def test_the_metrics_of_an_input_that_somebody_removed_are_made_again(copy):
    shutil.rmtree(copy.root / "runs/tiny/walk")
    of_a_walk = "from zephyr_lab.engine.scheduler import metrics; print(metrics(study.stages(11, 6, 0.0)[0])['value'])"
    kept = copy.python(f"from toy_recipes import study; {of_a_walk}").stdout
    assert float(kept.splitlines()[-1]) > 0
    assert len(list((copy.root / "runs/tiny/walk").iterdir())) == 1


def test_leftovers_of_a_process_killed_at_the_very_end_are_removed(copy):
    stage = next((copy.root / "runs/tiny/sum").iterdir())
    scratch = copy.root / "runs/tiny/.scratch" / f"sum-{stage.name}"
    for left in (scratch, stage.with_name(".removed-x")):
        left.mkdir(parents=True)
    (copy.root / "build/tiny/notebooks/10_one.run.json").unlink()
    assert states(copy)["10_one"] == "ran"
    assert not scratch.exists() and not stage.with_name(".removed-x").exists()


def test_a_record_changed_by_hand_is_no_record(copy):
    (copy.root / "build/tiny/notebooks/10_one.run.json").write_text('{"schema": 1}')
    assert states(copy)["10_one"] == "ran"
