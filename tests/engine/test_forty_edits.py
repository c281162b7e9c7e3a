"""Edits to a small project, each with what it must move and what it must not.

Two stages and two notebooks, in the shapes that real code has: helpers of one or both, a base class, a registry,
re-exports, a star import, a module used as a value, error texts, progress, annotations that a dataclass reads.
"""

import sys
from dataclasses import replace

import pytest

from zephyr_lab.engine.stages import Stage, key
from zephyr_lab.engine.symbols import reading_now

FILES = {
    "__init__.py": "",
    "recipes.py": """
from dataclasses import dataclass
from mill.constants import STEPS

@dataclass(frozen=True)
class Recipe:
    steps: int = STEPS
    rate: float = 0.5
""",
    "constants.py": """
STEPS = 3
SCALE = 2.0
UNUSED = 7
""",
    "sft.py": '''
"""Supervised training."""
from torch.nn.functional import silu as activate

from mill import maths, saving
from mill.front import halve
from zephyr_lab.core import files

def build(recipe, *, seed: int, inputs, out, context):
    """Build it."""
    loss = maths.mean([halve(seed), maths.SHIFT])
    if loss < 0:
        raise ValueError(f"loss {loss} is negative")
    for step in range(recipe.steps):
        # one step
        context.progress(step, recipe.steps, loss=float(loss))
        loss = activate(loss)
    saving.save(out, loss)
    files.write_text(out / "loss.txt", str(loss))
    return {"loss": loss}
''',
    "dpo.py": """
from mill.models import Small
from mill.registry import lookup
from mill.stars import *

def build(recipe, *, seed, inputs, out, context, beta=0.1):
    model = Small(seed)
    assert model, "no model"
    return {"loss": lookup("hinge")(model.forward(beta)) + starred(seed) + clip(seed)}

def clip(value, lowest: float = 0.0) -> float:
    return max(value, lowest)
""",
    "maths.py": """
from mill.constants import SCALE

SHIFT = 1

def mean(values):
    return SCALE * sum(values) / _count(values)

def _count(values):
    return len(values)

def halve(value):
    return value / 2

def nobody_calls_me():
    return 0
""",
    "front.py": "from mill.maths import halve\n",
    "saving.py": """
def save(out, value):
    (out / "value.txt").write_text(str(value))
""",
    "models.py": """
class Base:
    width = 4

    def forward(self, value):
        return value * self.width

class Small(Base):
    def __init__(self, seed):
        self.seed = seed
""",
    "registry.py": """
from mill.constants import STEPS

KNOWN = {}

def register(function):
    KNOWN[function.__name__] = function
    return function

def lookup(name):
    return KNOWN[name]

@register
def hinge(value):
    return max(0, 1 - value)
""",
    "stars.py": """
def starred(value):
    return value + 1

def also_starred(value):
    return value
""",
    "tables.py": """
import importlib
from mill import shapes

def show(name):
    return getattr(shapes, name)()

def typed(value: int) -> int:
    return value

def ratio(value):
    return value / 100

def late(name):
    return importlib.import_module("mill.plugins").run(name)
""",
    "shapes.py": "def round_one():\n    return 1\n\ndef square_one():\n    return 2\n",
    "plugins.py": "def run(name):\n    return name\n",
    "elsewhere.py": "def far():\n    return 1\n",
}

NOTEBOOKS = {
    "tables": ["from mill import tables", "tables.show('round_one')", "tables.ratio(3)"],
    "plugins": ["from mill.tables import late, typed", "late(typed(3))"],
}

SFT, DPO, TABLES, PLUGINS = "sft", "dpo", "tables", "plugins"
BOTH = {SFT, DPO}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "mill"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mill"]:
        del sys.modules[name]


def digests():
    """What each stage and notebook is judged by, now."""
    from mill.recipes import Recipe

    names = {SFT: "mill.sft:build", DPO: "mill.dpo:build"}
    stages = {name: Stage(name, build, Recipe(3)) for name, build in names.items()}
    notebooks = {name: reading_now().of_cells(cells).digest for name, cells in NOTEBOOKS.items()}
    return {**{name: key(stage) for name, stage in stages.items()}, **notebooks}


