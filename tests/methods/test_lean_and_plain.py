"""What trains by default is the plain form to rounding: each switch of KD and DAE, in float64, values and gradients."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)  # fmt: skip

from kd_steps import ROWS, STEP, gradients, require_equal, rows, silent
from tiny_models import small_model, small_tokenizer
from zephyr_lab.methods.dae import LeanDAE, PlainDAE, train_dae
from zephyr_lab.methods.kd import LeanKD, PlainKD, form_of, train_kd
from zephyr_lab.methods.on_policy_kd import train_on_policy_kd
from zephyr_lab.methods.recipes.kd import DAE, KD
from zephyr_lab.models import mixtral
from zephyr_lab.models.pairing import Pairing

SHAPE = {"hidden": 16, "heads": 2, "kv_heads": 1, "ffn": 24, "window": 5}
PAIRS = Pairing((0, 1), (1, 0))


def model(seed, **changes):
    return small_model(seed, **(SHAPE | changes)).double()


KINDS = [("forward", 1.0), ("reverse", 1.0), ("forward", 2.0)]
WEIGHTS = [(1.0, 1.0, 0.0), (0.7, 0.0, 0.3), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.25, 2.0)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("tokens", ["all", "answers", "answers_unshifted"])
@pytest.mark.parametrize("pairs", [PAIRS, None], ids=["attention", "heads alone"])
def test_kd_of_every_switch(packed, tokens, pairs):
    student, teacher, batch = model(0), model(1), rows(packed)
    lean, plain = LeanKD.of(student, teacher, pairs), PlainKD(teacher, pairs)
    for (divergence, temperature), reduction, (prediction, attention, entropy) in itertools.product(
        KINDS, ("sequences", "tokens"), WEIGHTS
    ):
        if pairs is None and not prediction and not entropy:
            continue
        recipe = KD(
            divergence=divergence, reduction=reduction, tokens=tokens, packed=packed, temperature=temperature,
            temperature_squared=temperature != 1, prediction_weight=prediction, attention_weight=attention,
            ce_weight=entropy,
        )  # fmt: skip
        found, expected = (form.parts(recipe, student, batch) for form in (lean, plain))
        require_equal(student, found, expected)
        for name in ("prediction", "attention", "cross_entropy"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert (ours is None) == (theirs is None) and (ours is None) == (name == "attention" and pairs is None)
            assert ours is None or (ours.item() == pytest.approx(theirs.item(), rel=1e-9) and not ours.requires_grad)


@pytest.mark.parametrize("packed", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("tokens", ["all", "answers", "answers_unshifted"])
@pytest.mark.parametrize("reduction", ["sequences", "tokens", "groups"])
def test_dae_of_every_switch(packed, tokens, reduction):
    student, batch = model(0), rows(packed)
    teachers = {"expert": model(1), "general": model(2)}
    lean, plain = LeanDAE.of(student, teachers), PlainDAE(teachers)
    for (divergence, temperature), (reference_term, domain_teacher), flags in itertools.product(
        KINDS, ((True, "expert"), (False, "expert"), (True, "general")), ([1, 0, 1], [1, 1, 1])
    ):
        recipe = DAE(
            divergence=divergence, reduction=reduction, tokens=tokens, packed=packed, reference_term=reference_term,
            domain_teacher=domain_teacher, temperature=temperature, temperature_squared=temperature != 1,
        )  # fmt: skip
        by_expert = torch.tensor(flags).bool()
        found, expected = (form.routed(recipe, student, batch, by_expert) for form in (lean, plain))
        require_equal(student, found, expected)
        assert torch.allclose(found.scores.where(found.counted, 0), expected.scores.where(found.counted, 0), atol=1e-9)
        assert found.asked == expected.asked and torch.equal(found.counted, expected.counted)


def upcycled(seed):
    return mixtral.upcycle(model(seed, window=None).float(), experts=4, top=2, noise=0.5, router_sd=0.1, seed=seed)


@pytest.mark.parametrize("kind", ["mixture", "adapters"])
def test_mixtures_and_adapters_learn_the_same(kind):  # in float32: torch's products of experts know no float64
    adapters = LoraConfig(target_modules=["q_proj", "up_proj"], r=2, init_lora_weights=False)
    student = upcycled(0) if kind == "mixture" else get_peft_model(model(0, window=None).float(), adapters)
    teacher, batch, recipe, pairs = upcycled(1), rows(packed=False), KD(ce_weight=0.5), Pairing((0, 1), (0, 1))
    lean, plain = LeanKD.of(student, teacher, pairs), PlainKD(teacher, pairs)
    require_equal(student, lean.parts(recipe, student, batch), plain.parts(recipe, student, batch), tolerance=1e-4)


def trained(method, lean, **changes):
    student, others = model(0), (model(1), model(2))
    teachers = {"expert": others[0], "general": others[1]} if method is train_dae else {"teacher": others[0]}
    if method is train_on_policy_kd:
        changes = {"sampled_tokens": 6, **changes}
    log = method(student, small_tokenizer(), ROWS, **teachers, lean=lean, progress=silent, **(STEP | changes))
    return student, log


@pytest.mark.parametrize("method", [train_kd, train_dae, train_on_policy_kd])
def test_the_weights_after_a_step_are_the_same(method):
    found, expected = (trained(method, lean) for lean in (True, False))
    assert found[1].attrs["path"] == "lean" and expected[1].attrs["path"] == "plain: asked for"
    assert found[1]["loss"].iloc[0] == pytest.approx(expected[1]["loss"].iloc[0], rel=1e-9)
    for one, other in zip(found[0].parameters(), expected[0].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5 * STEP["learning_rate"], rtol=0)


@pytest.mark.parametrize("method", [train_kd, train_dae])
def test_gradient_norms_of_the_parts_are_the_same_and_change_nothing(method):
    changes = {"gradient_norms_every": 1, "epochs": 2}
    found, expected = (trained(method, lean, **changes)[1] for lean in (True, False))
    names = [name for name in found.columns if name.endswith("_grad_norm")]
    assert len(names) == 2
    for name in names:
        assert found[name].tolist() == pytest.approx(expected[name].tolist(), rel=1e-6) and (found[name] > 0).all()
    unwatched = trained(method, True, **changes | {"gradient_norms_every": 0})[1]
    assert unwatched["loss"].tolist() == found["loss"].tolist()


def gemma2():
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return Gemma2ForCausalLM(Gemma2Config(**sizes, num_key_value_heads=1, head_dim=8, vocab_size=640))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=640, n_positions=256))


LOGGED = {"attention_weight": 0.0}


def llama_of_dynamic_embeddings():
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=640, max_position_embeddings=16, rope_parameters=rope))


@pytest.mark.parametrize(
    ("make", "method", "changes", "way", "why"),
    [
        (gemma2, train_dae, {}, "plain", "changes its logits after the head"),
        (gemma2, train_kd, LOGGED, "plain without the attention loss", "changes its logits after the head"),
        (gpt2, train_kd, LOGGED, "lean without the attention loss", "dropout of 0.1 in its attention; set it to 0"),
    ],
)
def test_a_model_that_the_lean_path_does_not_know_trains_as_far_as_it_can_and_says_why(
    make, method, changes, way, why, capsys
):
    torch.manual_seed(0)
    student, other = make(), make()
    teachers = {"expert": other} if method is train_dae else {"teacher": other}
    log = method(student, small_tokenizer(), ROWS, **teachers, progress=silent, **STEP, **changes)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(method.__name__)]
    assert len(told) == 1 and why in told[0] and told[0].startswith(f"{method.__name__}: {way}, because ")
    assert log.attrs["path"].startswith(f"{way}: ") and why in log.attrs["path"] and log["loss"].iloc[0] > 0


def test_a_student_in_float16_takes_the_plain_path(capsys):
    student, teacher = model(0).half(), model(1).float()
    examples = Dataset.from_dict({"input_ids": [[5, 6, 7, 8]], "labels": [[-100, 6, 7, 8]]})
    form, path = form_of(KD(), student, teacher, PAIRS, examples, lean=True, method="train_kd")
    assert isinstance(form, PlainKD) and path.startswith("plain: float16 gradients need a scaled loss")
    assert path.removeprefix("plain: ") in capsys.readouterr().out


def test_checkpointed_layers_are_refused_for_the_attention_loss_alone():
    student, teacher = model(0).float(), model(1).float()
    student.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="gradient checkpointing would run the layers again"):
        train_kd(student, small_tokenizer(), ROWS, teacher=teacher, progress=silent, **STEP)
    log = train_kd(student, small_tokenizer(), ROWS, teacher=teacher, progress=silent, **STEP, attention_weight=0.0)
    assert log["prediction_loss"].iloc[0] > 0 and "attention_loss" not in log
    assert log.attrs["path"].startswith("lean without the attention loss: gradient checkpointing would run the layers")


def test_texts_too_long_to_share_a_row_are_padded_instead(capsys):
    student, teachers = llama_of_dynamic_embeddings(), {"expert": llama_of_dynamic_embeddings()}
    log = train_dae(student, small_tokenizer(), ROWS, **teachers, progress=silent, **STEP)
    assert log.attrs["path"].startswith("plain: no packing: dynamic rotary embeddings change for all texts of a row")


def test_weights_that_are_split_over_processes_take_the_plain_path(monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    examples = Dataset.from_dict({"input_ids": [[5, 6, 7, 8]], "labels": [[-100, 6, 7, 8]]})
    form, path = form_of(KD(), model(0), model(1), PAIRS, examples, lean=True, method="train_kd")
    assert isinstance(form, PlainKD) and path.startswith("plain: FSDP splits weights over processes")


def test_what_is_only_logged_costs_no_gradient():
    student, teacher, batch = model(0), model(1), rows(packed=False)
    form = LeanKD.of(student, teacher, PAIRS)
    alone = copy.deepcopy(student)
    watched = form.parts(replace(KD(), attention_weight=0.0), student, batch)
    unwatched = LeanKD.of(alone, teacher, None).parts(replace(KD(), attention_weight=0.0), alone, batch)
    assert watched.attention > 0 and unwatched.attention is None
    for one, other in zip(gradients(student, watched.loss), gradients(alone, unwatched.loss), strict=True):
        assert torch.equal(one, other)
