"""Small KD and DAE runs: random models, a few rows of the world, recipes of some steps, and killing them."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from tiny_models import small_model, small_tokenizer
from zephyr_lab.methods.recipes.kd import DAERecipe, DoseRecipe, KDRecipe, OnPolicyKDRecipe, OwnLossKD
from zephyr_lab.methods.recipes.kd_data import MixedDialogues
from zephyr_lab.methods.stages import kd_data, world_data
from zephyr_lab.models import mixtral, saved
from zephyr_runs import DIALOGUES, TRAINING

SHAPE = {"hidden": 16, "heads": 2, "kv_heads": 1, "ffn": 24}
DISTILLATION = {
    **TRAINING,
    "divergence": "forward",
    "temperature": 1.0,
    "temperature_squared": False,
    "tokens": "all",
    "reduction": "sequences",
    "packed": False,
    "keep_steps": (),
    "gradient_norms_every": 0,
}
WEIGHTS = {"prediction_weight": 1.0, "attention_weight": 1.0, "ce_weight": 0.0}
KD = KDRecipe(**DISTILLATION, **WEIGHTS, teacher="", layer_map=(), head_map=())
ON_POLICY = OnPolicyKDRecipe(
    **{**DISTILLATION, "divergence": "reverse", "tokens": "answers", "reduction": "tokens", "epochs": 1},
    **WEIGHTS,
    teacher="",
    layer_map=(),
    head_map=(),
    sampled_share=1.0,
    sampled_tokens=6,
    sampling_temperature=1.0,
)
DAE = DAERecipe(**DISTILLATION, expert="", general="", reference_term=True, domain_teacher="expert", misrouted=0.0)
DOSE = DoseRecipe(**TRAINING, answers_only=False, packed=False, keep_steps=(2, 5), order="random")
MIXED = MixedDialogues(
    world="tiny", rows=24, held_out=8, domain_share=0.25, noise="dialogues", domain_noise="dialogues"
)


@dataclass(frozen=True)
class Run:
    """A stage's folders: `out` starts empty at each build, `checkpoints` stay, as in a worker."""

    folder: Path
    inputs: dict[str, Path]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def build(self, recipe, *, seed: int = 0, progress=lambda *steps, **numbers: None) -> dict[str, float]:
        from zephyr_lab.methods.stages import dae, kd

        builds = {
            KDRecipe: kd.build, OnPolicyKDRecipe: kd.build_on_policy, OwnLossKD: kd.build_own_loss,
            DAERecipe: dae.build, DoseRecipe: kd.build_dose,
        }  # fmt: skip
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        checkpoints = self.folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        context = SimpleNamespace(checkpoints=checkpoints, progress=progress)
        return builds[type(recipe)](recipe, seed=seed, inputs=self.inputs, out=self.out, context=context)

    def contents(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes() for path in self.out.rglob("*") if path.is_file()
        }

    def log(self) -> list[dict[str, float]]:
        return json.loads((self.out / "log.json").read_text())


def make_inputs(folder: Path) -> dict[str, Path]:
    """student, teacher (dense), larger (a mixture), expert; dialogues and mixed (flagged) ones."""
    places = {name: folder / name for name in ("student", "teacher", "larger", "expert", "dialogues", "mixed")}
    for seed, name in enumerate(("student", "teacher", "expert")):
        saved.save(small_model(seed, **SHAPE), small_tokenizer(), places[name])
    mixture = mixtral.upcycle(small_model(1, **SHAPE), experts=4, top=2, noise=0.5, router_sd=0.1, seed=0)
    saved.save(mixture, small_tokenizer(), places["larger"])
    places["dialogues"].mkdir()
    world_data.build_dialogues(DIALOGUES, seed=0, inputs={}, out=places["dialogues"], context=None)
    places["mixed"].mkdir()
    kd_data.build_mixed(MIXED, seed=0, inputs={}, out=places["mixed"], context=None)
    return places


def kill_once(run: Run, recipe, *, after: int) -> None:
    """Build in a process that is killed with SIGKILL after a step, then let another finish."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["zephyr_lab.methods.stages.kd", "zephyr_lab.methods.stages.dae"])
    steps = server.Value("i", 0)
    worker = server.Process(target=_build, args=(run, recipe, steps))
    worker.start()
    while steps.value < after and worker.is_alive():
        time.sleep(0.001)
    time.sleep(0.02)
    assert worker.is_alive(), "the kill came after the end"
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    worker = server.Process(target=_build, args=(run, recipe, steps))
    worker.start()
    worker.join()
    assert worker.exitcode == 0


def _build(run: Run, recipe, steps) -> None:
    def reached(step: int, total: int, **numbers: float) -> None:
        steps.value = step
        time.sleep(0.05)

    run.build(recipe, progress=reached)
