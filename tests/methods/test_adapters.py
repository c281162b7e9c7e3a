"""LoRA by our own words: which layers, exact merging, the base as the reference, checkpoints that hold it alone."""

import copy
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from any_models import FAMILIES, any_model, dialogue_rows, pair_rows
from packed_models import packed_model
from tiny_models import small_tokenizer
from zephyr_lab.methods import adapters
from zephyr_lab.methods.dae import train_dae
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.sft import train_sft
from zephyr_lab.models import saved

QUIET = {"progress": lambda *steps, **numbers: None}
IDS = torch.arange(3, 21)[None]


def adapted(family="llama", *, rank=4, trained=True, **changes):
    """A random model with an adapter that is not the identity."""
    model = adapters.lora(any_model(family), rank, **changes)
    if trained:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.data += torch.randn(weight.shape) / 10
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


# --- the adapter ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_but_the_head_gets_rank_times_its_sides(family):
    plain = any_model(family)
    head = plain.get_output_embeddings()
    sides = [
        one.weight.shape for one in plain.modules()
        if type(one).__name__ in ("Linear", "Conv1D") and one is not head
    ]  # fmt: skip
    model = adapters.lora(any_model(family), 3)
    expected = 3 * sum(a + b for a, b in sides)
    assert len(sides) >= 8 and adapters.parameters(model).trained == expected
    assert adapters.parameters(model).total == adapters.parameters(plain).total + expected
    assert torch.equal(logits(model.eval()), logits(plain))  # B = 0: it starts as it was


