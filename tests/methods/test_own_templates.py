"""Each model is trained, asked and measured in the turns that its tokenizer's own chat template writes."""

import ast
import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import zephyr_lab.methods
import zephyr_runs
from kd_runs import KD
from tiny_models import small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.data.splits import dialogue_rows, pair_rows
from zephyr_lab.methods.examples import pair_examples
from zephyr_lab.methods.recipes.evaluate import Evaluation
from zephyr_lab.methods.stages import evaluate, kd, world_data
from zephyr_lab.models import saved
from zephyr_runs import DDPO, DIALOGUES, DSFT, PAIRS, Stage

# Turns of the same tokens as Zephyr's, without line breaks; the marks are for the stock masks alone.
MARKED = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + eos_token }}{% endgeneration %}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
OWN = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
USELESS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
REFUSED = "cannot serve training: it ends a prompt before 'assistant: '"
EVALUATION = Evaluation(
    world="tiny", questions=8, max_new_tokens=4, temperature=0.7, models=("ours", "theirs"), folders=("", ""),
    system_turns=(False, False), device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, build, recipe in (
        ("pairs", world_data.build_pairs, PAIRS),
        ("dialogues", world_data.build_dialogues, DIALOGUES),
    ):
        (folder / name).mkdir()
        build(recipe, seed=0, inputs={}, out=folder / name, context=None)
    for name, template in (("theirs", OWN), ("useless", USELESS), ("no system", NO_SYSTEM + OWN)):
        zephyr_runs.save_start(folder / name)
        tokenizer = saved.load_tokenizer(folder / name)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder / name, save_jinja_files=False)
    zephyr_runs.save_start(folder / "ours")
    return folder


def context_in(folder):
    return SimpleNamespace(checkpoints=folder, progress=lambda *steps, **numbers: None)


def stock():
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.chat_template = MARKED
    return tokenizer


def test_a_fine_tuning_reads_its_dialogues_in_the_template_of_the_model(inputs, tmp_path):
    stage = Stage(tmp_path, {"dialogues": inputs / "dialogues", "base": inputs / "theirs"})
    metrics = stage.build(replace(DSFT, epochs=1, system_turn=False, max_length=4096))
    model, losses, counts = saved.load_model(inputs / "theirs"), 0.0, 0
    for dialogue in dialogue_rows(inputs / "dialogues", "test").rows:
        found = stock().apply_chat_template(dialogue, return_assistant_tokens_mask=True, return_dict=True)
        ids, mask = torch.tensor([found["input_ids"]]), torch.tensor(found["assistant_masks"][1:]).bool()
        with torch.inference_mode():
            log_probs = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        losses, counts = losses - log_probs[mask].sum().item(), counts + int(mask.sum())
    assert metrics["held_out_loss_start"] == pytest.approx(losses / counts, rel=1e-5)
    assert saved.load_tokenizer(stage.out).chat_template == OWN


def test_dpo_reads_its_pairs_in_the_template_of_the_model(inputs, tmp_path):
    stage = Stage(tmp_path, {"pairs": inputs / "pairs", "policy": inputs / "theirs"})
    metrics = stage.build(replace(DDPO, epochs=1, system_turn=False))
    assert metrics["used"] > 0 and saved.load_tokenizer(stage.out).chat_template == OWN
    tokenizer = saved.load_chat_tokenizer(inputs / "theirs")
    pairs = pair_rows(inputs / "pairs", "train").rows
    examples, _ = pair_examples(
        tokenizer, pairs, max_length=4096, max_prompt_length=4096, long_prompts="set_aside", equal_answers="keep",
        system_turn=False,
    )  # fmt: skip
    for pair, one in zip(pairs, examples, strict=True):
        for text, ids in ((pair.chosen, one.chosen_ids), (pair.rejected, one.rejected_ids)):
            whole = [*pair.prompt, {"role": "assistant", "content": text}]
            assert one.prompt_ids + ids == tokenizer.apply_chat_template(whole)["input_ids"]


