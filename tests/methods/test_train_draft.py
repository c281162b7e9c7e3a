"""`train_draft` on anybody's target and rows: its first loss and first step are those of a plain loop in float64."""

import copy
from functools import cache

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.nn.functional import smooth_l1_loss

from model_families import family_model
from tiny_models import small_tokenizer
from zephyr_lab.data.chat import encode_dialogues
from zephyr_lab.decoding.acceptance import Answered, acceptance_rates
from zephyr_lab.methods import draft_loss
from zephyr_lab.methods.draft import OPTIMIZERS, new_draft, prepare, train_draft
from zephyr_lab.methods.draft_loss import Row
from zephyr_lab.methods.optimizers import ADAM_BETAS
from zephyr_lab.methods.recipes import draft as recipes
from zephyr_lab.methods.recipes.draft import DraftTraining
from zephyr_lab.methods.stages import draft as stages_draft
from zephyr_lab.models.draft import FeatureDraft

FAMILIES = ("llama", "qwen2", "gemma", "gpt2")
CHATS = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
    for asked, said in (("What is red?", "The sky is red."), ("Why?", "It is late in the evening."), ("Who?", "Ann."))
]
FAST = {"steps": 1, "batch": 4, "warmup": 0, "learning_rate": 1e-2, "clip": 1e9, "max_length": 64}


@cache
def target_of(family, seed=0):
    return family_model(family, seed=seed, vocab_size=len(small_tokenizer()))


def causal_draft(family):
    return family_model(family, seed=1, num_hidden_layers=1, vocab_size=len(small_tokenizer()))


def quiet(step, of, **numbers):
    """A listener that shows nothing."""


def train(draft, target, rows=CHATS, **settings):
    return train_draft(draft, target, small_tokenizer(), rows, progress=quiet, **{**FAST, **settings})


def encoded(chats):
    found = encode_dialogues(small_tokenizer(), [chat["messages"] for chat in chats])
    return [
        (torch.tensor([one.ids]), [place for place, answer in enumerate(one.answer_mask) if answer]) for one in found
    ]


def soft(wanted, found):
    return -(wanted.softmax(-1) * found.log_softmax(-1)).sum()


def plain_loss(draft, target, chats):
    """The loss by definition: a row at a time without padding, a place at a time, whole logits of whole models."""
    terms = []
    for ids, answers in encoded(chats):
        with torch.no_grad():
            output = target(input_ids=ids, output_hidden_states=True)
        if isinstance(draft, FeatureDraft):
            features = output.hidden_states[-1]
            guessed, _ = draft(ids[:, 1:], features[:, :-1], torch.arange(1, ids.shape[1])[None])
            for token in answers:
                # guess t, from feature t and token t + 1, is of feature t + 1 and so of token t + 2
                own = guessed[0, token - 2]
                said = target.get_output_embeddings()(own)
                terms.append(
                    smooth_l1_loss(own, features[0, token - 1]) + 0.1 * soft(output.logits[0, token - 1], said)
                )
        else:
            logits = draft(input_ids=ids).logits
            terms += [0.1 * soft(output.logits[0, token - 1], logits[0, token - 1]) for token in answers]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["feature", "causal"])
def test_the_first_loss_and_the_first_step_are_those_of_a_plain_loop(family, kind):
    target = copy.deepcopy(target_of(family)).double()
    draft = new_draft(target, seed=1) if kind == "feature" else causal_draft(family)
    draft = draft.double()
    plain = copy.deepcopy(draft)
    trained = prepare(plain, "all", rank=0, seed=0)
    adamw = torch.optim.AdamW(trained, lr=1e-2, betas=ADAM_BETAS, weight_decay=0.0)
    with torch.random.fork_rng():
        loss = plain_loss(plain.eval(), target, CHATS)
    loss.backward()
    assert all(parameter.grad is None for parameter in draft.parameters())
    log = train(draft, target)
    adamw.step()
    # Losses are float32's from the logits on.
    assert log["loss"].tolist() == pytest.approx([loss.item()], rel=1e-6)
    for (name, found), wanted in zip(draft.named_parameters(), plain.parameters(), strict=True):
        # AdamW's first step is the rate times the gradient's sign: compared where the gradient is no rounding.
        sure = wanted.grad.abs() > 1e-5 if wanted.grad is not None else torch.ones_like(wanted, dtype=torch.bool)
        assert torch.allclose(found[sure], wanted[sure], atol=2e-5), name


