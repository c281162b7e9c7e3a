"""The words of Efficiently Aligning Draft Models: targets, drafts, and how to adapt them.

Lin et al. 2026, arXiv 2603.09527.

lab = Lab("eda", profile, seeds)
chat, math = lab.target("chat"), lab.target("math")
draft = lab.draft(chat, lab.original("chat"))                  # made for the chat target
own = lab.regenerated(math, lab.pool("math"))                  # the math target's own answers
drafts = lab.adapt(draft, math, {
    "Full-FT": lab.part("all", own),
    "EDA": lab.part("private_and_fc", own, start="fresh_private"),
})
answers = lab.accept({"old": draft.beside(math), **drafts})    # trains what is missing, then measures tau
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.own_code import captured
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.arms import Arm, Rows, record
from zephyr_lab.lab.eda import stages
from zephyr_lab.lab.eda.acceptance_lengths import AcceptanceLengths
from zephyr_lab.lab.eda.draft_costs import Speed
from zephyr_lab.lab.eda.drafts import Draft, ScoredRows, Target, prompts_of
from zephyr_lab.lab.eda.same_answers import SameAnswers
from zephyr_lab.lab.eda.stages import Part
from zephyr_lab.lab.laboratory import Laboratory, given
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.methods.recipes.draft_data import RULES, SHIFT_TOP

Rule = Callable[[float, float], float]


@dataclass(frozen=True, kw_only=True)
class DraftArms:
    """Arms of a profile. lora_rank: of the arm LoRA (the paper's is unknown); matched_rank: where LoRA trains as many
    parameters as EDA. share: selected in the main arms; shares: of the selection study; ranks: of the curve over
    trained parameters.
    """

    lora_rank: int
    matched_rank: int
    share: float
    shares: tuple[float, ...]
    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.share not in self.shares:
            raise ValueError(f"shares must hold the main arms' share {self.share}, got {self.shares}")


@dataclass(frozen=True, kw_only=True)
class CloseLook:
    """Where a draft is looked at closely: fields of `DraftScores`. lengths: drafted tokens of a pass, the main one
    first. loop_prompts: how many prompts the decoding loop answers; tree_...: the widths of a tree beside the chain."""

    lengths: tuple[int, ...]
    loop_prompts: int
    tree_top: int
    tree_depth: int
    tree_nodes: int


class EDALab(Laboratory):
    """A laboratory with these words beside those of `Lab`."""

    def targets(self) -> tuple[str, ...]:
        """The tuned targets of the profile by name: "math", "code", "clinic", and "dDPO" where a draft of the chat
        target fits the dDPO model."""
        return stages.targets(self.profile)

    def target(self, name: str) -> Target:
        """The chat model ("chat"), a specialist fine-tuned from it ("math", "code", "clinic"), or the dDPO model
        ("dDPO"); in hub profiles the models of [targets]. Any arm of this laboratory can be a target too."""
        of = cache(lambda seed: stages.target(self.profile, seed, name))
        of(0)
        return Target("target", self.profile, self.seeds, of, {"name": name}, name=name)

    def pool(self, name: str) -> Rows:
        """The prompts of a target's domain, most of them general ones, with a data set's answers; its held-out prompts
        are those that drafts are measured on."""
        return self._dialogues(lambda seed: stages.pool(self.profile, seed, name), {"pool": name})

    def original(self, name: str) -> Rows:
        """Dialogues with a data set's answers: the pool's; for the chat target those of its dSFT; in hub profiles
        general conversations, as in the paper."""
        return self._dialogues(lambda seed: stages.original(self.profile, seed, name), {"original": name})

    def regenerated(self, target: Arm, pool: Rows, **changes: Any) -> Rows:
        """The dialogues of a pool answered by the target itself; `changes`: fields of `Regeneration`."""
        self._require(target, pool)
        changes = given(**changes)

        def of(seed: int) -> Stage:
            return stages.regenerated(self.profile, seed, target=target.of(seed), data=pool.stage(seed), **changes)

        return self._dialogues(of, {"answers": "the target's own", **changes})

    def scored(self, rows: Rows, *, base: Arm, target: Arm, draft: Draft) -> ScoredRows:
        """What rows can be selected by: how far `target` moved from `base` on each (the Mahalanobis length of the
        features' shift, the mean over answer tokens), and the loss of `draft` on it beside `target`."""
        self._require(rows, base, target, draft)

        @cache
        def of(seed: int) -> Stage:
            models = {"base": base.of(seed), "target": target.of(seed), "draft": draft.of(seed)}
            return stages.row_scores(self.profile, data=rows.stage(seed), **models)

        return ScoredRows("scores", self.profile, self.seeds, of, rows.changes, data=rows)

    def selected(self, scored: ScoredRows, *, by: str | Rule, share: float) -> Rows:
        """A share of rows: those of largest shift ("shift_top"), of smallest ("shift_bottom"), of largest loss
        ("loss_top"), or "random".

        by: or a function of your own, of a row's (shift, loss), that gives its score: rows of the highest scores are
        kept. Written in a cell, it travels to the workers by its source, and it and the values that it uses are part of
        the result's key. Raises ValueError for an unknown rule and a share outside 0 to 1.
        """
        self._require(scored)
        if isinstance(by, str) and by not in RULES:
            raise ValueError(f"by must be one of {', '.join(RULES)}, or a function of (shift, loss), got {by!r}")
        rule, own = (by, None) if isinstance(by, str) else (SHIFT_TOP, captured(by))

        def of(seed: int) -> Stage:
            scores = scored.stage(seed) if own is None else stages.own_scores(scored.stage(seed), own)
            return stages.selected(seed, data=scored.data.stage(seed), scores=scores, rule=rule, share=share)

        named = by if isinstance(by, str) else by.__name__
        return self._dialogues(of, {**scored.changes, "selected by": named, "share": share})

    def draft(self, target: Arm, dialogues: Rows, *, prompts: str | None = None, **changes: Any) -> Draft:
        """A draft made for `target` from nothing (stage 1): it learns to guess, from the target's features on these
        dialogues, what the target says next. `changes`: fields of `DraftRecipe`, e.g. token_weight=0.0.

        prompts: whose held-out prompts it is asked; by default the target's.
        """
        parts = {stages.STAGE_1: self.part("all", dialogues, start="new")}
        (draft,) = self._trained_drafts(None, target, parts, prompts, changes).values()
        return replace(draft, changes=given(**changes))

    def part(self, part: str, data: Rows, *, start: str = "draft", rank: int = 0) -> Part:
        """One way to adapt a draft, an arm of `adapt`: what trains, and on which dialogues.

        part: "all"; "lora", adapters of `rank` on every linear map; "private", the private expert; "private_and_fc",
        also the input map (EDA's); "fc", that alone; "none": the draft as it is, which reads no data. start: "draft",
        all weights of the old draft; "fresh_private", those, but the private expert at random again (EDA's); "new",
        random weights.
        """
        self._require(data)
        return Part(part, data, start, rank)

    def adapt(
        self, draft: Draft, target: Arm, parts: Mapping[str, Part], *, prompts: str | None = None, **changes: Any
    ) -> dict[str, Draft]:
        """`draft` adapted to `target` in several ways, an arm each, for the same number of steps.

        The arms of one call are trained by one worker, which computes the target's features once; an arm of your own
        trains alone in a call of its own. `changes`: fields of `DraftRecipe` for all of them, e.g. steps=100,
        keep_at=(). prompts: whose held-out prompts they are asked; by default the target's.
        """
        self._require(draft)
        return self._trained_drafts(draft, target, parts, prompts, changes)

    def accept(self, *arms: Mapping[str, Draft], **changes: Any) -> AcceptanceLengths:
        """Measure under every seed how much of what each draft proposes its target accepts; train what is missing.

        Each target answers its held-out prompts once, greedily and by drawing, and all drafts beside it are measured on
        those answers; what is measured of a draft depends on no other. Drafts of one mapping beside one target share a
        worker: ask an arm of your own in a mapping of its own. `changes`: fields of `DraftScores`, e.g. lengths=(4,).
        """
        asked = [one for drafts in arms for one in self._asked(drafts)]
        changes = given(**changes)
        measured = [self._measured(one, stages.scores, **changes) for one in asked]
        get_many([stage for of_one in measured for stage in of_one])
        for drafts in arms:
            record(drafts)
        answers = AcceptanceLengths(pd.DataFrame(columns=["model", "prompts"]))
        for one, of_one in zip(asked, measured, strict=True):
            answers |= AcceptanceLengths(*(one.named(_read(of_one, file)) for file in ("scores", "loop")))
        return answers

    def speed(self, drafts: Mapping[str, Draft]) -> Speed:
        """Time decoding with each draft and without, on few prompts and a target enlarged by layers that add nothing.

        Raises ValueError unless all are beside one target.
        """
        asked = self._asked(drafts)
        if len(asked) != 1:
            raise ValueError(f"drafts are timed beside one target on its prompts, got {len(asked)}")
        measured = self._measured(asked[0], stages.timed)
        written = [files.read_json(folder / "speed.json") for folder in get_many(measured)]
        timings, costs = (asked[0].named(_by_seed(one[key] for one in written)) for key in ("timings", "costs"))
        return Speed(timings, costs, "cpu_seconds" if measured[0].recipe.device == "cpu" else "seconds")

    def same_answers(self, drafts: Mapping[str, Draft]) -> SameAnswers:
        """What each draft's target answers with the draft and without, greedily and by drawing."""
        measured = {
            name: self._measured(one, stages.lossless)
            for name, draft in drafts.items()
            for one in self._asked({name: draft})
        }
        get_many([stage for of_one in measured.values() for stage in of_one])
        counts = [
            {"seed": seed, "model": name, **metrics(stage)}
            for name, of_one in measured.items()
            for seed, stage in enumerate(of_one)
        ]
        sampled = [_read(of_one, "sampled").assign(model=name) for name, of_one in measured.items()]
        return SameAnswers(pd.DataFrame(counts), pd.concat(sampled, ignore_index=True))

    def _dialogues(self, of: Callable[[int], Stage], changes: Mapping[str, Any]) -> Rows:
        return self._rows("dialogues", cache(of), changes)

    def _trained_drafts(
        self,
        draft: Draft | None,
        target: Arm,
        parts: Mapping[str, Part],
        prompts: str | None,
        changes: Mapping[str, Any],
    ) -> dict[str, Draft]:
        """Drafts that one worker trains for `target`: from `draft`, or new ones."""
        self._require(target)
        changes, asked = given(**changes), prompts_of(target, prompts)

        @cache
        def trained(seed: int) -> Stage:
            old = draft and draft.of(seed)
            return stages.trained(self.profile, seed, parts, target=target.of(seed), draft=old, **changes)

        def arm(name: str, part: Part) -> Draft:
            of = cache(lambda seed: Model(trained(seed), name))
            of(0)  # an unknown setting is named here, not when the drafts are asked
            shown = {"part": part.part, "start": part.start, **given(rank=part.rank or None)}
            return Draft("draft", self.profile, self.seeds, of, shown, target=target, prompts=asked, name=name)

        return {name: arm(name, part) for name, part in parts.items()}

    def _measured(self, asked: "_Asked", make: Callable[..., Stage], **changes: Any) -> list[Stage]:
        return [asked.stage(make, self.profile, seed, **changes) for seed in range(self.seeds)]

    def _asked(self, drafts: Mapping[str, Draft]) -> list["_Asked"]:
        """The drafts by the target and the prompts that they are asked with."""
        self._require(*drafts.values(), *(draft.target for draft in drafts.values()))
        asked: list[_Asked] = []
        for name, draft in drafts.items():
            if not any(one.fits(draft) for one in asked):
                asked.append(_Asked(draft.target, draft.prompts, {}))
            next(one for one in asked if one.fits(draft)).add(name, draft)
        return asked


@dataclass(frozen=True)
class _Asked:
    """Drafts, by row, that one worker measures beside one target on one target's held-out prompts."""

    target: Arm
    prompts: str
    drafts: dict[str, Draft]

    def fits(self, draft: Draft) -> bool:
        """Whether the draft is asked beside this target on these prompts."""
        return (draft.target.of(0), draft.prompts) == (self.target.of(0), self.prompts)

    def add(self, name: str, draft: Draft) -> None:
        """Take one more. Raises ValueError for a second of the same label, which the stage could not tell apart."""
        if draft.label in self._labels():
            raise ValueError(
                f"two drafts were called {draft.label!r} when they were trained; ask {name!r} in a mapping of its own"
            )
        self.drafts[name] = draft

    def stage(self, make: Callable[..., Stage], profile: str, seed: int, **changes: Any) -> Stage:
        """The stage that measures them: `stages.scores`, `timed` or `lossless`."""
        drafts = {draft.label: draft.of(seed) for draft in self.drafts.values()}
        asked = stages.pool(profile, seed, self.prompts)
        return make(profile, seed, drafts, target=self.target.of(seed), asked=asked, **changes)

    def named(self, measured: pd.DataFrame) -> pd.DataFrame:
        """What a stage wrote, a row's name in place of the draft's label, and whose prompts they were."""
        if measured.empty:
            return measured
        models = measured["draft"].map(self._labels())
        return measured.drop(columns="draft").assign(model=models, prompts=self.prompts)

    def _labels(self) -> dict[str, str]:
        return {draft.label: name for name, draft in self.drafts.items()}


def _read(finished: Sequence[Stage], file: str) -> pd.DataFrame:
    """A file of columns that finished stages wrote, one stage a seed; empty where they wrote none."""
    paths = [folder / f"{file}.json" for folder in get_many(finished)]
    return _by_seed(files.read_json(path) for path in paths) if paths[0].is_file() else pd.DataFrame()


def _by_seed(columns: Iterable[Mapping[str, Sequence[Any]]]) -> pd.DataFrame:
    """Columns of each seed, in the order of seeds, as one frame with the column seed."""
    return pd.concat([pd.DataFrame({"seed": seed, **one}) for seed, one in enumerate(columns)], ignore_index=True)
