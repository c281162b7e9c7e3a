"""What is looked up in single models as stages: attention maps, bytes of the key-value cache, skills of a raw base."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_dialogues
from zephyr_lab.data.splits import TEST, dialogue_rows
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.inspection import AttentionMaps, KVCache, Probe
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.models import saved
from zephyr_lab.models.caches import cache_bytes, shape_of
from zephyr_lab.models.tokenizer import content_ids, decode
from zephyr_lab.world import catalogue, facts, judge
from zephyr_lab.world.task import Task

QUESTION = "Question: {}\nAnswer:"  # one of the four layouts of the corpus
NEW_TOKENS = 48


def build_attention_maps(
    recipe: AttentionMaps, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Read one dialogue with each model of `recipe.models`, folders of `inputs`: Figure 2 of arXiv 2406.19112, real.

    Writes maps.json: tokens, as text; answer, whether each belongs to an answer; maps, by model a list [layer][head] of
    square lists of rows. Row j holds the weights that token j gives to tokens i <= j, and sums to 1. The dialogue is
    the first of input "dialogues", held-out split, of at most `recipe.longest` tokens, else the beginning of the first.
    Metrics: how many tokens it has.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    tokenizer = saved.load_chat_tokenizer(inputs[recipe.models[0]] / recipe.folders[0])
    encoded = encode_dialogues(tokenizer, dialogue_rows(inputs["dialogues"], TEST).rows)
    dialogue = next((one for one in encoded if len(one.ids) <= recipe.longest), encoded[0])
    ids, answer = dialogue.ids[: recipe.longest], dialogue.answer_mask[: recipe.longest]
    maps: dict[str, Any] = {}
    for number, (name, folder) in enumerate(zip(recipe.models, recipe.folders, strict=True), start=1):
        model = saved.load_model(inputs[name] / folder).to(device)
        model.set_attn_implementation("eager")  # the fast paths return no maps
        with torch.inference_mode():
            read = model(input_ids=torch.tensor([ids], device=device), use_cache=False, output_attentions=True)
        maps[name] = [layer[0].float().cpu().tolist() for layer in read.attentions]
        context.progress(number, len(recipe.models))
    tokens = [tokenizer.decode([token]) for token in ids]
    files.write_json(out / "maps.json", {"tokens": tokens, "answer": list(answer), "maps": maps})
    return {"tokens": float(len(ids))}


def build_kv_cache(
    recipe: KVCache, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Read texts of 1, 2, ... windows with `inputs["base"]` and count the bytes of its key-value cache.

    With a sliding window they stop growing: a position attends to the W before it, so that older keys and values can be
    dropped, while information still travels layers * W positions (Jiang et al. 2023, arXiv 2310.06825, section 2).

    Writes cache.json, a row a length: tokens, bytes. Metrics: window (0: none), layers, token_bytes (of all layers),
    bytes_1 (after one window), bytes_2.
    """
    process.prepare()
    model = saved.load_model(inputs["base"]).to(process.pick_device(recipe.device))
    window = getattr(model.config, "sliding_window", None) or 0
    step = window or recipe.full_attention_tokens
    reach = model.config.max_position_embeddings // step
    if reach < 2:
        raise ValueError(f"the model has {model.config.max_position_embeddings} positions, fewer than two of {step}")
    lengths = [step * count for count in range(1, min(recipe.windows, reach) + 1)]
    sizes = cache_bytes(model, lengths)
    rows = [{"tokens": length, "bytes": size} for length, size in zip(lengths, sizes, strict=True)]
    context.progress(1, 1)
    files.write_json(out / "cache.json", rows)
    return {
        "window": float(window),
        "layers": float(model.config.num_hidden_layers),
        "token_bytes": float(shape_of(model).token_bytes),
        "bytes_1": float(rows[0]["bytes"]),
        "bytes_2": float(rows[1]["bytes"]),
    }


@dataclass(frozen=True, slots=True)
class Skill:
    """Mean share of the right core in the answers to `tasks` first turns, and to as many second turns."""

    first_turn: float
    second_turn: float
    tasks: int

    @property
    def core(self) -> float:
        return (self.first_turn + self.second_turn) / 2


def build_probe(recipe: Probe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Probe the raw model of input "base" and write `skills.json`, the Skill of each category.

    Greedy answers to questions in the layout of its text: which skills a small base has depends on its seed even at
    equal loss, so the probe is published with each base. The questions are the same for every model and seed. Metrics:
    the mean share of right cores over all categories ("all") and in each.
    """
    process.prepare()
    model, tokenizer = saved.load_model(inputs["base"]), saved.load_tokenizer(inputs["base"])
    skills = probe(model, tokenizer, tasks=recipe.tasks, size=require_world(recipe.world))
    context.progress(1, 1)
    files.write_json(out / "skills.json", {name: asdict(skill) for name, skill in skills.items()})
    cores = {name: skill.core for name, skill in skills.items()}
    return {"all": _mean(list(cores.values())), **cores}


def probe(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, tasks: int, size: facts.WorldSize
) -> dict[str, Skill]:
    """Skill by category on `tasks` benchmark-side tasks each, the same for every model.

    Second turns are asked after the right answer to the first, so that its errors are not counted twice.
    """
    drawn = {category: draw_tasks(category, tasks, size) for category in catalogue.MAKERS}
    asked = [(task, turn) for chosen in drawn.values() for task in chosen for turn in range(2)]
    answers = answer(model, tokenizer, [raw_prompt(task, turn) for task, turn in asked])
    cores = [judge.grade(task.turns[turn], text).core for (task, turn), text in zip(asked, answers, strict=True)]
    skills = {}
    for number, category in enumerate(drawn):
        own = cores[2 * tasks * number : 2 * tasks * (number + 1)]
        skills[category] = Skill(_mean(own[0::2]), _mean(own[1::2]), tasks)
    return skills


def draw_tasks(category: str, count: int, size: facts.WorldSize) -> list[Task]:
    """Tasks that no training text holds."""
    rng = random.Random(derive(0, "probe", category))
    return [catalogue.draw(rng, facts.build(size), category, held_out=True) for _ in range(count)]


def raw_prompt(task: Task, turn: int) -> str:
    """The question of turn 0 or 1 as raw text; turn 1 comes after turn 0 and its right core."""
    texts = [QUESTION.format(question.prompt) for question in task.turns]
    return texts[0] if turn == 0 else f"{texts[0]} {task.turns[0].core}\n{texts[1]}"


def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[str]:
    """The most likely continuation of each prompt, up to the end of its line."""
    completions = sample(
        model, content_ids(tokenizer, list(prompts)), max_new_tokens=NEW_TOKENS, temperatures=0.0, generator=None
    )
    return [decode(tokenizer, list(completion.ids)).partition("\n")[0] for completion in completions]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
