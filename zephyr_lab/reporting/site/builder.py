"""The static report of a profile: index of items, executed notebooks, ledger; opens from a memory stick.

Everything shown is read from files; nothing is executed and nothing is fetched, neither at build nor at view. The
site is built beside the old one and takes its place when it is whole, and only where an input has changed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path

from zephyr_lab.core import files, paths
from zephyr_lab.engine import processes

ASSETS = Path(__file__).with_name("assets")
SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """A finished site: where it opens, whether it had to be built, how many pages it has."""

    index: Path
    built: bool
    pages: int
    seconds: float


def build(profile: str, *, stale: Iterable[str] = ()) -> Report:
    """Bring `build/<profile>/site/` up to date with the run, the committed figures and the papers' files.

    stale: notebooks whose products are out of date. Raises ValueError where a page refers to something outside the site
    or Sphinx has any complaint, naming the page; the old site, if any, then stays as it was.
    """
    with processes.locked(paths.build_dir(profile) / ".locks" / "site"):  # a second report waits for the first one
        return _build(profile, frozenset(stale))


def _build(profile: str, stale: frozenset[str]) -> Report:
    begun = time.monotonic()
    target = paths.build_dir(profile) / "site"
    digest = inputs_digest(profile, stale)
    pages_before = _pages_up_to_date(target, digest)
    if pages_before is not None:
        return Report(target / "index.html", False, pages_before, time.monotonic() - begun)

    work = paths.build_dir(profile) / ".site"
    shutil.rmtree(work, ignore_errors=True)
    try:
        source, pages = work / "source", work / "html"
        write_source(profile, source, stale)
        run_sphinx(source, pages, doctrees=work / "doctrees")
        _finish(profile, source, pages)
        references = outside_references(pages)
        if references:
            raise ValueError("the report would need a network to be read: " + "; ".join(references[:5]))
        count = sum(1 for _ in pages.rglob("*.html"))
        files.write_json(pages / "site.json", {"schema": SCHEMA, "profile": profile, "digest": digest, "pages": count})
        _move_into_place(pages, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Report(target / "index.html", True, count, time.monotonic() - begun)


def inputs_digest(profile: str, stale: Iterable[str]) -> str:
    """One hash over all that the site is made of: names and bytes of its inputs, and the code that makes it."""
    lines = [f"{name} {files.sha256(path)}\n" for name, path in _inputs(profile)]
    known = sorted(path.name for path in paths.notebooks_dir().glob("*.ipynb"))
    rest = [f"schema {SCHEMA}\n", f"notebooks {known}\n", f"stale {sorted(stale)}\n"]
    return files.sha256_bytes("".join([*rest, *lines]).encode())


def write_source(profile: str, source: Path, stale: Iterable[str]) -> None:
    """Write the pages of `profile` as Sphinx reads them, below the new folder `source`."""
    from zephyr_lab.reporting.site import content, notebooks, pages

    site = content.collect(profile, stale)
    papers = _write_papers(source)
    known = {run.path.name: run.path.name for run in site.runs}
    _write(source / "index.md", pages.index_page(site, papers))
    _write(source / "ledger.md", pages.ledger_page(site, papers))
    _write(source / "api.md", pages.api_page())
    if site.families:
        _write(source / "families.md", pages.families_page(site.families))
    for item in site.items:
        _write(source / f"{item.page}.md", pages.item_page(item))
    for run in site.runs:
        page = notebooks.prepare(
            files.read_json(run.path),
            header=pages.notebook_header(run),
            link=lambda target: _place(target, known, papers),
        )
        _write(source / "notebooks" / f"{run.name}.ipynb", json.dumps(page))
    shutil.copy(ASSETS / "conf.py", source / "conf.py")
    static = source / "_static"
    static.mkdir()
    shutil.copy(ASSETS / "zephyr_lab.css", static)
    shutil.copy(mathjax(), static / "mathjax.js")


def run_sphinx(source: Path, target: Path, *, doctrees: Path) -> None:
    """Build the HTML pages in a process of their own, warnings as errors.

    Raises ValueError with Sphinx's first complaint, which names the page.
    """
    starter = [sys.executable, "-m", "zephyr_lab.reporting.site.sphinx_process", str(os.getpid())]
    command = [*starter, "-b", "html", "-q", "-W", "--keep-going", "-d", doctrees, source, target]
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
    if finished.returncode != 0:
        complaints = [line for line in finished.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
        first = (complaints or finished.stderr.strip().splitlines() or ["no message"])[0]
        raise ValueError(f"the report could not be built: {first.replace(str(source) + os.sep, '')}")


def mathjax() -> Path:
    """MathJax 3 as one file that draws SVG: no fonts, nothing to load later (Apache-2.0)."""
    package = metadata.distribution("sphinx-mathjax-offline")
    return Path(str(package.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js")))


def outside_references(site: Path) -> list[str]:
    """What the pages would fetch from another host, as "page: address". Plain links are not fetched and may stay."""
    in_style = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
    fetched = []
    for path in sorted(site.rglob("*.html")):
        page = _Fetched()
        page.feed(path.read_text(encoding="utf-8"))
        fetched += [(path, address) for address in page.addresses]
    for path in sorted(site.rglob("*.css")):
        fetched += [(path, address) for address in in_style.findall(path.read_text(encoding="utf-8"))]
    return [f"{path.relative_to(site)}: {address}" for path, address in fetched]


class _Fetched(HTMLParser):
    """Collects the outside addresses that a browser would fetch to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            return
        for name, value in attrs:
            fetched = name in ("src", "data", "srcset", "poster") or (
                name == "href" and tag in ("link", "image", "use")
            )
            if fetched and value and re.match(r"\s*(https?:)?//", value, re.IGNORECASE):
                self.addresses.append(value)


