"""One model in several precisions, loaded from its folder: what that takes, and what it changes.

Only linear layers below the head are in 8 or 4 bits; the head, embeddings and norms stay in float32.
"""

import io
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.streaming import stream
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.answers import Answers, with_endings
from zephyr_lab.lab.arms import Arm
from zephyr_lab.lab.style_faults import with_faults
from zephyr_lab.methods import adapters, process
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.methods.stages.evaluate import ask
from zephyr_lab.models import saved
from zephyr_lab.models.causal import evaluating
from zephyr_lab.scoring.intervals import Estimate, share_estimate
from zephyr_lab.world.benchmark import mt_bench

WHOLE, HALF, TORCH_INT8, INT8, INT4 = "fp32", "bf16", "int8, torch", "int8, bitsandbytes", "int4, bitsandbytes"
DISK, MEMORY, SPEED = "on disk, MB", "memory added, MB", "tokens a second"
AGREEMENT, KL = "greedy token as in fp32, share", "KL from fp32, nats a token"
MB = 1e6


def torch_int8(folder: Path) -> PreTrainedModel:
    """The model in `folder`, its linear layers in 8 bits by torch itself: a scale a row of weights, inputs rounded too.

    Raises ValueError where layers are of another kind than torch's Linear.
    """
    from torch.ao import quantization  # deprecated in favour of torchao, which is no dependency here

    model = saved.load_model(folder)
    if other := _not_linear(model):
        raise ValueError(f"torch has no 8-bit form of {other[0]}, which is no torch.nn.Linear; take {INT8!r}")
    wanted = dict.fromkeys(adapters.linear_layers(model), quantization.per_channel_dynamic_qconfig)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecation
        return quantization.quantize_dynamic(model, wanted, inplace=True)


LOADERS: Mapping[str, Callable[[Path], PreTrainedModel]] = {
    WHOLE: saved.load_model,
    HALF: partial(saved.load_model, dtype=torch.bfloat16),
    TORCH_INT8: torch_int8,
    INT8: adapters.load_8bit,
    INT4: adapters.load_4bit,
}


def absent(model: PreTrainedModel) -> dict[str, str]:
    """The precisions in which a model like this cannot be loaded here, and why."""
    reasons = {}
    if not find_spec("torch.ao.quantization"):
        reasons[TORCH_INT8] = "this torch has no torch.ao.quantization"
    elif other := _not_linear(model):
        reasons[TORCH_INT8] = f"torch has no 8-bit form of {other[0]}, which is no torch.nn.Linear"
    if not find_spec("bitsandbytes"):
        reasons |= dict.fromkeys((INT8, INT4), adapters.NEEDS_BITSANDBYTES)
    return reasons


def _not_linear(model: PreTrainedModel) -> list[str]:
    return [name for name in adapters.linear_layers(model) if not isinstance(model.get_submodule(name), nn.Linear)]


# --- what it takes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Bytes of its weights in a file; largest resident memory that loading and answering added, in bytes; tokens a
    second after the first, one number a repeat."""

    disk: int
    memory: float
    rates: tuple[float, ...]


def costs(
    folder: Path, names: Sequence[str], prompt: Sequence[int], *, tokens: int, repeats: int = 5
) -> dict[str, Cost]:
    """What each precision takes on this machine's processor, on one thread, in a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # libraries are loaded once, before memory is counted
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as own_process:
        return {name: own_process.submit(cost, folder, name, prompt, tokens, repeats).result() for name in names}


def cost(folder: Path, name: str, prompt: Sequence[int], tokens: int, repeats: int) -> Cost:
    """What one precision takes, measured in this process."""
    process.prepare()
    logging.disable_progress_bar()
    with process.metered() as meter:
        model = LOADERS[name](folder)
        rates = [rate(model, prompt, tokens) for _ in range(repeats + 1)]
    return Cost(file_bytes(model), meter.peak_mib * process.MIB, tuple(rates[1:]))  # the first one warms up


