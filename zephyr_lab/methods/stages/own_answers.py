"""A teacher's own answers to a data set's questions: sequence-level distillation (Kim and Rush 2016, 1606.07947).

A control of KD: the student then sees what the teacher would say, and not how likely it finds everything else.
"""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.splits import TEST, TRAIN, Messages, dialogue_rows
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.kd_data import OwnAnswers
from zephyr_lab.models import saved


def build(recipe: OwnAnswers, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Write the dialogues of `inputs["dialogues"]` with every answer by `inputs["teacher"]`.

    Metrics, of training: rows; unfinished, answers that reached the limit of new tokens. Raises ValueError for a
    question that leaves no room for an answer.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs["teacher"] / recipe.teacher
    teacher, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    metrics = {}
    for number, split in enumerate((TRAIN, TEST), start=1):
        asked = dialogue_rows(inputs["dialogues"], split).rows
        answered, unfinished = answer(recipe, teacher, tokenizer, asked, seed=derive(seed, "answers", split))
        write_rows(out / f"{split}.jsonl", ({"messages": messages} for messages in answered))
        context.progress(number, 2)
        if split == TRAIN:
            metrics = {"rows": float(len(answered)), "unfinished": float(unfinished)}
    return metrics


def answer(
    recipe: OwnAnswers,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: list[Messages],
    *,
    seed: int,
) -> tuple[list[Messages], int]:
    """The dialogues answered anew, turn by turn, and how many answers did not end by themselves."""
    answered: list[Messages] = [[] for _ in dialogues]
    unfinished = 0
    for turn in range(max(map(len, dialogues))):
        waiting = [place for place, dialogue in enumerate(dialogues) if turn < len(dialogue)]
        asked = [place for place in waiting if dialogues[place][turn]["role"] == "assistant"]
        for place in waiting:
            if dialogues[place][turn]["role"] != "assistant":
                answered[place].append(dialogues[place][turn])
        if not asked:
            continue
        completions = sample(
            teacher,
            encode_prompts(tokenizer, [answered[place] for place in asked]),
            max_new_tokens=recipe.max_new_tokens,
            temperatures=recipe.temperature,
            generator=torch.Generator().manual_seed(derive(seed, turn)),
        )
        for place, completion in zip(asked, completions, strict=True):
            ids = completion.ids[:-1] if completion.finished else completion.ids
            answered[place].append({"role": "assistant", "content": tokenizer.decode(list(ids))})
            unfinished += not completion.finished
    return answered, unfinished
