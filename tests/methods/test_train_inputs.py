"""What all training functions take in one way: rows, models, tokenizers, seeds, references and checkpoints' folders."""

import copy
import pathlib

import pandas as pd
import pytest
import torch
from datasets import DatasetDict
from peft import LoraConfig, get_peft_model

from any_models import any_model, dialogue_rows, pair_rows
from model_families import small_model
from tiny_models import small_tokenizer
from zephyr_lab.losses.fast import pair_losses
from zephyr_lab.methods.dae import train_dae
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.draft import new_draft, train_draft
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.on_policy_kd import train_on_policy_kd
from zephyr_lab.methods.online_dpo import train_online_dpo
from zephyr_lab.methods.policy_gradient import train_grpo, train_rloo
from zephyr_lab.methods.ppo import train_ppo
from zephyr_lab.methods.preference import KTO, train_preference
from zephyr_lab.methods.pretrain import train_base
from zephyr_lab.methods.reward import train_reward
from zephyr_lab.methods.sft import train_sft
from zephyr_lab.models.reward import of_causal

QUIET = {"progress": lambda *steps, **numbers: None}
SMALL = {"batch": 2, "learning_rate": 1e-3, **QUIET}
ANSWERS = {"steps": 2, "batch": 2, "samples": 2, "max_new_tokens": 3, "learning_rate": 1e-3, **QUIET}
DIALOGUES, PAIRS = dialogue_rows(4), pair_rows(4)
PROMPTS = [{"prompt": row["prompt"]} for row in PAIRS]
FLAGGED = [{**row, "is_domain": place % 2 == 0} for place, row in enumerate(DIALOGUES)]


def by_length(prompts, answers):
    return [-float(len(answer)) for answer in answers]


def draft(model, tokenizer, rows, **settings):
    return train_draft(new_draft(model), model, tokenizer, rows, **{"steps": 2, "batch": 2, **QUIET, **settings})


def base(model, tokenizer, rows, **settings):
    small = {"steps": 2, "rows": 2, "row_length": 16, "warmup": 0, **QUIET}
    return train_base(model, tokenizer, rows, **{**small, **settings})


METHODS = {
    "sft": (train_sft, DIALOGUES, SMALL),
    "dpo": (train_dpo, PAIRS, SMALL),
    "kd": (train_kd, DIALOGUES, {**SMALL, "teacher": None}),
    "on-policy kd": (train_on_policy_kd, DIALOGUES, {**SMALL, "teacher": None, "sampled_tokens": 3}),
    "dae": (train_dae, FLAGGED, {**SMALL, "expert": None}),
    "reward": (train_reward, PAIRS, SMALL),
    "preference": (train_preference, PAIRS, {**SMALL, "loss": pair_losses.dpo(beta=0.1)}),
    "ppo": (train_ppo, PROMPTS, {**ANSWERS, "reward": by_length}),
    "rloo": (train_rloo, PROMPTS, {**ANSWERS, "reward": by_length}),
    "online": (train_online_dpo, PROMPTS, {**ANSWERS, "reward": by_length}),
    "base": (base, ["the sky is red and it is late"] * 4, {}),
    "draft": (draft, DIALOGUES, {}),
}


def some_of(names):
    """The first two names; the others in the slow tests."""
    return [name if place < 2 else pytest.param(name, marks=pytest.mark.slow) for place, name in enumerate(names)]


TRAINERS = ("sft", "dpo", "kd", "on-policy kd", "dae", "rloo")


def train(name, model=None, rows=None, tokenizer=None, **changes):
    method, own, settings = METHODS[name]
    settings = {key: any_model("llama", seed=1) if value is None else value for key, value in settings.items()}
    if model is None:
        model = of_causal(any_model("llama")) if name == "reward" else any_model("llama")
    return method(model, tokenizer or small_tokenizer(), own if rows is None else rows, **{**settings, **changes})


