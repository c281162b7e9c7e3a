"""A real chromium that can reach this machine only, and a JupyterLab of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "a-token-for-tests"
SETTINGS = {
    # A "Select Kernel" dialog would cover the page while the status already says idle; all cells must be drawn.
    "notebook-extension/tracker": {"autoStartDefaultKernel": True, "windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}


def find_browser() -> str | None:
    """The browser named by ZEPHYR_LAB_BROWSER, else the first known one on PATH."""
    return os.environ.get("ZEPHYR_LAB_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without window. Skips where there is none."""
    path = find_browser()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on PATH, and ZEPHYR_LAB_BROWSER is not set")
    playwright = pytest.importorskip("playwright.sync_api")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium refuses its sandbox to root
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """An open page, and what it tried to fetch from elsewhere."""

    page: Any
    outside: list[str]
    errors: list[str]


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Visit]:
    """A fresh page; every request that is not to a file or to this machine is stopped and listed."""
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
    page = context.new_page()
    opened = Visit(page, [], [])

    def gate(route: Any) -> None:
        address = route.request.url
        if address.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "ws://127.0.0.1:")):
            route.continue_()
        else:
            opened.outside.append(address)
            route.abort()

    context.route("**/*", gate)
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    yield opened
    page.screenshot(path=tmp_path / "last.png")  # what a failed test saw
    context.close()


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address and the folder it serves."""

    url: str
    folder: Path

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def notebook(self, number: str) -> tuple[Path, int]:
        """The copy of this notebook, set to the smallest profile and seeds, and the number of its code cells."""
        path = next(self.folder.glob(f"notebooks/{number}_*.ipynb"))
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        parameters = "".join(cells[0]["source"]).replace('profile: str = "tiny"', 'profile: str = "smoke"')
        cells[0]["source"] = parameters.replace("seeds: int = 3", "seeds: int = 2")
        assert '"smoke"' in cells[0]["source"] and "= 2" in cells[0]["source"]
        path.write_text(json.dumps(content), encoding="utf-8")
        return path, len(cells)

    def wait_for_kernel(self, page: Any) -> None:
        """Wait until the one kernel is idle and the page connected to it, as Run All needs it to be.

        The page shows "idle" before the kernel is connected, and Run All would then run nothing and say nothing.
        Waiting is the page's: its requests pass through this process, and a sleep would stop them all.
        """
        for _ in range(600):
            kernels = self._kernels()
            if kernels and kernels[0]["execution_state"] == "idle" and kernels[0]["connections"] >= 1:
                return
            page.wait_for_timeout(100)
        raise AssertionError("no kernel became idle and connected within a minute")

    def _kernels(self) -> list[dict[str, Any]]:
        """The kernels; an empty list while one is being started, when the server knows its id but not its state."""
        try:
            return self.get("api/kernels")
        except TimeoutError:  # a busy machine
            return []
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            return []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what notebooks read, so that running them leaves this checkout as it is."""
    folder = tmp_path / "checkout"
    for name in ("notebooks", "papers", "figures"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def lab(browser: Any, checkout: Path, tmp_path: Path) -> Iterator[Lab]:
    """JupyterLab on loopback with a token and private folders; ended by its process id."""
    private = tmp_path / "jupyter"
    for name, content in SETTINGS.items():
        path = private / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    folders = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    variables = {variable: str(private / folder) for variable, folder in folders.items()}
    variables |= {"JUPYTER_TOKEN": TOKEN, "ZEPHYR_LAB_ROOT": str(checkout)}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    command += [f"--ServerApp.root_dir={checkout}", *(["--allow-root"] if os.geteuid() == 0 else [])]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
    try:
        yield Lab(_address(server, private / "runtime"), checkout)
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen, runtime: Path) -> str:
    """Where the server listens, from the file it writes when it is ready."""
    information = runtime / f"jpserver-{server.pid}.json"
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended at once with status {server.returncode}")
        if information.is_file() and (text := information.read_text(encoding="utf-8")).endswith("}"):
            return f"http://127.0.0.1:{json.loads(text)['port']}/"
        time.sleep(0.1)
    raise RuntimeError("JupyterLab did not start within a minute")
