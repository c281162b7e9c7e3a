"""The lean step of DAE is eq. 6 on whole logits of both teachers."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence

from model_families import family_model
from tiny_models import small_model
from zephyr_lab.losses import dae, kd
from zephyr_lab.methods.lean_dae import Teacher, Text, counted_hidden, lean_dae_losses, online, token_shares
from zephyr_lab.methods.lean_kd import linear_head
from zephyr_lab.models.logits import last_hidden_states

IS_DOMAIN = [False, True, False, True]


def texts():
    ids = ([5, 6, 7, 8, 9, 10], [11, 12, 13], [14, 15, 16, 17], [18, 19, 20, 21, 22])
    answers = ([0, 0, 1, 1, 0, 1], [0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1, 1])
    return [
        Text(torch.tensor(own), torch.tensor([*which[1:], 0], dtype=torch.bool))
        for own, which in zip(ids, answers, strict=True)
    ]


def plain(student, expert, reference, batch, temperature):
    """Eq. 6 over padded rows, from whole logits of all three models."""
    ids = pad_sequence([text.ids for text in batch], batch_first=True)
    counted = pad_sequence([text.counted for text in batch], batch_first=True)
    own, theirs, general = (model(input_ids=ids, use_cache=False).logits for model in (student, expert, reference))
    scores = dae.dae_scores(
        own, expert=theirs, reference=general, is_domain=torch.tensor(IS_DOMAIN), temperature=temperature
    )
    return 0.6 * kd.mean_of_tokens(scores, counted)


def lean(student, expert, reference, batch, temperature=1.0):
    return lean_dae_losses(
        student, linear_head(student), batch, is_domain=IS_DOMAIN, expert=expert, reference=reference,
        shares=token_shares(batch), weight=0.6, temperature=temperature,
    ).loss  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_loss_and_gradients_are_those_of_whole_logits(temperature):
    student, expert, reference = (small_model(seed) for seed in (0, 1, 2))
    teachers = [online(model, linear_head(model)) for model in (expert, reference)]
    found = lean(student, *teachers, texts(), temperature)
    expected = plain(student, expert, reference, texts(), temperature)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    parameters = list(student.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert (ours - theirs).abs().max() <= 2e-4 * theirs.abs().max()


@pytest.mark.parametrize("family", ["phi3", "gpt2", "gpt_neox", "jetmoe", "persimmon", "opt"])
def test_families_with_other_names_for_their_projections_are_packed_as_well(family):
    model = family_model(family)
    with torch.no_grad():
        found = counted_hidden(model, texts())
        expected = [last_hidden_states(model, input_ids=text.ids[None])[0][text.counted] for text in texts()]
    assert (found - torch.cat(expected)).abs().max() <= 1e-4 * found.abs().max()


def test_a_student_with_adapters_learns_in_them_alone_as_in_a_plain_loop():
    expert, reference = (small_model(seed) for seed in (1, 2))
    student = get_peft_model(
        small_model(0), LoraConfig(target_modules=["q_proj", "up_proj"], r=2, init_lora_weights=False)
    )
    found = lean(student, *(online(model, linear_head(model)) for model in (expert, reference)), texts())
    expected = plain(student, expert, reference, texts(), 1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    trained = {name: one for name, one in student.named_parameters() if one.requires_grad}
    assert all("lora_" in name for name in trained)
    for ours, theirs in zip(
        torch.autograd.grad(found, trained.values()), torch.autograd.grad(expected, trained.values()), strict=True
    ):
        assert (ours - theirs).abs().max() <= 2e-4 * theirs.abs().max()


def test_each_text_asks_its_own_teacher_alone():
    student, model = small_model(0), small_model(1)
    asked = {}

    def recording(name):
        teacher = online(model, linear_head(model))
        return Teacher(teacher.head, lambda own: asked.setdefault(name, list(own)) and teacher.hidden(own))

    batch = texts()
    lean(student, recording("expert"), recording("reference"), batch)
    for name, places in (("expert", [1, 3]), ("reference", [0, 2])):
        assert [one is batch[place] for one, place in zip(asked[name], places, strict=True)] == [True, True]


def test_unlike_numbers_and_batches_where_nothing_counts_are_refused():
    student = small_model()
    teacher = online(student, linear_head(student))
    arguments = {"expert": teacher, "reference": teacher, "temperature": 1.0}
    with pytest.raises(ValueError, match="4 texts, 1 is_domain, 4 shares"):
        lean_dae_losses(student, teacher.head, texts(), is_domain=[True], shares=token_shares(texts()), **arguments)
    silent = [Text(torch.tensor([5, 6]), torch.zeros(2, dtype=torch.bool))]
    with pytest.raises(ValueError, match="no text of the batch has a position that counts"):
        lean_dae_losses(student, teacher.head, silent, is_domain=[True], shares=token_shares(silent), **arguments)
