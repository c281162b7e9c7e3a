"""Write the versions installed in this environment to constraints.txt, the one lock.

    .venv/bin/python tools/lock.py        (or `make lock`)

Versions lose their local part (`2.13.0+cpu` -> `2.13.0`), so that the same file serves a laptop and a GPU server;
the project itself, editable lines and paths are left out, so that it serves every machine.
"""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HEADER = """\
# The one lock: exact versions that the committed figures were made with. Written by `make lock`; read by pip as
# `pip install -c constraints.txt`. No local versions (+cpu), no paths: one file for laptop, GPU server and conda.
"""


def constraints(freeze: str) -> str:
    """The text of constraints.txt for the output of `pip freeze`, sorted by name without regard to case.

    A line `name @ url` (installed from a file) is pinned by the version that is installed here.
    Raises ValueError for a line of any other kind.
    """
    pins = {}
    for line in map(str.strip, freeze.splitlines()):
        if not line or line.startswith(("#", "-e ")):
            continue
        pinned = re.fullmatch(r"([\w.-]+)==([\w.!]+)(\+[\w.]+)?", line)
        from_file = re.match(r"([\w.-]+) @ ", line)
        if pinned:
            name, number = pinned[1], pinned[2]
        elif from_file:
            name, number = from_file[1], version(from_file[1]).partition("+")[0]
        else:
            raise ValueError(f"not a line of `pip freeze`: {line!r}")
        if name.lower().replace("_", "-") != "zephyr-lab":
            pins[name] = number
    lines = [f"{name}=={pins[name]}" for name in sorted(pins, key=str.lower)]
    return HEADER + "\n".join(lines) + "\n"


def main() -> None:
    target = Path(__file__).resolve().parent.parent / "constraints.txt"
    freeze = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"], check=True, capture_output=True, text=True
    ).stdout
    text = constraints(freeze)
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        print("constraints.txt is up to date")
        return
    target.write_text(text, encoding="utf-8")
    print(f"wrote constraints.txt: {text.count('==')} versions")


if __name__ == "__main__":
    main()
