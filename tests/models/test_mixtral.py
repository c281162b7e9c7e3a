"""Mixtures from dense models compute what they are made of, and load in stock transformers."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tiny_models import small_model, small_tokenizer
from zephyr_lab.models import mixtral, saved
from zephyr_lab.models.mixtral import hidden_routers, merge

IDS = torch.randint(6, 600, (2, 40), generator=torch.Generator().manual_seed(0))


def logits(model, ids=IDS):
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits


def upcycled(model, **changes):
    recipe = {"experts": 4, "top": 2, "noise": 0.0, "router_sd": 1.0, "seed": 3}
    return mixtral.upcycle(model, **(recipe | changes))


@pytest.mark.parametrize("top", [1, 2, 4])
def test_upcycling_without_noise_keeps_the_function_whatever_the_routers_say(top):
    model = small_model(0)
    assert torch.allclose(logits(upcycled(model, top=top)), logits(model), atol=1e-5)


def test_texts_longer_than_the_window_come_out_the_same_too():
    model = small_model(0, window=8)
    mixture = upcycled(model)
    assert mixture.config.sliding_window == 8
    assert torch.allclose(logits(mixture), logits(model), atol=1e-5)


def test_mixtrals_own_defaults_would_have_computed_something_else():
    # The trap: another rotary base and norm epsilon, filled in without a word.
    model = small_model(0)
    mixture = upcycled(model)
    assert mixture.config.rope_parameters["rope_theta"] == model.config.rope_parameters["rope_theta"] == 10_000
    assert mixture.config.rms_norm_eps == model.config.rms_norm_eps == 1e-6
    defaults = mixtral.MixtralConfig()
    assert defaults.rope_parameters["rope_theta"] != 10_000 and defaults.rms_norm_eps != 1e-6


def test_noise_lets_experts_differ_by_the_asked_share():
    model = small_model(0)
    mixture = upcycled(model, noise=0.1)
    experts = mixture.model.layers[0].mlp.experts.down_proj
    own = model.model.layers[0].mlp.down_proj.weight
    shares = [((expert - own).std() / own.std()).item() for expert in experts]
    assert shares == pytest.approx([0.1] * 4, rel=0.1)
    assert not torch.equal(experts[0], experts[1])


def test_one_expert_asked_alone_is_the_dense_model_that_it_came_from():
    first, second = small_model(0), small_model(1)
    for place, model in enumerate((first, second)):
        # Of a merge whose shared parts are this model's, routed to its own expert alone.
        sure = torch.zeros(2, 32)
        mixture = merge(first, second, shared="first", routers=[sure, sure])
        mixture.config.num_experts_per_tok = 1
        for layer in mixture.model.layers:
            layer.mlp.gate.top_k = 1
            layer.mlp.gate.weight.data.zero_()
            layer.mlp.experts.gate_up_proj.data[0].copy_(layer.mlp.experts.gate_up_proj.data[place])
            layer.mlp.experts.down_proj.data[0].copy_(layer.mlp.experts.down_proj.data[place])
        expected = small_model(0)
        for ours, theirs in zip(expected.model.layers, model.model.layers, strict=True):
            ours.mlp.load_state_dict(theirs.mlp.state_dict())
        assert torch.allclose(logits(mixture), logits(expected), atol=1e-5)


@pytest.mark.parametrize("shared", ["first", "mean"])
@pytest.mark.parametrize("router", ["random", "hidden"])
def test_a_merge_of_a_model_with_itself_is_that_model(shared, router):
    model = small_model(0)
    if router == "random":
        routers = mixtral.random_routers(model, 2, sd=1.0, seed=0)
    else:
        routers = hidden_routers(model, [[IDS[:1]], [IDS[1:]]])
    assert torch.allclose(logits(merge(model, model, shared=shared, routers=routers)), logits(model), atol=1e-5)


def test_the_mean_of_shared_parts_is_the_mean():
    first, second = small_model(0), small_model(1)
    mixture = merge(first, second, shared="mean", routers=mixtral.random_routers(first, 2, sd=0.1, seed=0))
    weights = [model.model.layers[1].self_attn.q_proj.weight for model in (first, second, mixture)]
    assert torch.allclose(weights[2], (weights[0] + weights[1]) / 2)
    assert not torch.equal(first.model.norm.weight, torch.zeros(32))  # the merged models stay as they were


def test_routers_from_hidden_states_prefer_the_expert_of_their_prompts():
    model = small_model(0)
    prompts = [[torch.full((1, 20), 50)], [torch.full((1, 20), 400)]]
    routers = hidden_routers(model, prompts)
    assert [layer.shape for layer in routers] == [(2, 32)] * 2
    assert torch.allclose(torch.stack(routers).norm(dim=-1), torch.ones(2, 2))
    mixture = merge(model, model, shared="first", routers=routers)
    seen = []
    hook = mixture.model.layers[0].mlp.gate.register_forward_hook(lambda module, given, out: seen.append(out[0]))
    for (ids,) in prompts:
        logits(mixture, ids)
    hook.remove()
    assert seen[0].argmax(dim=-1).tolist() == [0] * 20 and seen[1].argmax(dim=-1).tolist() == [1] * 20
    with pytest.raises(ValueError, match=r"^expert 1 has no prompts"):
        hidden_routers(model, [[IDS], []])


def test_a_saved_mixture_loads_in_stock_transformers(tmp_path):
    mixture = upcycled(small_model(0), noise=0.2)
    saved.save(mixture, small_tokenizer(), tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(stock).__name__ == "MixtralForCausalLM"
    assert torch.equal(logits(stock), logits(mixture))


def test_training_adds_no_loss_of_its_own():
    mixture = upcycled(small_model(0))
    out = mixture(input_ids=IDS, labels=IDS)
    assert out.aux_loss is None and mixture.config.router_aux_loss_coef == 0


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two = (upcycled(small_model(0), noise=0.1) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^the models' intermediate_size differ: 48 and 32; one cannot merge them$"):
        merge(small_model(0), small_model(1, ffn=32), shared="first", routers=[torch.zeros(2, 32)] * 2)
    with pytest.raises(ValueError, match=r"^shared must be 'first' or 'mean', got 'both'$"):
        merge(small_model(0), small_model(1), shared="both", routers=[torch.zeros(2, 32)] * 2)
    with pytest.raises(ValueError, match=r"^a mixture is made of dense Mistral models, got LlamaConfig$"):
        mixtral.mixture_config(LlamaConfig(), experts=2, top=2)