def test_it_learns_says_how_well_and_leaves_the_target_as_it_was():
    target = copy.deepcopy(target_of("llama"))
    target.train()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    draft = new_draft(target)
    log = train(draft, target, held_out=CHATS[:1], steps=30)
    assert log["step"].tolist() == list(range(1, 31)) and log["loss"].iloc[-1] < 0.8 * log["loss"].iloc[0]
    first, last = log.attrs["held_out"]
    assert (first["step"], last["step"]) == (0, 30) and last["eval_loss"] < first["eval_loss"]
    assert log.attrs["parameters"] == draft.shape.own and log.attrs["path"].startswith("plain: ")
    assert log.attrs["settings"]["steps"] == 30 and log.attrs["rows"]["train"]["used"] == 3
    assert not draft.training and target.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in target.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_a_draft_for_my_target_and_its_three_adaptations():
    chat_model, tuned_model = target_of("qwen2"), target_of("qwen2", seed=1)
    draft = new_draft(chat_model)
    train(draft, chat_model, steps=10)
    whole, lora, eda = (copy.deepcopy(draft) for _ in range(3))
    logs = [
        train(whole, tuned_model, steps=10),
        train(lora, tuned_model, steps=10, part="lora", rank=2),
    ]
    eda.reset_private(seed=1)
    logs.append(train(eda, tuned_model, steps=10, part="private_and_fc"))
    assert [log.attrs["parameters"] for log in logs] == [
        draft.shape.trained(part, rank=2) for part in ("all", "lora", "private_and_fc")
    ]
    assert logs[0]["loss"].iloc[0] == logs[1]["loss"].iloc[0]  # adapters start at nothing
    start = draft.state_dict()
    for adapted in (whole, lora, eda):
        assert list(adapted.state_dict()) == list(start)  # plain drafts, adapters merged
        assert not any(isinstance(module, LoraLayer) for module in adapted.modules())
    moved = {name for name, tensor in eda.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved == {name for name in start if name.startswith(("private", "fc"))}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_draft_of_any_family_can_be_measured_at_once(family):
    target = target_of(family)
    rates = acceptance_rates(
        target, new_draft(target, private_experts=0), [Answered((5, 6, 7), (8, 9, 10, 11))], length=2, drawn=False,
        temperature=0.0,
    )  # fmt: skip
    assert rates.values.shape[:2] == (1, 4)


def test_a_causal_draft_that_comes_with_adapters_trains_them_alone():
    base = family_model("llama", seed=1, vocab_size=len(small_tokenizer()))
    draft = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    start = {name: tensor.clone() for name, tensor in draft.state_dict().items()}
    train(draft, target_of("llama"))
    moved = {name for name, tensor in draft.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved and all("lora" in name for name in moved) and isinstance(draft, PeftModel)
    with pytest.raises(ValueError, match=r"has adapters already.* part must be 'all', got 'lora'"):
        train(draft, target_of("llama"), part="lora", rank=2)


def test_a_target_in_bfloat16_trains_a_draft_in_float32():
    target = copy.deepcopy(target_of("llama"))
    wanted = train(new_draft(target), target)["loss"].iloc[0]
    target.to(torch.bfloat16)
    draft = new_draft(target)
    assert train(draft, target)["loss"].iloc[0] == pytest.approx(wanted, rel=0.02)  # bfloat16 has 8 bits
    assert draft.fc.weight.dtype == torch.float32


def test_rows_with_features_are_taken_as_they_are():
    target = target_of("llama")
    rows, _ = draft_loss.rows_of(CHATS, small_tokenizer(), name="rows", max_length=64, system_turn=False)
    kept = draft_loss.with_features(rows, target)
    one, two = new_draft(target), new_draft(target)
    assert train(one, target, kept)["loss"].tolist() == pytest.approx(train(two, target)["loss"].tolist(), rel=1e-5)
    doubled = [Row(row.ids, row.answers, 2 * row.features) for row in kept]
    assert train(new_draft(target), target, doubled)["loss"].iloc[0] != pytest.approx(
        train(new_draft(target), target, kept)["loss"].iloc[0], rel=1e-3
    )


def test_stopped_and_called_again_it_ends_in_the_same_bits(tmp_path):
    target = target_of("llama")

    class Stop(Exception):
        pass

    def stop(step, of, **numbers):
        if step == 5:
            raise Stop

    settings = {
        "steps": 8,
        "noise": 0.2,
        "batch": 2,
        "micro_batch": 1,
        "checkpoint_every": 2,
        "part": "lora",
        "rank": 2,
    }
    whole, again = new_draft(target), new_draft(target)
    wanted = train(whole, target, **settings)
    with pytest.raises(Stop):
        train_draft(
            new_draft(target), target, small_tokenizer(), CHATS, progress=stop, checkpoints=tmp_path,
            **{**FAST, **settings},
        )  # fmt: skip
    found = train(again, target, checkpoints=tmp_path, **settings)
    assert found["loss"].tolist() == wanted["loss"].tolist()
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_checkpoints_of_other_settings_are_refused(tmp_path):
    target = target_of("llama")
    train(new_draft(target), target, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another run: learning_rate was 0\.01 and is 0\.02; take another folder"):
        train(new_draft(target), target, checkpoints=tmp_path, learning_rate=0.02)
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        train(new_draft(target), target, checkpoints=tmp_path, seed=1)


def test_after_each_step_the_draft_can_be_looked_at():
    target, seen = target_of("llama"), []
    draft = new_draft(target)
    train(draft, target, steps=3, after_step=lambda step, own: seen.append((step, own.fc.weight.detach().clone())))
    assert [step for step, _ in seen] == [1, 2, 3]
    assert torch.equal(seen[-1][1], draft.fc.weight) and not torch.equal(seen[0][1], seen[1][1])


# --- bad input ---


def test_a_bad_row_is_named_and_the_rest_trains(capsys):
    silent = {"messages": [{"role": "user", "content": "hi"}]}
    target = target_of("llama")
    log = train(new_draft(target), target, [{"text": 3}, *CHATS, silent])
    assert log.attrs["rows"]["train"]["used"] == 3 and log.attrs["rows"]["train"]["unusable"] == 2
    told = capsys.readouterr().out
    assert "unusable: row 1" in told and "row 5, column messages: has no assistant's turn to learn from" in told
    with pytest.raises(ValueError, match="row 1, column messages: has no assistant's turn"):
        train(new_draft(target), target, [silent])


def test_what_does_not_belong_together_is_refused_before_the_first_step():
    target, draft = target_of("llama"), new_draft(target_of("llama"))
    with pytest.raises(TypeError, match=r"no setting 'step'; did you mean 'steps'\?"):
        train(draft, target, step=3)
    other = family_model("llama", vocab_size=700)
    with pytest.raises(ValueError, match="different vocabularies: 640 and 700 entries"):
        train(draft, other)
    with pytest.raises(ValueError, match="different vocabularies: 700 and 640 entries"):
        train(other, target)
    with pytest.raises(ValueError, match="ids up to 639, the model embeddings for 211"):
        train(draft, family_model("llama"))
    with pytest.raises(ValueError, match="weights lie on meta"):
        train(copy.deepcopy(draft).to("meta"), target)
    with pytest.raises(ValueError, match="no private experts and no fc: part must be 'all' or 'lora', got 'fc'"):
        train(family_model("llama", vocab_size=640), target, part="fc")
    with pytest.raises(ValueError, match="LoRA needs a rank of at least 1"):
        train(draft, target, part="lora")
    with pytest.raises(ValueError, match="part must be one of all, lora"):
        train(draft, target, part="none")


def test_a_nan_halts_and_leaves_no_checkpoint(tmp_path):
    target = copy.deepcopy(target_of("llama"))
    draft = new_draft(target)
    draft.fc.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="loss is nan at step 0: training halted"):
        train(draft, target, checkpoints=tmp_path)
    assert list(tmp_path.glob("step-*")) == []


# --- settings ---


def test_each_name_of_a_setting_stands_for_a_function():
    assert tuple(draft_loss.REDUCTIONS) == recipes.REDUCTIONS
    assert tuple(draft_loss.COUNTED) == recipes.COUNTED
    assert tuple(draft_loss.FEATURES) == recipes.FEATURES
    assert tuple(OPTIMIZERS) == recipes.OPTIMIZERS
    assert tuple(stages_draft.NEW) == recipes.KINDS


def test_the_warm_up_is_the_authors_share_of_the_steps():
    assert DraftTraining().warmup == 2000
    assert DraftTraining(steps=504).warmup == 199
    assert DraftTraining(steps=1).warmup == 0
