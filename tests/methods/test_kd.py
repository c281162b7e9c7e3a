"""KD follows the teacher by eq. 5, logs what it does not train, refuses what does not fit, and survives a kill."""

from dataclasses import replace

import pytest
import torch

import kd_runs
from kd_runs import KD, SHAPE, Run
from tiny_models import small_model, small_tokenizer
from zephyr_lab.data.splits import dialogue_rows
from zephyr_lab.losses import kd as losses
from zephyr_lab.losses.attention_kd import attention_kl, attention_scores
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.methods import kd
from zephyr_lab.methods.distillation import Batch, Collator, batch
from zephyr_lab.models import saved
from zephyr_lab.models.attention import whole_maps
from zephyr_lab.models.pairing import Pairing
from zephyr_lab.models.tokenizer import train
from zephyr_lab.world import corpus


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return kd_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("unbroken"), inputs)
    return run, run.build(replace(KD, keep_steps=(3, 10), gradient_norms_every=2))


def rows_of(inputs, count=6):
    examples, _ = kd.read(KD, dialogue_rows(inputs["dialogues"], "train"), small_tokenizer(), "train")
    rows = kd.rows_of(KD, examples)
    return batch(Collator()([rows[place] for place in range(count)]))


def lean_parts(recipe, student, teacher, rows: Batch, pairs: Pairing):
    return kd.LeanKD.of(student, teacher, pairs).parts(recipe, student, rows)


def naive_parts(student, teacher, rows: Batch, counted):
    """Eq. 1, 2 and 4 from whole maps of eager models."""
    maps = []
    for model in (student, teacher):
        model.set_attn_implementation("eager")
        maps.append(whole_maps(model, input_ids=rows.ids))
    wide = torch.ones(1, 1, rows.ids.shape[1], rows.ids.shape[1], dtype=torch.bool).tril()
    layers = [attention_kl(ours, theirs, wide) for ours, theirs in zip(*maps, strict=True)]
    logits = student(input_ids=rows.ids, use_cache=False).logits
    scores = losses.forward_kl(logits, teacher(input_ids=rows.ids, use_cache=False).logits, temperature=1.0)
    prediction = losses.mean_of_sequences(scores, counted)
    attention = losses.mean_of_sequences(attention_scores(layers), counted)
    entropy = next_token_losses(logits, rows.ids)[rows.real[:, 1:]].mean()
    return kd.Parts(prediction + attention, prediction, attention, entropy)


@pytest.mark.parametrize("tokens", ["all", "answers", "answers_unshifted"])
@pytest.mark.parametrize("role", ["teacher", "larger"])
def test_the_losses_are_those_of_whole_maps_and_so_are_the_gradients(inputs, tokens, role):
    rows = rows_of(inputs)
    counted = {
        "all": rows.real,
        "answers": losses.predicting(rows.answers),
        "answers_unshifted": rows.answers,
    }[tokens]
    recipe = replace(KD, tokens=tokens)
    gradients, values = [], []
    for naive in (True, False):
        student, teacher = saved.load_model(inputs["student"]), saved.load_model(inputs[role])
        if naive:
            parts = naive_parts(student, teacher, rows, counted)
        else:
            parts = lean_parts(recipe, student, teacher, rows, Pairing((0, 1), (0, 1)))
        parts.loss.backward()
        gradients.append([weight.grad for weight in student.parameters()])
        values.append((parts.prediction.item(), parts.attention.item()))
        assert all(weight.grad is None for weight in teacher.parameters()) or naive
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_no_gradient_reaches_the_teacher(inputs):
    student, teacher = saved.load_model(inputs["student"]), saved.load_model(inputs["teacher"])
    parts = lean_parts(KD, student, teacher, rows_of(inputs), Pairing((0, 1), (0, 1)))
    parts.loss.backward()
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_student_is_no_distance_from_itself(inputs):
    model = saved.load_model(inputs["student"])
    parts = lean_parts(KD, model, saved.load_model(inputs["student"]), rows_of(inputs), Pairing((0, 1), (0, 1)))
    assert parts.prediction.item() == pytest.approx(0, abs=1e-6)
    assert parts.attention.item() == pytest.approx(0, abs=1e-6)


