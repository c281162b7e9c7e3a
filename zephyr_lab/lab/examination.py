"""`zephyr-lab doctor`: are this machine and environment fit for the laboratory? A finding a line, each with a cure."""

import shutil
import sys
import tempfile
from importlib import metadata
from typing import Any

from zephyr_lab.core import paths, provenance
from zephyr_lab.core.profiles import require_profile

LEAST_MEMORY_GIB = 4.0  # two workers with torch, a kernel, and room
LEAST_DISK_GIB = 2.0


def examine(profile: str) -> list[dict[str, Any]]:
    """Findings {"what", "found", "state": ok|note|wrong, "advice"}; every "wrong" names what to do."""
    require_profile(profile)
    return [
        _python(),
        *_versions(),
        _finding("cores", provenance.available_cores(), "ok"),
        _memory(),
        _disk(),
        _gpu(profile),
        _writable(),
        _data(),
    ]


def _finding(what: str, found: object, state: str, advice: str = "") -> dict[str, Any]:
    return {"what": what, "found": str(found), "state": state, "advice": advice}


def _python() -> dict[str, Any]:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return _finding("python", found, "ok" if good else "wrong", "" if good else "use Python 3.11 or newer")


def _versions() -> list[dict[str, Any]]:
    """Each package of the lock that this lab names, against what is installed."""
    lock = paths.project_root() / "constraints.txt"
    if not lock.is_file():
        return [_finding("lock", "constraints.txt is absent", "note", "make lock")]
    wanted = dict(line.strip().split("==") for line in lock.read_text().splitlines() if "==" in line)
    findings = []
    for name in provenance.NAMED_PACKAGES:
        try:
            found = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            findings.append(_finding(name, "missing", "wrong", "make setup"))
            continue
        same = wanted.get(name) in (None, found)
        advice = "" if same else f"the committed figures were made with {wanted[name]} (make setup)"
        findings.append(_finding(name, found, "ok" if same else "note", advice))
    return findings


def _memory() -> dict[str, Any]:
    gib = provenance.memory_bytes() / 2**30
    good = gib >= LEAST_MEMORY_GIB
    return _finding("memory", f"{gib:.1f} GiB", "ok" if good else "note", "" if good else "run with ZEPHYR_LAB_SLOTS=1")


def _disk() -> dict[str, Any]:
    gib = shutil.disk_usage(paths.project_root()).free / 2**30
    good = gib >= LEAST_DISK_GIB
    return _finding("disk free", f"{gib:.1f} GiB", "ok" if good else "wrong", "" if good else "free some space")


def _gpu(profile: str) -> dict[str, Any]:
    cards = provenance.gpus()
    if cards:
        return _finding("gpu", "; ".join(cards), "ok")
    needed = profile in ("world-gpu", "gpu", "paper")
    advice = f"profile {profile} needs one; smoke and tiny do not" if needed else ""
    return _finding("gpu", "none", "wrong" if needed else "ok", advice)


def _writable() -> dict[str, Any]:
    try:
        with tempfile.TemporaryFile(dir=paths.project_root()):
            return _finding("checkout", "writable", "ok")
    except OSError as error:
        return _finding("checkout", f"not writable: {error.strerror}", "wrong", "clone into a folder of your own")


def _data() -> dict[str, Any]:
    """Released judgements at hand. A missing folder is a note: the rest of the lab needs none."""
    from zephyr_lab.data import released

    rows = released.listing()
    found = sum(row.found != "absent" for row in rows)
    advice = "" if found else "set ZEPHYR_LAB_DATA to a folder of released files (zephyr-lab list data)"
    return _finding("released files", f"{found} of {len(rows)}", "ok" if found else "note", advice)
