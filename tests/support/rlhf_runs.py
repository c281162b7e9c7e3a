"""Small trainings on rollouts: a random policy, forty prompts of the world, four steps, and breaking them off."""

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import zephyr_runs
from zephyr_lab.methods.recipes.pairs import FamilyRecipe, RewardRecipe
from zephyr_lab.methods.recipes.rollouts import OnlineDPORecipe, PolicyGradientRecipe, PPORecipe
from zephyr_lab.methods.stages import world_data

ROLLOUTS = {
    "start": "",
    "world": "tiny",
    "prompts": 40,
    "reward": "quality",
    "beta": 0.05,
    "steps": 4,
    "batch": 4,
    "samples": 2,
    "max_new_tokens": 8,
    "learning_rate": 1e-3,
    "warmup": 1,
    "final_share": 0.1,
    "clip": 1.0,
    "keep": (2,),
    "checkpoint_every": 1,
    "device": "cpu",
}
REWARD = RewardRecipe(
    **zephyr_runs.TRAINING, pairs=0, centring=0.01, max_prompt_length=100, long_prompts="cut_left"
)  # fmt: skip
PPO = PPORecipe(
    **ROLLOUTS, passes=2, minibatches=2, clip_ratio=0.2, value_clip=0.5, value_weight=0.1, discount=1.0,
    trace_decay=0.95,
)  # fmt: skip
RLOO = PolicyGradientRecipe(**ROLLOUTS, algorithm="rloo")
GRPO = PolicyGradientRecipe(**ROLLOUTS, algorithm="grpo")
ONLINE = OnlineDPORecipe(**ROLLOUTS, judge_sd=0.5)
FAMILY = FamilyRecipe(
    start="", loss="dpo", strength=0.1, second=0.0, sft_weight=0.0, epochs=1, batch=8, learning_rate=1e-3, warmup=0.1,
    final_share=0.1, clip=1.0, max_length=120, max_prompt_length=100, long_prompts="cut_left", checkpoint_every=1,
    device="cpu",
)  # fmt: skip


class BrokenOff(RuntimeError):
    """Raised in the place of a kill."""


@dataclass(frozen=True)
class Run:
    """A stage's folders, as a worker has them; checkpoints stay between builds. build_function: "module[:function]"."""

    folder: Path
    build_function: str
    inputs: dict[str, Path]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def build(self, recipe, *, seed: int = 0, until: int | None = None) -> dict[str, float]:
        """Build in this process; `until`: break off once this step is reached."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        (self.folder / "checkpoints").mkdir(exist_ok=True)

        def progress(step: int, total: int, **_: float) -> None:
            if step == until:
                raise BrokenOff

        context = SimpleNamespace(checkpoints=self.folder / "checkpoints", progress=progress)
        module, _, function = self.build_function.partition(":")
        build = getattr(importlib.import_module(f"zephyr_lab.methods.stages.{module}"), function or "build")
        return build(recipe, seed=seed, inputs=self.inputs, out=self.out, context=context)

    def contents(self) -> dict[str, bytes]:
        """Every file, but for what holds times."""
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes()
            for path in self.out.rglob("*")
            if path.is_file() and path.name != "trl_log.json"
        }


def make_inputs(folder: Path) -> dict[str, Path]:
    """Pairs of the world, and a random policy."""
    (folder / "pairs").mkdir(parents=True)
    world_data.build_pairs(zephyr_runs.PAIRS, seed=0, inputs={}, out=folder / "pairs", context=None)
    return {"policy": zephyr_runs.save_start(folder / "policy"), "pairs": folder / "pairs"}
