"""Checks that recipes share: each raises ValueError naming the field, its value and what is allowed."""

from zephyr_lab.world.facts import LARGE, TINY, WorldSize

DEVICES = ("cpu", "cuda")
WORLDS: dict[str, WorldSize] = {"tiny": TINY, "large": LARGE}


def require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """`value` must be one of `known`."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def require_device(device: str) -> None:
    """ "cpu" (float32) or "cuda" (bfloat16 autocast)."""
    require_one_of("device", device, DEVICES)


def require_at_least(least: int, **values: int) -> None:
    """Each of `values` must be `least` or more."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def require_positive(**values: float | int) -> None:
    """All of `values` must be above 0."""
    if not all(value > 0 for value in values.values()):
        raise ValueError(f"{_all(values)} must be positive, got {_all(values.values())}")


def require_not_negative(**values: float | int) -> None:
    """All of `values` must be 0 or above."""
    if any(value < 0 for value in values.values()):
        raise ValueError(f"{_all(values)} must not be negative, got {_all(values.values())}")


def require_share(**values: float | int) -> None:
    """Each of `values` must lie within 0 and 1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be a share from 0 to 1, got {value}")


def require_share_below_1(**values: float | int) -> None:
    """Each of `values` must lie from 0 to below 1."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be a share from 0 to below 1, got {value}")


def require_warmup(warmup: int, steps: int) -> None:
    """The warm-up must end before the last step."""
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup must be from 0 to steps - 1 = {steps - 1}, got {warmup}")


def require_steps(name: str, steps: tuple[int, ...]) -> None:
    """`steps` must be different numbers from 1 on, in rising order."""
    if any(step < 1 for step in steps) or list(steps) != sorted(set(steps)):
        raise ValueError(f"{name} must be rising steps from 1 on, got {_all(steps)}")


def require_different(name: str, values: tuple[str, ...]) -> None:
    """At least one of `values`, and none twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must be different names, at least one, got {', '.join(values) or 'none'}")


def require_folders(models: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Models under different names, with a folder each."""
    require_different("models", models)
    if len(models) != len(folders):
        raise ValueError(f"each model needs its folder, got {len(models)} models, {len(folders)} folders")


def require_world(name: str) -> WorldSize:
    """The size of the embedded world called `name`."""
    require_one_of("world", name, tuple(WORLDS))
    return WORLDS[name]


def _all(values: object) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    *first, last = map(str, values)  # type: ignore[call-overload]
    return f"{', '.join(first)} and {last}" if first else last
