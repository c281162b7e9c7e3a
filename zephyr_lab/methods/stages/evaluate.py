"""What chat models answer to the world's two-turn questions, and what the exact judge says of it.

The second turn is asked after the model's own first answer, so an early error counts twice, as in MT-Bench. All models
of a stage get the same questions and the same draws. Starting a worker costs more than a model's answers, so the
models of a table share one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts, turn_tags
from zephyr_lab.data.splits import TEST, TRAIN, Messages, pair_rows
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods import process
from zephyr_lab.methods.examples import PairExample, pair_examples
from zephyr_lab.methods.held_out_pairs import pair_log_probs, pair_metrics
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.evaluate import PAIRS, Evaluation, PairAccuracy
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.models import saved
from zephyr_lab.world.benchmark import Question, mt_bench
from zephyr_lab.world.judge import grade

NEAR_GREEDY, HOT = "near-greedy", "hot"
ROWS_AT_ONCE = 32
BETA = 1.0  # a positive factor of all rewards: it decides no ranking


def build(recipe: Evaluation, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Ask the models named in `recipe.models`, folders of `inputs`, and grade what they answer.

    Writes answers.json: columns with one entry an answer (model, run, question_id, category, turn 1 or 2, prompt,
    text, finished, tokens, role_tags, then the judge's score, core, explanation, complete, capital, no_preface, style,
    cost, words). run: "near-greedy" at MT-Bench's temperatures by category, "hot" at `recipe.temperature` in all. With
    an input "pairs" also pairs.json, a row a model (`held_out_accuracy`). Metrics: each model's mean near-greedy score.

    Raises ValueError for a model without input, and for a prompt that leaves no room for an answer.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    missing = sorted(set(recipe.models) - set(inputs))
    if missing:
        raise ValueError(f"no input for model {missing[0]!r}; there are {', '.join(sorted(inputs))}")
    questions = mt_bench(recipe.questions, size=require_world(recipe.world))
    answers: list[dict[str, Any]] = []
    accuracies: list[dict[str, Any]] = []
    starts = [inputs[name] / folder for name, folder in zip(recipe.models, recipe.folders, strict=True)]
    tokenizers = [saved.load_chat_tokenizer(start) for start in starts]  # all of them before the first is asked
    asked = zip(recipe.models, starts, tokenizers, recipe.system_turns, strict=True)
    for place, (name, start, tokenizer, system_turn) in enumerate(asked):
        done = context.checkpoints / f"model-{place}.json"
        if not done.is_file():
            model = saved.load_model(start).to(device)
            graded = ask(model, tokenizer, questions, recipe, system_turn=system_turn, seed=seed)
            accuracy = held_out_accuracy(model, tokenizer, inputs[PAIRS], system_turn) if PAIRS in inputs else {}
            files.write_json(done, {"answers": graded, "accuracy": accuracy})
        found = files.read_json(done)
        answers += [{"model": name, **answer} for answer in found["answers"]]
        accuracies.append({"model": name, **found["accuracy"]})
        context.progress(place + 1, len(recipe.models))
    files.write_json(out / "answers.json", {column: [row[column] for row in answers] for column in answers[0]})
    if PAIRS in inputs:
        files.write_json(out / "pairs.json", accuracies)
    return {name: _mean_score(answers, name) for name in recipe.models}


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    recipe: Evaluation,
    *,
    system_turn: bool,
    seed: int,
) -> list[dict[str, Any]]:
    """One graded answer a run, question and turn; both runs are sampled side by side.

    `text` is what a reader sees: role tags that the model emits stand in it, and `role_tags` counts them; the end token
    does not (`finished` says whether there was one). It is also what the model sees of its first answer later.
    """
    rows = [(NEAR_GREEDY, question, question.temperature) for question in questions]
    rows += [(HOT, question, recipe.temperature) for question in questions]
    temperatures = [temperature for _, _, temperature in rows]
    dialogues: list[Messages] = [[{"role": "system", "content": ""}] if system_turn else [] for _ in rows]
    tags = turn_tags(tokenizer)
    graded = []
    for turn in (0, 1):
        for dialogue, (_, question, _) in zip(dialogues, rows, strict=True):
            dialogue.append({"role": "user", "content": question.prompts[turn]})
        completions = sample(
            model,
            encode_prompts(tokenizer, dialogues),
            max_new_tokens=recipe.max_new_tokens,
            temperatures=temperatures,
            generator=torch.Generator().manual_seed(derive(seed, "answers", turn)),
        )
        for dialogue, (run, question, _), completion in zip(dialogues, rows, completions, strict=True):
            seen = completion.ids[:-1] if completion.finished else completion.ids
            text = tokenizer.decode(list(seen))
            dialogue.append({"role": "assistant", "content": text})
            graded.append({
                "run": run,
                "question_id": question.question_id,
                "category": question.category,
                "turn": turn + 1,
                "prompt": question.prompts[turn],
                "text": text,
                "finished": completion.finished,
                "tokens": len(completion.ids),
                "role_tags": sum(id_ in tags for id_ in seen),
                **_verdict(question, turn, text, completion.finished),
            })  # fmt: skip
    return graded


def held_out_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Path, system_turn: bool
) -> dict[str, float]:
    """How often the model itself gives the chosen answer the higher log-probability, on the test pairs of `pairs`.

    sum: of log pi(answer | prompt); mean: of that a token, which does not favour short answers; ties half. pairs: how
    many, equal answers left out. No reference is needed, so models with and without preference training compare.
    """
    read = pair_rows(pairs, TEST).rows
    room = model.config.max_position_embeddings
    examples, _ = pair_examples(
        tokenizer,
        read,
        max_length=room,
        max_prompt_length=room - 1,
        long_prompts="cut_left",
        equal_answers="set_aside",
        system_turn=system_turn,
    )
    log_probs = pair_log_probs(model, examples, rows_at_once=ROWS_AT_ONCE)
    chosen, rejected = _lengths(examples)
    return {
        "sum": _share_higher(log_probs.chosen, log_probs.rejected),
        "mean": _share_higher(log_probs.chosen / chosen, log_probs.rejected / rejected),
        "pairs": float(len(examples)),
    }


def _verdict(question: Question, turn: int, text: str, finished: bool) -> dict[str, float | int | bool]:
    verdict = grade(question.turns[turn], text, ended=finished)
    return {
        "score": verdict.score,
        "core": verdict.core,
        "explanation": verdict.explanation,
        "complete": verdict.complete,
        "capital": verdict.capital,
        "no_preface": verdict.no_preface,
        "style": verdict.style,
        "cost": verdict.cost,
        "words": verdict.words,
    }


def _lengths(examples: Sequence[PairExample]) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.tensor([len(example.chosen_ids) for example in examples]),
        torch.tensor([len(example.rejected_ids) for example in examples]),
    )


def _share_higher(chosen: torch.Tensor, rejected: torch.Tensor) -> float:
    return ((torch.sign(chosen - rejected) + 1) / 2).mean().item()


def _mean_score(answers: Sequence[dict[str, Any]], name: str) -> float:
    scores = [row["score"] for row in answers if row["model"] == name and row["run"] == NEAR_GREEDY]
    return sum(scores) / len(scores)


def build_pair_accuracy(
    recipe: PairAccuracy, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Rank the pairs of `inputs["pairs"]` by the models of `inputs["policy"]` against `inputs["reference"]`.

    Writes accuracy.json, a row a model and split: model (its folder, "final" for ""), split, accuracy (ties half),
    pairs. Pairs of equal texts, which no model can tell apart, are left out. Metrics: pairs of each split.
    """
    del seed  # nothing is drawn
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["reference"] / recipe.start
    reference, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    examples: dict[str, list[PairExample]] = {}
    for split in (TRAIN, TEST):
        found = pair_rows(inputs["pairs"], split)
        examples[split], account = pair_examples(
            tokenizer,
            found.rows,
            max_length=recipe.max_length,
            max_prompt_length=recipe.max_prompt_length,
            long_prompts=recipe.long_prompts,
            equal_answers="set_aside",
            system_turn=recipe.system_turn,
            numbers=found.numbers,
        )
        print(f"{split}: {found.line(account.line())}")
    against = {split: _pair_log_probs(reference, given, recipe) for split, given in examples.items()}
    rows = []
    for place, folder in enumerate(recipe.folders):
        policy = saved.load_model(inputs["policy"] / folder).to(device)
        for split, given in examples.items():
            found = pair_metrics(_pair_log_probs(policy, given, recipe), against[split], beta=BETA)
            row = {"model": folder or "final", "split": split, "accuracy": found["accuracy"], "pairs": len(given)}
            rows.append(row)
        context.progress(place + 1, len(recipe.folders))
    files.write_json(out / "accuracy.json", rows)
    return {split: float(len(given)) for split, given in examples.items()}


def _pair_log_probs(model: PreTrainedModel, examples: Sequence[PairExample], recipe: PairAccuracy) -> PairLogProbs:
    return pair_log_probs(model, examples, rows_at_once=recipe.rows_at_once)
