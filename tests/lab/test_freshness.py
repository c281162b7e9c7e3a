"""What makes a notebook run again, and what does not. One finished toy project, copied for each test."""

import json

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