EDITS = [
    ("a docstring", "sft.py", '"""Build it."""', '"""Trains."""', set()),
    ("a module's docstring", "sft.py", "Supervised training.", "Other words.", set()),
    ("a docstring added", "maths.py", "def halve(value):\n", 'def halve(value):\n    """Half."""\n', set()),
    ("a comment", "sft.py", "# one step", "# the next", set()),
    ("layout", "maths.py", "SCALE * sum(values)", "SCALE *  sum( values )", set()),
    ("an error's text", "sft.py", "is negative", "is below zero", set()),
    ("an error's value in its text", "sft.py", 'f"loss {loss} is negative"', '"the loss is negative"', set()),
    ("an error's class", "sft.py", "raise ValueError(", "raise TypeError(", {SFT}),
    ("when an error is raised", "sft.py", "if loss < 0", "if loss <= 0", {SFT}),
    ("an assertion's text", "dpo.py", '"no model"', '"a model is needed"', set()),
    ("an assertion", "dpo.py", "assert model,", "assert model is not None,", {DPO}),
    ("progress", "sft.py", ", loss=float(loss))", ", loss=float(loss), seed=seed)", set()),
    ("no progress", "sft.py", "        context.progress(step, recipe.steps, loss=float(loss))\n", "", set()),
    ("progress that computes", "sft.py", "loss=float(loss))", "loss=activate(loss))", {SFT}),
    ("the name of a file that it writes", "sft.py", 'out / "loss.txt"', 'out / "end.txt"', {SFT}),
    ("an annotation that nothing reads", "dpo.py", "lowest: float = 0.0", "lowest: int = 0.0", set()),
    ("a return annotation", "dpo.py", ") -> float:", ") -> int:", set()),
    ("a keyword's annotation", "sft.py", "seed: int,", "seed,", set()),
    ("a dataclass field's annotation", "recipes.py", "rate: float", "rate: int", BOTH),
    ("a dataclass field's default", "recipes.py", "rate: float = 0.5", "rate: float = 0.6", BOTH),
    ("a new recipe field", "recipes.py", "    rate", "    size: int = 1\n    rate", BOTH),
    ("a default argument", "dpo.py", "beta=0.1", "beta=0.3", {DPO}),
    ("a default argument of a helper", "dpo.py", "lowest: float = 0.0", "lowest: float = 0.1", {DPO}),
    ("a helper that one method uses", "maths.py", "value / 2", "value / 4", {SFT}),
    ("a helper's helper", "maths.py", "return len(values)", "return len(values) + 1", {SFT}),
    ("a constant that one method uses", "constants.py", "SCALE = 2.0", "SCALE = 3.0", {SFT}),
    ("a constant in a default of both recipes", "constants.py", "STEPS = 3", "STEPS = 4", BOTH),
    ("a constant that nobody uses", "constants.py", "UNUSED = 7", "UNUSED = 8", set()),
    ("a function that nobody calls", "maths.py", "return 0", "return 1", set()),
    ("a module constant read as an attribute", "maths.py", "SHIFT = 1", "SHIFT = 2", {SFT}),
    ("a base class", "models.py", "width = 4", "width = 5", {DPO}),
    ("a method of a base class", "models.py", "value * self.width", "value + self.width", {DPO}),
    ("a registered function", "registry.py", "1 - value", "2 - value", {DPO}),
    ("a decorator", "registry.py", "@register\ndef hinge", "@register\n@staticmethod\ndef hinge", {DPO}),
    ("a function behind a star", "stars.py", "value + 1", "value + 2", {DPO}),
    ("another function behind a star", "stars.py", "    return value\n", "    return -value\n", {DPO}),
    ("a library's function under the same name", "sft.py", "import silu as", "import gelu as", {SFT}),
    ("the name of a re-export", "front.py", "import halve", "import mean as halve", {SFT}),
    ("a function found by getattr", "shapes.py", "return 2", "return 3", {TABLES}),
    ("a module named by a string", "plugins.py", "return name", "return [name]", {PLUGINS}),
    ("a function of one notebook", "tables.py", "value / 100", "value / 10", {TABLES}),
    ("a function of the other", "tables.py", "int:\n    return value", "int:\n    return +value", {PLUGINS}),
    ("annotations of a notebook's function", "tables.py", "value: int) -> int", "value: str) -> str", set()),
    ("a statement at the top of a module", "models.py", "class Base:", "Base = None\n\nclass Base:", {DPO}),
    ("a module that nobody imports", "elsewhere.py", "return 1", "return 2", set()),
    ("broken syntax that nobody reaches", "elsewhere.py", "return 1", "return = 1", set()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "old", "new", "moved"), EDITS, ids=[edit[0] for edit in EDITS])