@pytest.mark.parametrize("name", METHODS)
def test_what_is_no_list_of_rows_is_refused_and_says_what_to_hand_over(name):
    rows = METHODS[name][1]
    columns = [{"text": row} for row in rows] if name == "base" else rows
    for wrong, said in (
        ("a text", "got 'a text'; a file is read by datasets.load_dataset"),
        (pathlib.Path("rows.jsonl"), "got 'rows.jsonl'; a file"),
        (columns[0], "got one mapping of .*: one row goes into a list"),
        (DatasetDict(), "of several splits take one"),
        (pd.DataFrame(columns), r'got a table; pass table.to_dict\("records"\)'),
        (7, "rows must be a list of rows, got 7"),
    ):
        with pytest.raises(TypeError, match=said):
            train(name, rows=wrong)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "draft"])
def test_a_model_of_which_nothing_trains_is_refused(name):
    model = of_causal(any_model("llama")) if name == "reward" else any_model("llama")
    with pytest.raises(ValueError, match="no weight of the model trains: requires_grad is off for all of them"):
        train(name, model.requires_grad_(False))


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_that_is_no_whole_number_is_refused(name):
    for wrong in (None, 1.5, "0"):
        with pytest.raises(TypeError, match="seed must be of type int, got"):
            train(name, seed=wrong)


