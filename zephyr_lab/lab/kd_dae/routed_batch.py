"""A real batch of a finished DAE run: which teacher each row follows, and how far the student is from it (Figure 3).

Kothari et al. 2024, arXiv 2406.19112, section 2.2. Nothing is trained here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.paper_figures import RoutedRow, routing
from zephyr_lab.reporting.style import Picture


@dataclass(frozen=True)
class RoutedBatch:
    """A batch of DAE. batch: its number from 0; rows: of each is_domain, teacher ("expert", "general", "" for none),
    tokens, loss_before and loss_after: its divergence in nats a token before the first update and after the last."""

    batch: int
    rows: list[dict[str, Any]]

    def general_loss(self) -> float:
        """The largest loss of a general row before training; 0 by eq. 6, since the student still is the reference."""
        return max((row["loss_before"] for row in self.rows if not row["is_domain"]), default=0.0)

    def shows(self) -> dict[str, bool]:
        """What Figure 3 must hold to show which teacher a row follows, and whether it does; what `check.item` takes."""
        domain, general = ([row for row in self.rows if row["is_domain"] is kind] for kind in (True, False))
        return {
            "a row of each teacher": {row["teacher"] for row in self.rows} >= {"expert", "general"},
            "rows of both kinds": bool(domain and general),
            "a student that has left its reference": any(row["loss_after"] > 0 for row in general),
            "domain rows that began away from their expert": any(row["loss_before"] > 0 for row in domain),
        }

    def save(self, id: str) -> Path:
        """Write the batch to build/<profile>/tables/<id>.csv, register and return it."""
        rows = pd.DataFrame(self.rows).assign(batch=self.batch + 1)
        losses = {name: rows[name].map("{:.6g}".format) for name in ("loss_before", "loss_after")}
        return tables.save_words(rows.assign(**losses), id)

    def picture(self, of: str) -> Picture:
        """Figure 3; `of`: whose batch it is, e.g. "seed 0"."""
        return routing([RoutedRow(**row) for row in self.rows], title=f"batch {self.batch + 1} of {of}")


def routed_batch(run: Stage) -> RoutedBatch:
    """The first batch with rows of both kinds of a DAE run, as its student starts and as it ends."""
    return RoutedBatch(**files.read_json(get(reading(run)) / "routing.json"))


def reading(run: Stage) -> Stage:
    """The stage that reads the batch with the start and the final model of a DAE run."""
    inputs = {**run.inputs, "aligned": run}
    return Stage("routing", "zephyr_lab.methods.stages.dae:build_routing", run.recipe, seed=run.seed, inputs=inputs)
