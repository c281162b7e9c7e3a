"""The pages of the site as Markdown: index, ledger, one page an item. Words and layout only; nothing is read here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from zephyr_lab.engine.run_records import kept_lines
from zephyr_lab.reporting import model_matrix
from zephyr_lab.reporting.claims import Claim
from zephyr_lab.reporting.ledger import effect_text, finding_word, other_seeds, required
from zephyr_lab.reporting.site_content import Item, Line, Run, Sheet, Told, clock_seconds
from zephyr_lab.reporting.site_html import (
    NONE,
    badge,
    bullets,
    duration,
    interval,
    number,
    on_demand,
    parameters,
    plain,
    table,
    text,
    whole,
)  # fmt: skip
from zephyr_lab.reporting.site_notebooks import raw

PAPERS = {
    "zephyr": "Zephyr",
    "kd_dae": "KD + DAE",
    "eda": "EDA",
    "teaching": "Teaching",
    "overview": "Documents",
}
# From good news to no news; the order in which counts are told.
VERDICTS = (
    "reproduced", "direction only", "right", "not resolved", "imprecise", "unsupported", "contradicted", "wrong",
    "not testable here", "not measured yet",
)  # fmt: skip
SUMMARY = (
    "Published tables and figures of alignment by distillation, each value beside the one measured here, with an "
    "interval and a verdict that a program reached."
)


def item_title(item: Item) -> str:
    return f"{_paper(item.paper)} · {item.described.title}"


def index_page(told: Told, papers: Sequence[str]) -> str:
    """The front page: state of the run, a card for each item, the notebooks. `papers` are pages of notes."""
    groups = dict.fromkeys(item.paper for item in told.items)
    cards = [
        f"## {_paper(paper)}\n\n"
        + raw('<div class="zl-cards">' + "".join(_card(item) for item in told.items if item.paper == paper) + "</div>")
        for paper in groups
    ]
    parts = [
        "# zephyr_lab\n",
        SUMMARY + "\n",
        raw(_state(told)),
        *cards,
        "## Notebooks of this run\n",
        raw(_notebook_table(told.runs)),
        _toctree("Results", ["ledger", *(["families"] if told.families else [])]),
        *(_toctree(_paper(paper), [_entry(item) for item in told.items if item.paper == paper]) for paper in groups),
        _toctree("Notebooks", [f"notebooks/{run.name}" for run in told.runs]),
        _toctree("Notes", papers),
    ]
    return "\n".join(parts)


def ledger_page(told: Told) -> str:
    """All items and all claims with their verdicts; findings and integrity checks of this run's notebooks."""
    origin = "this run" if told.ledger["source"] == "build" else "the committed figures"
    old = told.committed
    committed = f" Committed: profile `{old['profile']}`, {_seeds(old)}." if old else ""
    parts = [
        "# Ledger\n",
        f"Profile `{told.profile}`, {_seeds(told.ledger)}; read from {origin}.{committed}\n",
        "## Items\n",
        raw(_items_table(told.items)),
        "## Claims\n",
        raw(_verdict_counts(told.ledger["claims"])),
        *(f"### {_paper(paper)}\n\n{raw(_claims_table(told, paper))}" for paper in told.claims),
    ]
    if told.findings:
        heading = "## Findings of this run\n\nA difference from a paper is a finding, never an error.\n"
        parts += [heading, raw(_findings_table(told.findings))]
    seeds = other_seeds(told.ledger, told.committed)
    if seeds:
        parts.insert(2, f"{seeds}.\n")
    if told.exact:
        parts += ["## Integrity of this run\n", raw(_exact_table(told.exact))]
    kept = kept_lines(run.record for run in told.runs)
    if kept:
        heading = "## Results kept\n\nNot trained again: somebody said why the change moves no number.\n"
        parts += [heading, raw(bullets(text(line) for line in kept))]
    return "\n".join(parts)


def item_page(item: Item) -> str:
    """One table or figure: the picture, the numbers side by side, and where each comes from."""
    title = item_title(item)
    parts = [f"# {title}\n", raw(f'<p class="zl-facts">{badge(item.status)} {_kinds(item)}</p>')]
    if item.lacking:
        listed = bullets(f"<b>{text(what)}</b>: {text(why)}" for what, why in item.lacking.items())
        parts.append(raw(f"<p>What is lacking</p>{listed}"))
    if item.figures:
        note = "<p>This run has not drawn it: the committed figure is shown.</p>" if item.is_committed else ""
        shown = (f'<figure><img src="../{text(name)}" alt="{text(title)}"></figure>' for name in item.figures)
        parts.append(raw(f'{note}<div class="zl-figures">{"".join(shown)}</div>'))
    if item.lines:
        parts += ["## Published, committed, this run\n", raw(_side_by_side(item.lines) + _sources(item.lines))]
    if item.sheets and not item.figures and not item.lines:
        parts += ["## Rows\n", *(raw(_sheet(sheet)) for sheet in item.sheets)]
    if not item.files:
        parts.append("Nothing has been made yet: neither this run nor the committed figures hold it.\n")
    parts += ["## How it was made\n", raw(_made(item))]
    return "\n".join(parts)