def test_padding_changes_no_loss(inputs):
    rows = rows_of(inputs, count=1)
    padding = torch.zeros(1, 7, dtype=torch.long)
    wider = Batch(
        torch.cat([rows.ids, padding], dim=1),
        torch.cat([rows.real, padding.bool()], dim=1),
        torch.cat([rows.answers, padding.bool()], dim=1),
        None,
    )
    student, teacher = saved.load_model(inputs["student"]), saved.load_model(inputs["teacher"])
    found = [lean_parts(KD, student, teacher, given, Pairing((0, 1), (0, 1))) for given in (rows, wider)]
    for name in ("prediction", "attention", "cross_entropy"):
        assert getattr(found[0], name).item() == pytest.approx(getattr(found[1], name).item(), rel=1e-5)


def test_packed_rows_have_the_losses_of_their_dialogues(inputs):
    examples, _ = kd.read(KD, dialogue_rows(inputs["dialogues"], "train"), small_tokenizer(), "train")
    short = sorted(examples, key=lambda example: len(example.input_ids))[:6]
    student, teacher = saved.load_model(inputs["student"]), saved.load_model(inputs["teacher"])
    found = []
    for packed in (False, True):
        recipe = replace(KD, packed=packed, reduction="tokens")
        rows = kd.rows_of(recipe, short)
        given = batch(Collator()([rows[place] for place in range(len(rows))]))
        assert (given.places is not None) is packed and (len(given.ids) < 6) is packed
        found.append(lean_parts(recipe, student, teacher, given, Pairing((0, 1), (0, 1))))
    for name in ("prediction", "attention", "cross_entropy"):
        assert getattr(found[1], name).item() == pytest.approx(getattr(found[0], name).item(), rel=1e-5)


def test_texts_beyond_the_window_attend_within_it(inputs):
    rows = rows_of(inputs, count=3)
    models = [small_model(seed, window=8, **SHAPE) for seed in (0, 1)]
    assert rows.ids.shape[1] > 20
    parts = lean_parts(KD, *models, rows, Pairing((0, 1), (0, 1)))
    models = [small_model(seed, window=8, **SHAPE) for seed in (0, 1)]
    maps = []
    for model in models:
        model.set_attn_implementation("eager")
        maps.append(whole_maps(model, input_ids=rows.ids))
    place = torch.arange(rows.ids.shape[1])
    near = (place[None] <= place[:, None]) & (place[None] > place[:, None] - 8)
    assert all((layer[0, 0] > 0).sum() <= near.sum() for layer in maps[0])
    layers = [attention_kl(ours, theirs, near[None, None]) for ours, theirs in zip(*maps, strict=True)]
    expected = losses.mean_of_sequences(attention_scores(layers), rows.real)
    assert parts.attention.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_tokenizer_without_padding_serves_as_published_ones_have_none(inputs, tmp_path):
    saved_model = saved.load_model(inputs["student"])
    tokenizer = saved.load_tokenizer(inputs["student"])
    tokenizer.pad_token = None
    places = {}
    for role in ("student", "teacher"):
        places[role] = tmp_path / role
        saved.save(saved_model, tokenizer, places[role])
    assert saved.load_tokenizer(places["student"]).pad_token_id is None
    metrics = Run(tmp_path, inputs | places).build(replace(KD, epochs=1, evaluate_every=0))
    assert metrics["steps"] == 5


def test_a_deeper_teacher_is_followed_through_a_map(inputs, tmp_path):
    deeper = small_model(5, layers=4, **(SHAPE | {"heads": 4, "kv_heads": 2}))
    saved.save(deeper, small_tokenizer(), tmp_path / "deeper")
    run = Run(tmp_path / "run", inputs | {"teacher": tmp_path / "deeper"})
    recipe = replace(KD, epochs=1, layer_map=(1, 3), head_map=(0, 2))
    metrics = run.build(recipe)
    assert metrics["held_out_attention_loss"] < metrics["held_out_attention_loss_start"]
    with pytest.raises(ValueError, match=r"^the student has 2 layers and the teacher 4: set layer_map"):
        Run(tmp_path / "unmapped", run.inputs).build(KD)
    only = Run(tmp_path / "predictions", run.inputs)
    only_predictions = only.build(replace(KD, attention_weight=0.0, epochs=1))  # always works
    assert "held_out_attention_loss" not in only_predictions


