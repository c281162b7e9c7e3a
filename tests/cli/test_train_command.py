"""`zephyr-lab train`: a file and a folder in, an aligned model out; killed calls go on, bad input is one line."""

import gzip
import importlib
import json
import math
import sys

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

import smollm2
from zephyr_lab.cli import main
from zephyr_lab.data import own_rows
from zephyr_lab.lab.own import measures, training
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.models import own_folder, saved
from zephyr_lab.models.example import example_model

FAST = ("--batch", "4", "--epochs", "2", "--max-length", "128", "--learning-rate", "1e-2", "--held-out", "0.25")


def pair(number):
    return {
        "prompt": [{"role": "user", "content": f"Where do I keep item {number}?"}],
        "chosen": [{"role": "assistant", "content": f"On shelf {number}."}],
        "rejected": [{"role": "assistant", "content": f"Perhaps {number}."}],
    }


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder with a model `m`, a teacher `t` and 16 pairs, two of them broken."""
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    saved.save(*example_model(), tmp_path / "m")
    saved.save(*example_model(seed=1), tmp_path / "t")
    rows = [*map(pair, range(14)), {**pair(14), "prompt": ["a"]}, {**pair(15), "chosen": None}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    def command(method, *arguments, out="out"):
        given = ["--model", "m", "--data", "rows.jsonl", "--out", out, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", ["zephyr-lab", "train", method, *given])
        with pytest.raises(SystemExit) as left:
            main.main()
        told = capsys.readouterr()
        return left.value.code or 0, told.out, told.err

    return command


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_dpo_trains_what_the_function_trains_and_writes_all_down(run, place):
    code, out, err = run("dpo", *FAST, "--beta", "0.2", "--rejected-rows", "aside.jsonl")
    assert code == 0, err
    assert "row 15: column prompt[0]" in err and "2 rows refused, all of them in aside.jsonl" in err
    assert [json.loads(line)["row"] for line in (place / "aside.jsonl").read_text().splitlines()] == [15, 16]
    assert out.index("leaked benchmark questions") < out.index("training takes about") < out.index("step 1 of 6")
    names = {"README.md", "config.json", "generation_config.json", "log.csv", "model.safetensors", "provenance.json"}
    assert {path.name for path in (place / "out").iterdir()} == names | {
        "rows.json", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    rows = json.loads((place / "out/rows.json").read_text())
    assert (rows["rows"], rows["usable"], rows["left out"], rows["trained_on"], rows["held_out"]) == (16, 14, 2, 10, 4)
    log = pd.read_csv(place / "out/log.csv")
    assert log["loss"][0] == pytest.approx(math.log(2), abs=1e-4) and log["rewards/margins"].iloc[-1] > 0
    # The same rows by the function itself.
    plan = training.plan(
        training.Request(
            method="dpo", model="m", data="rows.jsonl", beta=0.2, batch=4, epochs=2, max_length=128, learning_rate=1e-2,
            held_out=0.25,
        )
    )  # fmt: skip
    model = saved.load_model(place / "m")
    train_dpo(model, plan.tokenizer, plan.train, recipe=plan.recipe, seed=0, progress=lambda *steps, **numbers: None)
    for name, weight in weights(place / "out").items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_prompts_are_on_one_side_each(place):
    plan = training.plan(training.Request(method="dpo", model="m", data="rows.jsonl", held_out=0.3, seed=3))
    again = training.plan(training.Request(method="dpo", model="m", data="rows.jsonl", held_out=0.3, seed=3))
    sides = [{str(row.prompt) for row in side.rows} for side in (plan.train, plan.held_out)]
    assert not sides[0] & sides[1] and sum(map(len, sides)) == 14
    assert plan.held_out.numbers == again.held_out.numbers


@pytest.mark.parametrize(
    ("method", "more"), [("sft", ()), ("sft", ("--lora", "2")), ("kd", ("--teacher", "t")), ("dpo", ("--lora", "2"))]
)
def test_each_method_trains_from_the_same_file(run, place, method, more):
    code, out, err = run(method, *FAST, *more, "--json")
    assert code == 0, err
    results = json.loads(out)["results"]
    measure = {
        "sft": "next-token loss, nats",
        "kd": "KL from the teacher, nats a token",
        "dpo": "DPO loss, nats a pair",
    }
    before, after = (
        next(row["value"] for row in results if (row["model"], row["measure"]) == (model, measure[method]))
        for model in ("start", method)
    )
    assert after < before
    assert (place / "out/adapter/adapter_model.safetensors").is_file() == bool(more[:1] == ("--lora",))
    assert AutoModelForCausalLM.from_pretrained(place / "out").num_parameters() == example_model()[0].num_parameters()


@pytest.mark.parametrize("more", [(), pytest.param(("--lora", "2"), marks=pytest.mark.slow)])
def test_a_killed_call_goes_on_to_the_same_weights(run, place, monkeypatch, more):
    assert run("dpo", *FAST, *more, "--checkpoint-every", "1", out="unbroken")[0] == 0

    def killed(self, args, state, control, **_):
        if state.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Lines, "on_step_begin", killed, raising=False)
        assert run("dpo", *FAST, *more, "--checkpoint-every", "1")[0] == 130
    assert (place / "out/checkpoints").is_dir() and not (place / "out/provenance.json").exists()
    code, out, _ = run("dpo", *FAST, *more, "--checkpoint-every", "1")
    assert code == 0 and "step 2 of 6" not in out and "step 6 of 6" in out
    unbroken = weights(place / "unbroken")
    assert all(torch.equal(weight, unbroken[name]) for name, weight in weights(place / "out").items())
    assert len(pd.read_csv(place / "out/log.csv")) == 6


def test_a_finished_call_is_not_trained_again_and_another_one_not_over_it(run, place):
    assert run("sft", *FAST)[0] == 0
    code, out, _ = run("sft", *FAST)
    assert code == 0 and "holds the model of this call already" in out and "step" not in out
    code, _, err = run("dpo", *FAST)
    assert code == 2 and "of other settings (method)" in err
    (place / "rows.jsonl").write_text(json.dumps(pair(1)) + "\n")
    code, _, err = run("sft", *FAST)
    assert code == 2 and "of other settings (data_sha256)" in err


def test_a_folder_with_other_files_is_left_alone(run, place):
    (place / "out").mkdir()
    (place / "out/mine.txt").write_text("mine")
    code, _, err = run("sft", *FAST)
    assert code == 2 and "holds other files (mine.txt)" in err


def test_too_little_memory_is_said_before_anything_is_loaded(run, place, monkeypatch):
    monkeypatch.setattr(own_folder, "free_memory", lambda: 1000.0)
    monkeypatch.setattr(saved, "load_model", None)
    code, out, err = run("dpo", *FAST)
    assert code == 2 and err.count("training takes about") == 1 and "--lora 16" in err
    assert "exact duplicates" in out and not (place / "out").exists()


@pytest.mark.parametrize(
    ("method", "arguments", "problem"),
    [
        ("ppo", (), "no method 'ppo'; allowed: sft, dpo, kd"),
        ("kd", (), "kd takes a teacher"),
        ("sft", ("--beta", "0.1"), "beta is a setting of dpo"),
        ("dpo", ("--teacher", "t"), "teacher is a setting of kd"),
        ("dpo", ("--beta", "0"), "beta must be positive"),
        ("sft", ("--held-out", "1"), "held-out share"),
        ("sft", ("--held-out", "nan"), "held-out share"),
        ("sft", ("--lora", "-1"), "rank of LoRA"),
        ("sft", ("--batch", "3", "--micro-batch", "2"), "multiple of micro_batch"),
        ("sft", ("--max-length", "1"), "max_length"),
        ("sft", ("--judge", "absent.py:f"), "no file absent.py"),
        ("kd", ("--teacher", "rows.jsonl"), "is a file"),
        ("sft", ("--data", "absent.jsonl"), "no file"),
        ("sft", ("--model", "absent"), "holds no config.json"),
    ],
)
def test_a_wrong_setting_is_one_line(run, place, method, arguments, problem):
    code, _, err = run(method, *arguments)
    assert code == 2 and problem in err.splitlines()[-1] and "Traceback" not in err
    assert not (place / "out").exists()


def test_dialogues_are_not_for_dpo(run, place):
    (place / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    code, _, err = run("dpo", *FAST)
    assert code == 2 and "dpo takes pairs" in err and "zephyr-lab binarise" in err


@pytest.mark.slow
@smollm2.needs_smollm2
def test_sixty_steps_on_real_rows_widen_the_margin_of_held_out_pairs(run, place, released, tmp_path_factory):
    folder = smollm2.save_to(tmp_path_factory.mktemp("smollm2"))
    read = own_rows.read(released("llama_factory/dpo_en.jsonl.gz"))
    by_length = sorted(zip(read.pairs.rows, read.pairs.numbers, strict=True), key=lambda one: len(str(one[0])))
    short = {number for _, number in by_length[:20]}
    with gzip.open(released("llama_factory/dpo_en.jsonl.gz"), "rt") as lines:
        (place / "rows.jsonl").write_text(
            "".join(line for number, line in enumerate(lines, start=1) if number in short)
        )
    more = ("--epochs", "4", "--batch", "1", "--max-length", "96", "--learning-rate", "1e-5", "--held-out", "0.25")
    code, out, err = run("dpo", "--model", folder, *more, "--json")
    assert code == 0, err
    log = pd.read_csv(place / "out/log.csv")
    assert len(log) == 60 and log["loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    (margin,) = [
        row for row in json.loads(out)["results"] if (row["model"], row["measure"]) == ("dpo", measures.MARGIN)
    ]
    assert margin["n"] == 5 and margin["value"] > 0.1


def test_the_same_settings_are_written_for_trl_and_nothing_is_trained(run, place):
    code, out, err = run("dpo", *FAST, "--beta", "0.2", "--lora", "4", "--trl-yaml", "dpo.yaml")
    assert code == 0, err
    assert not (place / "out").exists() and "not in the file: max_prompt_length = 64: TRL cuts whole rows alone" in out
    make_parser = importlib.import_module("trl.scripts.dpo").make_parser
    _, told, model, data = make_parser().parse_args_and_config(["--config", "dpo.yaml"], fail_with_unknown_args=True)
    assert (told.beta, told.learning_rate, told.max_length, told.output_dir) == (0.2, 1e-2, 128, "out")
    assert told.per_device_train_batch_size * told.gradient_accumulation_steps == 4 and told.num_train_epochs == 2
    assert (model.model_name_or_path, model.lora_r, data.datasets[0].data_files) == ("m", 4, "rows.jsonl")
    code, out, err = run("kd", "--teacher", "t", "--trl-yaml", "kd.yaml")
    assert (code, len(err.splitlines())) == (2, 1) and "KD cannot be told to TRL's commands" in err
    assert json.loads(run("dpo", "--json", "--trl-yaml", "dpo.yaml")[1])["command"] == "dpo"
