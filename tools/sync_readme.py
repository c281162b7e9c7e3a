"""Bring README's result table in line with figures/ledger.json.

.venv/bin/python tools/sync_readme.py        (`make figures` calls it)
"""

import re
from collections import Counter
from pathlib import Path

from zephyr_lab.reporting import ledger

README = Path(__file__).resolve().parent.parent / "README.md"
BETWEEN = re.compile(r"(<!-- results: [^>]*-->\n).*?(<!-- results end -->)", re.DOTALL)
PAPERS = {"zephyr": "Zephyr", "kd_dae": "KD + DAE", "eda": "EDA", "teaching": "Teaching"}


def results() -> str:
    """The table of items with their committed status and the command that makes each, and the sums."""
    committed = ledger.committed() or {"items": [], "claims": []}
    known = {item["id"]: item for item in committed["items"]}
    rows = [
        f"| {PAPERS[item.id.partition('/')[0]]} | {item.title} | {_kinds(item, known.get(item.id, {}))} "
        f"| {known.get(item.id, {}).get('status', 'missing')} | `zephyr-lab run {item.notebook}` |"
        for item in ledger.items().values()
    ]
    return "\n".join(
        [
            "| paper | item | kinds | committed | command |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            _sums(committed),
        ]
    )


def _kinds(item: ledger.Item, committed: dict) -> str:
    """The kinds of number that the committed item holds; those that belong to it where its ledger is an older one."""
    return ", ".join(committed.get("present", item.kinds)) or "none"


def synced(text: str) -> str:
    """README's `text` with the table as it should be. Raises ValueError where the two markers are missing."""
    if not BETWEEN.search(text):
        raise ValueError(
            "README.md lacks the markers of the result table (<!-- results: ... --> and <!-- results end -->)"
        )
    return BETWEEN.sub(lambda found: f"{found[1]}{results()}\n{found[2]}", text)


def _sums(committed: dict) -> str:
    if not committed["claims"]:
        return "Nothing is committed yet: `make figures` fills this table."
    verdicts = Counter(claim["verdict"] for claim in committed["claims"]).most_common()
    told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts)
    return (
        f"Committed at profile {committed['profile']} with {committed['seeds']} seeds. "
        f"{len(committed['claims'])} claims of the papers and of documents about them: {told}."
    )


def main() -> None:
    before = README.read_text(encoding="utf-8")
    after = synced(before)
    if after != before:
        README.write_text(after, encoding="utf-8")
    print("README.md: " + ("result table renewed" if after != before else "up to date"))


if __name__ == "__main__":
    main()
