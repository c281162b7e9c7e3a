"""Mixtures of experts made from dense models as stages: upcycled from one, or merged from two. Nothing is trained."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_dialogues
from zephyr_lab.data.splits import TRAIN, dialogue_rows
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.mixtures import Merge, Upcycle
from zephyr_lab.models import mixtral, pairing, saved


def build_upcycle(
    recipe: Upcycle, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Write the mixture upcycled from `inputs["dense"]`. Metrics: parameters, and those of the dense model."""
    process.prepare()
    start = inputs["dense"] / recipe.start
    dense, tokenizer = saved.load_model(start, dtype=getattr(torch, recipe.dtype)), saved.load_tokenizer(start)
    mixture = mixtral.upcycle(
        dense,
        experts=recipe.experts,
        top=recipe.top,
        noise=recipe.noise,
        router_sd=recipe.router_sd,
        seed=derive(seed, "upcycle"),
    )
    saved.save(mixture, tokenizer, out)
    context.progress(1, 1)
    return {"parameters": float(mixture.num_parameters()), "dense_parameters": float(dense.num_parameters())}


def build_merge(recipe: Merge, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Write the mixture of `inputs["first"]` and `inputs["second"]`, with the first one's tokenizer.

    Routers from hidden states need dialogues in `inputs["first_prompts"]` and `inputs["second_prompts"]`. Metrics:
    parameters, and those of the first model. Raises ValueError for models of unlike architecture or tokenizer.
    """
    process.prepare()
    folders = {"first": inputs["first"] / recipe.first, "second": inputs["second"] / recipe.second}
    first, second = (saved.load_model(folder, dtype=getattr(torch, recipe.dtype)) for folder in folders.values())
    tokenizers = {name: saved.load_tokenizer(folder) for name, folder in folders.items()}
    pairing.require_same_tokenizer(**tokenizers)
    if recipe.router == "hidden":
        prompts = [texts(inputs[f"{name}_prompts"], tokenizers["first"], recipe.prompts) for name in folders]
        routers = mixtral.hidden_routers(first, prompts)
    else:
        routers = mixtral.random_routers(first, 2, sd=recipe.router_sd, seed=derive(seed, "routers"))
    mixture = mixtral.merge(first, second, shared=recipe.shared, routers=routers)
    saved.save(mixture, tokenizers["first"], out)
    context.progress(1, 1)
    return {"parameters": float(mixture.num_parameters()), "first_parameters": float(first.num_parameters())}


def texts(folder: Path, tokenizer: PreTrainedTokenizerBase, count: int) -> list[Tensor]:
    """Ids of the first `count` dialogues of a data stage, (1, position) each."""
    dialogues = dialogue_rows(folder, TRAIN).rows
    return [torch.tensor([encoded.ids]) for encoded in encode_dialogues(tokenizer, dialogues[:count])]