def _inputs(profile: str) -> Iterator[tuple[str, Path]]:
    """(logical name, file) of everything the site is made of, in a fixed order."""
    build_folder, root = paths.build_dir(profile), paths.project_root()
    trees = [(f"build/{name}", build_folder / name) for name in ("notebooks", "figures", "tables", "ledger")]
    trees += [
        ("figures", paths.figures_dir()),
        ("papers", paths.papers_dir()),
        ("reporting", Path(__file__).parents[1]),
    ]
    for name, folder in trees:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{name}/{path.relative_to(folder).as_posix()}", path
    for name in ("constraints.txt", "benchmarks/model_matrix.json"):
        if (root / name).is_file():
            yield name, root / name


def _pages_up_to_date(target: Path, digest: str) -> int | None:
    """How many pages the old site has, if it is whole and of these inputs."""
    record = target / "site.json"
    if not record.is_file():
        return None
    old = files.read_json(record)
    whole = (target / "index.html").is_file() and sum(1 for _ in target.rglob("*.html")) == old.get("pages")
    return old["pages"] if old.get("digest") == digest and whole else None


def _write_papers(source: Path) -> list[str]:
    """Copy the papers' notes and equations, as far as they are written; their page names."""
    pages = []
    for path in sorted(paths.papers_dir().glob("*/*.md")):
        name = f"papers/{path.parent.name}/{path.stem}"
        _write(source / f"{name}.md", path.read_text(encoding="utf-8"))
        pages.append(name)
    return pages


def _place(target: str, notebooks: dict[str, str], papers: list[str]) -> str | None:
    """Where a relative link of a notebook leads on the site; None where its target is not part of it."""
    path, _, anchor = target.partition("#")
    name = path.rpartition("/")[2]
    if name in notebooks:
        return notebooks[name] + (f"#{anchor}" if anchor else "")
    page = re.sub(r"^(\.\./)+", "", path).removesuffix(".md")
    return f"../{page}.md" if page in papers else None


def _finish(profile: str, source: Path, pages: Path) -> None:
    """Copy what pages show as it is: figures and tables of the run, committed figures."""
    for name in ("figures", "tables"):
        folder = paths.build_dir(profile) / name
        if folder.is_dir():
            shutil.copytree(folder, pages / name)
    if paths.figures_dir().is_dir():
        shutil.copytree(paths.figures_dir(), pages / "committed")
    for leftover in (pages / ".buildinfo", pages / "objects.inv"):
        leftover.unlink(missing_ok=True)


def _move_into_place(new: Path, target: Path) -> None:
    """Put the finished site where the old one stood; a reader meets the one or the other."""
    old = target.with_name(".site-old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
