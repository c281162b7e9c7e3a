"""The data of KD and DAE as stages: from the embedded world, from public sets, and from a folder.

Files and layouts are those of `world_data`; rows of a mixture have a column "is_domain" more. No model and no torch.
"""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.core.rows import BadColumn, Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import public_sets, schemas
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.filters import named_rules, run_rules
from zephyr_lab.data.filters_answers import learn_forms
from zephyr_lab.data.hub import Hub
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.data.schemas import Dialogue, dialogue_row, message_list, prompt_id
from zephyr_lab.data.sources import Folder, usable
from zephyr_lab.data.splits import TEST, TRAIN, preference, row_messages, stage_rows
from zephyr_lab.methods.recipes import kd_data as recipes
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world import answers, completions, dialogues
from zephyr_lab.world.completions import Procedural
from zephyr_lab.world.judge import RubricJudge
from zephyr_lab.world.ratings import Rater
from zephyr_lab.world.task import Turn

MOST_DRAWS = 50
Rows = list[dict[str, Any]]


def build_quality(
    recipe: recipes.QualityDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write exactly `rows` and `held_out` dialogues that pass the filters and the judge, with quality.json.

    Metrics, of training: drawn, filtered (left by the rules), kept (used, of those above the threshold), mean_drawn and
    mean_kept (the exact judge's mean scores). Raises ValueError where fifty times as many draws are not enough.
    """
    counts = {}
    for split, wanted in ((TRAIN, recipe.rows), (TEST, recipe.held_out)):
        kept, counts[split] = _assured(recipe, wanted, derive(seed, "quality", split))
        write_rows(out / f"{split}.jsonl", kept)
    files.write_json(out / "quality.json", counts)
    return counts[TRAIN]


def _assured(recipe: recipes.QualityDialogues, wanted: int, seed: int) -> tuple[Rows, dict[str, float]]:
    """`wanted` rows that pass, and the counts; draws as many again until there are enough."""
    judge, exact_judge = RubricJudge(noise_sd=recipe.judge_sd, seed=derive(seed, "judge")), RubricJudge()
    kept: Rows = []
    passed: list[float] = []
    exact: list[float] = []
    filtered = 0
    for draw in range(MOST_DRAWS):
        drawn = dialogues.dialogues(
            derive(seed, draw),
            wanted,
            noise=_noise(recipe.noise),
            duplicates=recipe.duplicates,
            size=require_world(recipe.world),
        )
        own = zip(drawn.rows, drawn.turns, strict=True)
        exact += [_mean_score(exact_judge, turns, row["data"]) for row, turns in own]
        for number, row in _ruled(drawn.rows, recipe.filters):
            filtered += 1
            if _mean_score(judge, drawn.turns[number], row["data"]) >= recipe.least_score:
                kept.append(row)
                passed.append(_mean_score(exact_judge, drawn.turns[number], row["data"]))
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


def _ruled(rows: Rows, names: Sequence[str]) -> Iterable[tuple[int, dict[str, Any]]]:
    """(number, repaired row) of those that the named filters keep."""
    read = [schemas.dialogue(Row(number, row)) for number, row in enumerate(rows)]
    forms = learn_forms(text for dialogue in read for _, text in dialogue.answers())
    for verdict in run_rules(read, named_rules(names, forms=forms) if names else []):
        if verdict.kept:
            yield verdict.dialogue.row.number, dialogue_row(verdict.dialogue, verdict.texts)


def _mean_score(judge: RubricJudge, turns: Sequence[Turn], texts: Sequence[str]) -> float:
    verdicts = judge.score(turns, texts[1::2])
    return sum(verdict.score for verdict in verdicts) / len(verdicts)


def build_mixed(
    recipe: recipes.MixedDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write general and domain dialogues of the world in random order, each row with "is_domain".

    Metrics: rows and domain_rows of training: the share is exact, not drawn.
    """
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
        write_rows(out / f"{split}.jsonl", rows)
        metrics[split] = {"rows": float(count), "domain_rows": float(domain)}
    return metrics[TRAIN]


def build_pairs(
    recipe: recipes.DomainPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write preference pairs of the world, mostly of the domain, in H4's layout. Metrics: prompts, pairs, held_out.

    Test pairs are on prompts that training lacks. Raises ValueError where the world has too few.
    """
    train = _pairs(recipe, recipe.prompts, derive(seed, "domain pairs", TRAIN))
    seen = {row["prompt_id"] for row in train}
    test: Rows = []
    for draw in range(MOST_DRAWS):
        fresh = _pairs(recipe, recipe.held_out, derive(seed, "domain pairs", TEST, draw))
        test += [row for row in fresh if row["prompt_id"] not in seen]
        if len(test) >= recipe.held_out:
            break
    else:
        raise ValueError(f"the {recipe.world} world has no {recipe.held_out} prompts beyond those of training")
    write_rows(out / f"{TRAIN}.jsonl", train)
    write_rows(out / f"{TEST}.jsonl", test[: recipe.held_out])
    return {"prompts": float(recipe.prompts), "pairs": float(len(train)), "held_out": float(recipe.held_out)}


def _pairs(recipe: recipes.DomainPairs, prompts: int, seed: int) -> Rows:
    drawn = completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, _noise(name)) for name in recipe.writers],
        rater=Rater(overall_sd=recipe.rating_sd, aspect_sd=recipe.aspect_sd),
        domain_share=recipe.domain_share,
        size=require_world(recipe.world),
    )
    read = [schemas.scored_prompt(Row(number, row)) for number, row in enumerate(drawn.rows)]
    # The world's annotator mistypes no score: a 10 beside low ratings is its noise.
    how = Binarisation(chosen=recipe.chosen, rejected=recipe.rejected, raw_scores=True)
    rows = []
    for pair in binarise(read, how, seed=derive(seed, "binarise")):
        if isinstance(pair, Pair):
            prompt = drawn.prompts[pair.prompt.row.number]
            chosen, rejected = (pair.prompt.completions[place].response for place in (pair.chosen, pair.rejected))
            rows.append(_pair_row(prompt.turn.prompt, prompt.messages, chosen, rejected))
    return rows


def _pair_row(question: str, prompt: Sequence[dict[str, str]], chosen: str, rejected: str) -> dict[str, Any]:
    """A row of H4's layout; `prompt`: the messages up to the question."""
    sides = {
        side: [*prompt, {"role": "assistant", "content": answer}]
        for side, answer in (("chosen", chosen), ("rejected", rejected))
    }
    text = "\n".join(message["content"] for message in prompt)
    return {"prompt": question, "prompt_id": prompt_id(text), **sides, "messages": sides["chosen"]}


def _noise(name: str) -> answers.Noise:
    return getattr(answers, name.upper())


def build_public(
    recipe: recipes.PublicMix, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write rows of the public sets in random order, each with its "source".

    Metrics: rows, unusable, and rows_<set>. Raises OSError where the hub cannot be reached, ValueError for an unknown
    set or one without a usable row.
    """
    rows: Rows = []
    unusable = 0
    for name, count in zip(recipe.sets, recipe.rows, strict=True):
        known = public_sets.named(name)
        good, bad = usable(Hub(known.id, config=known.config), known.split, known.dialogue)
        drawn = random.Random(derive(seed, "public", name)).sample(good, min(count, len(good)))
        rows += [{"messages": message_list(dialogue.messages), "source": name} for dialogue in drawn]
        unusable += len(bad)
    random.Random(derive(seed, "public order")).shuffle(rows)
    if len(rows) <= recipe.held_out:
        raise ValueError(f"the sets gave {len(rows)} rows, none beyond the {recipe.held_out} held out")
    train = rows[recipe.held_out :]
    write_rows(out / f"{TEST}.jsonl", rows[: recipe.held_out])
    write_rows(out / f"{TRAIN}.jsonl", train)
    shares = {f"rows_{name}": float(sum(row["source"] == name for row in train)) for name in recipe.sets}
    return {"rows": float(len(train)), "unusable": float(unusable), **shares}


def build_folder_mix(
    recipe: recipes.FolderMix, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write domain rows of the recipe's folder and general rows of `inputs["general"]`, each with "is_domain".

    The share is exact. Metrics, of training: rows, domain_rows, and domain_<kind> for each task kind; unusable rows of
    the folder. Raises FileNotFoundError where the folder is missing, ValueError where it, or the general data, has too
    few rows of the asked kinds.
    """
    folder = domain_folder(recipe.folder)
    metrics: dict[str, dict[str, float]] = {}
    for split, count in ((TRAIN, recipe.rows), (TEST, recipe.held_out)):
        wanted = round(count * recipe.domain_share)
        domain, unusable = _domain_rows(folder, split, recipe.kinds) if wanted else ([], 0)
        general = (
            []
            if count == wanted
            else [{"messages": _turns(row), "is_domain": False} for row in stage_rows(inputs["general"], split)]
        )
        rng = random.Random(derive(seed, "mix", split))
        rows = [
            *_drawn(rng, domain, wanted, f"domain rows of {', '.join(recipe.kinds)} in {recipe.folder}"),
            *_drawn(rng, general, count - wanted, "general rows"),
        ]
        rng.shuffle(rows)
        write_rows(out / f"{split}.jsonl", rows)
        kinds = {f"domain_{kind}": float(sum(row.get("kind") == kind for row in rows)) for kind in recipe.kinds}
        metrics[split] = {"rows": float(count), "domain_rows": float(wanted), "unusable": float(unusable), **kinds}
    return metrics[TRAIN]


def build_folder_pairs(
    recipe: recipes.FolderPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write the preference pairs of the recipe's folder, split by the seed. Metrics: pairs, held_out, unusable.

    Rows are of H4's layout: chosen and rejected messages. No prompt is in both splits. Raises as `build_folder_mix`.
    """
    pairs, bad = usable(Folder(domain_folder(recipe.folder)), TRAIN, preference)
    random.Random(derive(seed, "pairs")).shuffle(pairs)
    rows = [_pair_row(one.prompt[-1]["content"], one.prompt, one.chosen, one.rejected) for one in pairs]
    held_out = rows[: recipe.held_out]
    asked = {row["prompt_id"] for row in held_out}
    train = [row for row in rows[recipe.held_out :] if row["prompt_id"] not in asked]
    if not train:
        raise ValueError(f"{recipe.folder} gave {len(rows)} pairs, none beyond the {recipe.held_out} held out")
    write_rows(out / f"{TRAIN}.jsonl", train)
    write_rows(out / f"{TEST}.jsonl", held_out)
    return {"pairs": float(len(train)), "held_out": float(len(held_out)), "unusable": float(len(bad))}


def _turns(row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"content": turn["content"], "role": turn["role"]} for turn in row_messages(row)]


def domain_folder(name: str) -> Path:
    """The folder of domain data below the data folder. Raises FileNotFoundError, saying what to put where."""
    data = paths.data_dir()
    folder = None if data is None else data / name
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {name!r} of domain data; set ZEPHYR_LAB_DATA to a folder that holds it, with train.jsonl and "
            'test.jsonl of {"messages": [...], "kind": "extraction", "reasoning", "qna" or "summary"}'
        )
    return folder


def _domain_rows(folder: Path, split: str, kinds: Sequence[str]) -> tuple[Rows, int]:
    """Domain rows of the kinds, and how many rows of the folder are unusable."""

    def read(row: Row) -> tuple[str, Dialogue]:
        kind = row.data.get("kind")
        if kind not in kinds:
            raise BadColumn("kind", f"must be one of {', '.join(kinds)}, got {kind!r}")
        return kind, schemas.dialogue(row)

    good, bad = usable(Folder(folder), split, read)
    rows = [{"messages": message_list(one.messages), "kind": kind, "is_domain": True} for kind, one in good]
    return rows, len(bad)


def _drawn(rng: random.Random, rows: Rows, count: int, kind: str) -> Rows:
    if len(rows) < count:
        raise ValueError(f"{count} {kind} are asked for, but there are {len(rows)}: lower rows or domain_share")
    return rng.sample(rows, count)
