"""Plain fine-tuning with the models of some steps kept: how much a domain gains and the rest loses, step by step.

The control beside DAE, and how a mixture is taught: `train_sft`, with Muon for fused expert weights, and with rows in
plain random order where it is asked for (of sorted lengths a batch would be all domain rows or none).
"""

from functools import partial
from pathlib import Path

from datasets import Dataset

from zephyr_lab.methods import optimizers, trl_adapters
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.kd import DoseRecipe
from zephyr_lab.methods.stages import kd, sft
from zephyr_lab.methods.trl_adapters import RandomOrder


class RandomOrderTrainer(trl_adapters.StageSFTTrainer):
    """SFT on rows in plain random order."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> RandomOrder:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return RandomOrder(len(rows), seed=self.args.seed)


KINDS = {"lengths": trl_adapters.StageSFTTrainer, "random": RandomOrderTrainer}


def build(recipe: DoseRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Fine-tune `inputs["base"]` on the dialogues of `inputs["dialogues"]`, whatever else their rows say.

    Writes what `stages.sft.build` writes, and steps/N for each kept step. Metrics and errors as there; ValueError also
    for a step to keep that training does not reach.
    """
    metrics = sft.trained(
        recipe,
        seed=seed,
        inputs=inputs,
        out=out,
        context=context,
        kind=KINDS[recipe.order],
        make_optimizer=partial(optimizers.muon_for_stacks, recipe),
        callbacks=kd.keeping(recipe.keep_steps, context),
    )
    kd.copy_steps(context, out)
    return metrics
