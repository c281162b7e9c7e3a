"""Checks that several recipes share: each raises ValueError naming the field, its value and what is allowed."""

from zephyr_lab.world.facts import LARGE, TINY, WorldSize


def require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """`value` must be one of `known`."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def require_at_least(least: int, **values: int) -> None:
    """Each of `values` must be `least` or more."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def require_share(**values: float) -> None:
    """Each of `values` must lie within 0 and 1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be a share from 0 to 1, got {value}")


def require_steps(name: str, steps: tuple[int, ...]) -> None:
    """`steps` must be different numbers from 1 on, in rising order."""
    if any(step < 1 for step in steps) or list(steps) != sorted(set(steps)):
        raise ValueError(f"{name} must be rising steps from 1 on, got {', '.join(map(str, steps))}")


WORLDS: dict[str, WorldSize] = {"tiny": TINY, "large": LARGE}


def require_world(name: str) -> WorldSize:
    """The size of the world called `name`. Raises ValueError, naming the worlds, for any other."""
    if name not in WORLDS:
        raise ValueError(f"world must be one of {', '.join(WORLDS)}, got {name!r}")
    return WORLDS[name]
