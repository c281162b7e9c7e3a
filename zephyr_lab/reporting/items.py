"""Names of the tables and figures that the lab regenerates: "zephyr/tab1", "zephyr/fig1_categories"."""

import re

_ID = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")


def require_id(id: str) -> str:
    """`id` itself. Raises ValueError for anything but paper/name, so that no file lands elsewhere."""
    if not _ID.fullmatch(id):
        raise ValueError(f"an id is paper/name in small letters, digits and _, such as 'zephyr/tab1'; got {id!r}")
    return id