@pytest.mark.parametrize(
    ("name", "role"),
    [("kd", "teacher"), ("on-policy kd", "teacher"), ("dae", "expert"), ("ppo", "reference"), ("online", "reference"),
     ("rloo", "reference"), ("preference", "reference")],
)  # fmt: skip
def test_a_teacher_or_reference_whose_weights_train_is_refused(name, role):
    inner = any_model("llama")
    adapted = get_peft_model(inner, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for model, other in ((adapted, inner), (whole := any_model("llama"), whole)):
        with pytest.raises(ValueError, match="itself, and would move with it"):
            train(name, model, **{role: other})


@pytest.mark.parametrize("name", some_of(TRAINERS))
def test_tokenizer_settings_and_dropout_come_back_as_they_were(name):
    model, tokenizer = any_model("gpt2"), copy.deepcopy(small_tokenizer())
    tokenizer.pad_token = None
    model.config.use_cache, model.config.pad_token_id = False, 5
    others = {"attention_weight": 0.0} if "kd" in name else {}
    dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    for module in dropouts:
        module.p = 0.1
    before = copy.deepcopy(model.config.to_dict()), copy.deepcopy(model.generation_config.to_dict())
    other = any_model("gpt2", seed=1)
    others |= {role: other for role in ("teacher", "expert") if role in METHODS[name][2]}
    train(name, model, tokenizer=tokenizer, **others)
    assert tokenizer.pad_token is None
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before
    assert {module.p for module in dropouts} == {0.1}


@pytest.mark.parametrize("name", ["dpo", "preference", "ppo", "rloo", "online"])
def test_a_reference_comes_back_in_its_mode(name):
    reference = any_model("gpt2", seed=1).train()
    train(name, any_model("gpt2"), reference=reference)
    assert all(module.training for module in reference.modules())


@pytest.mark.parametrize("name", some_of(METHODS))
def test_checkpoints_of_other_rows_are_not_gone_on_from(name, tmp_path):
    first = train(name, checkpoints=tmp_path)
    again = train(name, checkpoints=tmp_path)
    assert again["loss"].tolist() == first["loss"].tolist()
    rows = METHODS[name][1]
    other = ["quite another text, read at night"] * 4 if name == "base" else [*rows[1:], rows[0]]
    with pytest.raises(ValueError, match="holds checkpoints of another run: rows read was"):
        train(name, rows=other, checkpoints=tmp_path)


def test_checkpoints_of_another_method_or_loss_are_not_gone_on_from(tmp_path):
    train("sft", checkpoints=tmp_path / "a")
    with pytest.raises(ValueError, match="another run: method was 'SFT' and is 'KD'"):
        train("kd", checkpoints=tmp_path / "a")
    train("preference", checkpoints=tmp_path / "b")
    with pytest.raises(ValueError, match=r"its loss was 'dpo\(beta=0.1\)' and is 'KTO\(beta=0.1\)'"):
        train("preference", loss=KTO(beta=0.1), checkpoints=tmp_path / "b")
    train("rloo", checkpoints=tmp_path / "c")
    with pytest.raises(ValueError, match="its trainer was 'StageRLOOTrainer' and is 'StageGRPOTrainer'"):
        train_grpo(
            any_model("llama"), small_tokenizer(), PROMPTS, reward=by_length, checkpoints=tmp_path / "c", **ANSWERS
        )


@pytest.mark.parametrize("name", ["sft", "ppo", "rloo"])
def test_a_run_that_left_no_checkpoint_binds_no_later_one(name, tmp_path):
    def stop(step, of, **numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(name, checkpoints=tmp_path, progress=stop)
    changed = {"learning_rate": 1e-4, **({"steps": 1} if name != "sft" else {})}
    assert len(train(name, checkpoints=tmp_path, **changed)) == (1 if name != "sft" else 2)


@pytest.mark.parametrize("name", ["ppo", "online"])
def test_numbers_that_are_not_finite_are_named_where_a_log_is_kept(name, tmp_path):
    model = any_model("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="kl is nan at step 0: training halted"):
        train(name, model, checkpoints=tmp_path)


@pytest.mark.parametrize("name", ["sft", "dpo", "kd", "dae", "reward"])
def test_a_curve_without_held_out_rows_is_refused(name):
    with pytest.raises(ValueError, match="evaluate_every is 1, and there are no held_out rows; pass some"):
        train(name, evaluate_every=1)


def test_a_mixture_trains_by_dpo_and_keeps_its_router_settings():
    model = small_model("mixtral, no window", vocab_size=len(small_tokenizer())).float()
    before = model.config.to_dict()
    log = train("dpo", model)
    assert log["loss"][0] == pytest.approx(0.693147, abs=1e-5) and log.attrs["path"].startswith("lean")
    train("sft", model)
    assert model.config.to_dict() == before


def test_attention_dropout_is_off_in_dpo_and_on_again_afterwards():
    model = any_model("llama")
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    log = train("dpo", model.train())
    assert log["loss"][0] == pytest.approx(0.693147, abs=1e-5)
    assert model.model.layers[0].self_attn.attention_dropout == 0.1


def test_dae_takes_the_layouts_that_the_others_take_and_keeps_good_rows(capsys):
    asked, answered = [{"role": "user", "content": "Why?"}], [{"role": "assistant", "content": "So it is."}]
    rows = [{"prompt": asked, "completion": answered}, {"prompt": asked, "completion": answered}]
    bad = [None, {"messages": asked, "is_domain": True}]
    log = train("dae", rows=[*({**row, "is_domain": place == 0} for place, row in enumerate(rows)), *bad])
    assert len(log) == 1 and log.attrs["rows"]["train"]["used"] == 2
    assert "unusable: row 3: must be a mapping of columns, got None; row 4, column messages: has no" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("name", ["sft", "dpo", "kd", "on-policy kd", "dae", "reward", "preference", "draft"])
def test_rows_beyond_learned_positions_are_refused_before_training(name):
    small = {"vocab_size": len(small_tokenizer()), "n_positions": 16}
    model = small_model("gpt2", **small).float()
    other = {role: small_model("gpt2", seed=1, **small).float() for role in ("teacher", "expert")}
    other = {role: one for role, one in other.items() if role in METHODS[name][2]}
    with pytest.raises(ValueError, match=r"a row has .* tokens, and GPT2.* positions for 16: set max_length to 16"):
        train(name, of_causal(model) if name == "reward" else model, **other)


def test_a_reward_that_gives_nothing_is_refused():
    with pytest.raises(ValueError, match="reward gave None for 4 answers at step 0"):
        train("ppo", reward=lambda prompts, answers: None, samples=2)
