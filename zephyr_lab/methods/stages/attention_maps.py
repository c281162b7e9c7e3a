"""Attention maps of several models on one held-out dialogue: Figure 2 of arXiv 2406.19112 as something real.

Row j of a map holds the weights that token j gives to tokens i <= j; each row sums to 1.
"""

from pathlib import Path
from typing import Any

import torch

from zephyr_lab.core import files
from zephyr_lab.data.chat import encode_dialogues
from zephyr_lab.data.splits import TEST, dialogue_rows
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.attention_maps import AttentionMaps
from zephyr_lab.models import saved

DIALOGUES = "dialogues"


def build(
    recipe: AttentionMaps, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Read one dialogue with each model of `recipe.models`, folders of `inputs`.

    Writes maps.json: tokens, as text; answer, whether each belongs to an answer; maps, by model a list [layer][head] of
    square lists of rows. The dialogue is the first of input "dialogues", held-out split, of at most `recipe.longest`
    tokens, else the beginning of the first. Metrics: how many tokens it has.
    """
    del seed  # nothing is drawn
    process.prepare()
    device = process.pick_device(recipe.device)
    tokenizer = saved.load_chat_tokenizer(inputs[recipe.models[0]] / recipe.folders[0])
    dialogues = dialogue_rows(inputs[DIALOGUES], TEST).rows
    encoded = encode_dialogues(tokenizer, dialogues)
    dialogue = next((one for one in encoded if len(one.ids) <= recipe.longest), encoded[0])
    ids, answer = dialogue.ids[: recipe.longest], dialogue.answer_mask[: recipe.longest]
    maps: dict[str, Any] = {}
    for place, (name, folder) in enumerate(zip(recipe.models, recipe.folders, strict=True)):
        model = saved.load_model(inputs[name] / folder).to(device)
        model.set_attn_implementation("eager")  # the fast paths return no maps
        with torch.inference_mode():
            read = model(input_ids=torch.tensor([ids], device=device), use_cache=False, output_attentions=True)
        maps[name] = [layer[0].float().cpu().tolist() for layer in read.attentions]
        context.progress(place + 1, len(recipe.models))
    files.write_json(out / "maps.json", {
        "tokens": [tokenizer.decode([token]) for token in ids],
        "answer": list(answer),
        "maps": maps,
    })  # fmt: skip
    return {"tokens": float(len(ids))}
