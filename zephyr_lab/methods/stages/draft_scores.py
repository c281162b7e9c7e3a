"""Acceptance lengths of drafts against one target: exact expectations from teacher-forced passes, and the real loop.

The target answers each prompt greedily and by sampling once, and all drafts are measured on those answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.splits import Messages, dialogue_rows
from zephyr_lab.decoding import speed
from zephyr_lab.decoding.acceptance import Answered, acceptance_rates
from zephyr_lab.decoding.drafting import Chain, Draft, Plan, Tree
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.speculative import GREEDY, SAMPLING, speculate
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.draft_scores import CANDIDATES, DRAWN, PROMPTS, TARGET, DraftLossless, DraftScores
from zephyr_lab.methods.recipes.draft_scores import GREEDY as GREEDY_RULE
from zephyr_lab.methods.stages.draft_data import TEST, TRAIN
from zephyr_lab.models import draft_files, saved
from zephyr_lab.models.enlarge import enlarge
from zephyr_lab.scoring.acceptance_length import expected_authors_terms, expected_passes
from zephyr_lab.scoring.samples import chi_square_p, total_variation


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

    Raises ValueError for a missing input, for prompts that leave no room for an answer, and where none is usable.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs[TARGET] / recipe.target_folder
    target, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    prompts = encode_prompts(tokenizer, read_prompts(recipe, inputs[PROMPTS]))
    answers = _target_answers(recipe, target, prompts, seed)
    slower = enlarge(target, layers=recipe.extra_layers) if recipe.timed else target
    tables = _Tables()
    metrics = {"prompts": float(len(prompts))}
    named = zip(recipe.drafts, recipe.inputs, recipe.folders, strict=True)
    for place, (name, role, own) in enumerate(named):
        if role not in inputs:
            raise ValueError(f"no input {role!r} for draft {name!r}; there are {', '.join(sorted(inputs))}")
        draft = draft_files.load(inputs[role] / own).to(device)
        metrics |= {f"{name}/tau_{rule}": tau for rule, tau in tables.exact(recipe, name, target, draft, answers)}
        asked = prompts[: recipe.loop_prompts]
        if asked:
            tables.loop(recipe, name, target, draft, asked, seed)
        if recipe.timed:
            tables.timed(recipe, name, slower, draft, asked, seed)
        context.progress(place + 1, len(recipe.drafts))
    files.write_json(out / "scores.json", tables.scores)
    if recipe.loop_prompts:
        files.write_json(out / "loop.json", tables.loops)
    if recipe.timed:
        files.write_json(out / "speed.json", {"timings": tables.timings, "costs": tables.costs})
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


@dataclass(frozen=True, slots=True)
class _Answers:
    """The target's answers by rule, prompt after prompt, sample after sample."""

    greedy: list[Answered]
    sampled: list[Answered]

    def of(self, rule: str) -> list[Answered]:
        return self.greedy if rule == GREEDY_RULE else self.sampled


def _target_answers(
    recipe: DraftScores, target: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int
) -> _Answers:
    def answered(temperature: float, number: int) -> list[Answered]:
        generator = torch.Generator().manual_seed(derive(seed, "answers", number)) if temperature else None
        found = sample(
            target, prompts, max_new_tokens=recipe.max_new_tokens, temperatures=temperature, generator=generator
        )
        return [Answered(tuple(prompt), own.ids) for prompt, own in zip(prompts, found, strict=True)]

    sampled = [answer for number in range(recipe.samples) for answer in answered(recipe.temperature, number)]
    return _Answers(answered(0.0, 0), sampled)


