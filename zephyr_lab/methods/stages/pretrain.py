"""Base models as stages: a tokenizer and a Mistral from nothing on the embedded world, or a model of the hub."""

from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import PreTrainedTokenizerFast

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.pretrain import packed_loss, packed_rows, train_base
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.methods.recipes.pretrain import BaseTraining, HubModel, Pretrain
from zephyr_lab.methods.recipes.training import settings_of
from zephyr_lab.models import mistral, saved
from zephyr_lab.models import tokenizer as tokenizers
from zephyr_lab.world import corpus

HELD_OUT_DOCUMENTS = 500
FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")  # of a hub's model: no pickles, which can run code


def build(recipe: Pretrain, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train a base model and write it to `out`, with the loss of each step in `losses.json`; returns its metrics.

    loss: mean over the last tenth of the steps; held_out_loss: on documents of another seed; both in nats a token.
    """
    del inputs  # a base starts from nothing
    process.prepare()
    device = process.pick_device(recipe.device)
    tokenizer = train_tokenizer(recipe)
    model = mistral.build(settings_of(recipe, mistral.MistralShape), tokenizer, seed=derive(seed, "weights")).to(device)
    log = train_base(
        model,
        tokenizer,
        texts(recipe, seed=derive(seed, "text"), documents=recipe.documents),
        recipe=settings_of(recipe, BaseTraining),
        seed=seed,
        checkpoints=context.checkpoints,
        progress=context.progress,
    )
    saved.save(model, tokenizer, out)
    losses = log["loss"].tolist()
    files.write_json(out / "losses.json", losses)
    last = losses[-max(len(losses) // 10, 1) :]
    with torch.inference_mode():
        held_out_loss = packed_loss(model, tokenizer, held_out(recipe, tokenizer).to(device)).item()
    return {"loss": sum(last) / len(last), "held_out_loss": held_out_loss}


def train_tokenizer(recipe: Pretrain) -> PreTrainedTokenizerFast:
    """The tokenizer of a world: its text is the same for all seeds, so that all bases share one vocabulary."""
    text = texts(recipe, seed=derive(0, "tokenizer text"), documents=recipe.tokenizer_documents)
    return tokenizers.train(text, entries=recipe.entries)


def held_out(recipe: Pretrain, tokenizer: PreTrainedTokenizerFast) -> TokenIds:
    """Documents that no base has read, the same for all seeds, in rows of the recipe's length."""
    documents = texts(recipe, seed=derive(0, "held-out text"), documents=HELD_OUT_DOCUMENTS)
    return packed_rows(tokenizer, documents, length=recipe.row_length)


def texts(recipe: Pretrain, *, seed: int, documents: int) -> list[str]:
    """Documents of the recipe's world."""
    return corpus.documents(seed, documents, size=require_world(recipe.world))


def build_hub_model(
    recipe: HubModel, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Download the model unless the cache has it, and write a reference to its commit to `out`."""
    del seed, inputs, context
    snapshot = snapshot_download(recipe.model, revision=recipe.revision, allow_patterns=list(FILES))
    saved.refer(out, model=recipe.model, commit=Path(snapshot).name)
    return {}
