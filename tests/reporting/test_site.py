"""The report: safe outputs, links that work, numbers side by side, built once, and nothing fetched."""

import dataclasses
import html as html_module
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from site_project import HOSTILE, code, markdown, notebook, printed, record, shown, write_project, write_run
from zephyr_lab.reporting import claims, ledger, tables
from zephyr_lab.reporting.site import builder, content, notebooks, pages
from zephyr_lab.reporting.site.content import Number


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout."""
    write_project(tmp_path)
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the small checkout, built once for all tests that read it."""
    root = tmp_path_factory.mktemp("checkout")
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEPHYR_LAB_ROOT", str(root))
        return builder.build("tiny").index.parent


@pytest.fixture
def without_sphinx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are their sources, in tags: for tests of what is built when, not of how it looks."""

    def copy(source: Path, target: Path, *, doctrees: Path) -> None:
        for path in [*source.rglob("*.md"), *source.rglob("*.ipynb")]:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                prose = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
                text = "\n".join(prose)
            copied = (target / path.relative_to(source)).with_suffix(".html")
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_text(f"<article>{text}</article>", encoding="utf-8")

    monkeypatch.setattr(builder, "run_sphinx", copy)


def number(value: float | None, low: float | None = None, high: float | None = None, **changed) -> Number:
    described = {"row": "gpt-4", "metric": "mt_bench", "kind": "recomputed", "value": value, "low": low, "high": high}
    line = described | changed
    return Number(line["row"], line["metric"], line["kind"], tables.estimate(line), line.get("source"))


def page(built: Path, name: str) -> str:
    return (built / name).read_text(encoding="utf-8")


def words(html: str) -> str:
    """What a reader reads: tags taken out, spaces made one."""
    body = html_module.unescape(re.sub(r"<[^>]+>", " ", html[html.index("<article") :]))
    return " ".join(body.split())


# --- what the pages say ---------------------------------------------------------------------------------------------


def test_index_names_items_with_status_notebook_parameters_and_time(built):
    said = words(page(built, "index.html"))
    assert "Table 1: chat benchmarks partial 13 · Chat scores profile=tiny seeds=3 beta=0.1 · 52 s" in said
    assert "Figure 2: the three steps ok committed" in said
    assert "Math target, greedy missing comes with notebook 31" in said
    assert "1 reproduced, 3 not measured yet" in said
    assert 'src="figures/zephyr/tab1.png"' in page(built, "index.html")


def test_ledger_page_tells_claims_with_reasons(built):
    said = words(page(built, "ledger.html"))
    assert "Z6 Zephyr scores above its teacher's student" in said
    assert "Source: Section 5 7.34 direction only +0.3 [+0.01, +0.6], n 80 reproduced +0.42 [+0.1, +0.74], n 80" in said
    assert "the interval lies above 0" in said and "6.86 > 6.41 (Table 1)" in said
    assert "eda-1 Unmeasured" in said and "– – not measured yet" in said
    assert "differs mpt-7b-chat 5.46 [4.91, 5.98] 5.42 Table 1" in said
    assert "8.990625 8.990625" in said


def test_a_finding_beside_nothing_printed_is_noted_and_a_tolerance_is_shown(project):
    finding = {"what": "speed-up", "ours": 1.5, "interval": None, "published": None, "source": "S3-2", "agrees": None}
    covered = {"what": "covered", "got": 95, "expected": 96, "tolerance": 5, "holds": True}
    shown = content.collect("tiny", stale=())
    page = pages.ledger_page(dataclasses.replace(shown, findings=(finding,), exact=(covered,)))
    assert "noted" in page and "differs" not in page
    assert "must be exact" not in page and "96 to within 5" in page


def test_results_that_were_kept_say_why_and_the_reason_is_shown_as_text(project):
    path = project / "build/tiny/notebooks/13_scores.run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    reason = {"stage": "base", "seeds": [0], "because": "a <b>renamed</b> loop", "source": ["a", "b"]}
    record |= {"kept": [reason], "stages": [{**record["stages"][0], "kept": [reason]}]}
    path.write_text(json.dumps(record), encoding="utf-8")
    shown = "kept over a change of source (base): a &lt;b&gt;renamed&lt;/b&gt; loop"
    assert shown in pages.ledger_page(content.collect("tiny", stale=()))
    assert "kept: a &lt;b&gt;renamed&lt;/b&gt; loop" in pages.notebook_header(content.Run("13_scores", path, record))


def test_runs_at_one_time_count_once_by_the_clock():
    # 0 to 60 and 30 to 90 overlap, 200 to 210 stands alone: 90 + 10
    records = [{"finished": end, "seconds": seconds} for end, seconds in ((90.0, 60.0), (60.0, 60.0), (210.0, 10.0))]
    assert content.clock_seconds(records) == 100.0
    assert content.clock_seconds([]) == 0.0


def test_item_page_sets_published_committed_and_this_run_side_by_side(built):
    said = words(page(built, "items/zephyr-tab1.html"))
    assert "llama-2-70b-chat mt bench 6.86 6.85 [6.42, 7.25] 6.86 [6.43, 7.26] recomputed 80 80 questions" in said
    assert "retrained : comes with the trained models" in said
    assert "0123456789ab with uncommitted changes" in said
    assert "data:mt_bench_scores.csv absent" in said


def with_samples(root: Path, count: int = 2) -> None:
    """A committed item that is a table of answers, without picture."""
    items = root / "papers/items.toml"
    entry = '\n[[items]]\nid = "zephyr/samples"\ntitle = "Samples"\nkind = "retrained"\nnotebook = "12"\n'
    items.write_text(items.read_text(encoding="utf-8") + entry, encoding="utf-8")
    answers = "".join(f'dDPO,"answer {number} <b>bold</b>"\n' for number in range(count))
    (root / "figures/zephyr/samples.csv").write_text(f"model,text\n{answers}", encoding="utf-8")
    path = root / "figures/ledger.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    samples = {"id": "zephyr/samples", "kind": "retrained", "status": "ok", "files": ["figures/zephyr/samples.csv"]}
    path.write_text(json.dumps(told | {"items": [*told["items"], samples]}), encoding="utf-8")


def test_a_table_without_picture_is_shown_row_by_row(project, without_sphinx):
    with_samples(project)
    site_folder = builder.build("tiny").index.parent
    said = words(page(site_folder, "items/zephyr-samples.html"))
    assert "Nothing has been made yet" not in said
    assert "model text dDPO answer 0 <b>bold</b> dDPO answer 1 <b>bold</b>" in said
    assert "a table, no picture Samples ok committed" in words(page(site_folder, "index.html"))
    assert "Nothing has been made yet" in words(page(site_folder, "items/eda-math_t0.html"))


def test_a_long_table_is_cut_and_says_so(project, without_sphinx):
    with_samples(project, count=content.SHEET_ROWS + 3)
    said = words(page(builder.build("tiny").index.parent, "items/zephyr-samples.html"))
    assert f"answer {content.SHEET_ROWS - 1}" in said and f"answer {content.SHEET_ROWS} " not in said
    assert "3 more rows in samples.csv." in said


def test_kinds_are_those_that_are_there_and_what_is_lacking_says_why(project, without_sphinx):
    path = project / "figures/ledger.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["items"][1] |= {"status": "partial", "present": [], "lacking": {"recomputed": "no files"}}
    path.write_text(json.dumps(told), encoding="utf-8")
    site_folder = builder.build("tiny").index.parent
    said = words(page(site_folder, "items/zephyr-tab1.html"))
    assert "partial recomputed + quoted" in said and "retrained : comes with the trained models" in said
    ledger_said = words(page(site_folder, "ledger.html"))
    assert "recomputed + quoted retrained: comes with the trained models" in ledger_said
    assert "recomputed: no files" in ledger_said  # the reason of a committed item, which no fragment holds


MATRIX = {
    "versions": {"transformers": "5.0", "torch": "2.13"},
    "columns": ["shared prompt", "packing"],
    "families": [
        {"family": "llama", "class": "LlamaForCausalLM", "cells": {
            "shared prompt": {"state": "exact", "reason": "", "error": 2.4e-15},
            "packing": {"state": "refused", "reason": "rows <leak>", "error": None}}},
        {"family": "gpt2", "class": "GPT2LMHeadModel", "cells": {
            "shared prompt": {"state": "refused", "reason": "rows <leak>", "error": None},
            "packing": {"state": "absent", "reason": "no such layer", "error": None}}},
    ],
    "adapter_columns": ["packing"],
    "adapters": [{"adapter": "LoRA", "cells": {"packing": {"state": "exact", "reason": "", "error": 1e-6}}}],
}  # fmt: skip


def write_matrix(root: Path, matrix: dict) -> None:
    (root / "benchmarks").mkdir(exist_ok=True)
    (root / "benchmarks/model_matrix.json").write_text(json.dumps(matrix), encoding="utf-8")


def test_the_matrix_of_model_families_is_a_page_by_word_symbol_and_reason(project, without_sphinx):
    without = builder.build("tiny").index.parent
    assert not (without / "families.html").exists() and "model families" not in words(page(without, "index.html"))
    write_matrix(project, MATRIX)
    made = builder.build("tiny")
    assert made.built  # the file is an input of the site
    said = words(page(made.index.parent, "families.html"))
    assert "2 families, 1 kind of adapter, cells: 2 exact, 2 refused, 1 absent" in said
    assert "adapter packing LoRA ✓ exact 1e-06" in said
    assert "with transformers 5.0, torch 2.13 on" in said
    assert "shared prompt 1 1 0 packing 0 1 1" in said
    assert "llama LlamaForCausalLM ✓\xa0exact 2e-15 ✕\xa0refused [1]".replace("\xa0", " ") in said
    assert "gpt2 GPT2LMHeadModel ✕ refused [1] – absent [2]" in said
    assert said.count("rows <leak>") == 1  # each reason once
    index = words(page(made.index.parent, "index.html"))
    assert "model families 2 families, 1 kind of adapter, cells: 2 exact, 2 refused, 1 absent" in index


def test_every_local_address_of_the_site_exists(built):
    missing = []
    for path in built.rglob("*.html"):
        for address in re.findall(r'(?:href|src)="([^"#?]+)', path.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", address):
                continue
            if not (path.parent / address).exists():
                missing.append(f"{path.relative_to(built)}: {address}")
    assert missing == []


def test_links_between_notebooks_lead_to_pages_and_others_become_text(built):
    text = page(built, "notebooks/13_scores.html")
    assert 'href="00_start.html#map"' in text
    assert 'href="../papers/zephyr/NOTES.html"' in text
    assert "to a file" in words(text) and "pyproject.toml" not in text
    assert "Go to" in words(page(built, "notebooks/00_start.html")) and "12_absent" not in page(
        built, "notebooks/00_start.html"
    )


def test_formulas_are_drawn_by_the_sites_own_mathjax(built):
    text = page(built, "notebooks/13_scores.html")
    assert re.search(r'<script[^>]+src="\.\./_static/mathjax\.js', text)
    assert "\\sigma(\\beta \\Delta)" in text
    assert (built / "_static" / "mathjax.js").stat().st_size > 1_000_000


# --- text of models -------------------------------------------------------------------------------------------------


def test_text_of_models_is_shown_and_never_obeyed(built):
    text = page(built, "notebooks/13_scores.html")
    assert "<script>window.forged" not in text
    assert "&lt;script&gt;window.forged = true" in text
    assert "<img src=https" not in text


@pytest.mark.parametrize(
    "given, kept",
    [
        ('<b onclick="x()">bold</b>', "<b>bold</b>"),
        ('<a href="javascript:x()">a</a>', "<a>a</a>"),
        ('<img src="https://example.invalid/a.png" alt="a">', '<img alt="a">'),
        ('<img src="data:image/png;base64,AA==">', '<img src="data:image/png;base64,AA==">'),
        ("<form><input></form>", "&lt;form&gt;&lt;input&gt;&lt;/form&gt;"),
        ('<p style="color: grey; background: url(//example.invalid)">1</p>', '<p style="color: grey;">1</p>'),
        ('<p style="padding: 2px 10px; cursor: url(//example.invalid)">1</p>', '<p style="padding: 2px 10px;">1</p>'),
        ('<p style="position: fixed; top: 0">1</p>', '<p style="">1</p>'),
        ("<style>#T_a td {color: red}</style>x", "<style>#T_a td {color: red}</style>x"),
        ("<style>#T_a td {color: red} body {display: none}</style>x", "x"),
        ("<style>@import 'https://example.invalid'</style>x", "x"),
        ("<style>a{background:url(//example.invalid)}</style>x", "x"),
    ],
)
def test_html_is_cut_down_to_what_may_stand_in_a_page(given, kept):
    assert notebooks.safe_html(given) == kept


@pytest.mark.parametrize("active", ["<script>x()</script>", '< SCRIPT src="//example.invalid">', '<iframe srcdoc="x">'])
def test_scripts_live_in_a_frame_without_origin_and_network(active):
    framed = notebooks.safe_html(f"<p>before</p>{active}")
    assert framed.count("<iframe") == 1 and 'sandbox="allow-scripts"' in framed
    assert "allow-same-origin" not in framed
    assert "default-src &#x27;none&#x27;" in framed
    assert active.replace("&", "&amp;") not in framed


def test_markdown_of_outputs_shows_html_as_text():
    assert "&lt;script&gt;" in notebooks.markdown_to_html(HOSTILE)
    assert "<td>1</td>" in notebooks.markdown_to_html("|a|\n|-|\n|1|\n")


def test_raw_html_cannot_end_its_own_fence():
    content = "a\n```\n{raw} html\n````\nb"
    fenced = notebooks.raw(content)
    assert fenced.startswith("`````{raw} html\n") and fenced.endswith("\n`````\n")


# --- notebooks ------------------------------------------------------------------------------------------------------


def test_prepared_notebook_keeps_what_a_reader_needs_and_loses_machine_records():
    widget = {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}}
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["no"]}
    given = notebook(markdown("# Title"), code("x", widget, printed("hello"), error, shown(plain="7"), count=4))
    made = notebooks.prepare(given, header="<p>facts</p>", link=lambda target: None)
    title, header, cell = made["cells"]
    assert title["source"] == "# Title" and "<p>facts</p>" in header["source"]
    assert [output["output_type"] for output in cell["outputs"]] == ["stream", "error", "display_data"]
    assert cell["metadata"] == {} and "papermill" not in made["metadata"]


def test_links_in_code_and_outside_links_are_left_alone():
    text = "`[a](b.ipynb)` [c](https://example.org/x) ![p](q.png)\n```\n[d](e.ipynb)\n```\n[f](g.ipynb)"
    assert notebooks.rewrite_links(text, lambda target: None) == text.replace("[f](g.ipynb)", "f")


def test_a_notebook_without_record_is_no_result(project):
    # A killed kernel leaves a saved notebook that claims success.
    folder = project / "build/tiny/notebooks"
    (folder / "20_killed.ipynb").write_text(json.dumps(notebook(markdown("# 20"))), encoding="utf-8")
    assert [run.name for run in content.runs("tiny")] == ["00_start", "13_scores"]


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, shown",
    [
        (number(6.856, 6.43, 7.26), "6.86 [6.43, 7.26]"),
        (number(0.123456, 0.1231, 0.1238), "0.12346 [0.12310, 0.12380]"),
        (number(812.0, 500.0, 1100.0), "812.00 [500.00, 1100.00]"),
        (number(5.42), "5.42"),
        (number(None), pages.NONE),
        (None, pages.NONE),
    ],
)
def test_numbers_have_digits_that_their_interval_supports(given, shown):
    assert pages.number(given) == shown


def test_beside_matches_by_row_metric_and_kind():
    quoted = number(7.0, kind="quoted")
    alone = number(9.0, kind="quoted", row="other")
    old, new = number(6.0, 5.0, 7.0), number(6.5, 5.5, 7.5)
    trained = number(3.0, 2.0, 4.0, kind="retrained")
    lines = content.beside([quoted, old], [quoted, new, trained, alone])
    assert [(line.row, line.kind, line.published, line.committed, line.ours) for line in lines] == [
        ("gpt-4", "recomputed", quoted, old, new),
        ("gpt-4", "retrained", quoted, None, trained),
        ("other", "quoted", alone, None, None),
    ]


def test_files_of_the_ledger_have_their_place_on_the_site():
    assert content.address("build/world-gpu/tables/zephyr/tab1.csv") == "tables/zephyr/tab1.csv"
    assert content.address("figures/zephyr/tab1.csv") == "committed/zephyr/tab1.csv"


def test_a_table_that_is_no_table_of_scores_gives_no_numbers(tmp_path):
    (tmp_path / "curve.csv").write_text("step,loss\n1,0.5\n", encoding="utf-8")
    assert content.numbers(tmp_path / "curve.csv") == []
    assert content.numbers(tmp_path / "absent.csv") == []


def test_every_verdict_has_its_place_in_the_counts():
    assert set(pages.VERDICTS) == set(claims.VERDICTS)


def test_the_reference_holds_public_functions_with_their_docstrings_and_keeps_lines():
    packages = pages.packages()
    names = {one.name for _, functions in packages.values() for one in functions}
    assert {"methods.dpo.train_dpo", "losses.dpo.dpo_loss", "lab.Laboratory.dpo", "lab.ComparedArms.means"} <= names
    assert not [name for name in names if name.rpartition(".")[2].startswith("_")]
    page = pages.api_page()
    assert "dpo_loss(policy: PairLogProbs, reference: PairLogProbs, *, beta: float)" in page
    assert "\n\nDPO loss of each preference pair" in page and pages.LINE_END not in page


# --- building -------------------------------------------------------------------------------------------------------


def test_nothing_is_built_twice_and_a_changed_input_is_noticed(project, without_sphinx):
    first = builder.build("tiny")
    again = builder.build("tiny")
    assert (first.built, again.built, again.pages) == (True, False, first.pages)
    (project / "build/tiny/ledger/13_scores.json").touch()
    assert builder.build("tiny").built is False  # a date is no change
    stale = builder.build("tiny", stale=["13_scores"])
    assert stale.built and "stale" in page(stale.index.parent, "items/zephyr-tab1.html")
    table = project / "build/tiny/tables/zephyr/tab1.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("6.856", "6.943"), encoding="utf-8")
    rebuilt = builder.build("tiny")
    assert rebuilt.built and "6.94 [6.43, 7.26]" in page(rebuilt.index.parent, "items/zephyr-tab1.html")


def test_a_damaged_site_is_built_again(project, without_sphinx):
    index = builder.build("tiny").index
    (index.parent / "ledger.html").unlink()
    assert builder.build("tiny").built and (index.parent / "ledger.html").is_file()


def test_an_outside_reference_is_refused_and_the_old_site_stays(project, without_sphinx):
    before = builder.build("tiny").index.read_bytes()
    outside = notebook(markdown("# 14 · Outside\n\n<img src='https://example.invalid/a.png'>"))
    write_run(project, "14_outside", "14 · Outside", outside)
    with pytest.raises(ValueError, match=r"notebooks/14_outside.html: https://example.invalid/a.png"):
        builder.build("tiny")
    assert (project / "build/tiny/site/index.html").read_bytes() == before
    assert not (project / "build/tiny/.site").exists()


def test_sphinx_warnings_are_errors_that_name_the_page(project):
    write_run(project, "14_broken", "14 · Broken", notebook(markdown("# 14 · Broken\n\n{doc}`nowhere`")))
    with pytest.raises(ValueError, match=r"could not be built: notebooks/14_broken.ipynb.*nowhere"):
        builder.build("tiny")


def test_the_site_of_this_checkout_builds(tmp_path, monkeypatch):
    # Every notebook's prose, every note and equation, the real items and claims: a warning in one of them shows here.
    here = Path(__file__).resolve().parents[2]
    for name in ("papers", "figures"):
        if (here / name).is_dir():
            shutil.copytree(here / name, tmp_path / name)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    sources = sorted((here / "notebooks").glob("*.ipynb"))
    for source in sources:
        write_run(tmp_path, source.stem, source.stem, json.loads(source.read_text(encoding="utf-8")))
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    made = builder.build("tiny")
    names = {path.stem for path in (made.index.parent / "notebooks").glob("*.html")}
    assert names == {source.stem for source in sources}
    assert len(list((made.index.parent / "items").glob("*.html"))) == len(ledger.items())


def test_a_fresh_clone_has_a_site_of_committed_results(project, without_sphinx):
    for path in sorted((project / "build").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    made = builder.build("tiny")
    said = words(page(made.index.parent, "index.html"))
    assert "no notebook has been run here; committed results are shown" in said
    assert "6.85 [6.42, 7.25]" in words(page(made.index.parent, "items/zephyr-tab1.html"))


@pytest.mark.parametrize(
    "html, found",
    [
        ('<img src="https://example.invalid/a">', 1),
        ('<link href="//example.invalid/a.css">', 1),
        ('<a href="https://example.invalid/a">a</a>', 0),
        ('<img src="a.png"><img src="data:image/png;base64,//AA">', 0),
        ('<iframe srcdoc="&lt;img src=https://example.invalid/a&gt;"></iframe>', 0),
    ],
)
def test_outside_references_are_what_a_browser_would_fetch(tmp_path, html, found):
    (tmp_path / "a.html").write_text(html, encoding="utf-8")
    assert len(builder.outside_references(tmp_path)) == found


def test_style_sheets_are_looked_through_too(tmp_path):
    (tmp_path / "a.css").write_text("@font-face{src:url('https://example.invalid/f.woff')} a{background:url(b.png)}")
    assert builder.outside_references(tmp_path) == ["a.css: https://example.invalid/f.woff"]


def test_asking_again_loads_neither_sphinx_nor_pandas(project, without_sphinx):
    builder.build("tiny")
    code_ = (
        "from zephyr_lab.reporting.site import builder; import sys\n"
        "print(builder.build('tiny').built, sorted({'sphinx', 'pandas', 'myst_nb', 'bleach'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code_], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["False", "[]\n"]


def test_records_of_the_fixture_have_the_runs_schema():
    assert {"schema", "notebook", "title", "profile", "seeds", "parameters", "stages", "inputs", "seconds"} <= set(
        record("13_x", "13")
    )
