"""Acceptance lengths of drafts against one target: exact expectations from teacher-forced passes, and the real loop."""

from pathlib import Path

from zephyr_lab.training.loop import Context
from zephyr_lab.training.recipes.draft_scores import DraftScores


def build(recipe: DraftScores, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Measure the drafts named in `recipe.drafts` against `inputs["target"]` on the prompts of `inputs["prompts"]`.

    Writes scores.json, columns with one entry a draft, temperature (0 or the recipe's), draft length, prompt and
    sample: draft, temperature, length, prompt (its number from 0), sample, tokens, passes (their expectation given the
    answer, exact; at temperature 0 a whole number), authors_sum and authors_kept (expectations of tokens / (passes - 1)
    and of 1 over answers of two passes and more, else 0: the authors' tau is the ratio of their sums).

    With loop_prompts also loop.json, columns with one entry a draft, temperature, method ("chain" or "tree") and
    prompt: tokens, passes as the loop counted them. With timed also speed.json, one entry a draft, temperature, method
    and repeat: seconds and tokens with the draft, without it, prompts' order, and seconds of a target pass and of a
    draft step.

    Metrics: "<draft>/tau_t0", "<draft>/tau_t1" at the first of `recipe.lengths` (sum of tokens / sum of passes).
    """
    raise NotImplementedError