def test_an_edit_moves_exactly_what_it_must(project, name, file, old, new, moved):
    del name  # the test's own
    before = digests()
    text = (project / file).read_text()
    assert text.count(old) == 1, "the edit must be where it says"
    (project / file).write_text(text.replace(old, new))
    after = digests()
    assert {what for what in before if after[what] != before[what]} == moved


def test_there_are_forty_of_them():
    assert len(EDITS) >= 40


def test_the_order_of_definitions_in_a_file_moves_nothing(project):
    before = digests()
    (project / "maths.py").write_text(FILES["maths.py"].replace("SHIFT = 1\n", "") + "\n\nSHIFT = 1\n")
    assert digests() == before


def test_a_moved_and_a_renamed_module_keep_every_key(project):
    before = digests()
    (project / "deep").mkdir()
    (project / "deep" / "__init__.py").write_text("")
    (project / "maths.py").rename(project / "deep" / "numbers.py")
    (project / "front.py").write_text("from mill.deep.numbers import halve\n")
    text = (project / "sft.py").read_text()
    (project / "sft.py").write_text(
        text.replace("from mill import maths, saving", "from mill import saving\nfrom mill.deep import numbers as sums")
        .replace("maths.mean", "sums.mean")
        .replace("maths.SHIFT", "sums.SHIFT")
    )
    assert digests() == before


def test_a_build_function_that_moves_keeps_its_key(project):
    from mill.recipes import Recipe

    stage = Stage("sft", "mill.sft:build", Recipe())
    before = key(stage)
    (project / "sft.py").rename(project / "supervised.py")
    assert key(replace(stage, build="mill.supervised:build")) == before


def test_two_helpers_of_one_name_do_not_pass_for_each_other(project):
    # Digests name no paths; a swap of two namesakes must show all the same.
    (project / "left.py").write_text("def _scale():\n    return 2\n\ndef left():\n    return _scale()\n")
    (project / "right.py").write_text("def _scale():\n    return 3\n\ndef right():\n    return _scale()\n")
    cell = ["from mill import left, right", "left.left() / right.right()"]
    before = reading_now().of_cells(cell).digest
    left, right = (project / "left.py").read_text(), (project / "right.py").read_text()
    (project / "left.py").write_text(left.replace("2", "3"))
    (project / "right.py").write_text(right.replace("3", "2"))
    assert reading_now().of_cells(cell).digest != before


def test_two_imports_under_one_name_both_count(project):
    (project / "either.py").write_text(
        "try:\n    from mill.maths import halve as f\nexcept ImportError:\n    from mill.stars import starred as f\n\n"
        "def build():\n    return f(1)\n"
    )
    uses = reading_now().of("mill.either:build").uses
    assert {"mill.maths:halve", "mill.stars:starred"} <= set(uses)


def test_annotations_count_where_somebody_reads_them(project):
    cell = ["import inspect", "from mill import tables", "inspect.signature(tables.typed)"]
    before = reading_now().of_cells(cell).digest
    (project / "tables.py").write_text(FILES["tables.py"].replace("value: int) -> int", "value: str) -> str"))
    assert reading_now().of_cells(cell).digest != before


