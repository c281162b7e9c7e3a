"""Recipes as TRL's own parser reads them, beside the arguments that our trainers get; nothing is dropped in silence."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
import torch

from any_models import any_model, dialogue_rows, pair_rows
from tiny_models import small_tokenizer
from zephyr_lab.methods import dpo, policy_gradient, recipes, reward, sft
from zephyr_lab.methods.examples import read_dialogues, read_pairs
from zephyr_lab.methods.recipes import trl_files
from zephyr_lab.methods.recipes.kd import KD, OnPolicyKD
from zephyr_lab.methods.recipes.pairs import DPO, DDPORecipe, FamilyRecipe, Reward
from zephyr_lab.methods.recipes.rollouts import PPO, PolicyGradientRecipe
from zephyr_lab.methods.recipes.training import SFT, LoRASFT
from zephyr_lab.models import reward as reward_models

CPU = torch.device("cpu")
SHORT = {"batch": 4, "micro_batch": 2, "epochs": 3, "learning_rate": 3e-6, "warmup": 0.25, "weight_decay": 0.1}
ROLLOUTS = {"start": "", "world": "tiny", "prompts": 8, "reward": "quality", "keep": (), "device": "cpu"}
# What our trainers set and a file for TRL leaves alone: where files go, what is shown, how rows are fed.
OURS = {
    "output_dir", "logging_dir", "disable_tqdm", "dataloader_pin_memory", "per_device_eval_batch_size", "max_length",
    "seed", "use_cache", "run_name", "save_strategy", "save_steps", "shuffle_dataset", "pad_to_multiple_of",
    "assistant_only_loss", "completion_only_loss",  # our rows come with their labels
}  # fmt: skip


def parsed(recipe, folder, **named):
    """What TRL's script of the recipe's command is told by the file; a name that it does not know is an error."""
    file = trl_files.trl_file(recipe, device="cpu", seed=5, **named)
    (folder / "file.yaml").write_text(file.text())
    parser = importlib.import_module(f"trl.scripts.{file.command}").make_parser()
    told = parser.parse_args_and_config(["--config", str(folder / "file.yaml")], fail_with_unknown_args=True)
    return file, dict(zip(("script", "training", "model", "data"), told, strict=True))


def rows_of(read, recipe, rows):
    return {"train": read(recipe, small_tokenizer(), rows, name="train")[0]}


def our_arguments(recipe):
    """The arguments of the trainer that the method itself makes for this recipe."""
    model, tokenizer = any_model("llama"), small_tokenizer()
    if isinstance(recipe, SFT):
        examples = rows_of(read_dialogues, recipe, dialogue_rows(4))
        return sft.make_trainer(recipe, model, tokenizer, examples, seed=0, folder=None).args
    if isinstance(recipe, DPO):
        examples = rows_of(read_pairs, recipe, pair_rows(4))
        return dpo.make_trainer(recipe, model, None, tokenizer, examples, seed=0, folder=None)[0].args
    if isinstance(recipe, Reward):
        examples = rows_of(read_pairs, recipe, pair_rows(4))["train"]
        model = reward_models.of_causal(model)
        return reward.make_trainer(recipe, model, tokenizer, examples, [], seed=0, folder=None).args
    form = {"rloo": policy_gradient.RLOO, "grpo": policy_gradient.GRPO}[recipe.algorithm]
    return policy_gradient.make_trainer(
        recipe, model, tokenizer, form, reference=None, prompts=8, seed=0, folder=None
    ).args


@pytest.mark.parametrize(
    "recipe",
    [
        SFT(**SHORT, schedule="linear"),
        SFT(**SHORT, answers_only=False, packed=True, schedule="constant", optimizer="rmsprop"),
        DPO(**SHORT, beta=0.3, log_every=2, clip=0.5),
        Reward(**SHORT, centring=0.01),
        Reward(**SHORT),
    ],
    ids=lambda recipe: type(recipe).__name__,
)
def test_trl_s_parser_gives_the_arguments_of_our_own_trainer(recipe, tmp_path):
    _, told = parsed(recipe, tmp_path, out=str(tmp_path))
    ours = our_arguments(recipe)
    assert type(ours) is type(told["training"])
    differing = {
        field.name: (getattr(ours, field.name), getattr(told["training"], field.name))
        for field in dataclasses.fields(ours)
        if field.name not in OURS and getattr(ours, field.name) != getattr(told["training"], field.name)
    }
    assert differing == {}
    assert (told["training"].seed, told["training"].save_steps) == (5, recipe.checkpoint_every)
    assert told["training"].max_length == recipe.max_length
    if isinstance(recipe, SFT):
        assert told["training"].assistant_only_loss == recipe.answers_only


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_policy_gradients_are_told_with_their_rate_and_their_penalty(algorithm, tmp_path):
    recipe = PolicyGradientRecipe(algorithm=algorithm, batch=2, samples=3, beta=0.2, warmup=3, **ROLLOUTS)
    file, told = parsed(recipe, tmp_path, out=str(tmp_path))
    ours, theirs = our_arguments(recipe), told["training"]
    schedule = {"lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "beta"}  # ours are given as objects
    differing = {
        field.name
        for field in dataclasses.fields(ours)
        if field.name not in OURS | schedule and getattr(ours, field.name) != getattr(theirs, field.name)
    }
    assert differing == set()
    assert (theirs.beta, theirs.warmup_steps, theirs.lr_scheduler_kwargs) == (0.2, 3, {"min_lr_rate": 0.1})
    assert set(file.left_out) == {"start", "world", "prompts", "reward", "keep"}


def test_an_adapter_and_names_of_files_are_told_as_trl_takes_them(tmp_path):
    recipe = LoRASFT(**SHORT, lora=8, start="", keep_epochs=False, device="cpu")
    _, told = parsed(recipe, tmp_path, model="m", data="rows.jsonl", out=str(tmp_path))
    model, (data,) = told["model"], told["data"].datasets
    assert (model.use_peft, model.lora_r, model.lora_alpha, model.lora_dropout) == (True, 8, 8, 0.0)
    assert (model.model_name_or_path, model.lora_target_modules, model.dtype) == ("m", "all-linear", "float32")
    assert (data.path, data.data_files, data.split) == ("json", "rows.jsonl", "train")
    _, told = parsed(SFT(), tmp_path, data="owner/rows", out=str(tmp_path))
    assert told["script"].dataset_name == "owner/rows" and not told["model"].use_peft


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_losses_of_the_family_that_trl_has(loss, tmp_path):
    recipe = FamilyRecipe(loss=loss, strength=0.4, second=0.0, start="", device="cpu", batch=4, final_share=0.2)
    file, told = parsed(recipe, tmp_path, out=str(tmp_path))
    theirs = told["training"]
    assert (file.command, theirs.beta, theirs.per_device_train_batch_size) == (loss, 0.4, 4)
    assert theirs.loss_type in (["sigmoid"], "kto") and theirs.lr_scheduler_kwargs == {"min_lr_rate": 0.2}


def test_distillation_on_own_answers_is_told_where_trl_s_is_the_same(tmp_path):
    _, told = parsed(OnPolicyKD(batch=4, sampled_tokens=64), tmp_path, out=str(tmp_path))
    assert (told["training"].beta, told["training"].max_completion_length) == (1.0, 64)
    with pytest.raises(ValueError, match=r"sampled_share 0\.5 cannot be told .* distillation has 1\.0 alone"):
        trl_files.trl_file(OnPolicyKD(sampled_share=0.5), device="cpu")


def kinds():
    """Every class of settings in the room of recipes."""
    for module in pkgutil.iter_modules(recipes.__path__):
        for kind in vars(importlib.import_module(f"{recipes.__name__}.{module.name}")).values():
            if inspect.isclass(kind) and dataclasses.is_dataclass(kind) and kind.__module__.endswith(module.name):
                yield kind


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_recipe_is_told_field_by_field_or_refused_by_name(kind):
    try:
        trl_files._way_of(kind)
    except ValueError as error:
        assert str(error).startswith(f"{kind.__name__} cannot be told to TRL's commands: ")


REFUSED = {
    "attention maps": KD(),
    "dropped PPO": PPO(),
    "averages log-probabilities": FamilyRecipe(loss="ipo", strength=0.1, second=0.0, start="", device="cpu"),
    "no command trains it": FamilyRecipe(loss="simpo", strength=2.0, second=1.0, start="", device="cpu"),
    "added term": FamilyRecipe(loss="dpo", strength=0.1, second=0.0, start="", device="cpu", sft_weight=0.5),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_trl_does_not_train_is_refused_with_the_reason(why):
    with pytest.raises(ValueError, match=why):
        trl_files.trl_file(REFUSED[why], device="cpu")


def test_what_trl_has_no_setting_for_is_in_the_file_and_printed(tmp_path, capsys):
    recipe = DDPORecipe(
        start="epochs/1", keep_epochs=True, device="cpu", other_reference=False, sampled_prompts=1, sampled_tokens=9,
        optimizer="muon",
    )  # fmt: skip
    file = trl_files.trl_file(recipe, device="cpu")
    fields = {field.name for field in dataclasses.fields(recipe)}
    assert set(file.left_out) == {
        "start", "keep_epochs", "other_reference", "sampled_prompts", "sampled_tokens", "optimizer", "system_turn",
        "max_prompt_length", "long_prompts", "equal_answers", "shared_prompt",
    } & fields  # fmt: skip
    trl_files.write(file, tmp_path / "dpo.yaml")
    out, text = capsys.readouterr().out, (tmp_path / "dpo.yaml").read_text()
    for line in ("optimizer = 'muon': TRL has no Muon: AdamW would train", "start = 'epochs/1': give its folder"):
        assert f"#   {line}" in text and f"not in the file: {line}" in out
