"""Settings by keyword, the log as a frame, and the checks that come before the first step."""

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
from torch import nn

from tiny_models import small_tokenizer
from zephyr_lab.methods import calling


@dataclass(frozen=True, kw_only=True)
class Knobs:
    beta: float = 0.1
    epochs: int = 1


@dataclass(frozen=True, kw_only=True)
class KnobsOfAStage(Knobs):
    start: str


@calling.settings_by_keyword(Knobs)
def method(model, rows, *, recipe: Knobs, seed: int = 0):
    return model, rows, recipe, seed


def test_a_setting_is_a_keyword_and_the_rest_keep_their_defaults():
    assert method("m", [1], beta=0.7) == ("m", [1], Knobs(beta=0.7), 0)


def test_a_keyword_wins_over_a_recipe_and_a_subclass_stays_what_it_is():
    _, _, recipe, seed = method("m", [1], recipe=KnobsOfAStage(beta=0.2, start="a"), epochs=3, seed=5)
    assert recipe == KnobsOfAStage(beta=0.2, epochs=3, start="a") and seed == 5


def test_a_setting_that_is_none_is_refused_by_name_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"method has no setting 'betta'; did you mean 'beta'\? Settings: beta, epochs"):
        method("m", [1], betta=0.7)


@dataclass(frozen=True, kw_only=True)
class Derived:
    batch: int = 32
    micro_batch: int = 0
    names: tuple[str, ...] = ()
    warmup: int | None = None

    def __post_init__(self):
        if self.micro_batch == 0:
            object.__setattr__(self, "micro_batch", min(self.batch, 8))
        if self.batch % self.micro_batch:
            raise ValueError("batch must be a multiple of micro_batch")


@calling.settings_by_keyword(Derived)
def derived(rows, *, recipe: Derived):
    return recipe


def test_what_a_recipe_filled_in_by_itself_is_filled_in_anew_with_other_keywords():
    assert derived([], recipe=Derived(), batch=3).micro_batch == 3
    with pytest.raises(ValueError, match="batch must be a multiple of micro_batch"):
        derived([], recipe=Derived(micro_batch=4), batch=6)


def test_a_recipe_of_another_kind_is_refused():
    for wrong in (Derived(), "dpo", Knobs):
        with pytest.raises(TypeError, match="method takes a Knobs as recipe, got "):
            method("m", [1], recipe=wrong)


def test_a_value_of_another_type_is_refused_by_name():
    for wrong in ("3", 2.5, True, None):
        with pytest.raises(TypeError, match="method: epochs must be of type int, got"):
            method("m", [1], epochs=wrong)
    with pytest.raises(ValueError, match="method: beta is NaN"):
        method("m", [1], beta=float("nan"))
    assert derived([], names=["a"], warmup=np.int64(3)) == Derived(names=("a",), warmup=3)
    assert method("m", [1], beta=1)[2].beta == 1 and derived([], warmup=None).warmup is None


def test_help_shows_every_setting_with_its_default():
    parameters = inspect.signature(method).parameters
    assert list(parameters) == ["model", "rows", "seed", "beta", "epochs", "recipe", "tensorboard"]
    assert parameters["beta"].default == 0.1


def test_a_log_has_a_row_a_step_and_gives_back_the_rows_in_the_order_of_time():
    rows = [
        {"step": 0, "eval_loss": 2.0},
        {"step": 1, "grad_norm": 3.0, "loss": 1.0},
        {"step": 2, "grad_norm": 2.0, "loss": 0.5, "extra": 7.0},
        {"step": 2, "eval_loss": 0.4},
    ]
    log = calling.log_frame(rows, method="train_x", recipe=Knobs(), seed=3, path="plain")
    assert log["step"].tolist() == [1, 2] and log["loss"].tolist() == [1.0, 0.5]
    assert log.attrs["settings"] == {"beta": 0.1, "epochs": 1} and log.attrs["path"] == "plain"
    assert calling.log_rows(log) == rows


def test_a_model_on_two_devices_is_refused_by_name():
    model = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1, device="meta")])
    with pytest.raises(ValueError, match="weights lie on cpu, meta; training takes a model on one device"):
        calling.device_of(model)


def test_a_tokenizer_with_more_ids_than_the_model_has_embeddings_is_refused():
    class Small(nn.Module):
        def get_input_embeddings(self):
            return nn.Embedding(8, 2)

    with pytest.raises(ValueError, match=r"has ids up to \d+, the model embeddings for 8"):
        calling.require_fit(Small(), small_tokenizer())


def test_names_in_the_place_of_a_model_or_a_tokenizer_are_refused():
    with pytest.raises(TypeError, match="expected a model in memory, got 'gpt2'; load it"):
        calling.require_trainable("gpt2")
    with pytest.raises(TypeError, match="expected a tokenizer of transformers, got None"):
        calling.require_fit(nn.Linear(1, 1), None)


def test_a_run_without_a_folder_has_none_and_with_one_makes_it(tmp_path):
    assert calling.Run.of("x", None, None).folder("trainer") is None
    run = calling.Run.of("x", tmp_path / "a" / "b", lambda *steps, **numbers: None)
    assert run.checkpoints.is_dir() and run.folder("trainer") == tmp_path / "a" / "b" / "trainer"
