"""Notebook 13 in JupyterLab as a reader runs it: open, Run All, every cell counted, nothing fetched."""

import pytest

pytestmark = pytest.mark.browser

TIMEOUT = 180_000  # milliseconds, for a slow machine
TRAINING = 600_000  # the notebook trains its smallest models, and waits where others hold the machine's slots


def test_notebook_13_runs_from_top_to_bottom(lab, visit, tmp_path):
    notebook, cells = lab.notebook("13")
    visit.page.set_viewport_size({"width": 1400, "height": 3000})
    visit.page.goto(f"{lab.url}lab/tree/notebooks/{notebook.name}?token=a-token-for-tests")
    visit.page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for(state="attached", timeout=TIMEOUT)
    lab.wait_for_kernel(visit.page)
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