def notebook_header(run: Run) -> str:
    """The line under a notebook's title: parameters, time, end; the full record on demand."""
    facts = [parameters(run.record), duration(run.record.get("seconds")), _when(run)]
    return f'<p class="zl-facts">{" · ".join(filter(None, facts))}</p>' + _record(run.record)


def _paper(key: str) -> str:
    return PAPERS.get(key, key)


def _seeds(ledger: dict[str, Any]) -> str:
    return "no seeds yet" if ledger["seeds"] is None else f"{ledger['seeds']} seeds"


def _entry(item: Item) -> str:
    return f"{item.described.title} <{item.page}>"


def _state(told: Told) -> str:
    statuses = Counter(item.status for item in told.items)
    verdicts = Counter(claim["verdict"] for claim in told.ledger["claims"])
    records = [run.record for run in told.runs]
    made = f"{len(told.runs)} notebooks in {duration(clock_seconds(records))} by the clock"
    if len(records) > 1:
        made += f" (added up: {duration(sum(record['seconds'] for record in records))})"
    facts = {
        "profile": f"{text(told.profile)}, {_seeds(told.ledger)}",
        "this run": made if told.runs else "no notebook has been run here; committed results are shown",
        "items": text(", ".join(f"{count} {status}" for status, count in statuses.most_common())),
        '<a href="ledger.html">claims</a>': text(", ".join(f"{verdicts[v]} {v}" for v in VERDICTS if verdicts[v])),
    }
    if told.families:
        facts['<a href="families.html">model families</a>'] = text(model_matrix.summary(told.families))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value or NONE}</dd></div>" for name, value in facts.items())
    return f'<dl class="zl-state">{listed}</dl>'


def _card(item: Item) -> str:
    thumbnail = f'<img loading="lazy" src="{text(item.thumbnail)}" alt="">' if item.thumbnail else None
    if item.run is not None:
        record = item.run.record
        made = f"{text(item.run.title)}<br>{parameters(record)} · {duration(record.get('seconds'))}"
    else:
        made = "committed" if item.files else f"comes with notebook {text(item.described.notebook)}"
    return (
        f'<a class="zl-card" href="{item.page}.html">'
        f'<span class="zl-thumb">{thumbnail or ("a table, no picture" if item.files else "no picture yet")}</span>'
        f"<span><b>{text(item.described.title)}</b> {badge(item.status)}</span>"
        f"<small>{made}</small></a>"
    )


def _notebook_table(runs: Sequence[Run]) -> str:
    if not runs:
        return "<p>None: <code>make reproduce</code> runs them all, <code>zephyr-lab run 13</code> one of them.</p>"
    rows = (
        [
            f'<a href="notebooks/{run.name}.html">{text(run.title)}</a>',
            parameters(run.record),
            str(len(run.record.get("stages", []))),
            duration(run.record.get("seconds")),
            _when(run),
        ]
        for run in runs
    )
    return table(["notebook", "parameters", "stages", "time", "finished"], rows)


def _items_table(items: Iterable[Item]) -> str:
    rows = (
        [
            f'<a href="{item.page}.html">{text(item_title(item))}</a>',
            badge(item.status),
            _kinds(item),
            "; ".join(f"{text(what)}: {text(why)}" for what, why in item.lacking.items()),
        ]
        for item in items
    )
    return table(["item", "status", "kinds of number", "what is lacking"], rows)


def _kinds(item: Item) -> str:
    """The kinds of number that are there; all that belong to it where none is."""
    return text(" + ".join(item.present)) or f"to come: {text(item.described.kind)}"


def _sheet(sheet: Sheet) -> str:
    shown = table(sheet.header, ([text(cell) for cell in row] for row in sheet.rows), "zl-sheet")
    rest = sheet.total - len(sheet.rows)
    return shown + (f"<p>{rest} more rows in {text(sheet.name)}.</p>" if rest else "")


def _verdict_counts(claims: Sequence[dict[str, Any]]) -> str:
    counted = Counter(claim["verdict"] for claim in claims)
    told = (f"{badge(verdict)} {counted[verdict]}" for verdict in VERDICTS if counted[verdict])
    return f'<p class="zl-facts">{" &ensp; ".join(told)}</p>'


