"""On-policy distillation: the student answers as it learns, and the teacher corrects those answers.

An extra arm beside the paper: GKD (Agarwal et al. 2023, arXiv 2306.13649) and MiniLLM (Gu et al. 2023, 2306.08543). No
gradient runs through the sampling.
"""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from zephyr_lab.core.seeds import derive
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.methods import kd
from zephyr_lab.methods.distillation_batches import Collator
from zephyr_lab.methods.examples import IGNORED
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.kd import OnPolicyKDRecipe


def build(
    recipe: OnPolicyKDRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `kd.build`, on the student's own answers to the dialogues' questions; log.json has sampled_tokens a row more.

    Raises as `kd.build`, and ValueError where a question leaves no room for an answer.
    """
    return kd.train(OnPolicyTrainer, recipe, seed=seed, inputs=inputs, out=out, context=context)


class OnPolicyTrainer(kd.KDTrainer):
    """KD whose batches are, by `sampled_share`, the student's own. Draws hang on seed, step and micro-batch alone."""

    recipe: OnPolicyKDRecipe

    def __init__(self, recipe: OnPolicyKDRecipe, **arguments: Any) -> None:
        super().__init__(recipe, **arguments)
        self.micro_batch = 0
        self.add_callback(_CountsMicroBatches(self))

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        if self.model.training:
            draw = derive(self.draws, "on-policy", self.state.global_step, self.micro_batch)
            self.micro_batch += 1
            if random.Random(draw).random() < self.recipe.sampled_share:
                inputs = self.answered(inputs, draw)
        return super().losses(model, inputs)

    def answered(self, inputs: dict[str, Tensor], draw: int) -> dict[str, Tensor]:
        """The batch with one answer of each row sampled anew, which alone has labels; what came after it is gone."""
        rng = random.Random(derive(draw, "answers"))
        prompts = [
            ids[: rng.choice(answer_starts(labels))].tolist()
            for ids, labels in zip(inputs["input_ids"], inputs["labels"], strict=True)
        ]
        completions = sample(
            self.model,
            prompts,
            max_new_tokens=self.recipe.sampled_tokens,
            temperatures=self.recipe.sampling_temperature,
            generator=torch.Generator().manual_seed(derive(draw, "sampling")),
        )
        rows = [
            {
                "input_ids": [*prompt, *completion.ids],
                "labels": [*([IGNORED] * len(prompt)), *completion.ids],
            }
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        lengths = torch.tensor([float(len(completion.ids)) for completion in completions])
        self.note("sampled_tokens", lengths.mean())
        collated = Collator()(rows)
        return {name: value.to(inputs["input_ids"].device) for name, value in collated.items()}


def answer_starts(labels: Tensor) -> list[int]:
    """Where each answer of a row begins: positions with a label whose predecessor has none."""
    labelled = labels != IGNORED
    before = torch.cat([labelled.new_zeros(1), labelled[:-1]])
    return (labelled & ~before).nonzero().flatten().tolist()


class _CountsMicroBatches(TrainerCallback):
    """Starts the count of micro-batches anew at each step."""

    def __init__(self, trainer: OnPolicyTrainer) -> None:
        self._trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.micro_batch = 0
