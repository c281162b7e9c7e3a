"""Settings tables: read exactly, or refused with the table, the key and what is known."""

from dataclasses import dataclass

import pytest

from zephyr_lab.core import settings


@dataclass(frozen=True)
class Recipe:
    steps: int
    rate: float
    name: str = "adamw"
    betas: tuple[float, ...] = (0.9, 0.999)
    window: int | None = None


def read(**table):
    return settings.from_table(table, Recipe, "papers/x/settings.toml [tiny.base]")


def test_a_table_becomes_the_dataclass_with_an_int_for_a_float_and_a_list_for_a_tuple():
    assert read(steps=3, rate=1, betas=[0.9, 1]) == Recipe(3, 1.0, betas=(0.9, 1.0))
    assert isinstance(read(steps=3, rate=1).rate, float)


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        (
            {"steps": 3, "rate": 0.1, "seed": 1},
            ValueError,
            "unknown key 'seed'; known: steps, rate, name",
        ),
        ({"steps": 3}, ValueError, "key 'rate' is missing"),
        ({"steps": 3.5, "rate": 0.1}, TypeError, "steps must be of type int, got 3.5"),
        ({"steps": True, "rate": 0.1}, TypeError, "steps must be of type int, got True"),
        ({"steps": 3, "rate": "0.1"}, TypeError, "rate must be of type float, got '0.1'"),
        ({"steps": 3, "rate": float("nan")}, ValueError, "rate is NaN"),
        ({"steps": 3, "rate": 0.1, "window": "wide"}, TypeError, "window must be of type int | None, got 'wide'"),
        (
            {"steps": 3, "rate": 0.1, "betas": [0.9, "b"]},
            TypeError,
            "betas must be of type tuple[float, ...], got [0.9, 'b'] (Expected `float`, got `str` - at `$[1]`)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(table, error, said):
    with pytest.raises(error, match=r"papers/x/settings\.toml \[tiny\.base\]") as caught:
        read(**table)
    assert said in str(caught.value)


@dataclass(frozen=True)
class Training:
    steps: int
    rate: float
    name: str = "adamw"

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the settings of paper "x"."""
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    path = tmp_path / "papers" / "x" / "settings.toml"
    path.parent.mkdir(parents=True)
    return path.write_text


BASE = '[base]\nsteps = 3\nrate = 0.5\nname = "muon"\n'


def load(profile, sections="base", cls=Training, **fields):
    return settings.load("x", profile, sections, cls, **fields)


def test_a_profile_has_the_defaults_but_for_what_it_changes(write):
    write(BASE + "[tiny.base]\nsteps = 30\n")
    assert load("smoke") == Training(3, 0.5, "muon")
    assert load("tiny") == Training(30, 0.5, "muon")


def test_the_world_and_the_hub_may_have_recipes_of_two_kinds(write):
    write('[world.base]\nsteps = 3\nrate = 0.5\nname = "muon"\n[tiny.base]\nsteps = 4\n[hub.base]\nmodel = "m"\n')
    assert load("smoke") == Training(3, 0.5, "muon") and load("tiny").steps == 4
    with pytest.raises(
        ValueError, match=r"settings\.toml \[hub\.base\]: unknown key 'model'; known: steps, rate, name"
    ):
        load("gpu")


def test_tables_side_by_side_and_the_caller_make_one_recipe(write):
    write("[size]\nsteps = 3\n[rate]\nrate = 0.5\n[tiny.rate]\nrate = 0.25\n")
    assert load("tiny", ("size", "rate"), name="sgd") == Training(3, 0.25, "sgd")


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        (BASE + "seed = 1\n", {}, r"[base]: unknown key 'seed'; known: steps, rate, name"),
        (BASE + "[tiny.base]\nseed = 1\n", {}, r"[tiny.base]: unknown key 'seed'; known: steps, rate, name"),
        ("[base]\nsteps = 3\nrate = 0.5\n", {}, r"[base]: key 'name' is missing"),  # no default of the class fills in
        ("[base]\nsteps = 3\n[tiny.base]\nrate = 1\n", {}, r"[base], [tiny.base]: key 'name' is missing"),
        (BASE, {"name": "sgd"}, r"[base]: key 'name' is decided by the code that reads it; take it out"),
        (
            "[hub.base]\nsteps = 3\n",
            {},
            r"profile 'tiny' has no table 'base': one of [base], [world.base], [tiny.base]",
        ),
        # tables that nobody would read
        (
            BASE + "[tiyn.base]\nsteps = 4\n",
            {},
            r"[tiyn]: neither a table of values nor one of world, hub, smoke, tiny",
        ),
        (BASE + "[tiny.bass]\nsteps = 4\n", {}, r"[tiny.bass]: there are no defaults, [bass] or [world.bass]"),
        (BASE + "[world.base]\nsteps = 4\n", {}, r"[base] and [world.base] are both tables of defaults"),
        ("steps = 4\n" + BASE, {}, r"[steps]: neither a table of values nor one of world"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_table(write, text, fields, said):
    write(text)
    with pytest.raises(ValueError, match=r"^papers/x/settings\.toml") as caught:
        load("tiny", **fields)
    assert said in str(caught.value)


def test_what_the_recipe_refuses_is_said_with_its_tables(write):
    write(BASE + "[tiny.base]\nsteps = 0\n")
    with pytest.raises(ValueError, match=r"^steps must be at least 1, got 0 \(papers/x/settings.toml \[base\], \[tiny"):
        load("tiny")


def test_a_value_of_another_type_is_refused_where_it_stands(write):
    write(BASE + "[tiny.base]\nsteps = 2.5\n")
    assert load("smoke").steps == 3
    with pytest.raises(TypeError, match=r"papers/x/settings\.toml \[tiny\.base\]: steps must be of type int, got 2\.5"):
        load("tiny")


def test_a_key_in_two_tables_side_by_side_is_refused(write):
    write(BASE + "[more]\nsteps = 4\n")
    with pytest.raises(
        ValueError,
        match=r"key 'steps' is in two tables, papers/x/settings\.toml \[base\] and .* \[more\]; keep",
    ):
        load("tiny", ("base", "more"))


def test_a_table_of_one_profile_is_said_to_be_one(write):
    write('of_one_profile = ["gpu.base"]\n[gpu.base]\nsteps = 3\nrate = 0.5\nname = "muon"\n')
    assert load("gpu").steps == 3
    with pytest.raises(ValueError, match="profile 'paper' has no table 'base'"):
        load("paper")


def test_profiles_and_papers_that_are_not_there_are_refused(write):
    write(BASE)
    with pytest.raises(ValueError, match="no profile named 'huge'; known: smoke, tiny, world-gpu, gpu, paper"):
        load("huge")
    with pytest.raises(FileNotFoundError, match="no settings for paper 'y'; known: x"):
        settings.load("y", "tiny", "base", Training)


def test_a_saved_file_is_read_again(write):
    for steps in (3, 30):
        write(f'[base]\nsteps = {steps}\nrate = 0.5\nname = "muon"\n')
        assert load("tiny").steps == steps
