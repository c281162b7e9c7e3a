"""What distilled models answer in general and in the domain, and how far they went from where they started.

Chat questions as in `evaluate`; two-turn e-commerce questions judged by four aspects; and, as retention, the
divergence from the start on held-out general dialogues, which falls on every token and not on greedy answers alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import NextLogits
from zephyr_lab.data.chat import EncodedDialogue, encode_dialogues, encode_prompts, turn_tags
from zephyr_lab.data.splits import TEST, Messages, dialogue_rows
from zephyr_lab.decoding.sampling import by_length, sample
from zephyr_lab.losses.kd import forward_kl
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.evaluate import PAIRS
from zephyr_lab.methods.recipes.kd import DIALOGUES, START, KDEvaluation
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.methods.stages import evaluate
from zephyr_lab.methods.stages.evaluate import HOT, NEAR_GREEDY
from zephyr_lab.models import saved
from zephyr_lab.scoring.domain import domain_score
from zephyr_lab.world.benchmark import Question, domain, mt_bench
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import domain_aspects

ROWS_AT_ONCE = 32
OF_A_VERDICT = ("score", "core", "explanation", "complete", "capital", "no_preface", "style", "cost", "words")


def build(recipe: KDEvaluation, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Ask the models named in `recipe.models`, folders of `inputs`, and grade what they answer.

    Writes answers.json, columns with one entry an answer to a chat question, as `evaluate.build`; domain.json, the same
    of e-commerce questions, with group, the four aspects, and domain, their mean. With an input "pairs" also
    pairs.json (`evaluate.held_out_accuracy`), with inputs "start" and "dialogues" divergence.json, a row a model: kl,
    mean KL(start || model) in nats a token of the held-out answers, and how many tokens those are. Metrics: each
    model's mean near-greedy chat score.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = saved.load_model(inputs[START] / recipe.start).to(device) if START in inputs else None
    tables: dict[str, list[dict[str, Any]]] = {"answers": [], "domain": [], "pairs": [], "divergence": []}
    folders = [inputs[name] / folder for name, folder in zip(recipe.models, recipe.folders, strict=True)]
    tokenizers = [saved.load_chat_tokenizer(folder) for folder in folders]  # all of them before the first is asked
    models = zip(recipe.models, folders, tokenizers, recipe.system_turns, strict=True)
    for number, (name, folder, tokenizer, system_turn) in enumerate(models):
        checkpoint = context.checkpoints / f"model-{number}.json"
        if not checkpoint.is_file():
            model = saved.load_model(folder).to(device)
            files.write_json(checkpoint, _measured(model, tokenizer, start, recipe, inputs, system_turn, seed))
        for kind, rows in files.read_json(checkpoint).items():
            tables[kind] += [{"model": name, **row} for row in rows]
        context.progress(number + 1, len(recipe.models))
    for kind, rows in tables.items():
        if rows:
            by_column = kind in ("answers", "domain")
            table = {column: [row[column] for row in rows] for column in rows[0]} if by_column else rows
            files.write_json(out / f"{kind}.json", table)
    return {name: _mean_score(tables["answers"], name) for name in recipe.models}


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    recipe: KDEvaluation,
    *,
    system_turn: bool,
    seed: int,
) -> list[dict[str, Any]]:
    """One graded answer a run, question and turn, as `evaluate.ask`; the hot run only where the recipe has one.

    The draws of the near-greedy run do not depend on whether there is a hot one. A prompt that leaves no room for an
    answer loses its beginning: a first answer full of role tags is long once it is encoded as text.
    """
    room = model.config.max_position_embeddings - recipe.max_new_tokens
    tags = turn_tags(tokenizer)
    graded = []
    for run in (NEAR_GREEDY, HOT) if recipe.hot else (NEAR_GREEDY,):
        temperatures = [recipe.temperature if run == HOT else question.temperature for question in questions]
        dialogues: list[Messages] = [[{"role": "system", "content": ""}] if system_turn else [] for _ in questions]
        for turn in (0, 1):
            for dialogue, question in zip(dialogues, questions, strict=True):
                dialogue.append({"role": "user", "content": question.prompts[turn]})
            answers = sample(
                model,
                [prompt[-room:] for prompt in encode_prompts(tokenizer, dialogues)],
                max_new_tokens=recipe.max_new_tokens,
                temperatures=temperatures,
                generator=torch.Generator().manual_seed(derive(seed, "answers", run, turn)),
            )
            for dialogue, question, answer in zip(dialogues, questions, answers, strict=True):
                seen = answer.ids[:-1] if answer.finished else answer.ids
                text = tokenizer.decode(list(seen))
                dialogue.append({"role": "assistant", "content": text})
                verdict = grade(question.turns[turn], text, ended=answer.finished)
                graded.append(
                    {
                        "run": run,
                        "question_id": question.question_id,
                        "category": question.category,
                        "turn": turn + 1,
                        "prompt": question.prompts[turn],
                        "text": text,
                        "finished": answer.finished,
                        "tokens": len(answer.ids),
                        "role_tags": sum(id_ in tags for id_ in seen),
                        **{name: getattr(verdict, name) for name in OF_A_VERDICT},
                    }
                )
    return graded


def divergence(
    start: PreTrainedModel, model: PreTrainedModel, dialogues: Sequence[EncodedDialogue]
) -> dict[str, float]:
    """{"kl", "tokens"}: the mean KL(start || model), in nats, of the distributions of the answers' tokens.

    Raises ValueError where no answer has a token.
    """
    total, tokens = 0.0, 0
    for batch in by_length([len(one.ids) for one in dialogues], ROWS_AT_ONCE):
        rows = [dialogues[number] for number in batch]
        theirs, ours = (_answer_logits(one, rows).double()[None] for one in (start, model))  # as one long row
        total += forward_kl(ours, theirs, temperature=1.0).sum().item()
        tokens += ours.shape[1]
    if not tokens:
        raise ValueError("no token of an answer among the held-out dialogues")
    return {"kl": total / tokens, "tokens": float(tokens)}


def _answer_logits(model: PreTrainedModel, rows: Sequence[EncodedDialogue]) -> NextLogits:
    """Logits of every answer token of `rows`, in their order; padding is on the right, where none of them sees it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows])
    counted = torch.tensor([[*row.answer_mask, *[False] * (width - len(row.ids))] for row in rows])[:, 1:]
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids.to(model.device), use_cache=False).logits[:, :-1]
    return logits[counted.to(model.device)].cpu()


