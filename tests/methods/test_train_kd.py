"""KD, DAE and on-policy KD as calls on anyone's model and rows: a plain loop's first loss and weights, and refusals."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)  # fmt: skip

from tiny_models import small_model, small_tokenizer
from zephyr_lab.losses import dae as dae_losses
from zephyr_lab.losses import kd as kd_losses
from zephyr_lab.losses.attention_kd import attention_kl, attention_scores
from zephyr_lab.methods.dae import train_dae
from zephyr_lab.methods.distillation import Batch, Collator, batch, dataset
from zephyr_lab.methods.examples import dialogue_examples
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.on_policy_kd import train_on_policy_kd

ENTRIES = 640
SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": ENTRIES, "head_dim": 8,
}  # fmt: skip
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": ENTRIES, "n_positions": 256}
STILL = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=30.0)),  # logits no head makes
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, **STILL)),
}
ASKED = ["Why is that?", "Name a colour and say what you like about it.", "Add 2 and 3.", "Who wrote it?"]
TOLD = ["Because it is so.", "Blue, as the sea is.", "It is 5.", "Nobody knows that, I am afraid."]
ROWS = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}
    for asked, told in zip(ASKED, TOLD, strict=True)
]
FLAGGED = [{**row, "is_domain": place % 2 == 1} for place, row in enumerate(ROWS)]
STEP = {"batch": 4, "micro_batch": 4, "warmup": 0.0, "learning_rate": 1e-3, "schedule": "constant"}


def model_of(family: str, seed: int):
    torch.manual_seed(seed)
    model = FAMILIES[family]().eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(4)  # sharper than training starts from
    return model


def silent(step: int, of: int, **numbers: float) -> None:
    """No bar."""


def rows_as_a_batch() -> Batch:
    examples, _ = dialogue_examples(
        small_tokenizer(), [row["messages"] for row in ROWS], max_length=2048, answers_only=True, system_turn=False
    )
    rows = dataset([(examples, {})], packed_to=None)
    return batch(Collator()([rows[place] for place in range(len(rows))]))


def loss_by_hand(student, teacher, rows: Batch, *, attention: bool):
    """Eq. 5 with the paper's weights, from whole logits and, of eager models, whole maps."""
    found = []
    for model in (student, teacher):
        if attention:
            model.set_attn_implementation("eager")
        found.append(model(input_ids=rows.ids, output_attentions=attention, use_cache=False))
        if attention:
            model.set_attn_implementation("sdpa")
    prediction = kd_losses.forward_kl(found[0].logits, found[1].logits, temperature=1.0)
    loss = kd_losses.mean_of_sequences(prediction, rows.real)
    if not attention:
        return loss
    causal = torch.ones(rows.ids.shape[1], rows.ids.shape[1], dtype=torch.bool).tril()[None, None]
    layers = [attention_kl(*pair, causal) for pair in zip(found[0].attentions, found[1].attentions, strict=True)]
    return loss + kd_losses.mean_of_sequences(attention_scores(layers), rows.real)


def stepped_by_hand(model, loss) -> dict[str, torch.Tensor]:
    """The weights after one step of AdamW with the gradient clipped at 1."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=STEP["learning_rate"], weight_decay=0.0)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    return {name: weight.detach() for name, weight in model.named_parameters()}


def require_same_weights(model, expected) -> None:
    """Adam's first step is the sign of the gradient times the rate: gradients of about 0 may go either way."""
    for name, weight in model.named_parameters():
        off = (weight - expected[name]).abs()
        assert off.max() <= 2.1 * STEP["learning_rate"] and off.mean() <= 0.02 * STEP["learning_rate"], name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_loss_and_the_weights_after_a_step_are_a_plain_loops(family):
    attention = family != "gemma2"  # of capped scores no map is made outside the model
    student, teacher = model_of(family, 0), model_of(family, 1)
    by_hand = copy.deepcopy(student)
    expected = loss_by_hand(by_hand, teacher, rows_as_a_batch(), attention=attention)
    log = train_kd(
        student, small_tokenizer(), ROWS, teacher=teacher, attention_weight=float(attention), **STEP, progress=silent
    )
    assert log["loss"].tolist() == pytest.approx([expected.item()], rel=1e-4) and log["step"].tolist() == [1]
    require_same_weights(student, stepped_by_hand(by_hand, expected))
    assert not student.training


def test_a_student_with_adapters_learns_in_them_alone():
    student = get_peft_model(model_of("llama", 0), LoraConfig(target_modules=["q_proj", "up_proj"], r=2))
    by_hand = copy.deepcopy(student)
    teacher = model_of("llama", 1)
    rows = rows_as_a_batch()
    expected = loss_by_hand(by_hand.get_base_model(), teacher, rows, attention=True)
    log = train_kd(student, small_tokenizer(), ROWS, teacher=teacher, **STEP, progress=silent)
    assert log["loss"].iloc[0] == pytest.approx(expected.item(), rel=1e-4)
    require_same_weights(student, stepped_by_hand(by_hand, expected))


