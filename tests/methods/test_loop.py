"""The shared loop: same steps after a kill, no step after a NaN."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from zephyr_lab.methods.loop import train
from zephyr_lab.methods.optimizers import Schedule

SCHEDULE = Schedule(steps=12, warmup=2, final=0.1)


class Killed(BaseException):
    """Stands for a signal: no handler of ours catches it."""


def context(folder, kill_at=None):
    seen = []

    def progress(step, total, **numbers):
        seen.append((step, total, numbers["loss"]))
        if step == kill_at:
            raise Killed

    return SimpleNamespace(checkpoints=folder, progress=progress, seen=seen)


def run(folder, *, kill_at=None, spoil=None, seen=None):
    """Least squares on random data, a batch for each step; returns losses and weights."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.05)]

    def batch_loss(step):
        data = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = (model(data) - data[:, :3]).square().mean()
        if spoil == ("loss", step):
            return loss * float("nan")
        return _spoilt(loss) if spoil == ("gradient", step) else loss

    now = context(folder, kill_at)
    losses = train(model, optimizers, batch_loss, schedule=SCHEDULE, clip=1.0, checkpoint_every=5, context=now)
    if seen is not None:
        seen.extend(now.seen)
    return losses, model.state_dict()


def _spoilt(loss):
    """A finite loss with an infinite gradient."""
    return loss.detach() + (loss - loss.detach()).sqrt()


@pytest.mark.parametrize("kills", [(1,), (5,), (6,), (12,), (3, 7, 7, 11)])
def test_a_killed_run_ends_where_an_unbroken_one_does(tmp_path, kills):
    unbroken, weights = run(tmp_path / "unbroken")
    for step in kills:
        with pytest.raises(Killed):
            run(tmp_path / "killed", kill_at=step)
    resumed, resumed_weights = run(tmp_path / "killed")
    assert resumed == unbroken
    assert all(torch.equal(resumed_weights[name], weights[name]) for name in weights)


def test_training_goes_on_from_the_checkpoint_not_from_the_start(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, kill_at=8)
    seen = []
    run(tmp_path, seen=seen)
    assert [step for step, _, _ in seen] == list(range(6, 13))


def test_progress_tells_step_total_and_loss(tmp_path):
    seen = []
    losses, _ = run(tmp_path, seen=seen)
    assert seen == [(step + 1, 12, loss) for step, loss in enumerate(losses)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_not_finite_halts_before_it_reaches_a_weight(tmp_path, what):
    with pytest.raises(ValueError, match=rf"{what}.* is (nan|inf) at step 7.*smaller learning_rate"):
        run(tmp_path, spoil=(what, 7))
    resumed, _ = run(tmp_path)  # the checkpoint at step 5 is clean
    assert resumed == run(tmp_path / "other")[0]
