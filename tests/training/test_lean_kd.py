"""The lean step of KD is the plain one: losses and gradients of whole logits and eager maps."""

import pytest
import torch
from transformers import Lfm2Config, Lfm2ForCausalLM

from tiny_models import small_model
from zephyr_lab.losses import kd
from zephyr_lab.losses.attention_kd import attention_kl, attention_scores
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.losses.fast.fused_head import mean_of_tokens
from zephyr_lab.models import pairing
from zephyr_lab.models.attention_maps import whole_maps
from zephyr_lab.training.lean_kd import both_passes, lean_kd_losses, linear_head

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


def test_packed_rows_of_a_model_that_reads_on_from_text_to_text_are_refused():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Lfm2ForCausalLM(
        Lfm2Config(**sizes, num_hidden_layers=2, layer_types=["conv", "full_attention"], vocab_size=60, pad_token_id=0)
    )
    counted = torch.tensor([[True, True, False, True, True, False]])
    packed = {"input_ids": torch.arange(6)[None], "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}
    with pytest.raises(ValueError, match=r"no packing for this model: layers of type conv"):
        both_passes(model, model, packed, counted=counted, shares=mean_of_tokens(counted), pairing=None)
