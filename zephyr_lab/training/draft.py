"""Training drafts of speculative decoding: from nothing for one target, and adapting them to another.

Lin et al. 2026, arXiv 2603.09527, read from the authors' code (papers/eda/NOTES.md).
"""

from pathlib import Path

from zephyr_lab.training.loop import Context
from zephyr_lab.training.recipes.draft import DraftRecipe


def build(recipe: DraftRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train the arms of `recipe` on the answers of `inputs["target"]`'s dialogues, one after another.

    Inputs: "target", a model folder; "draft", a stage of this module, where an arm starts from one; and the dialogues
    that `recipe.data` names, folders with train.jsonl (and test.jsonl, for held-out losses).

    Writes, a folder an arm: draft.json (kind, sizes, what was trained) and draft.safetensors for a feature draft,
    a plain model folder with its tokenizer beside draft.json for a causal one; log.json, a row a step; steps/<n>/, the
    draft after n steps, for each n of `recipe.keep_at`. An arm that trains "none" is a copy of its start.

    Metrics, by arm, "<arm>/...": parameters trained; share_of_draft, share_with_embedding, share_of_full_width;
    loss_start, loss (of the last tenth of the steps), held_out_loss_start, held_out_loss where there are held-out rows;
    seconds (CPU, of the steps alone).
    """
    raise NotImplementedError
