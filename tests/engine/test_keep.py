"""`zephyr-lab keep` and `zephyr-lab clean` on the toy project: what is carried over, refused, left and removed."""

import json

import pytest

REWORDED = ("value * 1103515245 + 12345", "1103515245 * value + 12345")  # the same numbers by another source


def keep(toy, *arguments):
    return toy.run("keep", *arguments)


def run(toy, *arguments):
    return toy.states("-p", "pause=0", *arguments)


def ends(toy):
    """key -> end record of every finished stage."""
    return {path.parent.name: json.loads(path.read_text()) for path in (toy.root / "runs/tiny").glob("*/*/end.json")}


def test_a_kept_notebook_trains_and_runs_nothing_and_says_why(copy):
    before, products = copy.builds(), copy.products()
    copy.edit("toy_recipes/steps.py", *REWORDED)
    assert "zephyr-lab keep 10 11 12 --because" in copy.run("run", "--explain", "-p", "pause=0").stdout
    told = keep(copy, "10", "11", "12", "--because", "a product commutes")
    assert told.returncode == 0 and "14 kept, 0 current already, 0 refused" in told.stdout, told.stderr
    assert set(run(copy).values()) == {"fresh"}
    assert copy.builds() == before and copy.products() == products
    kept = [record for record in ends(copy).values() if "kept" in record]
    assert len(kept) == 14
    for record in kept:
        (reason,) = record["kept"]
        assert reason["because"] == "a product commutes"
        assert reason["source"][0] != reason["source"][1] == record["stage"]["source"]
    record = json.loads((copy.root / "build/tiny/notebooks/10_one.run.json").read_text())
    assert {entry["stage"] for entry in record["kept"]} == {"walk", "sum", "notebook 10"}


def test_a_kept_stage_serves_a_notebook_that_runs_again_with_the_same_bytes(copy):
    before, old = copy.builds(), copy.artefacts()
    copy.edit("toy_recipes/steps.py", *REWORDED)
    assert keep(copy, "sum", "--because", "a product commutes").returncode == 0  # its walks go along
    assert run(copy) == {"10_one": "ran", "11_two": "ran", "12_three": "ran", "90_last": "fresh"}
    assert copy.builds() == before
    assert {name.split("/")[2]: digest for name, digest in copy.artefacts().items()}.keys() == {"end.txt"}
    assert sorted(copy.artefacts().values()) == sorted([*old.values(), *old.values()])


def test_what_differs_in_more_than_source_is_refused_by_name(copy):
    copy.edit("toy_recipes/arithmetic.py", '    fail: str = ""', '    fail: str = ""\n    stride: int = 1')
    told = keep(copy, "walk", "--because", "only a field")
    assert told.returncode == 2
    assert "its recipe is another one now: stride is 1, it was None" in told.stdout
    assert "0 kept, 0 current already, 11 refused" in told.stdout
    assert not any("kept" in record for record in ends(copy).values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["walk"], "Missing option '--because'"),
        (["walk", "--because", " "], "a reason is needed: --because says why the change of source moves no number"),
        (["wok", "--because", "x"], "no finished result of a stage named 'wok' at profile tiny"),
        (["10", "--because", "x", "--profile", "smoke"], "notebook 10 has no finished run at profile smoke; run it"),
    ],
)
def test_a_wrong_call_is_one_line(finished, arguments, said):
    told = keep(finished, *arguments)
    assert told.returncode == 2 and said in told.stderr and told.stderr.count("\n") == 1


def test_damaged_and_unfinished_results_and_changed_inputs_are_refused_and_the_others_kept(copy):
    walks = sorted((copy.root / "runs/tiny/walk").iterdir())
    seeds = {path: json.loads((path / "end.json").read_text())["stage"]["seed"] for path in walks}
    damaged = walks[0]
    (damaged / "end.txt").write_bytes((damaged / "end.txt").read_bytes()[::-1])
    copy.edit("toy_recipes/steps.py", *REWORDED)
    told = keep(copy, "sum", "walk", "--because", "a product commutes")
    assert told.returncode == 0
    assert f"refused  walk seed {seeds[damaged]}" in told.stdout and "it is damaged" in told.stdout
    assert f"refused  sum seed {seeds[damaged] % 3}" in told.stdout and "its input walk" in told.stdout
    assert "12 kept, 0 current already, 2 refused" in told.stdout
    (walks[1] / "end.json").unlink()
    assert "it is not finished: run it again" in keep(copy, "10", "--because", "again").stdout


def test_an_input_that_was_built_again_and_came_out_different_is_no_input_of_the_old_result(copy):
    copy.edit("toy_recipes/steps.py", "12345", "54321")  # moves every number
    copy.python(
        "from toy_recipes import study; from zephyr_lab.engine.scheduler import get_many\n"
        "get_many(study.stages(11, 6, 0.0)[:11])"
    )
    told = keep(copy, "sum", "--because", "I believe that it moves nothing")
    assert told.returncode == 2
    assert "it was built again under the present source and came out different" in told.stdout


def test_broken_source_that_a_stage_reaches_is_named_and_elsewhere_it_does_not_matter(copy):
    (copy.root / "toy_recipes/spare.py").write_text("def (\n")
    copy.edit("toy_recipes/steps.py", *REWORDED)
    assert keep(copy, "walk", "--because", "a product commutes").returncode == 0
    (copy.root / "toy_recipes/steps.py").write_text("def next_value(:\n")
    told = keep(copy, "walk", "--because", "x")
    assert told.returncode == 2 and "its code cannot be read: steps.py, line 1: invalid syntax" in told.stdout


