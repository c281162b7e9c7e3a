"""Seeds for the parts of an experiment: independent of one another, the same on every machine."""

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) for one purpose of an experiment with seed `seed`, e.g. derive(0, "text", 3).

    Different purposes give unrelated streams, so that a part added later leaves the others as they were.
    """
    name = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1
