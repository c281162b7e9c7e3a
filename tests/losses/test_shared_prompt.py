"""Packed pairs with a shared prompt give what padded rows and whole logits give, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from packed_models import ARCHITECTURES, gradients, packed_model, plain_log_probs, random_pairs, worst_error
from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.dpo import dpo_loss, margins
from zephyr_lab.losses.fast import pair_losses, shared_prompt
from zephyr_lab.losses.fast.pair_packing import pack
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.losses.orpo import orpo_loss
from zephyr_lab.losses.simpo import simpo_loss

ERROR = 5e-5  # the largest relative error of a gradient that is allowed anywhere
SMALL_TILE, WHOLE = 40 * 3, 1 << 23  # three rows of logits at once, or all
LOSSES = {
    "dpo": (pair_losses.dpo(beta=0.3), lambda p, r, n: dpo_loss(p, r, beta=0.3)),
    "cdpo": (
        pair_losses.cdpo(beta=0.3, label_smoothing=0.1),
        lambda p, r, n: cdpo_loss(p, r, beta=0.3, label_smoothing=0.1),
    ),
    "ipo": (pair_losses.ipo(tau=0.2), lambda p, r, n: ipo_loss(p, r, tau=0.2)),
    "simpo": (pair_losses.simpo(beta=2.0, gamma=0.5), lambda p, r, n: simpo_loss(p, n, beta=2.0, gamma=0.5)),
    "orpo": (pair_losses.orpo(weight=0.3), lambda p, r, n: orpo_loss(p, n, weight=0.3)),
}


@pytest.fixture(scope="module")
def pairs():
    """Pairs on which a policy and its reference disagree both ways."""
    found = random_pairs(3, count=6)
    policy, reference = (plain_log_probs(packed_model(seed=seed), found) for seed in (0, 1))
    signs = margins(policy, reference, beta=1.0).sign()
    assert set(signs.tolist()) == {-1.0, 1.0}
    return found


def reference_of(pairs, seed=1):
    with torch.no_grad():
        return plain_log_probs(packed_model(seed=seed), pairs)


# --- values and gradients -------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 5),
    longest=st.sampled_from([1, 3, 12, 150]),
    window=st.sampled_from([None, 1, 2, 7, 140]),
    heads=st.sampled_from([(4, 4), (4, 2), (4, 1), (2, 1)]),
    tile=st.sampled_from([40, SMALL_TILE, WHOLE]),
)
def test_any_shapes_windows_and_groups_give_the_gradient_of_plain_rows(seed, count, longest, window, heads, tile):
    sizes = {"sliding_window": window, "num_attention_heads": heads[0], "num_key_value_heads": heads[1]}
    pairs, policy = random_pairs(seed, count, longest=longest), packed_model(seed=seed, **sizes)
    reference = reference_of(pairs)
    loss = shared_prompt.loss(policy, pack(pairs), reference, pair_losses.dpo(beta=0.1), tile_entries=tile).loss
    ours = gradients(policy, loss)
    exact = policy.double()
    expected_loss = dpo_loss(plain_log_probs(exact, pairs), reference, beta=0.1).mean()
    expected = gradients(exact, expected_loss)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-4)
    assert worst_error(ours, expected) < ERROR


@pytest.mark.parametrize("tile", [SMALL_TILE, WHOLE])
@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_of_summed_log_probabilities_has_its_value_and_gradient(pairs, name, tile):
    fast, plain = LOSSES[name]
    policy, reference, packed = packed_model(), reference_of(pairs), pack(pairs)
    expected = plain(plain_log_probs(policy, pairs), reference, packed.lengths).mean()
    found = shared_prompt.loss(policy, packed, reference, fast, tile_entries=tile)
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert worst_error(gradients(policy, found.loss), gradients(policy, expected)) < ERROR


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"gemma2"}))
def test_models_with_the_attention_interface_are_exact(name, pairs):
    policy, reference = packed_model(name), reference_of(pairs)
    expected = dpo_loss(plain_log_probs(policy, pairs), reference, beta=0.1).mean()
    found = shared_prompt.loss(policy, pack(pairs), reference, pair_losses.dpo(beta=0.1)).loss
    assert worst_error(gradients(policy, found), gradients(policy, expected)) < ERROR


def test_a_tied_head_gets_both_gradients(pairs):
    policy = packed_model(tie_word_embeddings=True)
    assert policy.lm_head.weight is policy.model.embed_tokens.weight
    expected = dpo_loss(plain_log_probs(policy, pairs), reference_of(pairs), beta=0.1).mean()
    found = shared_prompt.loss(policy, pack(pairs), reference_of(pairs), pair_losses.dpo(beta=0.1)).loss
    assert worst_error(gradients(policy, found), gradients(policy, expected)) < ERROR


@pytest.mark.parametrize("tile", [SMALL_TILE, WHOLE])
def test_a_bias_in_the_head_counts_and_learns(pairs, tile):
    policy = packed_model()
    policy.lm_head.bias = nn.Parameter(torch.linspace(-2, 2, 40))
    expected = dpo_loss(plain_log_probs(policy, pairs), reference_of(pairs), beta=0.1).mean()
    packed, reference = pack(pairs), reference_of(pairs)
    found = shared_prompt.loss(policy, packed, reference, pair_losses.dpo(beta=0.1), tile_entries=tile)
    ours = gradients(policy, found.loss)
    assert ours["lm_head.bias"].abs().max() > 0
    assert worst_error(ours, gradients(policy, expected)) < ERROR


def test_adapters_below_the_head_learn_and_the_frozen_rest_gets_nothing(pairs):
    policy = get_peft_model(packed_model(), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    expected = dpo_loss(plain_log_probs(policy, pairs), reference_of(pairs), beta=0.1).mean()
    found = shared_prompt.loss(policy, pack(pairs), reference_of(pairs), pair_losses.dpo(beta=0.1)).loss
    assert worst_error(gradients(policy, found), gradients(policy, expected)) < ERROR


@pytest.mark.parametrize("tile", [SMALL_TILE, WHOLE])
def test_log_probabilities_carry_the_gradient_of_any_loss_that_follows(pairs, tile):
    policy = packed_model()
    found = shared_prompt.pair_log_probs(policy, pack(pairs), tile_entries=tile)
    expected = plain_log_probs(policy, pairs)
    torch.testing.assert_close(found.chosen, expected.chosen, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.rejected, expected.rejected, rtol=1e-5, atol=1e-5)
    # A loss that no slice of the pairs could fix alone
    ours, plain = ((one.chosen - one.rejected).square().mean() * one.chosen.mean() for one in (found, expected))
    assert worst_error(gradients(policy, ours), gradients(policy, plain)) < ERROR


def test_a_scaled_loss_has_the_scaled_gradient(pairs):
    policy, reference, packed = packed_model(), reference_of(pairs), pack(pairs)
    once, quarter = (
        gradients(policy, scale * shared_prompt.loss(policy, packed, reference, pair_losses.dpo(beta=0.1)).loss)
        for scale in (1.0, 0.25)
    )
    assert all(torch.equal(quarter[name], 0.25 * one) for name, one in once.items())


def test_pairs_do_not_see_each_other(pairs):
    policy = packed_model()
    with torch.no_grad():
        together = shared_prompt.pair_log_probs(policy, pack(pairs))
        alone = [shared_prompt.pair_log_probs(policy, pack([pair])) for pair in pairs]
    torch.testing.assert_close(together.chosen, torch.cat([one.chosen for one in alone]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.rejected, torch.cat([one.rejected for one in alone]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("tile", [SMALL_TILE, WHOLE])
def test_statistics_are_those_of_whole_logits(pairs, tile, learning):
    policy = packed_model()
    policy.lm_head.bias = nn.Parameter(torch.linspace(-1, 1, 40))
    with torch.set_grad_enabled(learning):
        found = shared_prompt.loss(
            policy, pack(pairs), reference_of(pairs), pair_losses.dpo(beta=0.1), tile_entries=tile
        )
    entropy, mean_logit, likeliest = [], [], []
    for prompt, *responses in pairs:
        for response in responses:
            logits = policy(input_ids=torch.tensor([prompt + response])).logits[0, -len(response) - 1 : -1]
            entropy.append(torch.distributions.Categorical(logits=logits).entropy())
            mean_logit.append(logits.mean(dim=-1))
            likeliest.append(logits.argmax(dim=-1) == torch.tensor(response))
    torch.testing.assert_close(found.statistics.entropy, torch.cat(entropy).detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.statistics.mean_logit, torch.cat(mean_logit).detach(), rtol=1e-4, atol=1e-4)
    assert torch.equal(found.statistics.likeliest, torch.cat(likeliest))
    assert found.loss.requires_grad == learning and not found.log_probs.chosen.requires_grad


def test_bfloat16_autocast_is_as_close_as_its_digits(pairs):
    policy, reference, packed = packed_model(), reference_of(pairs), pack(pairs)
    exact = gradients(policy, shared_prompt.loss(policy, packed, reference, pair_losses.dpo(beta=0.1)).loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = shared_prompt.loss(policy, packed, reference, pair_losses.dpo(beta=0.1)).loss
        plain = dpo_loss(plain_log_probs(policy, pairs), reference, beta=0.1).mean()
    ours, theirs = worst_error(gradients(policy, rough), exact), worst_error(gradients(policy, plain), exact)
    assert ours < 2 * theirs + 0.01


def test_the_trial_allows_for_bfloat16_products_whose_logits_come_in_float32(pairs):
    """As accelerate wraps a model on a GPU: autocast inside, float32 outside."""
    policy = packed_model()
    usual = policy.forward

    def forward(*arguments, **named):
        output = usual(*arguments, **named)
        output.logits = 1.01 * output.logits.float()  # further off than float32's rounding, within bfloat16's
        return output

    policy.forward = forward
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert shared_prompt.pair_log_probs(policy, pack(pairs)).chosen.isfinite().all()
    other = packed_model()
    other.forward, usual = forward, other.forward
    with pytest.raises(ValueError, match="on a trial"):
        shared_prompt.pair_log_probs(other, pack(pairs))


# --- the model is left as it was ------------------------------------------------------------------------------------


def test_the_model_is_as_before_also_after_a_failure(pairs):
    policy = packed_model()
    usual = policy.config._attn_implementation
    shared_prompt.pair_log_probs(policy, pack(pairs))
    policy.model.layers[1].mlp.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shared_prompt.pair_log_probs(policy, pack(pairs))
    assert policy.config._attn_implementation == usual
    assert "forward" not in vars(policy.model.layers[-1])


def test_a_gradient_is_handed_out_once(pairs):
    policy = packed_model()
    loss = shared_prompt.loss(policy, pack(pairs), reference_of(pairs), pair_losses.dpo(beta=0.1)).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"^the gradient was made in the forward pass"):
        loss.backward()


# --- refusals -------------------------------------------------------------------------------------------------------


def refused(policy, pattern):
    with pytest.raises(ValueError, match=pattern):
        shared_prompt.loss(policy, pack(random_pairs(0)), None, pair_losses.orpo(weight=0.1))


def test_soft_capped_logits_and_scores_are_refused():
    refused(packed_model("gemma2"), r"the logits are soft-capped \(final_logit_softcapping = 30.0\); or use TRL's own")
    refused(packed_model("gemma2", final_logit_softcapping=None), r"Gemma2Attention asks for soft-capped scores")


def test_attention_dropout_is_refused():
    refused(packed_model(attention_dropout=0.2), r"attention dropout is 0.2, packed pairs have none: set it to 0")


def test_other_dropout_is_refused():
    policy = packed_model()
    policy.model.layers[0].mlp.act_fn = nn.Sequential(nn.SiLU(), nn.Dropout(0.1))
    refused(policy, r"dropout is above 0")


def test_gradient_checkpointing_is_refused_where_it_would_recompute():
    policy = packed_model()
    policy.gradient_checkpointing_enable()
    refused(policy, r"gradient checkpointing would run layers again")
    with torch.no_grad():
        shared_prompt.pair_log_probs(policy, pack(random_pairs(0)))


def test_float16_is_refused():
    refused(packed_model().half(), r"float16 loses gradients that are made before the loss is scaled")


def test_an_adapter_on_the_head_is_refused():
    refused(get_peft_model(packed_model(), LoraConfig(target_modules=["lm_head"])), r"leave lm_head out")


def test_a_model_without_the_attention_interface_is_refused():
    policy = packed_model()
    policy._supports_attention_backend = False
    refused(policy, r"MistralForCausalLM does not take its attention from transformers' attention interface")


def test_a_wrapped_model_is_refused():
    refused(nn.Sequential(packed_model()), r"Sequential is not a transformers model: hand over the model itself")


def test_scaled_logits_and_unknown_layers_are_refused():
    scaled, mixing = packed_model(), packed_model()
    scaled.config.logit_scale = 0.5
    refused(scaled, r"the logits are scaled \(logit_scale = 0.5\)")
    mixing.config.layer_types = ["full_attention", "linear_attention"]
    refused(mixing, r"layers of type linear_attention")


def test_a_model_that_does_more_than_it_says_is_found_out_on_trial():
    policy = packed_model()
    policy.model.layers[0].register_forward_hook(lambda module, args, output: output.cumsum(dim=1))
    refused(policy, r"on a trial MistralForCausalLM gave -?\d+\.\d+ as the log-probability")


def test_losses_with_a_reference_ask_for_it():
    with pytest.raises(ValueError, match=r"^this loss compares with a reference"):
        shared_prompt.loss(packed_model(), pack(random_pairs(0)), None, pair_losses.dpo(beta=0.1))


def test_a_loss_without_a_finite_slope_is_refused():
    def steep(policy, reference, lengths):
        return (policy.chosen - policy.chosen.detach()).sqrt()

    with pytest.raises(ValueError, match=r"^the loss has no finite slope at log-probabilities \[\["):
        shared_prompt.loss(packed_model(), pack(random_pairs(0)), None, steep)


def test_a_loss_that_is_a_mean_already_is_refused():
    """Divided by the number of pairs once more, it would be too small without a word."""

    def mean(policy, reference, lengths):
        return (policy.chosen - policy.rejected).mean()

    with pytest.raises(ValueError, match=r"^the loss gave shape \(\) for \d pairs; it must give one number a pair"):
        shared_prompt.loss(packed_model(), pack(random_pairs(0)), None, mean)


def test_reference_and_pairs_of_unlike_number_are_refused():
    pairs = random_pairs(0)
    reference = PairLogProbs(torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"reference"):
        shared_prompt.loss(packed_model(), pack(pairs), reference, pair_losses.dpo(beta=0.1))