def test_an_end_record_that_was_changed_by_hand_is_carried_nowhere(copy):
    end = next((copy.root / "runs/tiny/walk").glob("*/end.json"))
    record = json.loads(end.read_text())
    record["stage"]["recipe"]["length"] = 900
    end.write_text(json.dumps(record))
    copy.edit("toy_recipes/steps.py", *REWORDED)
    assert "its end.json was changed by hand" in keep(copy, "walk", "--because", "a product commutes").stdout


def test_a_module_that_moved_keeps_its_checkpoints_and_its_inputs(copy):
    result = next((copy.root / "runs/tiny/sum").glob("*/end.json"))
    record = json.loads(result.read_text())
    scratch = copy.root / "runs/tiny/.scratch" / f"sum-{record['key']}"
    (scratch / "checkpoints").mkdir(parents=True)
    job = {"profile": "tiny", "key": record["key"], "description": record["stage"], "inputs": {}}
    (scratch / "job.json").write_text(json.dumps(job))
    (copy.root / "toy_recipes/arithmetic.py").rename(copy.root / "toy_recipes/numbers.py")
    for notebook in (copy.root / "build/tiny/notebooks").glob("*.run.json"):
        notebook.unlink()  # nothing but the job and the code itself holds the results now
    assert "0 folders" in copy.run("clean").stdout
    assert (scratch / "checkpoints").is_dir()


def move(toy, *modules):
    """The stages' code moves from the module `arithmetic` to each of `modules`."""
    source = toy.root / "toy_recipes/arithmetic.py"
    for module in modules:
        (toy.root / f"toy_recipes/{module}.py").write_text(source.read_text())
    study = toy.root / "toy_recipes/study.py"
    study.write_text(study.read_text().replace("toy_recipes.arithmetic", f"toy_recipes.{(*modules, 'gone')[0]}"))
    source.unlink()


def test_code_that_moved_and_changed_is_kept_under_its_new_module(copy):
    before = copy.builds()
    move(copy, "numbers")
    copy.edit("toy_recipes/steps.py", *REWORDED)
    told = keep(copy, "10", "11", "12", "--because", "moved, and a product commutes")
    assert told.returncode == 0 and "14 kept, 0 current already, 0 refused" in told.stdout, told.stdout
    kept = [record["stage"] for record in ends(copy).values() if "kept" in record]
    assert {(stage["build"], stage["recipe"]["class"]) for stage in kept} == {
        ("toy_recipes.numbers:build", "toy_recipes.numbers:Walk")
    }
    assert set(run(copy).values()) == {"fresh"}
    assert copy.builds() == before


def test_code_that_only_moved_is_current_and_its_notebooks_stay_fresh(copy):
    before = copy.builds()
    move(copy, "numbers")
    told = keep(copy, "10", "11", "12", "--because", "moved")
    assert "0 kept, 14 current already, 0 refused" in told.stdout, told.stdout
    assert set(run(copy).values()) == {"fresh"}
    assert copy.builds() == before


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (["numbers", "sums"], "several others do: toy_recipes.numbers:build, toy_recipes.sums:build"),
        ([], "no other module of toy_recipes does"),
    ],
)
def test_moved_code_that_is_in_several_modules_or_in_none_is_refused(copy, modules, said):
    move(copy, *modules)
    copy.edit("toy_recipes/steps.py", *REWORDED)
    told = keep(copy, "walk", "--because", "moved")
    assert told.returncode == 2
    assert f"its code cannot be read: module toy_recipes.arithmetic defines no 'build'; {said}" in told.stdout
    assert "0 kept, 0 current already, 11 refused" in told.stdout


def test_clean_lists_first_and_removes_only_what_nothing_reaches(copy):
    assert "0 folders, 0.0 MiB could go" in copy.run("clean").stdout
    copy.edit("toy_recipes/steps.py", "12345", "54321")
    assert "0 folders" in copy.run("clean").stdout  # the last runs still stand on them
    assert set(run(copy).values()) == {"ran"}
    before = set(ends(copy))
    listing = json.loads(copy.run("clean", "--json").stdout)
    assert {row["stage"]: (row["state"], row["folders"]) for row in listing} == {
        "sum": ("overtaken", 3),
        "walk": ("overtaken", 11),
    }
    assert set(ends(copy)) == before
    assert "removed 14 folders" in copy.run("clean", "--yes").stdout
    assert len(ends(copy)) == 14 and set(run(copy).values()) == {"fresh"}


def test_results_that_would_still_serve_go_only_where_that_is_asked_for(copy):
    copy.python(
        "from toy_recipes.arithmetic import Walk; from zephyr_lab.engine.scheduler import get\n"
        "from zephyr_lab.engine.stages import Stage; get(Stage('own', 'toy_recipes.arithmetic:build', Walk(2)))"
    )
    assert "0 folders" in copy.run("clean").stdout
    assert "1 folder, " in copy.run("clean", "--unused").stdout
    (copy.root / "build/tiny/notebooks/11_two.run.json").unlink()
    told = copy.run("clean", "--unused")
    assert told.returncode == 2 and "notebooks 11 have no finished run at profile tiny" in told.stderr
