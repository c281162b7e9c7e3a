"""A base model of the hub as a stage: fetched into the hub's own cache once, and referred to from there."""

from pathlib import Path

from huggingface_hub import snapshot_download

from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.hub_model import HubModel
from zephyr_lab.models import saved

FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")


def build(recipe: HubModel, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Download the model unless the cache has it, and write a reference to the commit that was found to `out`."""
    del seed, inputs, context
    snapshot = snapshot_download(recipe.model, revision=recipe.revision, allow_patterns=list(FILES))
    saved.refer(out, model=recipe.model, commit=Path(snapshot).name)
    return {}
