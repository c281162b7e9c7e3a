"""Notebook 13 in JupyterLab as a reader runs it: open, Run All, every cell counted, nothing fetched."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

TIMEOUT = 180_000  # milliseconds, for a slow machine
TRAINING = 600_000  # the notebook trains its smallest models, and waits where others hold the machine's slots


def smallest(notebook: Path) -> int:
    """Set the copy's profile and seeds to the smallest; the number of its code cells."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    code[0]["source"] = "".join(code[0]["source"]).replace('profile: str = "tiny"', 'profile: str = "smoke"')
    code[0]["source"] = code[0]["source"].replace("seeds: int = 3", "seeds: int = 2")
    assert '"smoke"' in code[0]["source"] and "= 2" in code[0]["source"]
    notebook.write_text(json.dumps(content), encoding="utf-8")
    return len(code)


def wait_for_kernel(lab, page) -> None:
    # The page shows "idle" before the kernel is connected, and Run All would then run nothing and say nothing.
    # Waiting is the page's: its requests pass through this process, and a sleep would stop them all.
    for _ in range(600):
        kernels = lab.get("api/kernels")
        if kernels and kernels[0]["execution_state"] == "idle" and kernels[0]["connections"] >= 1:
            return
        page.wait_for_timeout(100)
    raise AssertionError("no kernel became idle and connected within a minute")


def test_notebook_13_runs_from_top_to_bottom(lab, visit, tmp_path):
    notebook = next(lab.folder.glob("notebooks/13_*.ipynb"))
    cells = smallest(notebook)
    visit.page.set_viewport_size({"width": 1400, "height": 3000})
    visit.page.goto(f"{lab.url}lab/tree/notebooks/{notebook.name}?token=a-token-for-tests")
    visit.page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for(state="attached", timeout=TIMEOUT)
    wait_for_kernel(lab, visit.page)
    visit.page.get_by_role("menuitem", name="Run", exact=True).click()
    visit.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last = visit.page.locator(".jp-CodeCell .jp-InputPrompt").last
    reads = "([prompt, text]) => prompt.textContent === text"
    visit.page.wait_for_function(reads, arg=[last.element_handle(), f"[{cells}]:"], timeout=TRAINING)
    counts = visit.page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    visit.page.screenshot(path=tmp_path / "notebook_13.png")
    assert counts == [f"[{number}]:" for number in range(1, cells + 1)]
    assert visit.page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    pictures = visit.page.locator(".jp-OutputArea-output img")
    assert pictures.count() >= 1
    assert pictures.evaluate_all("all => all.every(picture => picture.naturalWidth > 0)")
    assert sorted(path.stem for path in (lab.folder / "build/smoke/figures/zephyr").glob("*.svg")) != []
    assert visit.outside == []
