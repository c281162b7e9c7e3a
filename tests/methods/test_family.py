"""The family's loop: its losses are the pure ones, DPO starts at ln 2, and each loss falls."""

import math
from dataclasses import replace

import pytest
import torch

import rlhf_runs
from rlhf_runs import Run
from zephyr_lab.core.files import read_json
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.methods.recipes.pairs import LOSSES
from zephyr_lab.methods.stages.preference import BY_NAME

STRENGTHS = {"orpo": 1.0, "simpo": 2.0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return rlhf_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def recipe(loss, **changes):
    second = {"cdpo": 0.1, "simpo": 0.5}.get(loss, 0.0)
    return replace(rlhf_runs.FAMILY, loss=loss, strength=STRENGTHS.get(loss, 0.1), second=second, **changes)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_trains_and_separates_the_pairs(loss, inputs, tmp_path):
    run = Run(tmp_path, "preference", inputs)
    metrics = run.build(recipe(loss, epochs=3, learning_rate=5e-3, checkpoint_every=100))
    losses = read_json(run.out / "losses.json")
    assert len(losses) == metrics["steps"]
    assert sum(losses[-4:]) < sum(losses[:4])
    if loss in ("dpo", "cdpo"):
        assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    if loss == "kto":
        assert losses[0] == pytest.approx(0.5, abs=1e-5)
    assert (metrics["tokens_scored"] == 0) == (loss in ("orpo", "simpo"))


def test_the_dpo_of_the_family_is_dpo():
    own, reference = (
        PairLogProbs(*torch.tensor([chosen, rejected], dtype=torch.float64))
        for chosen, rejected in (([-3.0, -4.0], [-5.0, -2.0]), ([-2.0, -4.5], [-4.0, -3.0]))
    )
    lengths = PairLengths(torch.tensor([2, 3]), torch.tensor([3, 1]))
    found = BY_NAME["dpo"](recipe("dpo"))(own, reference, lengths)
    assert torch.equal(found, dpo_loss(own, reference, beta=0.1))


def test_an_sft_term_holds_the_chosen_answers_up(inputs, tmp_path):
    plain, held = (
        Run(tmp_path / str(weight), "preference", inputs).build(
            recipe("dpo", epochs=4, learning_rate=1e-2, sft_weight=weight, checkpoint_every=100)
        )
        for weight in (0.0, 1.0)
    )
    assert held["held_out_moved_chosen"] > plain["held_out_moved_chosen"]


def test_a_loss_without_its_reference_is_refused():
    own = PairLogProbs(torch.tensor([-1.0]), torch.tensor([-2.0]))
    lengths = PairLengths(torch.tensor([1]), torch.tensor([1]))
    with pytest.raises(ValueError, match="this loss compares with a reference"):
        BY_NAME["ipo"](recipe("ipo"))(own, None, lengths)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"loss": "ppo"}, "loss must be one of"),
        ({"strength": 0.0}, "strength must be positive"),
        ({"loss": "kto", "batch": 1}, "two pairs or more"),
        ({"sft_weight": -1.0}, "must not be negative"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        replace(rlhf_runs.FAMILY, **changes)