def _measured(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    start: PreTrainedModel | None,
    recipe: KDEvaluation,
    inputs: dict[str, Path],
    system_turn: bool,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    """Everything that is measured of one model: file -> rows."""
    size = require_world(recipe.world)
    questions = {"answers": mt_bench(recipe.questions, size=size)}
    if recipe.per_group:
        questions["domain"] = domain(recipe.per_group, size=size)
    tables = {
        kind: ask(model, tokenizer, asked, recipe, system_turn=system_turn, seed=seed)
        for kind, asked in questions.items()
    }
    turns = {(one.question_id, turn + 1): one.turns[turn] for one in questions.get("domain", []) for turn in (0, 1)}
    for answer in tables.get("domain", []):
        turn = turns[answer["question_id"], answer["turn"]]
        aspects = domain_aspects(grade(turn, answer["text"], ended=answer["finished"]))
        answer |= {"group": turn.group, **aspects, "domain": domain_score(aspects)}
    if PAIRS in inputs:
        tables["pairs"] = [evaluate.held_out_accuracy(model, tokenizer, inputs[PAIRS], system_turn)]
    if start is not None:
        dialogues = dialogue_rows(inputs[DIALOGUES], TEST).rows
        tables["divergence"] = [divergence(start, model, encode_dialogues(tokenizer, dialogues))]
    return tables


def _mean_score(answers: Sequence[dict[str, Any]], name: str) -> float:
    scores = [row["score"] for row in answers if row["model"] == name and row["run"] == NEAR_GREEDY]
    return sum(scores) / len(scores)
