"""The ledger as frames for a notebook: items, claims, and how many claims of each paper have which verdict."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from zephyr_lab.reporting import claims, ledger
from zephyr_lab.reporting.check_shown import effect_text

TITLES = {"zephyr": "Zephyr", "kd_dae": "KD + DAE", "eda": "EDA", "overview": "overview documents"}


def items_frame(told: Mapping[str, Any]) -> pd.DataFrame:
    """One row an item: what it is, the kinds of number it shows here, whether it is there, what is lacking and why, and
    the notebook that makes it."""
    known = ledger.items()
    return pd.DataFrame(
        [
            {
                "item": item["id"],
                "what": known[item["id"]].title,
                "shows": "+".join(item["present"]),
                "status": item["status"],
                "lacking": ledger.lacking_text(item),
                "notebook": known[item["id"]].notebook,
            }
            for item in told["items"]
        ]
    )


def claims_frame(told: Mapping[str, Any]) -> pd.DataFrame:
    """One row a claim: the statement, what was published for it, the verdict, the effect with interval and counts."""
    known = claims.everything()
    return pd.DataFrame(
        [
            {
                "claim": claim["id"],
                "statement": known[claim["id"]].statement,
                "published": known[claim["id"]].published,
                "verdict": claim["verdict"],
                "effect [95 %]": effect_text(claim),
            }
            for claim in told["claims"]
        ]
    )


def verdict_counts(told: Mapping[str, Any]) -> pd.DataFrame:
    """How many claims of each paper, (paper, verdict), have each verdict that occurs, in the order of `VERDICTS`."""
    verdicts = {claim["id"]: claim["verdict"] for claim in told["claims"]}
    counts = {
        TITLES[paper]: Counter(verdicts[claim.id] for claim in claims.load(paper) if claim.id in verdicts)
        for paper in claims.PAPERS
    }
    occurring = [verdict for verdict in claims.VERDICTS if verdict in verdicts.values()]
    return pd.DataFrame(
        [[count[verdict] for verdict in occurring] for count in counts.values()],
        index=pd.Index(list(counts), name="paper"),
        columns=occurring,
    )
