"""Plain fine-tuning with the models of some steps kept: how much a domain gains and the rest loses, step by step.

The control beside DAE, and how a mixture is taught: TRL's SFTTrainer as in `dsft`, with Muon for fused expert weights,
and with rows in plain random order where it is asked for (of sorted lengths a batch would be all domain rows or none).
"""

from dataclasses import asdict
from pathlib import Path

from datasets import Dataset
from torch.utils.data import Sampler

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods import process, stack_muon, trl_adapters
from zephyr_lab.methods import sft as dsft
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.random_order import RandomOrder
from zephyr_lab.methods.recipes.kd import DoseRecipe
from zephyr_lab.methods.stages import kd
from zephyr_lab.models import saved


class DoseTrainer(trl_adapters.StageSFTTrainer):
    """SFT whose rows come in the order that `order` names."""

    order: str

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        if self.order == "lengths":
            return super()._get_train_sampler(train_dataset)
        rows = self.train_dataset if train_dataset is None else train_dataset
        return RandomOrder(len(rows), seed=self.args.seed)


def build(recipe: DoseRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Fine-tune `inputs["base"]` on the dialogues of `inputs["dialogues"]`, whatever else their rows say.

    Writes what `dsft.build` writes, and steps/N for each kept step. Metrics and errors as there; ValueError also for a
    step to keep that training does not reach.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["base"] / recipe.start
    model, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    examples, accounts = dsft.read_examples(recipe, inputs["dialogues"], tokenizer)
    before = dsft.held_out_loss(model, examples[TEST], rows_at_once=recipe.micro_batch)
    trainer = dsft.make_trainer(
        recipe, model, tokenizer, examples, seed=seed, folder=context.checkpoints / "trainer", kind=DoseTrainer,
        optimizer=stack_muon.optimizer(recipe, model),
    )  # fmt: skip
    trainer.order = recipe.order
    for callback in kd.keeping(recipe.keep_steps, context):
        trainer.add_callback(callback)
    log = trl_adapters.run(trainer, context, epochs=None)
    after = dsft.held_out_loss(model, examples[TEST], rows_at_once=recipe.micro_batch)
    saved.save(model, tokenizer, out)
    kd.copy_steps(context, out)
    files.write_json(out / "log.json", log)
    files.write_json(out / "rows.json", {split: asdict(account) for split, account in accounts.items()})
    return {
        "steps": float(trainer.state.global_step),
        **accounts[TRAIN].metrics(),
        "held_out_loss_start": before,
        "held_out_loss": after,
    }
