"""Small dSFT and dDPO runs: a random base, a few rows of the world, recipes of ten steps, and killing them."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from tiny_models import small_model, small_tokenizer
from zephyr_lab.methods.recipes.data import WorldDialogues, WorldPairs
from zephyr_lab.methods.recipes.pairs import DDPORecipe
from zephyr_lab.methods.recipes.training import DSFTRecipe
from zephyr_lab.models import saved

DIALOGUES = WorldDialogues(world="tiny", rows=40, held_out=10, noise="dialogues", duplicates=0.0, filters=())
PAIRS = WorldPairs(
    world="tiny",
    prompts=40,
    held_out=10,
    writers=("strong", "medium", "weak", "poor"),
    rating_sd=2.0,
    aspect_sd=0.9,
    chosen="overall_score",
    rejected="random",
)
TRAINING = {
    "start": "",
    "epochs": 2,
    "batch": 8,
    "micro_batch": 4,
    "learning_rate": 1e-3,
    "schedule": "linear",
    "warmup": 0.1,
    "optimizer": "adamw",
    "weight_decay": 0.0,
    "clip": 1.0,
    "max_length": 120,
    "system_turn": False,
    "log_every": 1,
    "evaluate_every": 2,
    "checkpoint_every": 2,
    "keep_epochs": False,
    "device": "cpu",
}
DSFT = DSFTRecipe(**TRAINING, answers_only=True, packed=False)
DDPO = DDPORecipe(
    **TRAINING,
    beta=0.1,
    max_prompt_length=100,
    long_prompts="set_aside",
    equal_answers="keep",
    other_reference=False,
    shared_prompt=True,
    sampled_prompts=4,
    sampled_tokens=8,
)


@dataclass(frozen=True)
class Stage:
    """A stage's folders: `out` starts empty at each build, `checkpoints` stay, as in a worker."""

    folder: Path
    inputs: dict[str, Path]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def build(self, recipe, *, seed: int = 0, progress=lambda *steps, **numbers: None) -> dict[str, float]:
        """Build in this process; `progress` is called once a step, as a worker's is."""
        from zephyr_lab.methods.stages import dpo, sft

        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.checkpoints.mkdir(exist_ok=True)
        context = SimpleNamespace(checkpoints=self.checkpoints, progress=progress)
        function = sft.build if isinstance(recipe, DSFTRecipe) else dpo.build
        return function(recipe, seed=seed, inputs=self.inputs, out=self.out, context=context)

    def contents(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes() for path in self.out.rglob("*") if path.is_file()
        }


def save_start(folder: Path, *, seed: int = 0) -> Path:
    """A random model of 16 dimensions with its tokenizer."""
    saved.save(small_model(seed, hidden=16, heads=2, kv_heads=1, ffn=24), small_tokenizer(), folder)
    return folder


def kill_at_random(stage: Stage, recipe, *, kills: int, seed: int) -> None:
    """Build in processes that are killed at `kills` random moments, then let one finish.

    A moment is a step reached and up to a tenth of a second more: before the next step, in it, in a checkpoint.
    """
    # A fork server that has the trainers loaded makes each new process cost milliseconds.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["zephyr_lab.methods.stages.sft", "zephyr_lab.methods.stages.dpo"])
    moments = random.Random(seed)
    done = 0
    for kill in range(kills):
        steps = server.Value("i", 0)
        worker = server.Process(target=_build, args=(stage, recipe, steps))
        worker.start()
        wanted = done + moments.randint(0, 3)
        while steps.value < wanted and worker.is_alive():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.1))
        assert worker.is_alive(), f"kill {kill} came after the end: the recipe is too short for so many"
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        done = steps.value
    steps = server.Value("i", 0)
    worker = server.Process(target=_build, args=(stage, recipe, steps))
    worker.start()
    worker.join()
    assert worker.exitcode == 0


def _build(stage: Stage, recipe, steps) -> None:
    def reached(step: int, total: int, **numbers: float) -> None:
        steps.value = step
        time.sleep(0.05)

    stage.build(recipe, progress=reached)