class _Tables:
    """Columns of the result's files, filled draft after draft."""

    def __init__(self) -> None:
        self.scores: dict[str, list[Any]] = {}
        self.loops: dict[str, list[Any]] = {}
        self.timings: dict[str, list[Any]] = {}
        self.costs: dict[str, list[Any]] = {}

    def exact(
        self, recipe: DraftScores, name: str, target: PreTrainedModel, draft: Draft, answers: _Answers
    ) -> list[tuple[str, float]]:
        """Add a draft's expected passes; its tau by rule at the first length."""
        taus = []
        for rule in (GREEDY_RULE, DRAWN, CANDIDATES):
            own = answers.of(rule)
            if not own:
                continue
            temperature = 0.0 if rule == GREEDY_RULE else recipe.temperature
            rates = acceptance_rates(
                target, draft, own, length=max(recipe.lengths), drawn=rule == DRAWN, temperature=temperature
            )
            prompts = len(answers.greedy)
            for length in recipe.lengths:
                values = rates.values[:, :, :length]
                passes = expected_passes(values, rates.lengths)
                terms = expected_authors_terms(values, rates.lengths)
                for row in range(len(own)):
                    _add(
                        self.scores,
                        draft=name, rule=rule, temperature=temperature, length=length, prompt=row % prompts,
                        sample=row // prompts, tokens=int(rates.lengths[row]), passes=float(passes[row]),
                        authors_sum=float(terms.ratios[row]), authors_kept=float(terms.kept[row]),
                    )  # fmt: skip
                if length == recipe.lengths[0]:
                    taus.append((rule, float(rates.lengths.sum() / passes.sum())))
        return taus

    def loop(
        self,
        recipe: DraftScores,
        name: str,
        target: PreTrainedModel,
        draft: Draft,
        prompts: Sequence[Sequence[int]],
        seed: int,
    ) -> None:
        """Add the passes that the decoding loop counts."""
        for rule, method, plan in _plans(recipe):
            verify, temperature, generator = _verification(recipe, rule, seed)
            found = speculate(
                target, draft, plan, prompts, max_new_tokens=recipe.max_new_tokens, verify=verify,
                temperature=temperature, generator=generator, rows_at_once=recipe.rows_at_once,
            )  # fmt: skip
            for number, answer in enumerate(found):
                _add(
                    self.loops,
                    draft=name, rule=rule, method=method, prompt=number, tokens=len(answer.ids), passes=answer.passes,
                )  # fmt: skip

    def timed(
        self,
        recipe: DraftScores,
        name: str,
        target: PreTrainedModel,
        draft: Draft,
        prompts: Sequence[Sequence[int]],
        seed: int,
    ) -> None:
        """Add wall and CPU time of plain and drafted decoding, and the costs of their steps."""
        methods: dict[str, Plan] = {}
        for rule, method, plan in _plans(recipe):
            verify, temperature, _ = _verification(recipe, rule, seed)
            for timing in speed.compare(
                target, draft, plan, prompts, max_new_tokens=recipe.max_new_tokens, verify=verify,
                temperature=temperature, seed=derive(seed, "speed"),
            ):  # fmt: skip
                _add(
                    self.timings,
                    draft=name, rule=rule, method=method, arm=timing.arm, order=timing.order, seconds=timing.seconds,
                    cpu_seconds=timing.cpu_seconds, tokens=timing.tokens,
                )  # fmt: skip
            methods[method] = plan
        typical = sorted(len(prompt) for prompt in prompts)[len(prompts) // 2]
        for method, plan in methods.items():
            costs = speed.step_costs(target, draft, nodes=plan.nodes, context=typical, cpu=target.device.type == "cpu")
            _add(
                self.costs,
                draft=name, method=method, target_pass=costs.target_pass, verifying_pass=costs.verifying_pass,
                draft_step=costs.draft_step, extra_layers=recipe.extra_layers,
            )  # fmt: skip


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


def _add(columns: dict[str, list[Any]], **row: Any) -> None:
    for name, value in row.items():
        columns.setdefault(name, []).append(value)


def build_lossless(
    recipe: DraftLossless, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Compare on the prompts of `inputs["prompts"]`, held-out ones first; `inputs`: target, draft.

    Each dialogue is asked its first question. Training questions count as well: nothing is learned from the answers,
    and to exclude that one in a thousand differs takes thousands of them.

    Writes sampled.json: columns prompt, place (of a token in its answer), variation (total variation of the tokens
    sampled there with and without the draft), variation_plain (of two runs without it), p (chi-square, with and
    without). Metrics: prompts, differing (greedy answers that are not the same), passes and tokens of the drafted
    greedy run.

    Raises ValueError for prompts that leave no room for an answer.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs["target"] / recipe.target_folder
    target, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    draft = draft_files.load(inputs["draft"] / recipe.draft_folder).to(device)
    dialogues = [one for split in (TEST, TRAIN) for one in dialogue_rows(inputs["prompts"], split).rows]
    prompts = encode_prompts(tokenizer, [first_question(dialogue) for dialogue in dialogues])
    prompts = prompts[: recipe.prompts] if recipe.prompts else prompts
    plain = sample(target, prompts, max_new_tokens=recipe.max_new_tokens, temperatures=0.0, generator=None)
    drafted = speculate(
        target, draft, Chain(recipe.length), prompts, max_new_tokens=recipe.max_new_tokens, verify=GREEDY,
        temperature=0.0, generator=None, rows_at_once=128,
    )  # fmt: skip
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


def sampled(
    recipe: DraftLossless, target: PreTrainedModel, draft: Draft, prompts: Sequence[Sequence[int]], *, seed: int
) -> dict[str, list[Any]]:
    """Sampled tokens compared, a row a prompt and place: without the draft twice, and with it, drawn chains verified.

    An answer that ended before a place counts there as a value of its own.
    """
    asked = prompts[: recipe.sampled_prompts]
    repeated = [prompt for prompt in asked for _ in range(recipe.samples)]
    runs = [
        sample(
            target, repeated, max_new_tokens=recipe.sampled_tokens, temperatures=recipe.temperature,
            generator=_generator(seed, name),
        )
        for name in ("plain", "plain again")
    ]  # fmt: skip
    drafted = speculate(
        target, draft, Chain(recipe.length, drawn=True), repeated, max_new_tokens=recipe.sampled_tokens,
        verify=SAMPLING, temperature=recipe.temperature, generator=_generator(seed, "drafted"), rows_at_once=128,
    )  # fmt: skip
    columns: dict[str, list[Any]] = {"prompt": [], "place": [], "variation": [], "variation_plain": [], "p": []}
    for prompt in range(len(asked)):
        own = slice(prompt * recipe.samples, (prompt + 1) * recipe.samples)
        for place in range(recipe.sampled_tokens):
            first, second, third = ([_at(answer.ids, place) for answer in run[own]] for run in (*runs, drafted))
            columns["prompt"].append(prompt)
            columns["place"].append(place)
            columns["variation"].append(total_variation(third, first))
            columns["variation_plain"].append(total_variation(second, first))
            columns["p"].append(chi_square_p(third, first))
    return columns


def _at(ids: Sequence[int], place: int) -> int | None:
    return ids[place] if place < len(ids) else None


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, "lossless", name))