def test_the_same_seed_gives_the_same_adapter_and_leaves_random_numbers_alone():
    before = torch.get_rng_state()
    first, second, other = (adapters.lora(any_model("llama"), 2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [dict(one.named_parameters()) for one in (first, second, other)]
    name = next(name for name in weights[0] if "lora_A" in name)
    assert torch.equal(weights[0][name], weights[1][name]) and not torch.equal(weights[0][name], weights[2][name])


def test_alpha_over_rank_scales_by_hand():
    model = adapted(rank=4, alpha=6, targets=["q_proj"])
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    x = torch.randn(2, layer.in_features)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 1.5 * (x @ a.T) @ b.T)


def test_a_mixture_s_stacked_experts_are_said_and_refused_by_name(capsys):
    model = adapters.lora(packed_model("mixtral"), 2)
    assert "leaves stacked experts as they are: down_proj, gate_up_proj" in capsys.readouterr().out
    assert {name.split(".lora_")[0].rpartition(".")[2] for name, weight in model.named_parameters()
            if weight.requires_grad} == {"q_proj", "k_proj", "v_proj", "o_proj"}  # fmt: skip
    with pytest.raises(ValueError, match="'gate_up_proj' is of experts stacked in one tensor"):
        adapters.lora(packed_model("mixtral"), targets=["gate_up_proj"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"targets": ["lm_head"]},
            "no linear layer below the head is named 'lm_head'; there are: down_proj, gate_proj",
        ),
        ({"targets": ["query"]}, "no linear layer below the head is named 'query'"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        adapters.lora(any_model("llama"), **arguments)


def test_a_second_adapter_is_refused():
    with pytest.raises(ValueError, match="has an adapter already"):
        adapters.lora(adapters.lora(any_model("llama")))


# --- merging and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_weights_answer_as_the_adapter_and_save_as_a_plain_folder(family, tmp_path):
    model = adapted(family)
    expected = logits(model)
    whole = adapters.merged(model)
    assert (expected - logits(any_model(family))).abs().max() > 1e-2
    torch.testing.assert_close(logits(whole), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(logits(model), expected)  # the model itself is as it was
    saved.save(whole, small_tokenizer(), tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    assert torch.equal(logits(saved.load_model(tmp_path, dtype=whole.dtype)), logits(whole))
    assert all(weight.requires_grad for weight in whole.parameters())


def test_an_adapter_comes_back_alone(tmp_path):
    model = adapted()
    adapters.save(model, tmp_path)
    assert sum(one.numel() for one in load_file(tmp_path / adapters.WEIGHTS).values()) == (
        adapters.parameters(model).trained
    )
    again = adapters.load(any_model("llama"), tmp_path)
    assert torch.equal(logits(again.eval()), logits(model))
    assert adapters.parameters(again).trained == 0
    assert adapters.parameters(adapters.load(any_model("llama"), tmp_path, trains=True)).trained > 0


def other_base(folder):
    return any_model("llama", seed=1)


def other_layers(folder):
    return any_model("gpt2")


def cut_short(folder):
    path = folder / adapters.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    return any_model("llama")


def pickled(folder):
    (folder / adapters.WEIGHTS).rename(folder / "adapter_model.bin")
    return any_model("llama")


def one_layer_less(folder):
    from safetensors.torch import save_file

    weights = load_file(folder / adapters.WEIGHTS)
    weights.pop(min(weights))
    save_file(weights, folder / adapters.WEIGHTS)
    return any_model("llama")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_base, "was trained on other base weights"),
        (other_layers, "is of another model"),
        (cut_short, "is damaged"),
        (pickled, "holds no adapter_model.safetensors"),
        (one_layer_less, "is of other layers"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(change, says, tmp_path):
    adapters.save(adapted(), tmp_path)
    base = change(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        adapters.load(base, tmp_path)


def test_what_is_no_adapter_is_refused(tmp_path):
    for call in (adapters.merged, lambda model: adapters.save(model, tmp_path)):
        with pytest.raises(TypeError, match="expected a model with an adapter, got LlamaForCausalLM"):
            call(any_model("llama"))


# --- training ---------------------------------------------------------------------------------------------------------

STEP = {
    "batch": 4,
    "micro_batch": 4,
    "learning_rate": 1e-2,
    "warmup": 0.0,
    "schedule": "constant",
    "checkpoint_every": 1,
}

TWO_STEPS = 8  # rows
TEACHER = partial(any_model, "llama", seed=5)


def flagged():
    return [{**row, "is_domain": place % 2 == 0} for place, row in enumerate(dialogue_rows(TWO_STEPS))]


METHODS = {
    "sft": lambda model, **more: train_sft(model, small_tokenizer(), dialogue_rows(TWO_STEPS), **STEP, **more),
    "dpo": lambda model, **more: train_dpo(model, small_tokenizer(), pair_rows(TWO_STEPS), **STEP, **more),
    "kd": lambda model, **more: train_kd(
        model,
        small_tokenizer(),
        dialogue_rows(TWO_STEPS),
        teacher=any_model("llama", seed=5),
        attention_weight=0.0,
        **STEP,
        **more,
    ),
    "dae": lambda model, **more: train_dae(model, small_tokenizer(), flagged(), expert=TEACHER(), **STEP, **more),
}


# The others train by the same loop: sft by dpo's, kd by dae's.
TELLING = [name if name in ("dpo", "dae") else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


def adapter_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


class Killed(Exception):
    pass


def killed_after(step):
    def progress(at, of, **numbers):
        if at > step:
            raise Killed

    return progress


@pytest.mark.parametrize("method", TELLING)
def test_checkpoints_hold_the_adapter_alone_and_a_killed_call_ends_at_the_same_weights(method, tmp_path):
    unbroken = adapted(trained=method != "dae")
    base = copy.deepcopy(unbroken.get_base_model().state_dict())
    METHODS[method](unbroken, **QUIET)
    with pytest.raises(Killed):
        METHODS[method](adapted(trained=method != "dae"), checkpoints=tmp_path, progress=killed_after(1))
    (checkpoint,) = (tmp_path / "trainer").glob("checkpoint-*")
    assert (checkpoint / "adapter_model.safetensors").is_file() and not (checkpoint / "model.safetensors").exists()
    resumed = adapted(trained=method != "dae")
    METHODS[method](resumed, checkpoints=tmp_path, **QUIET)
    wanted, found = adapter_of(unbroken), adapter_of(resumed)
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)
    kept = resumed.get_base_model().state_dict()
    assert all(torch.equal(kept[name], base[name]) for name in base if "lora_" not in name)
    assert any(not torch.equal(wanted[name], one) for name, one in adapter_of(adapted(trained=method != "dae")).items())


def test_a_run_does_not_go_on_with_another_base_or_another_scale(tmp_path):
    METHODS["sft"](adapted(), checkpoints=tmp_path, **QUIET)
    for other, says in (
        (adapters.lora(any_model("llama", seed=1), 4), "its base was"),
        (adapters.lora(any_model("llama"), 4, alpha=8), "its adapter was"),
    ):
        with pytest.raises(ValueError, match=says):
            METHODS["sft"](other, checkpoints=tmp_path, **QUIET)


def test_dae_s_general_teacher_is_the_base_without_a_second_model():
    rows = [{**row, "is_domain": False} for row in dialogue_rows(4)]
    steps = []
    for general in (None, any_model("llama")):
        model = adapted()
        log = train_dae(
            model, small_tokenizer(), rows, expert=any_model("llama", seed=5), general=general, **STEP, **QUIET
        )
        steps.append((list(log["general_loss"]), adapter_of(model)))
    (ours, weights), (theirs, expected) = steps
    assert ours[0] > 1e-3 and ours == pytest.approx(theirs, rel=1e-4)
    assert all(torch.allclose(weights[name], expected[name], atol=1e-4) for name in expected)


def test_dpo_s_reference_is_the_base_without_a_second_model():
    logs = []
    for reference in (None, any_model("llama")):
        model = adapters.lora(any_model("llama"), 4)
        logs.append(train_dpo(model, small_tokenizer(), pair_rows(TWO_STEPS), reference=reference, **STEP, **QUIET))
    assert list(logs[0]["loss"]) == pytest.approx(list(logs[1]["loss"]), abs=1e-5)
    assert logs[0]["loss"].iloc[-1] < logs[0]["loss"].iloc[0] - 0.01


def test_a_reference_that_carries_the_policy_s_adapter_is_refused():
    base = any_model("llama")
    with pytest.raises(ValueError, match="or carries its adapter"):
        train_dpo(adapters.lora(base, 2), small_tokenizer(), pair_rows(4), reference=base, **STEP, **QUIET)


def cut(module, inputs, output):
    return output.detach()


@pytest.mark.parametrize("method", TELLING)
def test_an_adapter_without_a_gradient_halts_before_the_first_update(method):
    model = adapted()
    for layer in model.get_base_model().model.layers:
        layer.register_forward_hook(cut)
    kept = adapter_of(model)
    with pytest.raises((ValueError, RuntimeError), match=r"no gradient|does not require grad"):
        METHODS[method](model, **QUIET)
    assert all(torch.equal(weight, kept[name]) for name, weight in adapter_of(model).items())


def test_one_kind_of_layer_without_a_gradient_is_named():
    model = adapters.lora(
        any_model("llama"), 4
    )  # B = 0: past a base that cuts, no gradient comes by way of the adapter
    for layer in model.get_base_model().model.layers:  # as the operation of repacked weights does
        layer.self_attn.o_proj.base_layer.register_forward_hook(cut)
    with pytest.raises(ValueError, match=r"gave k_proj, q_proj, v_proj no gradient"):
        METHODS["sft"](model, **QUIET)


def test_trainers_keep_an_adapter_s_precision():
    model = adapters.lora(any_model("llama"), 4)
    with adapters.precision_kept(model):
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(torch.bfloat16)
    assert torch.equal(logits(model), logits(adapters.lora(any_model("llama"), 4)))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
