"""Acceptance lengths of drafts against one target, and whether a draft changes its answers: it must not.

The target answers each prompt greedily and by sampling once, and all drafts are measured on those answers: by exact
expectations from teacher-forced passes, and in the real decoding loop.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.splits import TEST, TRAIN, Messages, dialogue_rows
from zephyr_lab.decoding import speed
from zephyr_lab.decoding.acceptance import Answered, acceptance_rates
from zephyr_lab.decoding.drafting import Chain, Plan, Tree
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.speculative import GREEDY, SAMPLING, speculate
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.draft_scores import CANDIDATES, DRAWN, PROMPTS, TARGET, DraftLossless, DraftScores
from zephyr_lab.methods.recipes.draft_scores import GREEDY as GREEDY_RULE
from zephyr_lab.models import draft_files, saved
from zephyr_lab.models.draft_files import Draft
from zephyr_lab.models.enlarge import enlarge
from zephyr_lab.scoring.acceptance_length import expected_authors_terms, expected_passes
from zephyr_lab.scoring.samples import chi_square_p, total_variation

Prompts = Sequence[Sequence[int]]
Columns = dict[str, list[Any]]


def build(recipe: DraftScores, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Measure the drafts named in `recipe.drafts` against `inputs["target"]` on the prompts of `inputs["prompts"]`.

    Writes scores.json, columns with one entry a draft, rule, draft length, prompt and sample. draft; rule: "greedy"
    (temperature 0), "drawn" (at the recipe's temperature, tokens drawn from the draft) or "candidates" (at that
    temperature, the draft's likeliest tokens, as in the authors' code); temperature; length; prompt (its number from
    0); sample; tokens; passes: their expectation given the answer, exact, a whole number but for "drawn";
    authors_sum, authors_kept: expectations of tokens / (passes - 1) and of 1 over outcomes of two passes and more, else
    0, so that the authors' tau is the ratio of their sums.

    With loop_prompts also loop.json, columns with one entry a draft, rule, method ("chain" or "tree") and prompt:
    tokens, passes as the decoding loop counted them. With timed also speed.json: "timings", columns with one entry a
    draft, rule, method, arm ("plain", "drafted") and order of the prompts: seconds, cpu_seconds, tokens; "costs",
    columns with one entry a draft and method: target_pass, verifying_pass, draft_step (seconds), extra_layers.

    Metrics: prompts; "<draft>/tau_greedy", "<draft>/tau_drawn", "<draft>/tau_candidates" at the first of
    `recipe.lengths`, sums of tokens over sums of passes.

    Raises ValueError for prompts that leave no room for an answer, and where none is usable.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs[TARGET] / recipe.target_folder
    target, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    prompts = encode_prompts(tokenizer, read_prompts(recipe, inputs[PROMPTS]))
    answers = _target_answers(recipe, target, prompts, seed)
    slower = enlarge(target, layers=recipe.extra_layers) if recipe.timed else target
    scores, loops, timings, costs = {}, {}, {}, {}
    metrics = {"prompts": float(len(prompts))}
    in_loop = prompts[: recipe.loop_prompts]
    for number, (name, role, own) in enumerate(zip(recipe.drafts, recipe.inputs, recipe.folders, strict=True), 1):
        draft = draft_files.load(inputs[role] / own).to(device)
        metrics |= _add_scores(scores, recipe, name, target, draft, answers, len(prompts))
        if in_loop:
            _add_loops(loops, recipe, name, target, draft, in_loop, seed)
        if recipe.timed:
            _add_times(timings, costs, recipe, name, slower, draft, in_loop, seed)
        context.progress(number, len(recipe.drafts))
    files.write_json(out / "scores.json", scores)
    if recipe.loop_prompts:
        files.write_json(out / "loop.json", loops)
    if recipe.timed:
        files.write_json(out / "speed.json", {"timings": timings, "costs": costs})
    return metrics


def read_prompts(recipe: DraftScores, folder: Path) -> list[Messages]:
    """Each dialogue of the split up to its last answer. Raises ValueError where none has one."""
    dialogues = dialogue_rows(folder, recipe.split).rows
    kept = [dialogue[:-1] for dialogue in dialogues if dialogue[-1]["role"] == "assistant"]
    if not kept:
        raise ValueError(f"none of {len(dialogues)} dialogues of {recipe.split!r} ends with an answer")
    system: Messages = [{"role": "system", "content": ""}] if recipe.system_turn else []
    prompts = [prompt if prompt[0]["role"] == "system" else system + prompt for prompt in kept]
    return prompts[: recipe.prompts] if recipe.prompts else prompts


def _target_answers(recipe: DraftScores, target: PreTrainedModel, prompts: Prompts, seed: int) -> dict[str, Any]:
    """The target's answers by rule, prompt after prompt, sample after sample."""

    def answered(temperature: float, number: int) -> list[Answered]:
        generator = torch.Generator().manual_seed(derive(seed, "answers", number)) if temperature else None
        completions = sample(
            target, prompts, max_new_tokens=recipe.max_new_tokens, temperatures=temperature, generator=generator
        )
        return [Answered(tuple(prompt), own.ids) for prompt, own in zip(prompts, completions, strict=True)]

    sampled = [answer for number in range(recipe.samples) for answer in answered(recipe.temperature, number)]
    return {GREEDY_RULE: answered(0.0, 0), DRAWN: sampled, CANDIDATES: sampled}


