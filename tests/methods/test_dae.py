"""DAE sends each row to its own teacher alone, starts at exactly 0 on general rows, and survives a kill."""

import json
from dataclasses import replace

import pytest
import torch

import kd_runs
from kd_runs import DAE, DOSE, SHAPE, Run
from tiny_models import small_model, small_tokenizer
from zephyr_lab.losses.dae import dae_scores
from zephyr_lab.methods import dae
from zephyr_lab.methods.dae import flagged_rows
from zephyr_lab.methods.distillation import Collator, batch
from zephyr_lab.models import saved


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    places = kd_runs.make_inputs(tmp_path_factory.mktemp("inputs"))
    return places | {"dialogues": places["mixed"], "base": places["student"]}


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("unbroken"), inputs)
    return run, run.build(replace(DAE, keep_steps=(2,)))


def rows_of(inputs, recipe=DAE):
    flagged = flagged_rows(inputs["dialogues"], "test").rows
    rows, account = dae.rows_of(recipe, small_tokenizer(), flagged, seed=0)
    return Collator()([rows[place] for place in range(len(rows))]), account


def models(inputs):
    student, start, expert = (saved.load_model(inputs[name]) for name in ("student", "student", "expert"))
    return student, {"expert": expert, "general": start}


FORMS = {"lean": dae.LeanDAE.of, "plain": lambda student, teachers: dae.PlainDAE(teachers)}


def route(recipe, student, teachers, given, form="lean"):
    return FORMS[form](student, teachers).routed(recipe, student, batch(given), given["by_expert"])


@pytest.mark.parametrize("form", FORMS)
def test_general_rows_are_exactly_zero_before_the_first_step(inputs, unbroken, form):
    student, teachers = models(inputs)
    given, _ = rows_of(inputs)
    routed = route(DAE, student.train(), teachers, given, form)
    assert (routed.scores[~given["is_domain"]] == 0).all()
    assert (dae.row_means(routed)[given["is_domain"]] > 0).all()
    _, metrics = unbroken
    assert metrics["held_out_general_loss_start"] == 0 and metrics["held_out_domain_loss_start"] > 0


@pytest.mark.parametrize("form", FORMS)
def test_routed_losses_are_those_of_both_teachers_on_every_row(inputs, form):
    student, teachers = models(inputs)
    given, _ = rows_of(inputs)
    rows = batch(given)
    logits = {name: model(**rows.inputs()).logits for name, model in {"student": student, **teachers}.items()}
    expected = dae_scores(
        logits["student"],
        expert=logits["expert"],
        reference=logits["general"],
        is_domain=given["is_domain"],
        temperature=1.0,
    )
    found = route(DAE, student, teachers, given, form)
    assert torch.allclose(found.scores[rows.real], expected[rows.real], atol=1e-6)


def test_each_teacher_sees_only_its_own_rows(inputs):
    student, teachers = models(inputs)
    given, _ = rows_of(inputs)
    form = dae.LeanDAE.of(student, teachers)
    form.routed(DAE, student, batch(given), given["by_expert"])  # its trials are over
    seen = {}
    for name, model in teachers.items():
        model.register_forward_pre_hook(
            lambda module, args, kwargs, name=name: seen.setdefault(name, []).append(kwargs["input_ids"]),
            with_kwargs=True,
        )
    form.routed(DAE, student, batch(given), given["by_expert"])
    domain = given["is_domain"]
    for name, side in (("expert", domain), ("general", ~domain)):
        (packed,) = seen[name]
        assert packed.tolist() == [given["input_ids"][side][given["real"][side]].tolist()]
    assert int(domain.sum()) == 2


@pytest.mark.parametrize("form", FORMS)
def test_without_the_reference_term_general_rows_run_through_nothing(inputs, form):
    student, teachers = models(inputs)
    given, _ = rows_of(inputs)
    recipe = replace(DAE, reference_term=False)
    routed = route(recipe, student, teachers, given, form)
    assert set(routed.asked) == {"expert", ""}
    whole = route(DAE, student, teachers, given, form)
    # At the start the general rows add nothing, so leaving them out changes neither sum nor mean.
    assert routed.loss.item() == whole.loss.item()


def test_a_batch_of_general_rows_alone_is_no_step_without_the_reference_term(inputs, tmp_path):
    recipe = replace(DAE, reference_term=False, batch=1, micro_batch=1)
    run = Run(tmp_path, inputs)
    metrics = run.build(replace(recipe, log_every=1))
    losses = [row["loss"] for row in json.loads((run.out / "log.json").read_text()) if "loss" in row]
    assert losses.count(0.0) == recipe.epochs * (metrics["rows"] - metrics["domain_rows"]) < len(losses)


