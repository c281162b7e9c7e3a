"""The process that executes one notebook with papermill: `python -m zephyr_lab.engine.notebook_process JOB`.

papermill changes directories and runs one notebook at a time, so each notebook gets a process of its own. The kernel is
a child that ends with it; they talk through sockets in a private folder, never over a port. Exit 0: every cell ran.
"""

import json
import os
import sys
from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.engine.processes import die_with_parent

KERNEL = "from zephyr_lab.engine.notebook_process import run_kernel; run_kernel()"


def run_kernel() -> None:
    """An IPython kernel that ends with the notebook process, whose number is in the environment."""
    die_with_parent(int(os.environ["ZEPHYR_LAB_KERNEL_PARENT"]))
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


def main(job_path: str) -> int:
    job = json.loads(Path(job_path).read_text())
    die_with_parent(job["parent"])
    os.environ["ZEPHYR_LAB_KERNEL_PARENT"] = str(os.getpid())
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class PrivateKernelManager(AsyncKernelManager):
        """This interpreter's kernel, over IPC sockets in the job's own folder (short: socket names are limited)."""

        @default("transport")
        def _transport(self) -> str:
            return "ipc"

        @default("ip")
        def _socket_prefix(self) -> str:
            return str(Path(job["private"]) / "kernel")

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            return [sys.executable, "-c", KERNEL, "-f", self.connection_file, *(extra_arguments or [])]

    try:
        papermill.execute_notebook(
            job["notebook"],
            job["output"],
            parameters=job["parameters"],
            cwd=str(Path(job["notebook"]).parent),
            progress_bar=False,
            log_output=False,
            start_timeout=120,
            kernel_manager_class=PrivateKernelManager,
        )
        _forget_paths(Path(job["output"]))
    except Exception as error:
        files.write_json(Path(job["private"]) / "error.json", {"message": _one_line(error)})
        raise
    return 0


def _forget_paths(executed: Path) -> None:
    """Executed notebooks are published; papermill notes in them where they lay on this machine."""
    notebook = files.read_json(executed)
    for name in ("input_path", "output_path"):
        notebook["metadata"].get("papermill", {}).pop(name, None)
    files.write_json(executed, notebook)


def _one_line(error: Exception) -> str:
    """`cell 4: ValueError: ...` for an error in a cell; the class and first line of any other."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    count = getattr(error, "exec_count", None)
    first = next(iter(str(value).splitlines()), "")
    return f"cell [{count}]: {name}: {first}" if count else f"{name}: {first}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
