"""Recipes as files for TRL's own command line, `trl dpo --config FILE`.

Each field of a recipe becomes a setting of TRL's, or is listed, with its value and why, among those left out: in the
file's comments and in what `write` prints. A method that none of TRL's commands trains is refused by name. No torch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from zephyr_lab.core import files
from zephyr_lab.methods.recipes.draft import DraftSteps
from zephyr_lab.methods.recipes.kd import DAE, KD, OnPolicyKD, OwnLossKD
from zephyr_lab.methods.recipes.pairs import DPO, FamilyRecipe, OwnLossDPO, Preference, Reward
from zephyr_lab.methods.recipes.pretrain import BaseTraining
from zephyr_lab.methods.recipes.rollouts import OWN_REWARD, PPO, OnlineDPO, PolicyGradient, PolicyGradientRecipe
from zephyr_lab.methods.recipes.training import SCHEDULES, SFT, Training

Settings = dict[str, tuple[str, Any]]  # of TRL: the field of the recipe that each one says ("" for none), its value
COMMANDS = "sft, dpo, kto, reward, rloo, grpo and distillation"
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
ORDER = "Rows come in another order: batches of like lengths in zephyr_lab, plain random ones in TRL."
ALL_ROWS = "Every row of the file is trained on, in the columns that TRL reads; none is checked, none held out."
WHY = {
    "max_prompt_length": "TRL cuts whole rows alone",
    "long_prompts": "TRL cuts whole rows alone, at their end",
    "equal_answers": "TRL trains on such pairs",
    "shared_prompt": "a choice of speed: TRL computes a prompt twice",
    "optimizer": "TRL has no Muon: AdamW would train",
    "system_turn": "put it into the rows",
    "start": "give its folder as model_name_or_path",
    "teacher": "give its folder as teacher_model_name_or_path",
    "reward": "give reward_model_name_or_path, or reward_funcs",
    "prompts": "of the data, not of the training",
    "world": "of the data, not of the training",
    "second": "of other losses than this one",
}  # fmt: skip


class Told(NamedTuple):
    """A command, its settings, and fields of the recipe that the command itself says."""

    command: str
    settings: Settings
    besides: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrlFile:
    """command: "dpo" of `trl dpo`. left_out: each field of the recipe that no setting says, with its value and why."""

    command: str
    recipe: str
    settings: Mapping[str, Any]
    left_out: Mapping[str, str]

    def text(self) -> str:
        """The file: comments, then YAML."""
        head = [f"trl {self.command} --config FILE", f"{self.recipe} of zephyr_lab"]
        head += [] if self.command in ("rloo", "grpo") else [ORDER]
        head += [ALL_ROWS] if {"datasets", "dataset_name"} & self.settings.keys() else []
        head += ["Not in this file:", *(f"  {line}" for line in self.lines())] if self.left_out else []
        return "".join(f"# {line}\n" for line in head) + yaml.safe_dump(dict(self.settings), sort_keys=False)

    def lines(self) -> list[str]:
        """A line a field that is left out."""
        return [f"{name} = {why}" for name, why in self.left_out.items()]


def trl_file(
    recipe: Any,
    *,
    device: str,
    seed: int = 0,
    lora: int = 0,
    model: str | None = None,
    data: str | None = None,
    out: str | None = None,
) -> TrlFile:
    """What TRL's command of the recipe's method is told. device: "cpu" (float32) or "cuda" (bfloat16 autocast).

    lora: rank of an adapter on all linear layers, 0 for none. model, data: a folder or a file, or an id of the hub;
    out: a folder; without them the command line has to name them. Raises ValueError for a method that no command
    trains, or not with these settings.
    """
    command, said, besides = _way_of(type(recipe))(recipe)
    on_cpu = device == "cpu"
    said = said | {
        "seed": ("", seed),
        "use_cpu": ("device", on_cpu),
        "bf16": ("device", not on_cpu),
        "dtype": ("", "float32"),
        "gradient_checkpointing": ("", False),
        "logging_nan_inf_filter": ("", False),
        "save_strategy": ("", "steps"),
        "report_to": ("", "none"),
        **_lora(lora or getattr(recipe, "lora", 0)),
    }
    names = {"model_name_or_path": model, "output_dir": out, **_data(data)}
    known = {field for field, _ in said.values()} | {*besides}
    return TrlFile(
        command,
        type(recipe).__name__,
        {name: value for name, value in names.items() if value is not None}
        | {name: value for name, (_, value) in said.items()},
        {
            field.name: f"{getattr(recipe, field.name)!r}: {WHY.get(field.name, 'TRL has no such setting')}"
            for field in dataclasses.fields(recipe)
            if field.name not in known
        },
    )


def write(file: TrlFile, path: Path) -> None:
    """Write the file, and print what it leaves out."""
    files.write_text(path, file.text())
    print(f"{path}: trl {file.command} --config {path}")
    for line in file.lines():
        print(f"  not in the file: {line}")


def _way_of(kind: type) -> Callable[[Any], Told]:
    """How recipes of this kind are told to TRL. Raises ValueError, naming kind and reason, where they cannot be."""
    way = next((way for known, way in WAYS.items() if issubclass(kind, known)), "it is no training")
    if isinstance(way, str):
        raise _refusal(kind.__name__, way)
    return way


def _refusal(name: str, why: str) -> ValueError:
    return ValueError(f"{name} cannot be told to TRL's commands: {why}; they train {COMMANDS}")


def _training(recipe: Training) -> Settings:
    said: Settings = {
        "num_train_epochs": ("epochs", recipe.epochs),
        "per_device_train_batch_size": ("micro_batch", recipe.micro_batch),
        "gradient_accumulation_steps": ("batch", recipe.batch // recipe.micro_batch),
        "learning_rate": ("learning_rate", recipe.learning_rate),
        "lr_scheduler_type": ("schedule", SCHEDULES[recipe.schedule]),
        "warmup_steps": ("warmup", recipe.warmup),  # below 1: a share of all steps
        "weight_decay": ("weight_decay", recipe.weight_decay),
        "max_grad_norm": ("clip", recipe.clip),
        "logging_steps": ("log_every", recipe.log_every),
        "save_steps": ("checkpoint_every", recipe.checkpoint_every),
        "eval_strategy": ("evaluate_every", "steps" if recipe.evaluate_every else "no"),
    }
    if recipe.evaluate_every:
        said["eval_steps"] = ("evaluate_every", recipe.evaluate_every)
    if recipe.optimizer != "muon":
        said["optim"] = ("optimizer", "rmsprop" if recipe.optimizer == "rmsprop" else "adamw_torch")
    return said


def _sft(recipe: SFT) -> Told:
    said = _training(recipe) | {
        "max_length": ("max_length", recipe.max_length),
        "assistant_only_loss": ("answers_only", recipe.answers_only),  # of messages
        "packing": ("packed", recipe.packed),
        "packing_strategy": ("", "bfd"),
        "eval_packing": ("", False),
    }
    if not recipe.answers_only:
        said["completion_only_loss"] = ("answers_only", False)  # of prompt and completion
    return Told("sft", said)


def _dpo(recipe: DPO) -> Told:
    said = {"max_length": ("max_length", recipe.max_length)}
    return Told("dpo", _training(recipe) | _dpo_loss("beta", recipe.beta) | said)


def _dpo_loss(field: str, beta: float) -> Settings:
    return {
        "beta": (field, beta),
        "loss_type": ("", ["sigmoid"]),
        "precompute_ref_log_probs": ("", True),
        "router_aux_loss_coef": ("", 0.0),  # the loss is DPO's alone
    }


def _family(recipe: FamilyRecipe) -> Told:
    why = {
        "ipo": "TRL's ipo averages log-probabilities over tokens, the paper's sums them",
        "cdpo": "TRL's label_smoothing is that of other losses",
        "orpo": "no command trains it",
        "simpo": "no command trains it",
    }
    if recipe.loss in why:
        raise _refusal(f"{type(recipe).__name__} with loss {recipe.loss!r}", why[recipe.loss])
    if recipe.sft_weight:
        raise _refusal(f"sft_weight {recipe.sft_weight:g}", "TRL's own added term averages over the batch's tokens")
    said: Settings = {
        "num_train_epochs": ("epochs", recipe.epochs),
        "per_device_train_batch_size": ("batch", recipe.batch),
        "max_length": ("max_length", recipe.max_length),
        **_cosine(recipe),
    }
    loss = _dpo_loss("strength", recipe.strength) if recipe.loss == "dpo" else {"beta": ("strength", recipe.strength)}
    return Told(recipe.loss, said | loss, ("loss", "sft_weight"))


def _reward(recipe: Reward) -> Told:
    said = _training(recipe) | {"max_length": ("max_length", recipe.max_length)}
    if recipe.centring:
        said["center_rewards_coefficient"] = ("centring", recipe.centring)
    return Told("reward", said, ("centring",))  # none without a coefficient


def _policy_gradient(recipe: PolicyGradientRecipe) -> Told:
    said: Settings = {
        "max_steps": ("steps", recipe.steps),
        "per_device_train_batch_size": ("batch", recipe.batch * recipe.samples),
        "num_generations": ("samples", recipe.samples),
        "steps_per_generation": ("", 1),
        "max_completion_length": ("max_new_tokens", recipe.max_new_tokens),
        "temperature": ("", 1.0),
        "beta": ("beta", recipe.beta),
        **_cosine(recipe),
    }
    if recipe.algorithm == "grpo":
        said["loss_type"] = ("", "grpo")  # the paper's; TRL's default is DAPO's
    return Told(recipe.algorithm, said, ("algorithm",))


def _cosine(recipe: FamilyRecipe | PolicyGradientRecipe) -> Settings:
    return {
        "learning_rate": ("learning_rate", recipe.learning_rate),
        "lr_scheduler_type": ("final_share", "cosine_with_min_lr"),
        "lr_scheduler_kwargs": ("final_share", {"min_lr_rate": recipe.final_share}),
        "warmup_steps": ("warmup", recipe.warmup),
        "max_grad_norm": ("clip", recipe.clip),
        "save_steps": ("checkpoint_every", recipe.checkpoint_every),
        "logging_steps": ("", 1),
    }


def _on_policy_kd(recipe: OnPolicyKD) -> Told:
    needed = {
        "attention_weight": 0.0, "ce_weight": 0.0, "prediction_weight": 1.0, "sampled_share": 1.0,
        "reduction": "tokens", "sampling_temperature": recipe.temperature, "temperature_squared": False,
    }  # fmt: skip
    for name, value in needed.items():
        if getattr(recipe, name) != value:
            raise _refusal(f"{name} {getattr(recipe, name)!r}", f"its distillation has {value!r} alone")
    said: Settings = {
        "beta": ("divergence", 1.0 if recipe.divergence == "reverse" else 0.0),
        "temperature": ("temperature", recipe.temperature),
        "max_completion_length": ("sampled_tokens", recipe.sampled_tokens),
    }
    return Told("distillation", _training(recipe) | said, (*needed, "tokens", "packed"))


def _lora(rank: int) -> Settings:
    if not rank:
        return {}
    return {
        "use_peft": ("lora", True),
        "lora_r": ("lora", rank),
        "lora_alpha": ("lora", rank),
        "lora_dropout": ("", 0.0),
        "lora_target_modules": ("", ["all-linear"]),
    }


def _data(data: str | None) -> dict[str, Any]:
    reader = None if data is None else READERS.get(Path(data).suffix)
    if reader is None:
        return {"dataset_name": data}
    return {"datasets": [{"path": reader, "data_files": data, "split": "train"}]}


_OWN = "it holds a function from a notebook"
# The first kind that a recipe is of decides: how it is told, or why it cannot be.
WAYS: dict[type, Callable[[Any], Told] | str] = {
    **dict.fromkeys((OwnLossDPO, OwnLossKD, *OWN_REWARD.values()), _OWN),
    SFT: _sft,
    DPO: _dpo,
    FamilyRecipe: _family,
    Preference: "it leaves the loss open, and a FamilyRecipe names one",
    Reward: _reward,
    PolicyGradientRecipe: _policy_gradient,
    PolicyGradient: "it leaves the algorithm open, and a PolicyGradientRecipe names one",
    OnPolicyKD: _on_policy_kd,
    KD: "their distillation learns from the student's own answers alone, without attention maps",
    DAE: "none has two teachers",
    PPO: "TRL has dropped PPO",
    OnlineDPO: "none is online DPO",
    DraftSteps: "none trains a draft",
    BaseTraining: "none starts from nothing",
}
