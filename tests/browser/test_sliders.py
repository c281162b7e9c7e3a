"""Notebook 40's sliders in a real browser: live in JupyterLab, and their twin on a page of the report."""

import shutil
from pathlib import Path

import pytest

from site_project import code, markdown, notebook, shown, write_project, write_run
from zephyr_lab.reporting.site import builder
from zephyr_lab.teaching import controls

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "runs" / "smoke" / "toy"
TIMEOUT = 180_000  # milliseconds, for a slow machine
TRAINING = 600_000  # the notebook's toys are computed by a worker, which waits where others hold the machine's slots


def test_in_jupyterlab_a_moved_slider_moves_value_and_picture(lab, visit, tmp_path):
    from playwright.sync_api import expect

    path, cells = lab.notebook("40")
    if STORED.is_dir():  # a stage that stands need not be computed again
        shutil.copytree(STORED, lab.folder / STORED.relative_to(ROOT))
    page = visit.page
    page.set_viewport_size({"width": 1400, "height": 3000})
    page.goto(f"{lab.url}lab/tree/notebooks/{path.name}?token=a-token-for-tests")
    page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for(state="attached", timeout=TIMEOUT)
    lab.wait_for_kernel(page)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last = page.locator(".jp-CodeCell .jp-InputPrompt").last
    reads = "([prompt, text]) => prompt.textContent === text"
    page.wait_for_function(reads, arg=[last.element_handle(), f"[{cells}]:"], timeout=TRAINING)
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0

    value, picture = page.locator(".zl-value"), page.locator(".widget-image, img.jupyter-widgets").first
    value.wait_for(timeout=TIMEOUT)
    assert value.inner_text() == controls.explore(0.5, 0.0, 100).caption
    before = picture.get_attribute("src")
    handle = page.get_by_role("slider").first  # beta, which starts at 0.5
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expected = controls.explore(2.0, 0.0, 100).caption
    expect(value).to_have_text(expected, timeout=TIMEOUT)
    expect(picture).not_to_have_attribute("src", before, timeout=TIMEOUT)
    page.screenshot(path=tmp_path / "sliders.png")
    assert visit.outside == []


def test_on_a_page_of_the_report_the_twin_moves_without_a_network(visit, tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    root.mkdir()
    write_project(root)
    twin = controls.twin()
    executed = notebook(
        markdown("# 40 · From RLHF to DPO"), code("controls.play()", shown(html=twin.html, plain=repr(twin)))
    )
    write_run(root, "40_rlhf_to_dpo", "40 · From RLHF to DPO", executed)
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(root))
    visit.page.goto((builder.build("tiny").index.parent / "notebooks" / "40_rlhf_to_dpo.html").as_uri())
    frame = visit.page.frame_locator(".zl-frame iframe")
    value = frame.locator("p.value")
    value.wait_for()
    assert value.inner_text() == controls.explore(0.5, 0.0, 100).caption
    before = frame.locator("rect.bar").evaluate_all("bars => bars.map(bar => bar.getAttribute('height'))")
    assert len(before) == 15
    frame.get_by_label("beta").focus()
    for _ in range(3):
        visit.page.keyboard.press("ArrowRight")
    assert value.inner_text() == controls.explore(2.0, 0.0, 100).caption
    after = frame.locator("rect.bar").evaluate_all("bars => bars.map(bar => bar.getAttribute('height'))")
    assert after != before
    frame.get_by_label("share of wrong labels").press("End")
    frame.get_by_label("preferences").press("End")
    assert value.inner_text() == controls.explore(2.0, 0.4, 3000).caption
    visit.page.screenshot(path=tmp_path / "twin.png")
    assert (visit.outside, visit.errors) == ([], [])