def rate(model: PreTrainedModel, prompt: Sequence[int], tokens: int) -> float:
    """Tokens a second of one greedy answer of `tokens`, whatever ends it; the first comes from reading the prompt."""
    answer = stream(model, prompt, max_new_tokens=tokens, ends=())
    next(answer)
    began = time.perf_counter()
    return sum(1 for _ in answer) / (time.perf_counter() - began)


def file_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights as saved: in safetensors, or by torch where these cannot hold its own 8-bit layers."""
    if any(isinstance(layer, torch.ao.nn.quantized.dynamic.Linear) for layer in model.modules()):
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        return file.tell()
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


def cost_table(measured: Mapping[str, Cost], absent: Mapping[str, str]) -> pd.DataFrame:
    """The costs in words, a row a precision; in that of one that is absent stands why."""
    rows = []
    for name, one in measured.items():
        middle, least, most = statistics.median(one.rates), min(one.rates), max(one.rates)
        rows.append({
            "precision": name,
            DISK: f"{one.disk / MB:.2f}",
            MEMORY: f"{one.memory / MB:.1f}",
            SPEED: f"{middle:.1f} ({least:.1f} to {most:.1f} of {len(one.rates)})",
        })  # fmt: skip
    rows += [{"precision": name, DISK: f"not measured: {reason}"} for name, reason in absent.items()]
    return pd.DataFrame(rows, columns=["precision", DISK, MEMORY, SPEED])


def speeds(measured: Mapping[str, Cost]) -> pd.DataFrame:
    """The speeds as `Lab.report` prints them: the median, with the least and most of the repeats."""
    return pd.DataFrame([
        {
            "row": name,
            "metric": SPEED,
            "value": statistics.median(one.rates),
            "low": min(one.rates),
            "high": max(one.rates),
            "interval": f"least and most of {len(one.rates)} repeats",
        }
        for name, one in measured.items()
    ])  # fmt: skip


# --- what it changes --------------------------------------------------------------------------------------------------


def world_answers(arm: Arm, names: Sequence[str], *, questions: int) -> Answers:
    """What a model of the world answers in each precision to the first `questions` of the chat benchmark (to all where
    the profile asks fewer), graded by the exact judge, under every seed."""
    rows = []
    for seed in range(arm.seeds):
        model = arm.of(seed)
        recipe = zephyr_stages.evaluation(arm.profile, seed, model).recipe
        recipe = replace(recipe, questions=min(questions, recipe.questions))
        asked = mt_bench(recipe.questions, size=require_world(recipe.world))
        for name in names:
            graded = ask(
                LOADERS[name](arm.folder(seed)), arm.tokenizer(seed), asked, recipe,
                system_turn=model.system_turn, seed=seed,
            )  # fmt: skip
            rows += [{"seed": seed, "model": name, **row} for row in graded]
    return Answers(with_faults(with_endings(pd.DataFrame(rows))))


Answered = list[tuple[list[int], list[int]]]  # ids of a prompt and of the answer to it


def greedy(model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Answered:
    """The prompts with the model's own greedy answers."""
    given = sample(model, prompts, max_new_tokens=max_new_tokens, temperatures=0.0, generator=None, rows_at_once=8)
    return [(list(prompt), list(one.ids)) for prompt, one in zip(prompts, given, strict=True)]


def agreement(model: PreTrainedModel, answered: Answered) -> Estimate:
    """How often the model's likeliest token is the one that another model gave, after the same tokens before it.

    The interval is over prompts.
    """
    same, prompts = [], []
    with torch.inference_mode(), evaluating(model):
        for number, (prompt, answer) in enumerate(answered):
            ids = torch.tensor([prompt + answer[:-1]], device=model.device)
            likeliest = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].argmax(dim=-1).tolist()
            same += [float(one == other) for one, other in zip(likeliest, answer, strict=True)]
            prompts += [number] * len(answer)
    return share_estimate(same, prompts, seed=0)
