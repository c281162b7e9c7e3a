"""On-policy distillation: the student answers as it learns, and the teacher corrects those answers.

An extra arm beside the paper: GKD (Agarwal et al. 2023, arXiv 2306.13649) and MiniLLM (Gu et al. 2023, 2306.08543). No
gradient runs through the sampling.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, TrainerCallback

from zephyr_lab.core.seeds import derive
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.methods import kd
from zephyr_lab.methods.calling import Progress, Run, settings_by_keyword
from zephyr_lab.methods.distillation import Collator, on_device
from zephyr_lab.methods.examples import IGNORED
from zephyr_lab.methods.recipes.kd import OnPolicyKD


@settings_by_keyword(OnPolicyKD)
def train_on_policy_kd(
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    *,
    recipe: OnPolicyKD,
    teacher: nn.Module,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    held_out: Any = None,
    lean: bool = True,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """As `kd.train_kd`, on answers that the student samples as it learns; the log has sampled_tokens more, a mean.

    GKD (Agarwal et al. 2023), by default in MiniLLM's direction. `dialogues` give the questions; by `sampled_share`
    one answer of each row is the student's own. Raises as `train_kd`, and ValueError where a question leaves no room
    for an answer.

    >>> from zephyr_lab.models.example import example_model
    >>> (student, tokenizer), (teacher, _) = example_model(), example_model(seed=1)
    >>> chats = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}] * 4
    >>> log = train_on_policy_kd(student, tokenizer, chats, teacher=teacher, batch=4, sampled_tokens=8)
    train: 0 unusable rows; 4 rows, 4 used
    >>> bool(log["sampled_tokens"].iloc[0] <= 8)
    True
    """
    return kd.distil(
        OnPolicyTrainer,
        "train_on_policy_kd",
        recipe,
        student,
        tokenizer,
        dialogues,
        teacher=teacher,
        teacher_tokenizer=teacher_tokenizer,
        held_out=held_out,
        lean=lean,
        seed=seed,
        run=Run.of("on-policy KD", checkpoints, progress, recipe=recipe, seed=seed),
        callbacks=callbacks,
    )


class OnPolicyTrainer(kd.KDTrainer):
    """KD whose batches are, by `sampled_share`, the student's own. Draws depend on seed, step and micro-batch alone."""

    recipe: OnPolicyKD

    def __init__(self, recipe: OnPolicyKD, **arguments: Any) -> None:
        super().__init__(recipe, **arguments)
        self._step, self._micro_batch = -1, 0

    def losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        if self.model.training:
            if self._step != self.state.global_step:
                self._step, self._micro_batch = self.state.global_step, 0
            draw = derive(self.draws, "on-policy", self._step, self._micro_batch)
            self._micro_batch += 1
            if random.Random(draw).random() < self.recipe.sampled_share:
                inputs = self.answered(inputs, draw)
        return super().losses(model, inputs)

    def answered(self, inputs: dict[str, Tensor], draw: int) -> dict[str, Tensor]:
        """The batch with one answer of each row sampled anew and cut off after it; only that answer has labels."""
        rng = random.Random(derive(draw, "answers"))
        labelled = zip(inputs["input_ids"], inputs["labels"], strict=True)
        prompts = [ids[: rng.choice(answer_starts(labels))].tolist() for ids, labels in labelled]
        completions = sample(
            self.model,
            prompts,
            max_new_tokens=self.recipe.sampled_tokens,
            temperatures=self.recipe.sampling_temperature,
            generator=torch.Generator().manual_seed(derive(draw, "sampling")),
        )
        self.note("sampled_tokens", torch.tensor([float(len(one.ids)) for one in completions]).mean())
        answers = [list(completion.ids) for completion in completions]
        rows = [
            {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return on_device(Collator()(rows), inputs["input_ids"].device)


def answer_starts(labels: Tensor) -> list[int]:
    """Where each answer of a row begins: positions with a label whose predecessor has none."""
    labelled = labels != IGNORED
    before = torch.cat([labelled.new_zeros(1), labelled[:-1]])
    return (labelled & ~before).nonzero().flatten().tolist()
