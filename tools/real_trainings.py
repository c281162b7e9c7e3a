"""What `figures_real.py` trains: a real model on rows of a user's, its losses on held-out rows, and what it cost.

Each training runs in a process of its own, by one torch thread, so that its peak of memory is its own.
"""

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

from zephyr_lab.core.seeds import derive
from zephyr_lab.data import own_rows
from zephyr_lab.data.splits import Preference, Split
from zephyr_lab.lab.own import measures
from zephyr_lab.methods import adapters
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.examples import DialogueExample, PairExample, read_dialogues, read_pairs
from zephyr_lab.methods.held_out_pairs import pair_log_probs
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.process import metered, prepare
from zephyr_lab.methods.recipes.pairs import DPO
from zephyr_lab.methods.recipes.training import SFT
from zephyr_lab.methods.sft import held_out_loss, train_sft
from zephyr_lab.methods.shared_prompt_dpo import SharedPromptDPOTrainer
from zephyr_lab.models import saved
from zephyr_lab.models.causal import evaluating
from zephyr_lab.models.enlarge import of_layers
from zephyr_lab.scoring.intervals import Estimate

LORA_STEPS, LORA_BATCH, LORA_HELD_OUT = 20, 2, 24
LORA_RECIPE = SFT(batch=LORA_BATCH, micro_batch=LORA_BATCH, learning_rate=2e-5, max_length=96)
DPO_STEPS, DPO_HELD_OUT = 60, 16
DPO_RECIPE = DPO(batch=1, micro_batch=1, learning_rate=1e-5, max_length=96, max_prompt_length=48)
KD_STEPS, KD_BATCH, KD_HELD_OUT = 20, 4, 16
KD_SETTINGS = {"batch": KD_BATCH, "micro_batch": KD_BATCH, "learning_rate": 1e-4, "max_length": 96, "tokens": "answers"}
KD_LAYERS = range(1, 30, 2)  # every second one of SmolLM2's thirty
TRL_STEPS, TRL_BATCH, TRL_RATE = 2, 2, 5e-6
SHAPES = {"192:64:64": (192, 64, 64), "32:112:112": (32, 112, 112)}  # tokens of prompt, chosen and rejected answer
Measured = dict[str, Estimate]


def in_own_processes(calls: dict[str, Callable[[], Any]], *, at_once: int) -> dict[str, Any]:
    """What each call returns, each from a new process, `at_once` of them side by side."""
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        running = {name: processes.submit(call) for name, call in calls.items()}
        return {name: one.result() for name, one in running.items()}


