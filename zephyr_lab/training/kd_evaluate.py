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
from zephyr_lab.core.shapes import NextLogits
from zephyr_lab.data.chat import EncodedDialogue, encode_dialogues
from zephyr_lab.losses.kd import forward_kl
from zephyr_lab.models import saved
from zephyr_lab.scoring.domain import domain_score
from zephyr_lab.training import evaluate, process
from zephyr_lab.training.loop import Context
from zephyr_lab.training.recipes.kd_evaluate import DIALOGUES, START, KDEvaluation
from zephyr_lab.training.recipes.worlds import require_world
from zephyr_lab.training.zephyr_data import TEST, read_dialogues
from zephyr_lab.world.benchmark import Question, domain
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import domain_aspects

ROWS_AT_ONCE = 32


def build(recipe: KDEvaluation, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Ask the models named in `recipe.models`, folders of `inputs`, and grade what they answer.

    Writes answers.json (and pairs.json) as `evaluate.build` does; domain.json, columns with one entry an answer to an
    e-commerce question: those of answers.json, group, the four aspects, and domain, their mean. With inputs
    "start" and "dialogues" also divergence.json, a row a model: kl, mean KL(start || model) in nats a token of the
    held-out answers, and how many tokens those are. Metrics: each model's mean near-greedy chat score.

    Raises ValueError for a model without input, and for a start without dialogues.
    """
    if START in inputs and DIALOGUES not in inputs:
        raise ValueError(f"a divergence from a start needs an input {DIALOGUES!r}: held-out dialogues")
    scores = evaluate.build(recipe, seed=seed, inputs=inputs, out=out, context=context)
    device = process.pick_device(recipe.device)
    questions = domain(recipe.per_group, size=require_world(recipe.world)) if recipe.per_group else ()
    start = saved.load_model(inputs[START] / recipe.start).to(device) if START in inputs else None
    answers: list[dict[str, Any]] = []
    divergences: list[dict[str, Any]] = []
    for name, inside, system_turn in zip(recipe.models, recipe.folders, recipe.system_turns, strict=True):
        folder = inputs[name] / inside
        model, tokenizer = saved.load_model(folder).to(device), saved.load_tokenizer(folder)
        if questions:
            asked = ask_domain(model, tokenizer, questions, recipe, system_turn=system_turn, seed=seed)
            answers += [{"model": name, **answer} for answer in asked]
        if start is not None:
            dialogues, _ = read_dialogues(inputs[DIALOGUES], TEST)
            found = divergence(start, model, encode_dialogues(tokenizer, dialogues))
            divergences.append({"model": name, **found})
    if answers:
        files.write_json(out / "domain.json", {column: [row[column] for row in answers] for column in answers[0]})
    if divergences:
        files.write_json(out / "divergence.json", divergences)
    return scores


def ask_domain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    recipe: KDEvaluation,
    *,
    system_turn: bool,
    seed: int,
) -> list[dict[str, Any]]:
    """One judged answer a run, question and turn, as `evaluate.ask` gives it, with group, aspects and domain score."""
    turns = {(one.question_id, place): turn for one in questions for place, turn in enumerate(one.turns, 1)}
    judged = []
    for answer in evaluate.ask(model, tokenizer, questions, recipe, system_turn=system_turn, seed=seed):
        turn = turns[answer["question_id"], answer["turn"]]
        aspects = domain_aspects(grade(turn, answer["text"], ended=answer["finished"]))
        judged.append({**answer, "group": turn.group, **aspects, "domain": domain_score(aspects)})
    return judged


def divergence(
    start: PreTrainedModel, model: PreTrainedModel, dialogues: Sequence[EncodedDialogue]
) -> dict[str, float]:
    """{"kl", "tokens"}: the mean KL(start || model), in nats, of the distributions of the answers' tokens.

    Raises ValueError where no answer has a token.
    """
    by_length = sorted(dialogues, key=lambda one: len(one.ids))
    total, tokens = 0.0, 0
    for place in range(0, len(by_length), ROWS_AT_ONCE):
        rows = by_length[place : place + ROWS_AT_ONCE]
        theirs, ours = (_answer_logits(one, rows).double()[None] for one in (start, model))  # as one long row
        total += forward_kl(ours, theirs, temperature=1.0).sum().item()
        tokens += ours.shape[1]
    if not tokens:
        raise ValueError("no token of an answer among the held-out dialogues")
    return {"kl": total / tokens, "tokens": float(tokens)}


def _answer_logits(model: PreTrainedModel, rows: Sequence[EncodedDialogue]) -> NextLogits:
    """Logits of every answer token of `rows`, one after the other; padding is on the right, which none of them sees."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows])
    counted = torch.tensor([[*row.answer_mask, *[False] * (width - len(row.ids))] for row in rows])[:, 1:]
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids.to(model.device), use_cache=False).logits[:, :-1]
    return logits[counted.to(model.device)].cpu()
