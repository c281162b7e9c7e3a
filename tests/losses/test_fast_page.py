"""The page for other people's loops runs as printed."""

import re
from pathlib import Path

import torch
from transformers import TrainingArguments

from tiny_models import small_model
from zephyr_lab.losses.fast import attention_blocks

PAGE = (Path(attention_blocks.__file__).parent / "README.md").read_text(encoding="utf-8")
ANSWERS = torch.tensor([[0, 0, 1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 1, 0]], dtype=torch.bool)


def test_every_example_runs_and_learns(tmp_path):
    names = {
        "torch": torch, "student": small_model(0), "teacher": small_model(1), "expert": small_model(2),
        "target": small_model(0), "draft": small_model(3), "folder": tmp_path, "answers": ANSWERS,
        "ids": torch.arange(5, 21).view(2, 8),
    }  # fmt: skip
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 5
    for example in examples:
        names["student"].zero_grad()
        exec(example, names)
        if "backward()" in example:
            assert all(parameter.grad.abs().sum() > 0 for parameter in names["student"].parameters())
    assert names["tau"][1] <= names["tau"][4]


def test_the_trainer_of_the_page_trains(tmp_path):
    student, teacher = small_model(0), small_model(1)
    names = {"student": student, "teacher": teacher}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[2], names)
    ids = torch.arange(5, 13)
    rows = [{"input_ids": ids, "labels": torch.where(ANSWERS[0], ids, -100)}] * 2
    arguments = TrainingArguments(
        tmp_path, max_steps=30, learning_rate=1e-2, report_to=[], save_strategy="no", use_cpu=True, logging_steps=1,
        per_device_train_batch_size=2, disable_tqdm=True, dataloader_pin_memory=False, remove_unused_columns=False,
    )  # fmt: skip
    trainer = names["KDTrainer"](student, arguments, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
