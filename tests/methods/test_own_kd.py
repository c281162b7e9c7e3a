"""A distillation loss of one's own: eq. 2 written by hand trains as eq. 2, and what no training could use is named."""

import copy
from dataclasses import asdict

import pytest
import torch

import kd_runs
from tiny_models import small_tokenizer
from zephyr_lab.engine.own_code import captured
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.own_kd import own_scores, train_own_kd
from zephyr_lab.methods.recipes.kd import OwnLossKD
from zephyr_lab.models.example import example_model

CHATS = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}
    for asked, told in [("Add 2 and 3.", "5."), ("Name a colour.", "Blue, as the sea is."), ("Why?", "It is so.")]
]
STEPS = {"epochs": 3, "batch": 3, "micro_batch": 3, "learning_rate": 1e-3, "tokens": "answers"}


def by_hand(student, teacher):
    p, q = teacher.softmax(dim=-1), student.softmax(dim=-1)
    return (p * (p / q).log()).sum(dim=-1)


def silent(step, of, **numbers):
    """No bar."""


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_eq_2_written_by_hand_trains_as_eq_2(temperature):
    (student, tokenizer), (teacher, _) = example_model(), example_model(seed=1)
    other = copy.deepcopy(student)
    settings = {**STEPS, "temperature": temperature, "ce_weight": 0.5, "teacher": teacher, "progress": silent}
    own = train_own_kd(student, tokenizer, CHATS, loss=by_hand, held_out=CHATS, **settings)
    printed = train_kd(other, tokenizer, CHATS, held_out=CHATS, lean=False, **settings)
    for column in ("loss", "prediction_loss", "attention_loss", "cross_entropy"):
        assert own[column].tolist() == pytest.approx(printed[column].tolist(), rel=1e-4), column
    assert own["own_loss"].tolist() == pytest.approx(own["prediction_loss"].tolist(), rel=1e-4)
    assert own.attrs["held_out_losses"]["end"] == pytest.approx(printed.attrs["held_out_losses"]["end"], rel=1e-3)


def test_the_loss_reads_the_counted_positions_alone_and_is_put_back_where_they_are():
    student, teacher = torch.randn(2, 3, 5, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    counted = torch.tensor([[True, False, True], [False, True, False]])
    found = own_scores(by_hand, student, teacher, counted, temperature=1.0)
    for row, position in counted.nonzero().tolist():
        p, q = teacher[row, position].softmax(dim=0), student[row, position].softmax(dim=0)
        assert found[row, position].item() == pytest.approx((p * (p / q).log()).sum().item())
    assert (found[~counted] == 0).all()


def test_as_a_stage_the_loss_comes_by_its_source_and_its_mean_is_logged(tmp_path):
    run = kd_runs.Run(tmp_path / "run", kd_runs.make_inputs(tmp_path))
    run.build(OwnLossKD(**asdict(kd_runs.KD), own_loss=captured(by_hand)))
    trained = [row for row in run.log() if "own_loss" in row]
    assert [row["own_loss"] for row in trained] == pytest.approx([row["prediction_loss"] for row in trained], rel=1e-4)
    assert trained and any("eval_own_loss" in row for row in run.log())


def averaged(student, teacher):
    return (student - teacher).square().mean()


def not_finite(student, teacher):
    return (student - teacher).square().sum(dim=-1) / torch.tensor([1.0, 0.0, 1.0])


def detached(student, teacher):
    return (student - teacher).detach().square().sum(dim=-1)


def three(a, b, c):
    return a


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (averaged, r"loss averaged must give one loss a position, shape \(3,\), got shape \(\); do not average"),
        (not_finite, "loss not_finite is inf at position 2 of 3: halted"),
        (detached, "loss detached has no gradient to the student"),
    ],
)
def test_a_loss_that_no_training_could_use_is_named(loss, said):
    student, teacher = torch.randn(1, 3, 5, requires_grad=True), torch.randn(1, 3, 5)
    with pytest.raises(ValueError, match=said):
        own_scores(loss, student, teacher, torch.ones(1, 3, dtype=torch.bool), temperature=1.0)


def test_settings_that_it_leaves_without_meaning_are_refused_before_training():
    (student, _), (teacher, _) = example_model(), example_model(seed=1)

    def trained(loss=by_hand, **settings):
        train_own_kd(student, small_tokenizer(), CHATS, teacher=teacher, loss=loss, progress=silent, **settings)

    with pytest.raises(
        TypeError, match=r"loss three\(a, b, c\) cannot be called on logits; write \(student, teacher\)"
    ):
        trained(loss=three)
    with pytest.raises(ValueError, match="by_hand replaces divergence='reverse'"):
        trained(divergence="reverse")
    with pytest.raises(ValueError, match="prediction_weight is 0: loss by_hand"):
        trained(prediction_weight=0.0)
    with pytest.raises(ValueError, match="gradient_norms_every must be 0 with loss by_hand, got 2"):
        trained(gradient_norms_every=2)
