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
        ({"steps": 3.5, "rate": 0.1}, TypeError, "steps must be int, got 3.5"),
        ({"steps": True, "rate": 0.1}, TypeError, "steps must be int, got True"),
        ({"steps": 3, "rate": "0.1"}, TypeError, "rate must be float, got '0.1'"),
        ({"steps": 3, "rate": 0.1, "window": "wide"}, TypeError, "window must be int | None, got 'wide'"),
        ({"steps": 3, "rate": 0.1, "betas": [0.9, "b"]}, TypeError, "betas must be float, got 'b'"),
    ],
)
def test_what_does_not_fit_is_refused(table, error, said):
    with pytest.raises(error, match=r"papers/x/settings\.toml \[tiny\.base\]") as caught:
        read(**table)
    assert said in str(caught.value)


def test_a_file_is_read_by_paper_profile_and_section(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    (tmp_path / "papers" / "x").mkdir(parents=True)
    (tmp_path / "papers" / "x" / "settings.toml").write_text("[tiny.base]\nsteps = 3\nrate = 0.5\n")
    assert settings.load("x", "tiny", "base", Recipe) == Recipe(3, 0.5)
    with pytest.raises(ValueError, match=r"\[smoke\.base\] is missing; every profile needs the table"):
        settings.load("x", "smoke", "base", Recipe)
    with pytest.raises(ValueError, match="no profile named 'huge'; known: smoke, tiny, world-gpu, gpu, paper"):
        settings.load("x", "huge", "base", Recipe)
    with pytest.raises(FileNotFoundError, match="no settings for paper 'y'; known: x"):
        settings.load("y", "tiny", "base", Recipe)


def test_a_saved_file_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    path = tmp_path / "papers" / "x" / "settings.toml"
    path.parent.mkdir(parents=True)
    for steps in (3, 30):
        path.write_text(f"[tiny.base]\nsteps = {steps}\nrate = 0.5\n")
        assert settings.load("x", "tiny", "base", Recipe).steps == steps