UNSEEN = [
    (
        "two names of one assignment, swapped",
        "LOW, HIGH = 1, 2\ndef build():\n    return LOW\n",
        "return LOW", "return HIGH",
    ),
    (
        "the order of what fills a list",
        "X = []\nX.append(1)\nX.append(2)\ndef build():\n    return X\n",
        "X.append(1)\nX.append(2)", "X.append(2)\nX.append(1)",
    ),
    (
        "how often a constant is raised",
        "X = 1\nX += 1\nX += 1\ndef build():\n    return X\n",
        "X += 1\nX", "X",
    ),
    (
        "when a constant is read",
        "X = 3\nY = X\nX = 4\ndef build():\n    return Y\n",
        "Y = X\nX = 4", "X = 4\nY = X",
    ),
    ("async", "def build():\n    return 1\n", "def build", "async def build"),
    (
        "a decorator made a base",
        "def d(c):\n    return c\nclass B: pass\n@d\nclass A(B): pass\ndef build():\n    return A\n",
        "@d\nclass A(B)", "class A(B, d)",
    ),
    (
        "a registering method",
        "K = []\ndef register(f):\n    K.append(f)\n    return f\nclass L:\n    @register\n    def h(x):\n"
        "        return 1\ndef build():\n    return K[0](0)\n",
        "        return 1", "        return 2",
    ),
    (
        "the else of a branch for type checkers",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    F = 1\nelse:\n    F = 2\n"
        "def build():\n    return F\n",
        "    F = 2", "    F = 3",
    ),
    (
        "progress of our own",
        "S = []\ndef progress(s):\n    s.append(1)\ndef build():\n    progress(S)\n    return S\n",
        "s.append(1)", "s.append(2)",
    ),
    (
        "an error of our own",
        "class TimeoutError(Exception): pass\ndef build():\n    raise TimeoutError('a')\n",
        "'a'", "'b'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new"), [one[1:] for one in UNSEEN], ids=[one[0] for one in UNSEEN])
def test_edits_that_are_easily_missed_are_seen(project, text, old, new):
    assert old in text
    (project / "odd.py").write_text(text)
    before = reading_now().of("mill.odd:build").digest
    (project / "odd.py").write_text(text.replace(old, new, 1))
    assert reading_now().of("mill.odd:build").digest != before


@pytest.mark.parametrize(
    "text",
    [
        "from mill.maths import halve\nhalve = print(halve) or halve\ndef build():\n    return halve(1)\n",
        "class K:\n    def a(self):\n        from mill.maths import halve\n        return halve(1)\n"
        "def build():\n    return K\n",
        "from mill import front\ndef build(name='halve'):\n    return getattr(front, name)(1)\n",
        "from mill.maths import halve\ndef build(name='halve'):\n    return globals()[name](1)\n",
        "from importlib import import_module as load\ndef build():\n    return load(name='mill.maths').halve(1)\n",
        "import sys\nfrom mill.maths import halve\n"
        "def build(name='halve'):\n    return getattr(sys.modules[__name__], name)\n",
    ],
)  # fmt: skip
def test_a_function_that_is_reached_in_a_roundabout_way_counts(project, text):
    (project / "odd.py").write_text(text)
    assert "mill.maths:halve" in reading_now().of("mill.odd:build").uses


def test_a_module_loaded_under_a_name_made_at_run_time_counts_all_it_may_be(project):
    (project / "chosen.py").write_text(
        "import importlib\n\ndef pick(name):\n    return importlib.import_module(f'mill.st{name}')\n"
    )
    assert "mill.stars:starred" in reading_now().of("mill.chosen:pick").uses
    assert "mill.maths:mean" not in reading_now().of("mill.chosen:pick").uses


def test_a_function_that_reads_its_own_globals_counts_its_whole_module(project):
    (project / "own.py").write_text("def one():\n    return globals()['two']()\n\ndef two():\n    return 2\n")
    assert "mill.own:two" in reading_now().of("mill.own:one").uses


def test_broken_syntax_in_a_module_that_is_reached_is_named(project):
    (project / "stars.py").write_text("def starred(:\n")
    with pytest.raises(ValueError, match=r"stars\.py, line 1: invalid syntax"):
        reading_now().of("mill.dpo:build")
    assert reading_now().of("mill.sft:build").digest


def test_modules_that_import_each_other_are_read_to_an_end(project):
    (project / "here.py").write_text("from mill import there\n\ndef one():\n    return there.two()\n")
    (project / "there.py").write_text("from mill import here\n\ndef two():\n    return here.one\n")
    assert {"mill.here:one", "mill.there:two"} <= set(reading_now().of("mill.here:one").uses)
