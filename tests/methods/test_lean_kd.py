"""The lean step of KD is the plain one: losses and gradients of whole logits and eager maps."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Lfm2Config, Lfm2ForCausalLM

from model_families import all_models, family_model
from tiny_models import small_model
from zephyr_lab.losses import kd
from zephyr_lab.losses.attention_kd import attention_kl, attention_scores
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.losses.fast.kd_head import mean_of_tokens
from zephyr_lab.methods.lean_kd import _ends_by_token, both_passes, last_hidden, lean_kd_losses, linear_head
from zephyr_lab.models import pairing
from zephyr_lab.models.attention import whole_maps
from zephyr_lab.models.causal import causal_model
from zephyr_lab.models.logits import body_of, last_hidden_states

IDS = torch.arange(5, 21).view(2, 8)
ANSWERS = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1]], dtype=torch.bool)  # two turns, one
PADDED = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8])
WEIGHTS = {"prediction_weight": 0.7, "attention_weight": 0.5, "ce_weight": 0.3}


def models(window):
    return small_model(0, window=window), small_model(1, window=window, kv_heads=1)


def plain(student, teacher, inputs, answers, window):
    """Eq. 5 from whole logits and whole maps."""
    counted = kd.predicting(answers)
    maps = {}
    for name, model in (("student", student), ("teacher", teacher)):
        model.set_attn_implementation("eager")
        maps[name] = whole_maps(model, **inputs)
        model.set_attn_implementation("sdpa")
    place = torch.arange(IDS.shape[1])
    allowed = ((place[None] <= place[:, None]) & (place[:, None] - place[None] < (window or 99)))[None, None]
    if "attention_mask" in inputs:
        allowed = allowed & inputs["attention_mask"].bool()[:, None, None]
    layers = [
        attention_kl(own, theirs, allowed.expand(len(IDS), 1, -1, -1))
        for own, theirs in zip(maps["student"], maps["teacher"], strict=True)
    ]
    logits, theirs = (model(**inputs, use_cache=False).logits for model in (student, teacher))
    attention = kd.mean_of_tokens(attention_scores(layers), counted)
    prediction = kd.mean_of_tokens(kd.forward_kl(logits, theirs, temperature=2.0), counted)
    entropy = kd.mean_of_tokens(next_token_losses(logits, inputs["input_ids"]), counted[:, :-1])
    return kd.kd_loss(prediction, attention, entropy, **WEIGHTS), prediction, entropy, attention


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("padded", [False, True])
def test_losses_and_gradients_are_those_of_whole_logits_and_maps(window, padded):
    student, teacher = models(window)
    inputs, answers = {"input_ids": IDS}, ANSWERS.clone()
    if padded:
        inputs["attention_mask"] = PADDED
        answers &= PADDED.bool()
        answers[0, 3] = False  # the first real token has none before it
    counted = kd.predicting(answers)
    found = lean_kd_losses(
        student, teacher, inputs, heads=(linear_head(student), linear_head(teacher)), counted=counted,
        shares=mean_of_tokens(counted), pairing=pairing.pair(student.config, teacher.config), temperature=2.0,
        **WEIGHTS,
    )  # fmt: skip
    expected = plain(student, teacher, inputs, answers, window)
    for ours, theirs in zip(
        (found.loss, found.prediction, found.cross_entropy, found.attention), expected, strict=True
    ):
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)
    parameters = list(student.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found.loss, parameters), torch.autograd.grad(expected[0], parameters), strict=True
    ):
        assert ours.isfinite().all() and (ours - theirs).abs().max() <= 2e-4 * theirs.abs().max()


def test_without_a_pairing_there_is_no_attention_loss():
    student, teacher = models(None)
    counted = kd.predicting(ANSWERS)
    found = lean_kd_losses(
        student, teacher, {"input_ids": IDS}, heads=(linear_head(student), linear_head(teacher)), counted=counted,
        shares=mean_of_tokens(counted), pairing=None, temperature=1.0, **WEIGHTS,
    )  # fmt: skip
    assert found.attention is None
    assert found.loss.item() == pytest.approx(0.7 * found.prediction.item() + 0.3 * found.cross_entropy.item())


def test_a_mask_that_was_not_shifted_is_refused():
    student, teacher = models(None)
    with pytest.raises(ValueError, match="counted holds a last position, which predicts nothing; shift the mask"):
        lean_kd_losses(
            student, teacher, {"input_ids": IDS}, heads=(linear_head(student), linear_head(teacher)), counted=ANSWERS,
            shares=mean_of_tokens(ANSWERS), pairing=None, temperature=1.0, **WEIGHTS,
        )  # fmt: skip


FAMILIES = ["gpt_oss", "phi3", "gpt2", "gpt_neox", "jetmoe", "persimmon", "opt", "mixtral", "falcon_h1", "bloom"]
COUNTED = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 1, 0], [0, 0, 1, 1, 0]], dtype=torch.bool)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_the_whole_pass_for_any_block(family, rows):
    # GPT-OSS's feed-forward block gives a tuple, Falcon-H1's has factors of its own, others have other names
    model = family_model(family)
    ids = torch.arange(3, 18).view(3, 5)[:rows]
    with torch.no_grad():
        found = last_hidden(model, {"input_ids": ids}, COUNTED[:rows])
        expected = last_hidden_states(model, input_ids=ids)[COUNTED[:rows]]
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("family", ["gpt_oss", "phi3", "falcon_h1"])
def test_gradients_through_any_block_are_those_of_the_whole_pass(family):
    model = family_model(family)
    ids = torch.arange(3, 18).view(3, 5)
    weights = [one for one in model.base_model.parameters() if one.requires_grad]
    slopes = [
        torch.autograd.grad(states.sin().sum(), weights, allow_unused=True)
        for states in (
            last_hidden(model, {"input_ids": ids}, COUNTED), last_hidden_states(model, input_ids=ids)[COUNTED]
        )
    ]  # fmt: skip
    for ours, theirs in zip(*slopes, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max().clamp(min=1e-3)


@pytest.mark.slow
def test_hidden_states_of_every_family_are_exact_or_it_is_refused_by_name():
    exact = []
    for family, model in all_models():
        ids = torch.arange(3, 13).view(2, 5)
        try:
            with torch.no_grad():
                found = last_hidden(model, {"input_ids": ids}, COUNTED[:2])
        except ValueError as error:
            assert type(model).__name__ in str(error), family
            continue
        with torch.no_grad():
            expected = last_hidden_states(model, input_ids=ids)[COUNTED[:2]]
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max(), family
        exact.append(family)
    assert len(exact) > 100


@pytest.mark.parametrize(("family", "alone"), [("mistral", True), ("gpt_oss", True), ("mixtral", True), ("opt", False)])
def test_the_last_block_runs_for_counted_tokens_alone_where_nothing_else_reads_it(family, alone):
    assert _ends_by_token(body_of(family_model(family)).module) is alone


def plain_parts(student, teacher, counted):
    """As `plain`, for models of any family without padding, maps by eager attention under a causal mask."""
    maps, logits = [], []
    for model in (student, teacher):
        inner = causal_model(model)
        inner.set_attn_implementation("eager")
        output = model(input_ids=IDS, output_attentions=True, use_cache=False)
        inner.set_attn_implementation("sdpa")
        maps.append(output.attentions)
        logits.append(output.logits)
    allowed = torch.ones(IDS.shape[1], IDS.shape[1], dtype=torch.bool).tril().expand(len(IDS), 1, -1, -1)
    layers = [attention_kl(own, theirs, allowed) for own, theirs in zip(*maps, strict=True)]
    attention = kd.mean_of_tokens(attention_scores(layers), counted)
    prediction = kd.mean_of_tokens(kd.forward_kl(*logits, temperature=2.0), counted)
    entropy = kd.mean_of_tokens(next_token_losses(logits[0], IDS), counted[:, :-1])
    return kd.kd_loss(prediction, attention, entropy, **WEIGHTS)


def require_the_plain_step(student, teacher):
    """One step of KD with its attention loss: value and gradients of what trains."""
    counted = kd.predicting(ANSWERS)
    found = lean_kd_losses(
        student, teacher, {"input_ids": IDS}, heads=(linear_head(student), linear_head(teacher)), counted=counted,
        shares=mean_of_tokens(counted), pairing=pairing.pair(student.config, teacher.config), temperature=2.0,
        **WEIGHTS,
    )  # fmt: skip
    expected = plain_parts(student, teacher, counted)
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    trained = [one for one in student.parameters() if one.requires_grad]
    slopes = [torch.autograd.grad(loss, trained, allow_unused=True) for loss in (found.loss, expected)]
    largest = max(one.abs().max() for one in slopes[1] if one is not None)
    for ours, theirs in zip(*slopes, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or (ours - theirs).abs().max() <= 1e-3 * largest
    return slopes[0]


@pytest.mark.parametrize("family", ["phi3", "gpt2", "gpt_neox", "jetmoe", "persimmon", "opt"])
def test_a_step_with_attention_is_the_plain_one_whatever_projections_are_called(family):
    none = {"attention_dropout": 0.0, "attn_pdrop": 0.0}
    student, teacher = family_model(family, **none), family_model(family, **none)
    for parameter in teacher.parameters():
        parameter.data.mul_(1.1)
    require_the_plain_step(student, teacher)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["gate_proj", "down_proj"]])
def test_a_student_with_adapters_learns_in_them_alone_as_in_a_plain_loop(targets):
    student = get_peft_model(small_model(0), LoraConfig(target_modules=targets, r=2, init_lora_weights=False))
    slopes = require_the_plain_step(student, small_model(1))
    trained = [name for name, one in student.named_parameters() if one.requires_grad]
    assert trained and all("lora_" in name for name in trained) and all(one is not None for one in slopes)
    assert all(one.grad is None for one in student.parameters())  # autograd.grad leaves nothing behind


def test_a_teacher_with_adapters_is_read_with_them():
    teacher = get_peft_model(small_model(1), LoraConfig(target_modules=["v_proj"], r=2, init_lora_weights=False))
    require_the_plain_step(small_model(0), teacher)


def test_an_adapter_on_the_head_is_refused_before_training():
    student = get_peft_model(small_model(0), LoraConfig(target_modules=["lm_head"], r=2))
    with pytest.raises(ValueError, match=r"a fused head needs a plain linear one \(merge an adapter into it first"):
        linear_head(student)


def test_packed_rows_of_a_model_that_reads_on_from_text_to_text_are_refused():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Lfm2ForCausalLM(
        Lfm2Config(**sizes, num_hidden_layers=2, layer_types=["conv", "full_attention"], vocab_size=60, pad_token_id=0)
    )
    counted = torch.tensor([[True, True, False, True, True, False]])
    packed = {"input_ids": torch.arange(6)[None], "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}
    with pytest.raises(ValueError, match=r"no packing for this model: layers of type conv"):
        both_passes(model, model, packed, counted=counted, shares=mean_of_tokens(counted), pairing=None)