def test_one_teacher_for_all_rows_is_a_control(inputs):
    student, teachers = models(inputs)
    given, _ = rows_of(inputs)
    routed = route(replace(DAE, domain_teacher="general"), student, teachers, given)
    assert set(routed.asked) == {"general"} and (routed.scores == 0).all()


@pytest.mark.parametrize("reduction", ["sequences", "tokens", "groups"])
def test_the_readings_of_eq_6_differ_in_weights_alone(inputs, reduction):
    student, teachers = models(inputs)
    given, _ = rows_of(inputs)
    routed = route(replace(DAE, reduction=reduction), student, teachers, given)
    means, domain, tokens = dae.row_means(routed), given["is_domain"], routed.counted.sum(dim=1)
    expected = {
        "sequences": means.mean(),
        "tokens": (means * tokens).sum() / tokens.sum(),
        "groups": means[domain].mean() + means[~domain].mean(),
    }[reduction]
    assert routed.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_share_of_each_kind_is_misrouted():
    flags = [True] * 20 + [False] * 80
    routes = dae.routed_flags(flags, 0.5, seed=3)
    wrong = [flag != route for flag, route in zip(flags, routes, strict=True)]
    assert sum(wrong[:20]) == 10 and sum(wrong[20:]) == 40
    assert routes == dae.routed_flags(flags, 0.5, seed=3) != dae.routed_flags(flags, 0.5, seed=4)
    assert dae.routed_flags(flags, 0.0, seed=3) == flags
    assert dae.routed_flags(flags, 1.0, seed=3) == [not flag for flag in flags]


def test_packed_rows_hold_one_kind_and_lose_no_row(inputs):
    given, account = rows_of(inputs, replace(DAE, packed=True, max_length=120))
    assert account.used == 8 and len(given["is_domain"]) < 8
    starts = (given["position_ids"] == 0) & given["real"]
    assert int(starts.sum()) == 8  # each dialogue begins once


def test_it_moves_to_the_expert_and_logs_each_kind_of_row(unbroken):
    run, metrics = unbroken
    assert metrics["held_out_domain_loss"] < metrics["held_out_domain_loss_start"]
    assert metrics["domain_rows"] == 6 and metrics["steps"] == 6
    assert (run.out / "steps/2/model.safetensors").is_file()
    for row in (row for row in run.log() if "loss" in row):
        assert row["grad_norm"] > 0 and ("domain_loss" in row or "general_loss" in row)


@pytest.mark.slow
def test_a_general_teacher_of_its_own_takes_the_place_of_the_start(inputs, tmp_path):
    metrics = Run(tmp_path, inputs | {"general": inputs["teacher"]}).build(replace(DAE, epochs=1))
    assert metrics["held_out_general_loss_start"] > metrics["held_out_general_loss"] > 0


@pytest.mark.slow
def test_killed_once_it_ends_in_the_same_bytes(unbroken, inputs, tmp_path):
    run = Run(tmp_path, inputs)
    kd_runs.kill_once(run, replace(DAE, keep_steps=(2,)), after=3)
    assert run.contents() == unbroken[0].contents()


def test_fine_tuning_keeps_the_asked_steps(inputs, tmp_path):
    run = Run(tmp_path, inputs)
    metrics = run.build(DOSE)
    assert metrics["steps"] == 6 and metrics["held_out_loss"] < metrics["held_out_loss_start"]
    assert sorted(path.name for path in (run.out / "steps").iterdir()) == ["2", "5"]
    weights = [saved.load_model(run.out / place).lm_head.weight for place in ("steps/2", "steps/5", "")]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_what_does_not_fit_is_refused_before_training(inputs, tmp_path):
    unflagged = tmp_path / "unflagged"
    unflagged.mkdir()
    for split in ("train", "test"):
        rows = [json.loads(line) for line in (inputs["mixed"] / f"{split}.jsonl").read_text().splitlines()]
        rows[1].pop("is_domain")
        (unflagged / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = r"^train\.jsonl row 2 has no is_domain, true or false; domain alignment wants flagged dialogues"
    with pytest.raises(ValueError, match=message):
        Run(tmp_path, inputs | {"dialogues": unflagged}).build(DAE)
    wider = small_model(2, **SHAPE)
    wider.resize_token_embeddings(648)
    saved.save(wider, small_tokenizer(), tmp_path / "wider")
    with pytest.raises(ValueError, match=r"^student and expert have different vocabularies: 640 and 648 entries"):
        Run(tmp_path, inputs | {"expert": tmp_path / "wider"}).build(DAE)
