"""A training's log as TensorBoard's event files, where tensorboard or tensorboardX is installed.

Written from the finished log, so that every value is the log's own, also after a run was killed and resumed. Nothing is
sent anywhere.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

WRITERS = {"tensorboard": "torch.utils.tensorboard", "tensorboardX": "tensorboardX"}  # package -> its writer's module
NEEDS = "tensorboard=... needs the package tensorboard or tensorboardX: pip install tensorboard"


def require() -> str:
    """The module of the first writer that is installed. Raises ImportError, in one line, where there is none."""
    for package, module in WRITERS.items():
        if find_spec(package) is not None:
            return module
    raise ImportError(NEEDS)


def write(rows: Iterable[Mapping[str, float | int]], folder: Path | str) -> None:
    """A scalar for each number of each row but its `step`, under the number's own name, at that step."""
    with import_module(require()).SummaryWriter(str(folder)) as writer:
        for row in rows:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, int(row["step"]))
