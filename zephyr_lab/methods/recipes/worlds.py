"""The embedded worlds that recipes can name."""

from zephyr_lab.world.facts import LARGE, TINY, WorldSize

WORLDS: dict[str, WorldSize] = {"tiny": TINY, "large": LARGE}


def require_world(name: str) -> WorldSize:
    """The size of the world called `name`. Raises ValueError, naming the worlds, for any other."""
    if name not in WORLDS:
        raise ValueError(f"world must be one of {', '.join(WORLDS)}, got {name!r}")
    return WORLDS[name]