def _add_scores(
    scores: Columns,
    recipe: DraftScores,
    name: str,
    target: PreTrainedModel,
    draft: Draft,
    answers: dict[str, list[Answered]],
    prompts: int,
) -> dict[str, float]:
    """Add a draft's expected passes; returns its tau by rule at the first length."""
    taus = {}
    for rule, own in answers.items():
        if not own:
            continue
        temperature = 0.0 if rule == GREEDY_RULE else recipe.temperature
        rates = acceptance_rates(
            target, draft, own, length=max(recipe.lengths), drawn=rule == DRAWN, temperature=temperature
        )
        for length in recipe.lengths:
            values = rates.values[:, :, :length]
            passes = expected_passes(values, rates.lengths)
            terms = expected_authors_terms(values, rates.lengths)
            for row in range(len(own)):
                _add(
                    scores,
                    draft=name,
                    rule=rule,
                    temperature=temperature,
                    length=length,
                    prompt=row % prompts,
                    sample=row // prompts,
                    tokens=int(rates.lengths[row]),
                    passes=float(passes[row]),
                    authors_sum=float(terms.ratios[row]),
                    authors_kept=float(terms.kept[row]),
                )
            if length == recipe.lengths[0]:
                taus[f"{name}/tau_{rule}"] = float(rates.lengths.sum() / passes.sum())
    return taus


def _add_loops(
    loops: Columns, recipe: DraftScores, name: str, target: PreTrainedModel, draft: Draft, prompts: Prompts, seed: int
) -> None:
    """Add the passes that the decoding loop counts."""
    for rule, method, plan in _plans(recipe):
        verify, temperature, generator = _verification(recipe, rule, seed)
        answers = speculate(
            target,
            draft,
            plan,
            prompts,
            max_new_tokens=recipe.max_new_tokens,
            verify=verify,
            temperature=temperature,
            generator=generator,
            rows_at_once=recipe.rows_at_once,
        )
        for number, answer in enumerate(answers):
            _add(
                loops,
                draft=name,
                rule=rule,
                method=method,
                prompt=number,
                tokens=len(answer.ids),
                passes=answer.passes,
            )


