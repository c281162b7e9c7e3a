"""The data of KD and DAE from the embedded world: quality-assured dialogues, mixtures with a domain flag, domain pairs.

Files and layouts are those of `world_data`; rows of a mixture have a column "is_domain" more. No model and no torch.
"""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.row_types import Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.filters import named_rules, run_rules
from zephyr_lab.data.filters_casing import learn_forms
from zephyr_lab.data.layouts import dialogue_row, prompt_id
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.methods.recipes.kd_data import DomainPairs, MixedDialogues, QualityDialogues
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world import completions, defects, dialogues
from zephyr_lab.world.generators import Procedural
from zephyr_lab.world.judge import RubricJudge
from zephyr_lab.world.ratings import Rater
from zephyr_lab.world.task import Turn

TRAIN, TEST = "train", "test"
MOST_DRAWS = 50


def build_quality(
    recipe: QualityDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write exactly `rows` and `held_out` dialogues that pass the filters and the judge, with quality.json.

    Metrics, of training: drawn, filtered (left by the rules), kept (used, of those above the threshold), mean_drawn and
    mean_kept (the exact judge's mean scores). Raises ValueError where fifty times as many draws are not enough.
    """
    del inputs, context
    counts = {}
    for split, wanted in ((TRAIN, recipe.rows), (TEST, recipe.held_out)):
        kept, counts[split] = _assured(recipe, wanted, derive(seed, "quality", split))
        _write(out / f"{split}.jsonl", kept)
    files.write_json(out / "quality.json", counts)
    return counts[TRAIN]


def build_mixed(
    recipe: MixedDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write general and domain dialogues in random order, each row with "is_domain".

    Metrics: rows and domain_rows of training: the share is exact, not drawn.
    """
    del inputs, context
    metrics = {}
    for split, count in ((TRAIN, recipe.rows), (TEST, recipe.held_out)):
        domain = round(count * recipe.domain_share)
        rows = [
            {**row, "is_domain": is_domain}
            for is_domain, number, noise in ((False, count - domain, recipe.noise), (True, domain, recipe.domain_noise))
            for row in dialogues.dialogues(
                derive(seed, "mixed", split, int(is_domain)),
                number,
                noise=_noise(noise),
                domain_share=float(is_domain),
                size=require_world(recipe.world),
            ).rows
        ]
        random.Random(derive(seed, "mixed order", split)).shuffle(rows)
        _write(out / f"{split}.jsonl", rows)
        metrics[split] = {"rows": float(count), "domain_rows": float(domain)}
    return metrics[TRAIN]


def build_pairs(
    recipe: DomainPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write preference pairs of the world, mostly of the domain, in H4's layout. Metrics: prompts, pairs, held_out.

    Test pairs are on prompts that training lacks. Raises ValueError where the world has too few.
    """
    del inputs, context
    train = _pairs(recipe, recipe.prompts, derive(seed, "domain pairs", TRAIN))
    seen = {row["prompt_id"] for row in train}
    test: list[dict[str, Any]] = []
    for draw in range(MOST_DRAWS):
        fresh = _pairs(recipe, recipe.held_out, derive(seed, "domain pairs", TEST, draw))
        test += [row for row in fresh if row["prompt_id"] not in seen]
        if len(test) >= recipe.held_out:
            break
    else:
        raise ValueError(f"the {recipe.world} world has no {recipe.held_out} prompts beyond those of training")
    _write(out / f"{TRAIN}.jsonl", train)
    _write(out / f"{TEST}.jsonl", test[: recipe.held_out])
    return {"prompts": float(recipe.prompts), "pairs": float(len(train)), "held_out": float(recipe.held_out)}


def _assured(recipe: QualityDialogues, wanted: int, seed: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """`wanted` rows that pass, and the counts; draws as many again until there are enough."""
    judge = RubricJudge(noise_sd=recipe.judge_sd, seed=derive(seed, "judge"))
    kept: list[dict[str, Any]] = []
    passed: list[float] = []
    exact: list[float] = []
    filtered = 0
    for draw in range(MOST_DRAWS):
        made = dialogues.dialogues(
            derive(seed, draw),
            wanted,
            noise=_noise(recipe.noise),
            duplicates=recipe.duplicates,
            size=require_world(recipe.world),
        )
        exact += [
            _mean_score(RubricJudge(), turns, row["data"]) for row, turns in zip(made.rows, made.turns, strict=True)
        ]
        for number, row in _ruled(made.rows, recipe.filters):
            filtered += 1
            if _mean_score(judge, made.turns[number], row["data"]) >= recipe.least_score:
                kept.append(row)
                passed.append(_mean_score(RubricJudge(), made.turns[number], row["data"]))
        if len(kept) >= wanted:
            return kept[:wanted], {
                "drawn": float(len(exact)),
                "filtered": float(filtered),
                "kept": float(wanted),
                "mean_drawn": sum(exact) / len(exact),
                "mean_kept": sum(passed[:wanted]) / wanted,
            }
    raise ValueError(
        f"only {len(kept)} of {len(exact)} dialogues pass the filters and least_score {recipe.least_score}; "
        f"{wanted} are asked for: lower least_score or rows"
    )


def _ruled(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Iterable[tuple[int, dict[str, Any]]]:
    """(place, repaired row) of those that the named filters keep."""
    read = [schemas.dialogue(Row(number, row)) for number, row in enumerate(rows)]
    forms = learn_forms(text for dialogue in read for _, text in dialogue.answers())
    for verdict in run_rules(read, named_rules(names, forms=forms) if names else []):
        if verdict.kept:
            yield verdict.dialogue.row.number, dialogue_row(verdict.dialogue, verdict.texts)


def _mean_score(judge: RubricJudge, turns: Sequence[Turn], texts: Sequence[str]) -> float:
    verdicts = judge.score(turns, texts[1::2])
    return sum(verdict.score for verdict in verdicts) / len(verdicts)


def _pairs(recipe: DomainPairs, prompts: int, seed: int) -> list[dict[str, Any]]:
    made = completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, _noise(name)) for name in recipe.writers],
        rater=Rater(overall_sd=recipe.rating_sd, aspect_sd=recipe.aspect_sd),
        domain_share=recipe.domain_share,
        size=require_world(recipe.world),
    )
    read = [schemas.scored_prompt(Row(number, row)) for number, row in enumerate(made.rows)]
    # The world's annotator mistypes no score: a 10 beside low ratings is its noise.
    how = Binarisation(chosen=recipe.chosen, rejected=recipe.rejected, raw_scores=True)
    outcomes = binarise(read, how, seed=derive(seed, "binarise"))
    return [_pair_row(one, made) for one in outcomes if isinstance(one, Pair)]


def _pair_row(pair: Pair, made: completions.Completions) -> dict[str, Any]:
    prompt = made.prompts[pair.prompt.row.number]
    sides = {
        side: [*prompt.messages, {"role": "assistant", "content": pair.prompt.completions[place].response}]
        for side, place in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    text = "\n".join(message["content"] for message in prompt.messages)
    return {"prompt": prompt.turn.prompt, "prompt_id": prompt_id(text), **sides, "messages": sides["chosen"]}


def _noise(name: str) -> defects.Noise:
    return getattr(defects, name.upper())


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