def instructions(path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` rows with an answer, in Alpaca's columns, as messages."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["output"].strip()]
    if len(rows) < count:
        raise ValueError(f"{path.name} has {len(rows)} rows with an answer, {count} are needed; take a longer file")
    asked = [f"{row['instruction']}\n\n{row['input']}".strip() for row in rows]
    return [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": row["output"]}]}
        for text, row in list(zip(asked, rows, strict=True))[:count]
    ]


# --- LoRA -------------------------------------------------------------------------------------------------------------

LOADERS = {0: saved.load_model, 4: adapters.load_4bit}
# The adapters' rate is ten times that of all weights, as is usual; one rate each, none tuned.
LORA_ARMS = {
    "all weights": {"rank": 0, "bits": 0, "rate": 2e-5},
    "LoRA, rank 4": {"rank": 4, "bits": 0, "rate": 2e-4},
    "LoRA, rank 16": {"rank": 16, "bits": 0, "rate": 2e-4},
    "QLoRA (nf4), rank 16": {"rank": 16, "bits": 4, "rate": 2e-4},
}


def lora(folder: Path, rows: Path) -> dict[str, dict[str, Any]]:
    """`lora_arm` of each of `LORA_ARMS`."""
    return in_own_processes(
        {name: partial(lora_arm, folder, rows, **arm) for name, arm in LORA_ARMS.items()}, at_once=2
    )


def lora_arm(folder: Path, rows: Path, *, rank: int, bits: int, rate: float) -> dict[str, Any]:
    """SFT of one arm: losses of the held-out rows before and after, and what it cost with loading; rank 0: all weights
    train, bits 0: the base is float32."""
    prepare()
    with metered() as cost:
        model, tokenizer = LOADERS[bits](folder), saved.load_chat_tokenizer(folder)
        read = instructions(rows, LORA_HELD_OUT + LORA_STEPS * LORA_BATCH)
        held_out, _ = read_dialogues(LORA_RECIPE, tokenizer, read[:LORA_HELD_OUT])
        before = row_losses(model, held_out)
        if rank:
            model = adapters.lora(model, rank)
        train_sft(model, tokenizer, read[LORA_HELD_OUT:], recipe=LORA_RECIPE, learning_rate=rate, seed=_seed())
        after = row_losses(model, held_out)
    return {"before": before, "after": after, "trained": adapters.parameters(model).trained / 1e6, **cost.metrics()}


def row_losses(model: Any, held_out: list[DialogueExample]) -> list[float]:
    """The loss of each held-out row, nats a token."""
    return [held_out_loss(model, [one], rows_at_once=1) for one in held_out]


# --- DPO and KD -------------------------------------------------------------------------------------------------------


class Along(TrainerCallback):
    """`measure(model)` before the first step and after every so many, kept in `found` by step."""

    def __init__(self, measure: Callable[[Any], Measured], *, every: int) -> None:
        self.found: dict[int, Measured] = {}
        self._measure, self._every = measure, every

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        self._note(0, model)

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        if state.global_step % self._every == 0:
            self._note(state.global_step, model)

    def _note(self, step: int, model: Any) -> None:
        with evaluating(model):
            self.found[step] = self._measure(model)


def dpo(folder: Path, pairs: Path) -> tuple[list[float], dict[int, Measured]]:
    """The loss of each of `DPO_STEPS` steps on a pair each, none seen twice, and held-out measures along the way.

    Pairs are the shortest of the file, answers cut at `DPO_RECIPE.max_length` tokens of a row.
    """
    prepare()
    model, tokenizer = saved.load_model(folder), saved.load_chat_tokenizer(folder)
    rows = shortest_pairs(pairs, DPO_HELD_OUT + DPO_STEPS)
    train, held_out = measures.hold_out(rows, DPO_HELD_OUT / len(rows.rows))
    examples, _ = read_pairs(DPO_RECIPE, tokenizer, held_out, name="held out")
    start = pair_log_probs(model, examples, rows_at_once=4)

    def measure(policy: Any) -> Measured:
        now = pair_log_probs(policy, examples, rows_at_once=4)
        return measures.of_pairs(now, start, examples, beta=DPO_RECIPE.beta)

    along = Along(measure, every=DPO_STEPS // 3)
    log = train_dpo(model, tokenizer, train, recipe=DPO_RECIPE, seed=_seed(), callbacks=[along])
    return log["loss"].tolist(), along.found


def pairs_of(path: Path) -> Split[Preference]:
    """The usable pairs of a file."""
    split = own_rows.read(path).pairs
    if split is None:
        raise ValueError(f"{path.name} holds no pairs of a chosen and a rejected answer")
    return split


def shortest_pairs(path: Path, count: int) -> Split[Preference]:
    """The `count` shortest pairs of a file, one a prompt."""
    split = pairs_of(path)
    first_of = {repr(row.prompt): place for place, row in reversed(list(enumerate(split.rows)))}
    if len(first_of) < count:
        raise ValueError(f"{path.name} has pairs of {len(first_of)} prompts, {count} are needed; take a longer file")
    places = sorted(first_of.values(), key=lambda place: len(repr(split.rows[place])))[:count]
    return Split([split.rows[place] for place in places], [split.numbers[place] for place in places], [])


def kd(folder: Path, rows: Path) -> tuple[list[float], dict[int, Measured], Measured]:
    """KL of each of `KD_STEPS` steps of the model into a copy of half its layers; held-out measures along the way, and
    those of the model itself, its own teacher."""
    prepare()
    teacher, tokenizer = saved.load_model(folder), saved.load_chat_tokenizer(folder)
    read = instructions(rows, KD_HELD_OUT + KD_STEPS * KD_BATCH)
    held_out, _ = read_dialogues(SFT(max_length=KD_SETTINGS["max_length"]), tokenizer, read[:KD_HELD_OUT])
    student = of_layers(teacher, KD_LAYERS)
    along = Along(lambda model: measures.of_distillation(model, teacher, held_out), every=KD_STEPS // 2)
    log = train_kd(
        student, tokenizer, read[KD_HELD_OUT:], teacher=teacher, layer_map="uniform", seed=_seed(), callbacks=[along],
        **KD_SETTINGS,
    )  # fmt: skip
    return log["prediction_loss"].tolist(), along.found, measures.of_dialogues(teacher, held_out)


# --- our DPO beside TRL's ---------------------------------------------------------------------------------------------


class TRLOfIds(DPOTrainer):
    """TRL's trainer on rows of ids, which its own preparation does not take."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


TRAINERS = {"ours": SharedPromptDPOTrainer, "TRL": TRLOfIds}


def dpo_and_trl(folder: Path, pairs: Path, *, steps: int = TRL_STEPS) -> dict[str, dict[str, dict[str, float]]]:
    """By shape and trainer: CPU seconds and peak memory of the same steps, its first loss, and of ours how far its
    weights end from TRL's, as a share of the way that TRL's went."""
    results = {}
    for shape, sizes in SHAPES.items():
        with TemporaryDirectory() as place:
            ends = {name: Path(place) / f"{name}.safetensors" for name in TRAINERS}
            results[shape] = in_own_processes(
                {name: partial(trl_arm, name, folder, pairs, sizes, steps, ends[name]) for name in TRAINERS}, at_once=1
            )
            ways = {name: load_file(end) for name, end in ends.items()}
            results[shape]["ours"]["apart"] = _length(_less(ways["ours"], ways["TRL"])) / _length(ways["TRL"])
    return results


def trl_arm(
    name: str, folder: Path, pairs: Path, sizes: tuple[int, int, int], steps: int, end: Path
) -> dict[str, float]:
    """What `steps` of one trainer cost, the reference's pass before them included; how far each weight went to `end`.

    Both have TRL's own loop, rows, AdamW and settings, no checkpointing and the reference computed once.
    """
    prepare()
    model, tokenizer = saved.load_model(folder), saved.load_chat_tokenizer(folder)
    start = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    settings = DPOConfig(
        output_dir=str(end.with_suffix("")), per_device_train_batch_size=TRL_BATCH, max_steps=steps, max_length=None,
        learning_rate=TRL_RATE, lr_scheduler_type="constant", warmup_steps=0, beta=DPO_RECIPE.beta, logging_steps=1,
        gradient_checkpointing=False, precompute_ref_log_probs=True, use_cpu=True, bf16=False, report_to="none",
        save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    rows = Dataset.from_list(cut_pairs(pairs, tokenizer, sizes, TRL_BATCH * steps))
    with metered() as cost:
        trainer = TRAINERS[name](model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
    save_file({key: weight.detach() - start[key] for key, weight in model.named_parameters()}, end)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {**cost.metrics(), "first loss": losses[0], "last loss": losses[-1]}


def cut_pairs(path: Path, tokenizer: Any, sizes: tuple[int, int, int], count: int) -> list[dict[str, list[int]]]:
    """Ids of `count` pairs of a file, cut to exactly these lengths: a prompt's end, the beginnings of its answers."""
    recipe = DPO(max_length=4096, max_prompt_length=2048)
    read, _ = read_pairs(recipe, tokenizer, pairs_of(path), name="")
    long_enough = [
        one for one in read
        if all(len(ids) >= size for ids, size in zip(_parts(one), sizes, strict=True))
    ]  # fmt: skip
    if len(long_enough) < count:
        raise ValueError(f"{path.name} has {len(long_enough)} pairs of {sizes} tokens or more, {count} are needed")
    return [
        {"prompt_ids": one.prompt_ids[-sizes[0] :], "chosen_ids": one.chosen_ids[: sizes[1]],
         "rejected_ids": one.rejected_ids[: sizes[2]]}
        for one in long_enough[:count]
    ]  # fmt: skip


def _parts(one: PairExample) -> tuple[list[int], list[int], list[int]]:
    return one.prompt_ids, one.chosen_ids, one.rejected_ids


def _less(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight - other[name] for name, weight in one.items()}


def _length(ways: dict[str, torch.Tensor]) -> float:
    return float(sum(one.double().square().sum() for one in ways.values()) ** 0.5)


def _seed() -> int:
    return derive(0, "real")