def _add_times(
    timings: Columns,
    costs: Columns,
    recipe: DraftScores,
    name: str,
    target: PreTrainedModel,
    draft: Draft,
    prompts: Prompts,
    seed: int,
) -> None:
    """Add wall and CPU time of plain and drafted decoding, and the costs of their steps."""
    plans: dict[str, Plan] = {}
    for rule, method, plan in _plans(recipe):
        verify, temperature, _ = _verification(recipe, rule, seed)
        for timing in speed.compare(
            target,
            draft,
            plan,
            prompts,
            max_new_tokens=recipe.max_new_tokens,
            verify=verify,
            temperature=temperature,
            seed=derive(seed, "speed"),
        ):
            _add(timings, draft=name, rule=rule, method=method, **asdict(timing))
        plans[method] = plan
    typical = sorted(len(prompt) for prompt in prompts)[len(prompts) // 2]
    for method, plan in plans.items():
        cost = speed.step_costs(target, draft, nodes=plan.nodes, context=typical, cpu=target.device.type == "cpu")
        _add(costs, draft=name, method=method, **asdict(cost), extra_layers=recipe.extra_layers)


def _plans(recipe: DraftScores) -> list[tuple[str, str, Plan]]:
    """Rule, method and plan of each run of the loop: chains under every rule, the tree where nothing is drawn."""
    chain = Chain(recipe.loop_length)
    plans: list[tuple[str, str, Plan]] = [(GREEDY_RULE, "chain", chain)]
    plans += [(DRAWN, "chain", Chain(recipe.loop_length, drawn=True)), (CANDIDATES, "chain", chain)]
    if recipe.tree_nodes:
        tree = Tree(top=recipe.tree_top, depth=recipe.tree_depth, size=recipe.tree_nodes)
        plans += [(GREEDY_RULE, "tree", tree), (CANDIDATES, "tree", tree)]
    return plans


def _verification(recipe: DraftScores, rule: str, seed: int) -> tuple[str, float, torch.Generator | None]:
    if rule == GREEDY_RULE:
        return GREEDY, 0.0, None
    return SAMPLING, recipe.temperature, torch.Generator().manual_seed(derive(seed, "loop", rule))


def _add(columns: Columns, **row: Any) -> None:
    for name, value in row.items():
        columns.setdefault(name, []).append(value)


def build_lossless(
    recipe: DraftLossless, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Compare answers with and without `inputs["draft"]` on the prompts of `inputs["prompts"]`, held-out ones first.

    Each dialogue is asked its first question. Training questions count as well: nothing is learned from the answers,
    and to exclude that one in a thousand differs takes thousands of them.

    Writes sampled.json: columns prompt, place (of a token in its answer), variation (total variation of the tokens
    sampled there with and without the draft), variation_plain (of two runs without it), p (chi-square, with and
    without). Metrics: prompts, differing (greedy answers that are not the same), passes and tokens of the drafted
    greedy run. Raises ValueError for prompts that leave no room for an answer.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs[TARGET] / recipe.target_folder
    target, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    draft = draft_files.load(inputs["draft"] / recipe.draft_folder).to(device)
    dialogues = [one for split in (TEST, TRAIN) for one in dialogue_rows(inputs[PROMPTS], split).rows]
    prompts = encode_prompts(tokenizer, [first_question(dialogue) for dialogue in dialogues])
    prompts = prompts[: recipe.prompts] if recipe.prompts else prompts
    plain = sample(target, prompts, max_new_tokens=recipe.max_new_tokens, temperatures=0.0, generator=None)
    drafted = speculate(
        target,
        draft,
        Chain(recipe.length),
        prompts,
        max_new_tokens=recipe.max_new_tokens,
        verify=GREEDY,
        temperature=0.0,
        generator=None,
        rows_at_once=128,
    )
    differing = sum(one.ids != other.ids for one, other in zip(plain, drafted, strict=True))
    context.progress(1, 2)
    files.write_json(out / "sampled.json", sampled(recipe, target, draft, prompts, seed=seed))
    return {
        "prompts": float(len(prompts)),
        "differing": float(differing),
        "passes": float(sum(one.passes for one in drafted)),
        "tokens": float(sum(len(one.ids) for one in drafted)),
    }


def first_question(dialogue: Messages) -> Messages:
    """The dialogue up to the user's first turn."""
    return dialogue[: next(place for place, turn in enumerate(dialogue) if turn["role"] == "user") + 1]


def sampled(recipe: DraftLossless, target: PreTrainedModel, draft: Draft, prompts: Prompts, *, seed: int) -> Columns:
    """Sampled tokens compared, a row a prompt and place: without the draft twice, and with it, drawn chains verified.

    An answer that ended before a place counts there as a value of its own.
    """
    asked = prompts[: recipe.sampled_prompts]
    repeated = [prompt for prompt in asked for _ in range(recipe.samples)]

    def generator(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive(seed, "lossless", name))

    runs = [
        sample(
            target,
            repeated,
            max_new_tokens=recipe.sampled_tokens,
            temperatures=recipe.temperature,
            generator=generator(name),
        )
        for name in ("plain", "plain again")
    ]
    drafted = speculate(
        target,
        draft,
        Chain(recipe.length, drawn=True),
        repeated,
        max_new_tokens=recipe.sampled_tokens,
        verify=SAMPLING,
        temperature=recipe.temperature,
        generator=generator("drafted"),
        rows_at_once=128,
    )
    columns: Columns = {}
    for prompt in range(len(asked)):
        own = slice(prompt * recipe.samples, (prompt + 1) * recipe.samples)
        for place in range(recipe.sampled_tokens):
            first, second, third = (
                [answer.ids[place] if place < len(answer.ids) else None for answer in run[own]]
                for run in (*runs, drafted)
            )
            _add(
                columns,
                prompt=prompt,
                place=place,
                variation=total_variation(third, first),
                variation_plain=total_variation(second, first),
                p=chi_square_p(third, first),
            )
    return columns