def test_it_learns_and_logs_all_three_losses_with_their_gradients(unbroken):
    run, metrics = unbroken
    assert metrics["steps"] == 10 and metrics["rows"] == metrics["used"] == 40
    for name in ("prediction_loss", "attention_loss"):
        assert metrics[f"held_out_{name}"] < metrics[f"held_out_{name}_start"]
    trained = [row for row in run.log() if "loss" in row]
    for row in trained:
        assert row["loss"] == pytest.approx(row["prediction_loss"] + row["attention_loss"], rel=1e-4)
        assert row["cross_entropy"] > 0 and row["grad_norm"] > 0
    assert [row["step"] for row in trained if "attention_grad_norm" in row] == [1, 3, 5, 7, 9]
    assert (run.out / "steps/3/model.safetensors").is_file()
    assert (run.out / "steps/10/model.safetensors").read_bytes() == (run.out / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("off", "other"),
    [("attention", "prediction"), pytest.param("prediction", "attention", marks=pytest.mark.slow)],
)
def test_a_loss_that_is_not_trained_is_logged_with_its_gradient(inputs, tmp_path, off, other):
    run = Run(tmp_path, inputs)
    run.build(replace(KD, **{f"{off}_weight": 0.0}, gradient_norms_every=1, epochs=1))
    for row in run.log():
        if "loss" in row:
            assert row["loss"] == pytest.approx(row[f"{other}_loss"], rel=1e-4)
            assert row[f"{off}_loss"] > 0 and row[f"{off}_grad_norm"] > 0
            assert row["grad_norm"] == pytest.approx(row[f"{other}_grad_norm"], rel=0.5)


@pytest.mark.slow
def test_what_is_only_watched_changes_no_weight(inputs, tmp_path):
    recipe = replace(KD, attention_weight=0.0, epochs=1)
    runs = [Run(tmp_path / name, inputs) for name in ("watched", "unwatched")]
    runs[0].build(replace(recipe, gradient_norms_every=1))
    runs[1].build(recipe)
    weights = [run.contents()["model.safetensors"] for run in runs]
    assert weights[0] == weights[1]


def kept_for_the_gradient(compute):
    """Shapes of the floating tensors that a forward pass keeps, and its result."""
    shapes = []

    def pack(tensor):
        if tensor.is_floating_point():
            shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return compute(), shapes


@pytest.mark.parametrize("window", [None, 32])
def test_of_a_text_beyond_256_tokens_no_map_is_kept(window):
    student, teacher = (small_model(seed, context=320, window=window, **SHAPE) for seed in (0, 1))
    ids = torch.randint(6, 600, (2, 300), generator=torch.Generator().manual_seed(0))
    whole = torch.ones_like(ids, dtype=torch.bool)
    rows = Batch(ids, whole, torch.zeros_like(whole), None)
    found, lean = kept_for_the_gradient(lambda: lean_parts(KD, student, teacher, rows, Pairing((0, 1), (0, 1))))
    assert (2, 2, 300, 300) not in lean  # rows, heads, queries, keys
    found.loss.backward()
    lean_gradient = student.model.layers[0].self_attn.k_proj.weight.grad.clone()
    student.zero_grad()
    if window is None:
        naive, maps = kept_for_the_gradient(lambda: naive_parts(student, teacher, rows, rows.real))
        assert (2, 2, 300, 300) in maps
        assert found.attention.item() == pytest.approx(naive.attention.item(), rel=1e-5)
        naive.loss.backward()
        assert torch.allclose(lean_gradient, student.model.layers[0].self_attn.k_proj.weight.grad, atol=1e-6)


def test_killed_once_it_ends_in_the_same_bytes(unbroken, inputs, tmp_path):
    run = Run(tmp_path, inputs)
    kd_runs.kill_once(run, replace(KD, keep_steps=(3, 10), gradient_norms_every=2), after=5)
    assert run.contents() == unbroken[0].contents()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"divergence": "reverse", "temperature": 2.0, "temperature_squared": True}, marks=pytest.mark.slow
        ),
        {"packed": True, "tokens": "answers", "reduction": "tokens", "optimizer": "muon", "ce_weight": 0.5},
    ],
)
def test_every_switch_trains(inputs, tmp_path, changes):
    metrics = Run(tmp_path, inputs | {"teacher": inputs["larger"]}).build(replace(KD, **changes, epochs=1))
    assert metrics["held_out_prediction_loss"] < metrics["held_out_prediction_loss_start"]


def test_what_does_not_fit_is_refused_before_training(inputs, tmp_path):
    other = train(corpus.documents(2, 300), entries=640)
    saved.save(small_model(1, **SHAPE), other, tmp_path / "foreign")
    with pytest.raises(ValueError, match=r"^student and teacher have different tokenizers"):
        Run(tmp_path, inputs | {"teacher": tmp_path / "foreign"}).build(KD)
    with pytest.raises(ValueError, match=r"^keep_steps names step 11, but training ends at step 10$"):
        Run(tmp_path, inputs).build(replace(KD, keep_steps=(11,)))