def test_the_loss_falls_and_the_log_says_what_makes_it_again(capsys):
    student, teacher = model_of("llama", 0), model_of("llama", 1)
    bad = {"messages": [{"role": "user", "content": "An answer is missing."}]}
    log = train_kd(
        student, small_tokenizer(), [ROWS[0], bad, *ROWS[1:]], teacher=teacher, held_out=ROWS, progress=silent,
        **(STEP | {"epochs": 6, "batch": 2, "micro_batch": 2, "learning_rate": 1e-2}),
    )  # fmt: skip
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] and log["step"].tolist() == list(range(1, 13))
    assert {"prediction_loss", "attention_loss", "cross_entropy", "grad_norm"} <= set(log.columns)
    held_out = log.attrs["held_out_losses"]
    assert held_out["end"]["prediction_loss"] < held_out["start"]["prediction_loss"]
    assert log.attrs["rows"]["train"]["used"] == 4 and "unusable: row 2" in capsys.readouterr().out
    assert log.attrs["settings"]["epochs"] == 6 and log.attrs["seed"] == 0 and log.attrs["steps"] == 12


class Halt(TrainerCallback):
    """A killed run, as near as a process comes to it from inside."""

    def on_step_begin(self, args, state, control, **objects):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "method", ["kd", *(pytest.param(one, marks=pytest.mark.slow) for one in ("dae", "on_policy_kd"))]
)
def test_a_resumed_run_ends_in_the_weights_of_an_unbroken_one(method, tmp_path):
    teacher = model_of("llama", 1)
    own = STEP | {"epochs": 3, "batch": 2, "micro_batch": 2, "checkpoint_every": 1, "progress": silent}

    def train(student, **more):
        if method == "dae":
            return train_dae(student, small_tokenizer(), FLAGGED, expert=teacher, **own, **more)
        if method == "kd":
            return train_kd(student, small_tokenizer(), ROWS, teacher=teacher, **own, **more)
        return train_on_policy_kd(student, small_tokenizer(), ROWS, teacher=teacher, sampled_tokens=5, **own, **more)

    unbroken, halted = model_of("llama", 0), model_of("llama", 0)
    expected = train(unbroken)
    with pytest.raises(KeyboardInterrupt):
        train(halted, checkpoints=tmp_path, callbacks=[Halt()])
    resumed = model_of("llama", 0)
    assert train(resumed, checkpoints=tmp_path)["loss"].tolist() == expected["loss"].tolist()
    for one, other in zip(resumed.parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("adapters", [False, True])
def test_general_rows_stay_with_the_frozen_start_and_domain_rows_follow_the_expert(adapters):
    student, expert = model_of("llama", 0), model_of("llama", 1)
    start = copy.deepcopy(student)
    if adapters:
        student = get_peft_model(student, LoraConfig(target_modules=["q_proj", "up_proj"], r=2))
    rows, flags = rows_as_a_batch(), torch.tensor([row["is_domain"] for row in FLAGGED])
    own, theirs, reference = (model(input_ids=rows.ids, use_cache=False).logits for model in (student, expert, start))
    scores = dae_losses.dae_scores(own, expert=theirs, reference=reference, is_domain=flags, temperature=1.0)
    expected = kd_losses.mean_of_sequences(scores, rows.real).item()
    before = {name: weight.clone() for name, weight in start.named_parameters()}
    log = train_dae(
        student, small_tokenizer(), FLAGGED, expert=expert, **(STEP | {"epochs": 8}), held_out=FLAGGED, progress=silent
    )
    assert log["loss"].iloc[0] == pytest.approx(expected, rel=1e-4) and log["general_loss"].iloc[0] == 0
    losses = log.attrs["held_out_losses"]
    assert losses["start"]["general_loss"] == 0 < losses["end"]["general_loss"]
    assert losses["end"]["domain_loss"] < losses["start"]["domain_loss"] and log.attrs["domain_rows"] == 2
    assert all(torch.equal(weight, before[name]) for name, weight in start.named_parameters())
    if adapters:
        with student.disable_adapter(), torch.no_grad():
            assert torch.equal(student(input_ids=rows.ids, use_cache=False).logits, reference)


def test_on_policy_answers_are_the_students_own():
    student, teacher = model_of("llama", 0), model_of("llama", 1)
    log = train_on_policy_kd(
        student, small_tokenizer(), ROWS, teacher=teacher, sampled_tokens=5, **STEP, progress=silent
    )
    assert 1 <= log["sampled_tokens"].iloc[0] <= 5 and log["prediction_loss"].iloc[0] > 0


def test_what_does_not_fit_is_refused_by_name():
    student, teacher, tokenizer = model_of("llama", 0), model_of("llama", 1), small_tokenizer()
    with pytest.raises(TypeError, match=r"train_kd has no setting 'temprature'; did you mean 'temperature'\?"):
        train_kd(student, tokenizer, ROWS, teacher=teacher, temprature=2.0)
    with pytest.raises(ValueError, match=r"^teacher is the student itself, and would move with it"):
        train_kd(student, tokenizer, ROWS, teacher=student)
    wide = small_model(1)
    wide.resize_token_embeddings(648)
    with pytest.raises(ValueError, match=r"^student and teacher have different vocabularies: 640 and 648 entries"):
        train_kd(student, tokenizer, ROWS, teacher=wide)
    with pytest.raises(ValueError, match=r"^the student has 2 layers and the teacher 1: set layer_map"):
        train_kd(student, tokenizer, ROWS, teacher=small_model(1, layers=1))
    with pytest.raises(ValueError, match=r"^evaluate_every is 1, and there are no held_out rows"):
        train_kd(student, tokenizer, ROWS, teacher=teacher, evaluate_every=1)
    with pytest.raises(ValueError, match=r"^4 rows of the data have no domain flag \(first: row 1, column is_domain"):
        train_dae(student, tokenizer, ROWS, expert=teacher)
    student.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"^loss is nan at step 0: training halted"):
        train_kd(student, tokenizer, ROWS, teacher=teacher, attention_weight=0.0, progress=silent)
