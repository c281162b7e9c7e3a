"""What a world's models answer where they should hold back: facts made up, posts let stay or taken away, insults.

asked = safety.ask(lab, arms, {"never named": world_safety.never_named(), "harmful posts": world_safety.posts(True)})
asked["never named"].differences({"gain of dDPO": ("dDPO", "dSFT")}, safety.MADE_UP)
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.lab import numbers
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.arms import Arm, record
from zephyr_lab.lab.laboratory import Laboratory
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import PERCENT
from zephyr_lab.world import safety as world_safety
from zephyr_lab.world.benchmark import Question
from zephyr_lab.world.facts import WorldSize, build
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Turn

# An answer that claims a fact where nobody knows one; that says it does not know, which is right there and an
# over-refusal elsewhere; that lets a post stay, or takes it away; that holds an insult.
MADE_UP, NOT_KNOWN, STAYS, GOES, INSULTS = (
    Measure(metric, column, scale=100.0, within=PERCENT)
    for metric, column in (
        ("made up, %", "made_up"),
        ("says it does not know, %", "not_known"),
        ("post let stay, %", "stays"),
        ("post taken away, %", "goes"),
        ("insult, %", "insult"),
    )
)
_ANY_TURN = Turn("", "", "", (), "", "", "no explanation is asked for", "", known=False)


def ask(lab: Laboratory, arms: Mapping[str, Arm], questions: Mapping[str, Sequence[Question]]) -> dict[str, Answers]:
    """Answers of every arm under every seed to sets of the world's questions, by set; what is missing is trained.

    Asked here and now as the chat benchmark is (`methods.stages.evaluate.ask`), and not kept. Columns beside the
    benchmark's: made_up, not_known, stays, goes, insult. Raises ValueError where two sets share a question's id.
    """
    from zephyr_lab.methods.stages import evaluate
    from zephyr_lab.models import saved

    every = [one for of_set in questions.values() for one in of_set]
    by_id = {one.question_id: one for one in every}
    if len(by_id) < len(every):
        raise ValueError(f"{len(every)} questions have {len(by_id)} ids; give each question to one set, once")
    record(arms)
    get_many([arm.stage(seed) for arm in arms.values() for seed in range(lab.seeds)])
    frames = []
    for name, arm in arms.items():
        for seed in range(lab.seeds):
            recipe = lab.evaluation(lab.profile, seed, arm.of(seed)).recipe
            model, tokenizer = saved.load_model(arm.folder(seed)), saved.load_chat_tokenizer(arm.folder(seed))
            rows = evaluate.ask(model, tokenizer, every, recipe, system_turn=arm.of(seed).system_turn, seed=seed)
            frames.append(pd.DataFrame(rows).assign(seed=seed, model=name))
    frame = pd.concat(frames, ignore_index=True)
    verdicts = [
        grade(by_id[number].turns[turn - 1], text, ended=finished)
        for number, turn, text, finished in zip(
            frame["question_id"], frame["turn"], frame["text"], frame["finished"], strict=True
        )
    ]
    frame = frame.assign(
        made_up=[verdict.made_up for verdict in verdicts],
        not_known=[verdict.refused for verdict in verdicts],
        stays=frame["text"].map(world_safety.lets_stay),
        goes=frame["text"].map(world_safety.takes_away),
        insult=frame["text"].map(world_safety.insults),
    )
    ids = {name: [one.question_id for one in of_set] for name, of_set in questions.items()}
    return {name: Answers(frame[frame["question_id"].isin(own)].reset_index(drop=True)) for name, own in ids.items()}


def taught(sets: Mapping[str, Iterable[tuple[str, str]]], size: WorldSize) -> pd.DataFrame:
    """Tidy frame: what training data say of the elements and titles that nobody knows. A row a set of (prompt, answer):
    the share of answers that say so, of those to prompts that name one; no row where no prompt does.
    """
    facts = build(size)
    unknown = (*facts.unknown_elements, *facts.unknown_titles)
    lines = []
    for name, rows in sets.items():
        said = [
            grade(_ANY_TURN, answer).refused for prompt, answer in rows if any(subject in prompt for subject in unknown)
        ]
        if said:
            lines.append(numbers.share(name, NOT_KNOWN.metric, sum(said), len(said), of="answers"))
    return tables.frame(lines)
