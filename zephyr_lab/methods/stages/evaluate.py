"""What models answer and how likely they find answers: two-turn questions, multiple choice, preference pairs.

The second turn is asked after the model's own first answer, so an early error counts twice, as in MT-Bench. All models
of a stage get the same questions and the same draws. Starting a worker costs more than a model's answers, so the
models of a table share one. Multiple choice is scored as the Open LLM Leaderboard did: how likely each option is after
solved examples, without a chat template; the rule that makes a choice of it is `scoring.multiple_choice`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts, turn_tags
from zephyr_lab.data.splits import TEST, TRAIN, Messages, pair_rows
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.methods import process
from zephyr_lab.methods.examples import pair_examples, read_pairs, read_splits
from zephyr_lab.methods.held_out_pairs import answer_log_probs, own_ranking, pair_log_probs, pair_metrics
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.evaluate import PAIRS, Evaluation, MultipleChoice, PairAccuracy
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.models import saved
from zephyr_lab.models.tokenizer import content_ids
from zephyr_lab.world import choices
from zephyr_lab.world.benchmark import Question, mt_bench
from zephyr_lab.world.choices import Choice
from zephyr_lab.world.judge import grade

NEAR_GREEDY, HOT = "near-greedy", "hot"
ROWS_AT_ONCE = 32
BETA = 1.0  # of `build_pair_accuracy`: a positive factor of all rewards decides no ranking
OF_A_VERDICT = ("score", "core", "explanation", "complete", "capital", "no_preface", "style", "cost", "words")


def build(recipe: Evaluation, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Ask the models named in `recipe.models`, folders of `inputs`, and grade what they answer.

    Writes answers.json: columns with one entry an answer (model, run, question_id, category, turn 1 or 2, prompt,
    text, finished, tokens, role_tags, then the judge's `OF_A_VERDICT`). run: "near-greedy" at MT-Bench's temperatures
    by category, "hot" at `recipe.temperature` in all. With an input "pairs" also pairs.json, a row a model
    (`held_out_accuracy`). Metrics: each model's mean near-greedy score.

    Raises ValueError for a model without input, and for a prompt that leaves no room for an answer.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    missing = sorted(set(recipe.models) - set(inputs))
    if missing:
        raise ValueError(f"no input for model {missing[0]!r}; there are {', '.join(sorted(inputs))}")
    questions = mt_bench(recipe.questions, size=require_world(recipe.world))
    system_turns = dict(zip(recipe.models, recipe.system_turns, strict=True))

    def measure(name: str, folder: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        model, system_turn = saved.load_model(folder).to(device), system_turns[name]
        graded = ask(model, tokenizer, questions, recipe, system_turn=system_turn, seed=seed)
        accuracy = held_out_accuracy(model, tokenizer, inputs[PAIRS], system_turn) if PAIRS in inputs else {}
        return {"answers": graded, "accuracy": accuracy}

    answers: list[dict[str, Any]] = []
    accuracies: list[dict[str, Any]] = []
    for name, measured in each_model(recipe, inputs, context, measure):
        answers += [{"model": name, **answer} for answer in measured["answers"]]
        accuracies.append({"model": name, **measured["accuracy"]})
    files.write_json(out / "answers.json", {column: [row[column] for row in answers] for column in answers[0]})
    if PAIRS in inputs:
        files.write_json(out / "pairs.json", accuracies)
    scores = [(row["model"], row["score"]) for row in answers if row["run"] == NEAR_GREEDY]
    means = {}
    for name in recipe.models:
        of_model = [score for model, score in scores if model == name]
        means[name] = sum(of_model) / len(of_model)
    return means


def each_model(
    recipe: Any,
    inputs: Mapping[str, Path],
    context: Context,
    measure: Callable[[str, Path, PreTrainedTokenizerBase], Any],
) -> Iterator[tuple[str, Any]]:
    """Each model of `recipe.models` with what `measure(name, folder, tokenizer)` says of it, as JSON keeps it.

    A model that was measured before a kill is not measured again. A model without a chat template is refused before the
    first is measured.
    """
    folders = [inputs[name] / folder for name, folder in zip(recipe.models, recipe.folders, strict=True)]
    tokenizers = [saved.load_chat_tokenizer(folder) for folder in folders]
    for place, (name, folder, tokenizer) in enumerate(zip(recipe.models, folders, tokenizers, strict=True)):
        path = context.checkpoints / f"model-{place}.json"
        if not path.is_file():
            files.write_json(path, measure(name, folder, tokenizer))
        yield name, files.read_json(path)
        context.progress(place + 1, len(recipe.models))


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

    `text` is what a reader sees: role tags that the model emits are part of it, and `role_tags` counts them; the end
    token is not (`finished` says whether there was one). It is also what the model sees of its first answer later.
    """
    rows = [(NEAR_GREEDY, question, question.temperature) for question in questions]
    rows += [(HOT, question, recipe.temperature) for question in questions]
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
            temperatures=[temperature for _, _, temperature in rows],
            generator=torch.Generator().manual_seed(derive(seed, "answers", turn)),
        )
        for dialogue, (run, question, _), completion in zip(dialogues, rows, completions, strict=True):
            seen = completion.ids[:-1] if completion.finished else completion.ids
            text = tokenizer.decode(list(seen))
            dialogue.append({"role": "assistant", "content": text})
            verdict = grade(question.turns[turn], text, ended=completion.finished)
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
                **{name: getattr(verdict, name) for name in OF_A_VERDICT},
            })  # fmt: skip
    return graded