@pytest.mark.parametrize("recipe, role", [(DSFT, "base"), (DDPO, "policy")])
@pytest.mark.parametrize("template, told", [("useless", REFUSED), ("no system", "takes no system turn, .*no system")])
def test_a_template_that_cannot_serve_is_refused_before_training_starts(inputs, tmp_path, recipe, role, template, told):
    stage = Stage(tmp_path, {name: inputs / name for name in ("pairs", "dialogues")} | {role: inputs / template})
    with pytest.raises(ValueError, match=told) as error:
        stage.build(replace(recipe, epochs=1, system_turn=True))
    assert "\n" not in str(error.value)
    assert not [*stage.checkpoints.iterdir(), *stage.out.iterdir()]


def test_an_evaluation_asks_each_model_in_its_own_turns(inputs, tmp_path, monkeypatch):
    asked = []
    sample = evaluate.sample

    def recorded(model, prompts, **options):
        asked.append([small_tokenizer().decode(prompt) for prompt in prompts])
        return sample(model, prompts, **options)

    monkeypatch.setattr(evaluate, "sample", recorded)
    given = {name: inputs / name for name in ("ours", "theirs")}
    evaluate.build(EVALUATION, seed=0, inputs=given, out=tmp_path, context=context_in(tmp_path))
    ours, theirs = asked[0], asked[2]  # two turns each
    assert [text.replace("|>\n", "|>").replace("</s>\n", "</s>") for text in ours] == theirs
    assert all(text.startswith("<|user|>\n") and text.endswith("<|assistant|>\n") for text in ours)


def test_a_useless_template_is_refused_before_the_first_model_is_asked(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "ask", lambda *given, **options: pytest.fail("a model was asked"))
    given = {"ours": inputs / "ours", "theirs": inputs / "useless"}
    with pytest.raises(ValueError, match=REFUSED):
        evaluate.build(EVALUATION, seed=0, inputs=given, out=tmp_path, context=context_in(tmp_path))


def test_teacher_and_student_need_the_same_turns(inputs, tmp_path):
    given = {"student": inputs / "ours", "teacher": inputs / "theirs", "dialogues": inputs / "dialogues"}
    with pytest.raises(ValueError, match=r"^student and teacher have different chat templates: .*; take a teacher of"):
        kd.build(KD, seed=0, inputs=given, out=tmp_path / "out", context=context_in(tmp_path))


def test_a_model_saved_with_a_template_of_another_end_stops_at_it(inputs, tmp_path):
    model, tokenizer = saved.load_model(inputs / "ours"), copy.deepcopy(small_tokenizer())
    saved.save(model, tokenizer, tmp_path / "zephyr")
    assert read_json(tmp_path / "zephyr" / "config.json")["eos_token_id"] == tokenizer.eos_token_id
    tokenizer.chat_template = OWN.replace("eos_token", "'<|system|>'")
    saved.save(model, tokenizer, tmp_path / "own")
    both = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|system|>")]
    for name in ("config.json", "generation_config.json"):
        assert read_json(tmp_path / "own" / name)["eos_token_id"] == both


def test_a_tokenizer_without_a_template_is_given_zephyrs(inputs, tmp_path):
    tokenizer = saved.load_tokenizer(inputs / "ours")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="has no chat template; it gets Zephyr's"):
        assert saved.load_chat_tokenizer(tmp_path).chat_template == small_tokenizer().chat_template


# What loads a tokenizer without asking for its template, and why it may.
PLAIN = {
    "mixtures": "reads dialogues only for routers from hidden states; `encode_dialogues` looks at the template",
    "metered": "measures the speed of a model that a training here has just written",
    "evaluate": "asks multiple choice in plain text; `each_model` looks at the templates of chat models",
    "inspection": "asks in plain text",
}


def test_every_stage_that_reads_dialogues_looks_at_the_template_first():
    (folder,) = map(Path, zephyr_lab.methods.__path__)
    plain = {
        path.stem
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "load_tokenizer"
    }
    assert plain == set(PLAIN)
