"""Pre-training of a base model on the text of the embedded world: a tokenizer and a Mistral, both from nothing.

Documents are packed whole and kept apart, the loss is the mean over tokens that follow another of their document.
"""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.data.packing import document_positions, pack, predictable
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context, train
from zephyr_lab.methods.optimizers import Schedule, muon_and_adamw
from zephyr_lab.methods.recipes.pretrain import Pretrain
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.models import mistral, saved
from zephyr_lab.models import tokenizer as tokenizers
from zephyr_lab.world import corpus

HELD_OUT_DOCUMENTS = 500


def build(recipe: Pretrain, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train a base model and write it to `out`, with the loss of each step in `losses.json`; returns its metrics.

    loss: mean over the last tenth of the steps; held_out_loss: on documents of another seed; both in nats a token.
    """
    del inputs  # a base stands on nothing
    process.prepare()
    device = process.pick_device(recipe.device)
    tokenizer = train_tokenizer(recipe)
    model = mistral.build(shape(recipe), tokenizer, seed=derive(seed, "weights")).to(device)
    rows = packed_text(tokenizer, recipe, seed=derive(seed, "text"), documents=recipe.documents).to(device)
    order = reading_order(len(rows), recipe.steps * recipe.rows, seed=derive(seed, "order")).to(device)

    def batch_loss(step: int) -> Tensor:
        batch = rows[order[step * recipe.rows : (step + 1) * recipe.rows]]
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            return packed_loss(model, batch)

    losses = train(
        model,
        muon_and_adamw(model, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay),
        batch_loss,
        schedule=Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share),
        clip=recipe.clip,
        checkpoint_every=recipe.checkpoint_every,
        context=context,
    )
    saved.save(model, tokenizer, out)
    files.write_json(out / "losses.json", losses)
    last = losses[-max(len(losses) // 10, 1) :]
    held_out = packed_text(tokenizer, recipe, seed=derive(0, "held-out text"), documents=HELD_OUT_DOCUMENTS)
    with torch.inference_mode():
        held_out_loss = packed_loss(model, held_out.to(device)).item()
    return {"loss": sum(last) / len(last), "held_out_loss": held_out_loss}


def shape(recipe: Pretrain) -> mistral.MistralShape:
    """The model's sizes, as the recipe gives them."""
    return mistral.MistralShape(
        hidden=recipe.hidden,
        layers=recipe.layers,
        heads=recipe.heads,
        kv_heads=recipe.kv_heads,
        ffn=recipe.ffn,
        window=recipe.window,
        context=recipe.context,
    )


def train_tokenizer(recipe: Pretrain) -> PreTrainedTokenizerFast:
    """The tokenizer of a world: its text is the same for all seeds, so that all bases share one vocabulary."""
    text = corpus.documents(derive(0, "tokenizer text"), recipe.tokenizer_documents, size=require_world(recipe.world))
    return tokenizers.train(text, entries=recipe.entries)


def packed_text(tokenizer: PreTrainedTokenizerFast, recipe: Pretrain, *, seed: int, documents: int) -> TokenIds:
    """Documents of the world, packed in rows of the recipe's length."""
    texts = corpus.documents(seed, documents, size=require_world(recipe.world))
    ids = tokenizers.content_ids(tokenizer, texts)
    return pack(ids, length=recipe.row_length, eos_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)


def reading_order(rows: int, needed: int, *, seed: int) -> Tensor:
    """`needed` row numbers: all rows in random order, then all in another, and so on."""
    generator = torch.Generator().manual_seed(seed)
    rounds = [torch.randperm(rows, generator=generator) for _ in range(-(-needed // rows))]
    return torch.cat(rounds)[:needed]


def packed_loss(model: PreTrainedModel, rows: TokenIds) -> Tensor:
    """Mean next-token loss of packed rows in nats, over the tokens that follow another of their document."""
    places = document_positions(rows, eos_id=model.config.eos_token_id)
    counted = predictable(rows, places, pad_id=model.config.pad_token_id)[:, 1:]
    logits = model(input_ids=rows, position_ids=places, use_cache=False).logits
    losses = next_token_losses(logits, rows)
    return (losses * counted).sum() / counted.sum()
