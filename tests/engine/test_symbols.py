"""What a piece of code uses, function by function: exact where it can be read, and more, never less, where not."""

import pytest

from zephyr_lab.engine.symbols import reading_now

MATHS = '''"""Numbers."""
from small.constants import SCALE
from zephyr_lab.core import files

REGISTRY = {}


def register(function):
    REGISTRY[function.__name__] = function
    return function


def one():
    """It."""
    return SCALE * _half() + _half()


def _half():
    return 0.5


def two():
    return one() + one()


@register
def three():
    return 3


class Pair:
    def left(self):
        return one()
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "maths.py").write_text(MATHS)
    (folder / "constants.py").write_text("SCALE = 2\nOTHER = 3\n")
    (folder / "front.py").write_text("from small.maths import two as pair_sum\n\ndef late():\n    import small.heavy\n")
    (folder / "heavy.py").write_text("print('heavy')\n")
    return folder


def used_by(*cells):
    return reading_now().of_cells(cells).uses


def names(*cells):
    """What is used, without the always-counted module bodies."""
    return {name.removeprefix("small.") for name in used_by(*cells) if not name.endswith(":")}


ALWAYS = {"maths:register", "maths:REGISTRY"}  # the decorator runs when the module is imported


@pytest.mark.parametrize(
    ("cells", "used"),
    [
        (["from small import maths\nmaths.one()"], {"maths:one", "maths:_half", "constants:SCALE"}),
        (["from small import maths", "maths.one()"], {"maths:one", "maths:_half", "constants:SCALE"}),
        (["import small.maths\nsmall.maths._half()"], {"maths:_half"}),
        (["import small.maths as m\nm._half()"], {"maths:_half"}),
        (["from small.maths import _half as h\nh()"], {"maths:_half"}),
        (["from small.maths import two"], set()),  # imported, not used
        (
            ["from small.front import pair_sum\npair_sum()"],
            {"maths:two", "maths:one", "maths:_half", "constants:SCALE"},
        ),
        (["from small.maths import Pair\nPair"], {"maths:Pair", "maths:one", "maths:_half", "constants:SCALE"}),
    ],
)
def test_use_is_followed_function_by_function(package, cells, used):
    assert names(*cells) - ALWAYS == used


@pytest.mark.parametrize(
    "cell",
    [
        "from small import maths\ngetattr(maths, 'one')()",
        "from small.maths import *",
        "from small import maths\nmaths.made_at_run_time()",
        "from small import maths\ntools = [maths]",
    ],
)
def test_a_module_used_in_ways_that_cannot_be_read_counts_whole(package, cell):
    assert {"maths:one", "maths:two", "maths:_half", "maths:three", "maths:Pair"} <= names(cell)


def test_a_function_that_a_decorator_registers_always_counts(package):
    before = used_by("from small.maths import _half\n_half()")
    (package / "maths.py").write_text(MATHS.replace("return 3", "return 4"))
    assert used_by("from small.maths import _half\n_half()") != before


SUBCLASS = """
class Base:
    def __init_subclass__(cls):
        REGISTRY[cls.__name__] = cls


class Kind(Base):
    size = 3
"""


@pytest.mark.parametrize("hidden", ["_kept = register(lambda: 3)\n", SUBCLASS])
def test_what_tells_somebody_when_it_is_defined_always_counts(package, hidden):
    cell = "from small.maths import _half\n_half()"
    (package / "maths.py").write_text(MATHS + hidden)
    before = used_by(cell)
    (package / "maths.py").write_text(MATHS + hidden.replace("3", "4"))
    assert used_by(cell) != before


def test_prose_imports_and_neighbours_move_no_digest_but_code_does(package):
    cell = "from small import maths\nmaths.one()"
    before = used_by(cell)
    neighbours = MATHS.replace('"""It."""', '"""Other words."""').replace("one() + one()", "2 * one()")
    (package / "maths.py").write_text(neighbours.replace("REGISTRY = {}", "# empty\nREGISTRY = {}"))
    (package / "constants.py").write_text("OTHER = 4\n\n\nSCALE = 2\n")
    assert used_by(cell) == before
    (package / "constants.py").write_text("SCALE = 5\nOTHER = 3\n")
    after = used_by(cell)
    assert [name for name in after if after[name] != before[name]] == ["small.constants:SCALE"]


def test_an_import_inside_a_function_counts_where_the_function_is_used(package):
    assert "small.heavy:" not in used_by("from small import front\nfront.pair_sum()")
    assert "small.heavy:" in used_by("from small import front\nfront.late()")


def test_plumbing_and_other_peoples_packages_are_left_out(package):
    found = used_by("import json\nimport numpy\nfrom small import maths\nmaths.one()\njson.dumps(numpy)")
    assert {name.partition(":")[0] for name in found} <= {
        "small",
        "small.maths",
        "small.constants",
        "zephyr_lab",
        "zephyr_lab.core",
    }


def test_a_file_that_does_not_parse_is_named(package):
    (package / "constants.py").write_text("SCALE = = 2\n")
    with pytest.raises(ValueError, match=r"constants\.py, line 1: invalid syntax"):
        used_by("from small import maths\nmaths.one()")
