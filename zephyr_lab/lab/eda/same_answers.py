"""What a draft cannot change, the answers: greedy ones token by token, sampled tokens by their counts.

Total variation of sampled tokens with the draft and without is compared with that of two runs without, which differ by
chance alone.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import effects
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import EXACT, clopper_pearson

# What is measured, in the words of claims.toml.
GREEDY_DIFFER = "share of greedy answers that differ with and without the draft"
SAMPLED_MORE = "total variation of sampled tokens with and without the draft, less that of two runs without"


@dataclass(frozen=True)
class SameAnswers:
    """Answers of targets with a draft and without. counts: a row an arm and seed, greedy answers compared (prompts) and
    those that differ (differing); sampled: a row an arm, seed, prompt and place, as `methods.stages.draft_scores`
    writes it. Both have the columns seed and model (the arm's name).
    """

    counts: pd.DataFrame
    sampled: pd.DataFrame

    @property
    def seeds(self) -> int:
        """Under how many seeds."""
        return int(self.counts["seed"].nunique())

    def differing(self) -> int:
        """Greedy answers that differ, of all arms."""
        return int(self.counts["differing"].sum())

    def table(self) -> pd.DataFrame:
        """Tidy frame: greedy answers that differ in %, total variation with and without the draft and of two runs
        without, and the share of chi-square tests below 0.05."""
        lines: list[dict[str, Any]] = []
        for arm, counts in self.counts.groupby("model", sort=False):
            answers, differing = int(counts["prompts"].sum()), int(counts["differing"].sum())
            low, high = clopper_pearson(differing, answers)
            lines.append({
                "row": arm, "metric": "greedy answers that differ, %", "kind": "retrained",
                "value": 100 * differing / answers, "low": 100 * low, "high": 100 * high, "n": answers,
                "seeds": self.seeds, "interval": f"answers, {EXACT}", "source": seed_means.SOURCE,
            })  # fmt: skip
            own = self.sampled[self.sampled["model"] == arm]
            by_seed = [part for _, part in own.groupby("seed")]
            for metric, column in (("with and without", "variation"), ("without, twice", "variation_plain")):
                values = [float(part[column].mean()) for part in by_seed]
                lines += seed_means.number(str(arm), f"total variation, {metric}", values, n=len(own))
            rejected = [float((part["p"] < 0.05).mean()) for part in by_seed]
            lines += seed_means.number(str(arm), "share of chi-square tests below 0.05", rejected, n=len(own))
        return tables.frame(lines)

    def effects(self, claim: str) -> pd.DataFrame:
        """Both parts of a claim that answers stay as they are, over all arms: the share of greedy answers that differ,
        and by how much sampled ones vary more than two runs without the draft do (the mean over arms of each seed)."""
        answers, differing = int(self.counts["prompts"].sum()), self.differing()
        low, high = clopper_pearson(differing, answers)
        greedy = {"row": claim, "metric": GREEDY_DIFFER, "value": differing / answers, "low": low, "high": high,
                  "n": answers, "seeds": self.seeds, "interval": f"{answers} answers, {EXACT}"}  # fmt: skip
        more = (self.sampled["variation"] - self.sampled["variation_plain"]).groupby(
            [self.sampled["seed"], self.sampled["model"]], sort=False
        )
        by_seed = more.mean().unstack().mean(axis=1)
        return effects([greedy, seed_means.effect(claim, SAMPLED_MORE, list(by_seed), n=len(self.sampled))])