def held_out_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Path, system_turn: bool
) -> dict[str, float]:
    """`own_ranking` of the test pairs of `pairs`, equal answers left out.

    No reference is needed, so models with and without preference training compare.
    """
    room = model.config.max_position_embeddings
    examples, _ = pair_examples(
        tokenizer,
        pair_rows(pairs, TEST).rows,
        max_length=room,
        max_prompt_length=room - 1,
        long_prompts="cut_left",
        equal_answers="set_aside",
        system_turn=system_turn,
    )
    return own_ranking(pair_log_probs(model, examples, rows_at_once=ROWS_AT_ONCE), examples)


def build_pair_accuracy(
    recipe: PairAccuracy, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Rank the pairs of `inputs["pairs"]` by the models of `inputs["policy"]` against `inputs["reference"]`.

    A trainer logs the accuracy of each batch just before it learns from it, so its first epoch is on pairs that it has
    not seen yet. Here all pairs are ranked by the model as it stands after the epoch. Writes accuracy.json, a row a
    model and split: model (its folder, "final" for ""), split, accuracy (ties half), pairs. Pairs of equal texts, which
    no model can tell apart, are left out. Metrics: pairs of each split.
    """
    del seed  # nothing is drawn
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["reference"] / recipe.start
    reference, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    train, test = (pair_rows(inputs["pairs"], split) for split in (TRAIN, TEST))
    examples, _ = read_splits(read_pairs, recipe, tokenizer, train, test)
    against = {
        split: pair_log_probs(reference, of_split, rows_at_once=recipe.rows_at_once)
        for split, of_split in examples.items()
    }
    rows = []
    for place, folder in enumerate(recipe.folders):
        policy = saved.load_model(inputs["policy"] / folder).to(device)
        for split, of_split in examples.items():
            log_probs = pair_log_probs(policy, of_split, rows_at_once=recipe.rows_at_once)
            accuracy = pair_metrics(log_probs, against[split], beta=BETA)["accuracy"]
            rows.append({"model": folder or "final", "split": split, "accuracy": accuracy, "pairs": len(of_split)})
        context.progress(place + 1, len(recipe.folders))
    files.write_json(out / "accuracy.json", rows)
    return {split: float(len(of_split)) for split, of_split in examples.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as ids: its prompt, with as many of the solved examples as fit, and each option with its space."""

    task: str
    item: Choice
    examples: int
    prompt: list[int]
    options: list[list[int]]


def build_multiple_choice(
    recipe: MultipleChoice, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Score every option of every question by the models named in `recipe.models`, folders of `inputs`.

    Writes choices.json: columns with one entry a model and question: model, task, question, answer (the right option's
    place), examples (solved ones that fitted), then a list with one entry an option: log_probs (nats, summed over the
    option's tokens), tokens, characters. Metrics: the mean number of examples in each task.
    """
    del seed  # the sets are fixed and nothing is drawn
    process.prepare()
    device = process.pick_device(recipe.device)
    rows: list[dict[str, Any]] = []
    for place, (name, folder) in enumerate(zip(recipe.models, recipe.folders, strict=True)):
        path = inputs[name] / folder
        model, tokenizer = saved.load_model(path).to(device), saved.load_tokenizer(path)
        asked = [one for task in recipe.tasks for one in questions_of(tokenizer, model, task, recipe)]
        log_probs = option_log_probs(model, asked, rows_at_once=recipe.rows_at_once)
        rows += [
            {
                "model": name,
                "task": one.task,
                "question": one.item.question,
                "answer": one.item.answer,
                "examples": one.examples,
                "log_probs": scored,
                "tokens": [len(option) for option in one.options],
                "characters": [len(option) for option in one.item.options],
            }
            for one, scored in zip(asked, log_probs, strict=True)
        ]
        context.progress(place + 1, len(recipe.models))
    files.write_json(out / "choices.json", {column: [row[column] for row in rows] for column in rows[0]})
    fitted = {task: [row["examples"] for row in rows if row["task"] == task] for task in recipe.tasks}
    return {f"examples_{task}": sum(counts) / len(counts) for task, counts in fitted.items()}


def questions_of(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, task: str, recipe: MultipleChoice
) -> list[Asked]:
    """The questions of `task` as ids. Examples that do not fit into the model's context are left out, first ones first.

    Raises ValueError where not even the question without examples fits.
    """
    size, room = require_world(recipe.world), model.config.max_position_embeddings
    examples = choices.shots(task, choices.SHOTS[task], size=size) if choices.SHOTS[task] else []
    return [_fitted(tokenizer, task, item, examples, room) for item in choices.items(task, recipe.questions, size=size)]


def option_log_probs(model: PreTrainedModel, asked: Sequence[Asked], *, rows_at_once: int) -> list[list[float]]:
    """log p(option | prompt) of each option of each question, in nats, summed over the option's tokens."""
    rows = [(number, one.prompt, option) for number, one in enumerate(asked) for option in one.options]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][1]) + len(rows[place][2]))  # little padding
    scored = [0.0] * len(rows)
    for start in range(0, len(rows), rows_at_once):
        batch = order[start : start + rows_at_once]
        log_probs = answer_log_probs(model, [rows[place][1] for place in batch], [rows[place][2] for place in batch])
        for place, value in zip(batch, log_probs.tolist(), strict=True):
            scored[place] = value
    by_question: list[list[float]] = [[] for _ in asked]
    for (number, _, _), value in zip(rows, scored, strict=True):
        by_question[number].append(value)
    return by_question


def _fitted(
    tokenizer: PreTrainedTokenizerBase, task: str, item: Choice, examples: Sequence[Choice], room: int
) -> Asked:
    options = content_ids(tokenizer, [f" {option}" for option in item.options])
    left = room - max(map(len, options))
    for first in range(len(examples) + 1):
        (prompt,) = content_ids(tokenizer, [choices.prompt(item, examples[first:])])
        if len(prompt) <= left:
            return Asked(task, item, len(examples) - first, prompt, options)
    raise ValueError(f"{task}: the question {item.question!r} needs {len(prompt)} tokens, {left} are left for it")
