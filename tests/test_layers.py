"""The map of the rooms: imports point downwards, torch stays where it belongs, the command line starts light."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import networkx

import zephyr_lab
import zephyr_lab.lab

LEVELS = {
    "core": 0,
    "world": 1,
    "losses": 1,
    "scoring": 1,
    "models": 1,
    "engine": 1,
    "data": 2,
    "decoding": 2,
    "judges": 2,
    "reporting": 2,
    "methods": 3,
    "lab": 4,
    "teaching": 4,
    "cli": 5,
}

TORCH = {"torch", "transformers", "trl", "accelerate", "peft", "datasets"}

# Packages and modules that must be usable where torch is slow to load or absent.
WITHOUT_TORCH = (
    "zephyr_lab.core",
    "zephyr_lab.engine",
    "zephyr_lab.world",
    "zephyr_lab.scoring",
    "zephyr_lab.reporting",
    "zephyr_lab.data.sources",
    "zephyr_lab.data.filters",
    "zephyr_lab.data.pairs",
)
WITH_TORCH = {"zephyr_lab.core.shapes", "zephyr_lab.core.packed_rows"}

# What `zephyr-lab --help` may not load: each costs between a tenth of a second and eight.
HEAVY = TORCH | {
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "seaborn",
    "pyarrow",
    "papermill",
    "nbformat",
    "grimp",
    "sphinx",
}


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("zephyr_lab", include_external_packages=True, cache_dir=None)


def own_modules() -> list[str]:
    return sorted(module for module in imports().modules if module.partition(".")[0] == "zephyr_lab")


def package(module: str) -> str | None:
    """`losses` for zephyr_lab.losses.dpo; None for zephyr_lab itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def is_within(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith((f"{name}.", f"{name}_")) for name in names)


def torch_free_modules() -> list[str]:
    return [module for module in own_modules() if is_within(module, WITHOUT_TORCH) and module not in WITH_TORCH]


def upward_arrows(arrows: list[tuple[str, str]]) -> list[str]:
    """The imports that the map forbids, of (importer, imported) pairs of zephyr_lab's modules."""
    return [
        f"{importer} -> {imported}"
        for importer, imported in arrows
        if package(importer) != package(imported) and LEVELS[package(importer)] <= LEVELS[package(imported)]
    ]


def cycles(arrows: list[tuple[str, str]]) -> list[list[str]]:
    """Circles among modules of one package: each group of modules that reach one another."""
    inside = networkx.DiGraph((a, b) for a, b in arrows if package(a) == package(b))
    return [sorted(group) for group in networkx.strongly_connected_components(inside) if len(group) > 1]


def arrows() -> list[tuple[str, str]]:
    graph = imports()
    return [
        (importer, imported)
        for importer in own_modules()
        for imported in sorted(graph.find_modules_directly_imported_by(importer))
        if package(imported) is not None and imported.startswith("zephyr_lab.")
    ]


def loaded_by(statement: str, names: set[str]) -> set[str]:
    """Which of `names` are in sys.modules after `statement` ran in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint('LOADED', *sorted({names!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_every_package_has_a_level():
    packages = {package(module) for module in own_modules()} - {None}
    assert packages <= set(LEVELS)


def test_imports_point_downwards():
    assert upward_arrows(arrows()) == []


def test_an_arrow_up_or_sideways_would_be_seen():
    up = ("zephyr_lab.core.paths", "zephyr_lab.lab.sweeps")
    sideways = ("zephyr_lab.losses.dpo", "zephyr_lab.models.mistral")
    down = ("zephyr_lab.lab.sweeps", "zephyr_lab.core.paths")
    inside = ("zephyr_lab.lab.sweeps", "zephyr_lab.lab.arms")
    assert upward_arrows([up, sideways, down, inside]) == [" -> ".join(up), " -> ".join(sideways)]


def test_the_engine_stands_on_core_alone_and_knows_nothing_of_alignment():
    # It could serve another laboratory: the toy project of its tests is one.
    own = [(importer, imported) for importer, imported in arrows() if package(importer) == "engine"]
    assert {package(imported) for _, imported in own} == {"engine", "core"}
    words = re.compile(r"\b(d?dpo|d?sft|kd|dae|ppo|grpo|drafts?|teachers?|students?|preferences?|align\w*)\b", re.I)
    sources = sorted((Path(zephyr_lab.__file__).parent / "engine").glob("*.py"))
    assert [(path.name, words.findall(path.read_text())) for path in sources if words.search(path.read_text())] == []


def test_no_circles_inside_a_package():
    assert cycles(arrows()) == []


def test_init_files_are_empty_but_for_the_words_of_notebooks():
    # An import then names the module it needs, and pays for nothing else.
    root = Path(zephyr_lab.__file__).parent
    inits = [path.relative_to(root) for path in root.rglob("__init__.py") if path.read_text(encoding="utf-8").strip()]
    assert inits == [Path("lab/__init__.py")]
    assert len(zephyr_lab.lab.__all__) == 5


def test_rooms_without_torch_name_none_of_its_kin():
    graph = imports()
    named = {module: sorted(TORCH & graph.find_modules_directly_imported_by(module)) for module in torch_free_modules()}
    assert {module: names for module, names in named.items() if names} == {}


def test_rooms_without_torch_load_none():
    # Also through other libraries, which no import graph of ours shows.
    statement = "\n".join(f"import {module}" for module in torch_free_modules())
    assert loaded_by(statement, TORCH) == set()


def test_nothing_else_in_core_imports_shapes():
    # The run store computes keys in processes that must not pay for torch.
    graph = imports()
    users = [module for module in own_modules() if package(module) == "core" and module not in WITH_TORCH]
    assert [module for module in users if WITH_TORCH & graph.find_upstream_modules(module)] == []


def test_the_command_line_starts_light():
    assert loaded_by("import zephyr_lab.cli.main", HEAVY) == set()