def _claims_table(told: Told, paper: str) -> str:
    before = {claim["id"]: claim for claim in (told.committed or {"claims": []})["claims"]}
    now = {claim["id"]: claim for claim in told.ledger["claims"]}
    rows = (
        [
            f'<span id="{text(claim.id)}">{text(claim.id)}</span>',
            text(claim.statement) + on_demand("more", _reason(claim, told.reasons.get(claim.id, {}))),
            text(claim.published or "–"),
            _verdict(before[claim.id]) if claim.id in before else NONE,
            _verdict(now[claim.id]),
        ]
        for claim in told.claims[paper]
    )
    return table(["", "claim", "published", "committed", "this run"], rows, "zl-claims")


def _reason(claim: Claim, reason: dict[str, Any]) -> str:
    """Why the verdict is what it is, how the claim is tested, and where it is made."""
    why = f"<p>{text(reason['why'])}</p>" if reason.get("why") else ""
    facts = bullets(text(fact) for fact in reason.get("facts") or ())
    return f"{why}{facts}<p>Test: {text(claim.test)}</p><p>Source: {text(claim.source)}</p>"


def _verdict(claim: dict[str, Any]) -> str:
    return badge(claim["verdict"]) + (f"<br>{text(effect_text(claim))}" if claim["effect"] is not None else "")


def _findings_table(findings: Iterable[dict[str, Any]]) -> str:
    rows = (
        [
            badge(finding_word(finding)),
            text(finding["what"]),
            plain(finding["ours"]) + interval(finding.get("interval")),
            plain(finding["published"]),
            text(finding.get("source") or ""),
        ]
        for finding in findings
    )
    return table(["", "what", "ours", "published", "source"], rows)


def _exact_table(exact: Iterable[dict[str, Any]]) -> str:
    rows = ([text(check["what"]), text(check["got"]), text(required(check))] for check in exact)
    return table(["check", "got", "must be"], rows)


def _side_by_side(lines: Iterable[Line]) -> str:
    rows = []
    for line in lines:
        latest = line.ours or line.committed
        rows.append(
            [
                text(line.row),
                text(line.metric.replace("_", " ")),
                f'<span class="zl-published">{number(line.published)}</span>',
                number(line.committed),
                number(line.ours),
                text(line.kind),
                whole(latest.n if latest else None),
                text(latest.interval or "") if latest else "",
            ]
        )
    header = ["row", "metric", "published", "committed", "this run", "kind", "n", "interval of"]
    return table(header, rows, "zl-numbers")


def _sources(lines: Iterable[Line]) -> str:
    found = dict.fromkeys(
        (line.row, one.kind, one.source)
        for line in lines
        for one in (line.published, line.ours or line.committed)
        if one is not None and one.source
    )
    rows = [[text(cell) for cell in entry] for entry in found]
    return on_demand("Sources of these numbers", table(["row", "kind", "source"], rows) if rows else "")


def _made(item: Item) -> str:
    addresses = bullets(f'<a href="../{text(name)}">{text(name)}</a>' for name in item.files)
    downloads = f"<p>Files</p>{addresses}" if addresses else ""
    if item.run is None:
        return "<p>Not by this run.</p>" + downloads
    record = item.run.record
    link = f'<a href="../notebooks/{item.run.name}.html">{text(item.run.title)}</a>'
    return f"<p>{link} · {parameters(record)} · {duration(record.get('seconds'))}</p>{downloads}{_record(record)}"


def _record(record: dict[str, Any]) -> str:
    """The run's record on demand: code, machine, versions, inputs and stages."""
    made = record.get("provenance", {})
    git = made.get("git") or {}
    changed = " with uncommitted changes" if git.get("changed") else ""
    inputs = bullets(
        f"<code>{text(name)}</code> {digest[:12] if digest else 'absent'}"
        for name, digest in record.get("inputs", {}).items()
    )
    stages = bullets(
        f"<code>{text(stage['name'])}</code> seed {stage['seed']} <code>{text(stage['key'][:12])}</code>"
        + "".join(f", kept: {text(reason['because'])}" for reason in stage.get("kept", []))
        for stage in record.get("stages", [])
    )
    facts = {
        "code": text((git["commit"][:12] if git.get("commit") else "not a git checkout") + changed),
        "machine": text(", ".join(str(made[key]) for key in ("cpu", "system") if made.get(key))),
        "Python": text(made.get("python", "")),
        "versions": text(", ".join(f"{name} {version}" for name, version in made.get("packages", {}).items())),
        "inputs": inputs,
        "stages": stages,
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items() if value)
    return on_demand("Record of the run", f"<dl>{listed}</dl>", "zl-record")


def _when(run: Run) -> str:
    finished = run.record.get("finished")
    return f"{datetime.fromtimestamp(finished, UTC):%Y-%m-%d %H:%M} UTC" if finished else ""


def _toctree(caption: str, pages: Sequence[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]) if pages else ""
