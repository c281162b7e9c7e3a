"""Where policies stand between reward and KL: one answer at temperature 1 to each held-out question, and what it costs.

The objective of RLHF is an expectation under the policy itself, so its two terms are measured on the same draws: the
true reward by the exact judge, and KL(policy || start) by the exact divergence of the next-token distributions.
"""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.losses.kl_estimators import exact_kl
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.evaluate import BestOfN, Frontier
from zephyr_lab.methods.rollouts import (
    ROWS_AT_ONCE,
    Answered,
    answer,
    answer_texts,
    hidden_states,
    learned_reward,
    repeated,
)
from zephyr_lab.methods.stages.evaluate import each_model
from zephyr_lab.methods.stages.world_questions import WorldQuestions, held_out_prompts
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved
from zephyr_lab.models.logits import logits_of
from zephyr_lab.world.judge import OBJECTIVES, value

REFERENCE, REWARD = "reference", "reward"  # inputs beside the models
COLUMNS = ("quality", "learned", "words")  # of a best-of-n pool


def build(recipe: Frontier, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Ask the models of `recipe.models` and grade what they answer; `inputs["reference"]` is what their KL is to.

    Writes frontier.json, a row a model: model, kl (nats an answer), kl_error (standard error), and a list with one
    entry an answer for each of quality, brief, words, tokens, finished, text, and learned where there is a reward model
    (input "reward"). Metrics: each model's mean quality, and the reference's "parameters".
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    reference = saved.load_model(inputs[REFERENCE]).to(device)
    learned = learned_reward(reward_models.load(inputs[REWARD]).to(device)) if REWARD in inputs else None
    prompts = held_out_prompts(recipe)

    def measure(_: str, folder: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        policy = saved.load_model(folder).to(device)
        questions = WorldQuestions.of(tokenizer, prompts)
        answered = answer(
            policy,
            questions.ids,
            range(len(prompts)),
            max_new_tokens=recipe.max_new_tokens,
            seed=derive(seed, "frontier"),
        )
        row = graded(questions, tokenizer, answered)
        divergences = answer_kl(policy, reference, answered)
        row["kl"] = divergences.mean().item()
        row["kl_error"] = divergences.std().item() / math.sqrt(len(divergences))
        if learned is not None:
            row["learned"] = learned.function(answered)
        return row

    rows = [{"model": name, **row} for name, row in each_model(recipe, inputs, context, measure)]
    files.write_json(out / "frontier.json", rows)
    means = {row["model"]: sum(row["quality"]) / len(row["quality"]) for row in rows}
    return {**means, "parameters": float(sum(one.numel() for one in reference.parameters()))}


def graded(questions: WorldQuestions, tokenizer: PreTrainedTokenizerBase, answered: Answered) -> dict[str, Any]:
    """Lists with one entry an answer: the judge's objectives, words, whether it ended, its text."""
    verdicts = questions.verdicts(tokenizer, answered)
    return {
        **{name: [round(value(verdict, name), 6) for verdict in verdicts] for name in OBJECTIVES},
        "words": [verdict.words for verdict in verdicts],
        "tokens": [len(ids) for ids in answered.answers],
        "finished": answered.finished,
        "text": answer_texts(tokenizer, answered),
    }


def answer_kl(policy: PreTrainedModel, reference: PreTrainedModel, answered: Answered) -> torch.Tensor:
    """KL of each answer in nats, on the CPU in float64: exact divergences of the next token, summed over its places.

    The mean over answers drawn from the policy estimates KL(policy || reference) of whole answers without bias, with
    far less noise than log-ratios.
    """
    parts = []
    with torch.inference_mode():
        for start in range(0, len(answered), ROWS_AT_ONCE):
            part = answered.subset(range(start, min(start + ROWS_AT_ONCE, len(answered))))
            own, mask, _ = hidden_states(policy, part)
            other, _, _ = hidden_states(reference, part)
            by_token = exact_kl(_log_probs(policy, own[mask]), _log_probs(reference, other[mask])).double()
            parts.append(torch.zeros(mask.shape, dtype=torch.float64).masked_scatter(mask.cpu(), by_token.cpu()).sum(1))
    return torch.cat(parts)


def _log_probs(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    return logits_of(model, states).float().log_softmax(dim=-1)


def build_best_of_n(
    recipe: BestOfN, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Draw and grade the answers of `inputs["policy"]`, by the judge and by the reward model `inputs["reward"]`.

    Writes pool.json: for each of quality, learned and words a list of questions, each a list of `samples` numbers.
    No training: from one pool of N answers a question, the expected score of best-of-n follows exactly for every n up
    to N (`scoring.best_of_n`). Metrics: tokens generated, CPU seconds and memory.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    questions = WorldQuestions.of(tokenizer, held_out_prompts(recipe))
    places = repeated(range(len(questions.prompts)), recipe.samples)
    with process.metered() as cost:
        policy = saved.load_model(start).to(device)
        learned = learned_reward(reward_models.load(inputs[REWARD]).to(device))
        answered = answer(
            policy, questions.ids, places, max_new_tokens=recipe.max_new_tokens, seed=derive(seed, "best of n")
        )
        grades = graded(questions, tokenizer, answered) | {"learned": learned.function(answered)}
    context.progress(1, 1)
    pool = {
        name: [grades[name][first : first + recipe.samples] for first in range(0, len(places), recipe.samples)]
        for name in COLUMNS
    }
    files.write_json(out / "pool.json", pool)
    return {
        "answers": float(len(answered)),
        "tokens_generated": float(answered.tokens),
        "tokens_prompted": float(answered.read_tokens - answered.tokens),
        "tokens_scored": float(answered.read_tokens),
        **cost.metrics(),
    }
