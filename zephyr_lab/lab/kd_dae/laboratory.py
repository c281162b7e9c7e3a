"""The words of A Teacher Is Worth A Million Instructions: distillation, mixtures, domain alignment.

Kothari et al. 2024, arXiv 2406.19112. Each word is a stage of `kd_dae.stages` under every seed; teachers and expert are
one for all seeds, as the paper trains all runs from the same ones.

lab = Lab("kd_dae", profile, seeds)
base, random, same = lab.base(), lab.dialogues(), lab.same_size_teacher()
kd = lab.kd(base, random, teacher=same, attention_weight=0.0)  # a keyword wins over papers/kd_dae/settings.toml
answers = lab.ask({"base": base, "prediction alone": kd}, hot=True)
"""

from collections.abc import Callable, Mapping
from typing import Any

from zephyr_lab.engine.own_code import captured
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.arms import Arm, Rows
from zephyr_lab.lab.kd_dae import stages
from zephyr_lab.lab.kd_dae.attention_maps import Maps
from zephyr_lab.lab.laboratory import Laboratory, given
from zephyr_lab.lab.sizes import AblationArms
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, Model
from zephyr_lab.methods.recipes.inspection import AttentionMaps

AGAIN = 1000  # draws of the first asking again: no seed of an experiment comes so far


class KDLab(Laboratory):
    """A laboratory with these words beside those of `Lab`: its base, and Zephyr's `pairs` and `dpo`."""

    evaluation = staticmethod(stages.evaluation)

    # --- data: rows under every seed ----------------------------------------------------------------------------------

    def dialogues(self, **changes: Any) -> Rows:
        """ "R" of Table 2: random dialogues as they come, unfiltered. `changes`: fields of `WorldDialogues`
        (`HubDialogues` of the hub)."""
        return self._data("random dialogues", stages.random_dialogues, changes)

    def quality_dialogues(self, **changes: Any) -> Rows:
        """ "QA" of Table 2 in our reading: the filters, then a judge's threshold; as many rows as `dialogues`.

        `changes`: fields of `QualityDialogues`, e.g. least_score=9.0 (of the hub, without a judge, `HubDialogues`).
        """
        return self._data("quality-assured dialogues", stages.qa_dialogues, changes)

    def scale_dialogues(self, **changes: Any) -> Rows:
        """The data of KD at scale (3.1.2). `changes`: fields of `WorldDialogues` (`PublicMix` of the hub)."""
        return self._data("dialogues at scale", stages.scale_dialogues, changes)

    def mixed_dialogues(self, **changes: Any) -> Rows:
        """The data of DAE: general and e-commerce rows, each with its flag.

        `changes`: fields of `MixedDialogues` (`FolderMix` of the hub), e.g. domain_share=0.05; 1.0 is the domain alone.
        """
        return self._data("general and e-commerce dialogues", stages.mixed_dialogues, changes)

    def own_answers(self, teacher: Arm, dialogues: Rows, **changes: Any) -> Rows:
        """The questions of `dialogues`, answered by `teacher` itself: sequence-level distillation by `sft` on them.

        `changes`: fields of `OwnAnswers`, e.g. temperature=0.0.
        """
        self._require(teacher, dialogues)

        def build(profile: str, seed: int, **changes: Any) -> Stage:
            data = dialogues.stage(seed)
            return stages.own_answers(profile, seed, teacher=teacher.of(seed), data=data, **changes)

        return self._data("dialogues answered by the teacher", build, changes)

    def pairs_of_equal_compute(self, **changes: Any) -> Rows:
        """Zephyr's preference pairs, so many that `sft` and one epoch of `dpo` on them cost what `kd` costs.

        A token costs KD four passes (forward and backward of the student, forward of the teacher), SFT three, and DPO
        four for each of both answers and their prompt, as it is usually trained; a shared prompt costs less than this
        count. `changes`: as `pairs`.
        """
        count = self.sizes("ablation", AblationArms).pairs
        return self.pairs(**{"rows" if self.profile in HUB_PROFILES else "prompts": count, **changes})

    # --- teachers and expert: one for all seeds -----------------------------------------------------------------------

    def same_size_teacher(self, **changes: Any) -> Arm:
        """The base trained on clean dialogues: Mistral-7B-Instruct's place. `changes`: fields of `DSFTRecipe`."""
        return self._one("same-size teacher", stages.same_size_teacher, changes)

    def larger_teacher(self, **changes: Any) -> Arm:
        """A mixture upcycled from the base, trained on the same clean dialogues: Mixtral-Instruct's place.

        Same layers and heads as the student, so attention maps pair one to one. `changes`: fields of `DoseRecipe`.
        """
        return self._one("larger teacher", stages.larger_teacher, changes)

    def domain_expert(self, **changes: Any) -> Arm:
        """The e-commerce expert: SFT of the base on mostly e-commerce dialogues, then DPO on e-commerce pairs.

        Good in the domain, average elsewhere. `changes`: fields of `DDPORecipe`.
        """
        return self._one("domain expert", stages.domain_expert, changes)

    # --- mixtures, not trained ----------------------------------------------------------------------------------------

    def upcycled(self, start: Arm, **changes: Any) -> Arm:
        """A mixture whose experts are all copies of `start` (`models.mixtral.upcycle`).

        `changes`: fields of `Upcycle`, e.g. experts=4.
        """
        self._require(start)
        changes = given(**changes)

        def of(seed: int) -> Model:
            return Model(stages.upcycled(self.profile, seed, start=start.of(seed), **changes))

        return self._arm("upcycled mixture", of, changes)

    def merged(self, first: Arm, second: Arm, *, prompts: tuple[Rows, Rows] | None = None, **changes: Any) -> Arm:
        """A mixture of two dense models (`models.mixtral.merge`): the 2x student. Two copies of one model have equal
        gradients and stay one.

        prompts: dialogues of the first model and of the second, which router="hidden" alone needs (random and
        e-commerce ones by default). `changes`: fields of `Merge`, e.g. shared="mean".
        """
        self._require(first, second, *(prompts or ()))
        changes = given(**changes)

        def of(seed: int) -> Model:
            one, two = first.of(seed), second.of(seed)
            read = None if prompts is None else (prompts[0].stage(seed), prompts[1].stage(seed))
            return Model(stages.merged(self.profile, seed, first=one, second=two, prompts=read, **changes))

        return self._arm("merged mixture", of, changes)

    # --- students -----------------------------------------------------------------------------------------------------

    def sft(self, start: Arm, dialogues: Rows, **changes: Any) -> Arm:
        """Supervised fine-tuning of `start` (`methods.sft.train_sft`): eq. 1 on answers, as Table 2.

        Steps and batches are those of `kd`. `changes`: fields of `DSFTRecipe`, e.g.
        answers_only=False for all positions, as printed.
        """
        return self._trained("SFT", stages.sft, start, dialogues, changes)

    def kd(
        self,
        start: Arm,
        dialogues: Rows,
        *,
        teacher: Arm,
        loss: Callable[[Any, Any], Any] | None = None,
        **changes: Any,
    ) -> Arm:
        """Distillation of `teacher` into `start` (`methods.kd.train_kd`): eq. 5, prediction and attention loss.

        `changes`: fields of `KD`, e.g. prediction_weight=0.0 ("w/o pred"), attention_weight=0.0 ("w/o attn"),
        ce_weight=1.0 (cross-entropy mixed in), divergence="reverse", tokens="answers", keep_steps=(10, 20), whose
        models are `arm.after_step(10)`. The log has all three losses, trained or not.

        loss: a function of your own in the place of eq. 2's divergence: of (student, teacher), logits of the positions
        that count, (position, entry) each, that gives one loss a position (`methods.own_kd.train_own_kd`). Written in a
        cell, it travels to the workers by its source, and it and the values that it uses are part of the result's key.
        """
        changes["loss"] = loss and captured(loss)
        return self._trained("KD", stages.kd, start, dialogues, changes, teacher=teacher)

    def kd_at_scale(self, start: Arm, dialogues: Rows, *, teacher: Arm, **changes: Any) -> Arm:
        """As `kd`, by the settings of section 3.1.2 ([scale_kd] of settings.toml)."""
        return self._trained("KD at scale", stages.scale_kd, start, dialogues, changes, teacher=teacher)

    def on_policy_kd(self, start: Arm, dialogues: Rows, *, teacher: Arm, **changes: Any) -> Arm:
        """As `kd`, on answers that the student samples (`methods.on_policy_kd.train_on_policy_kd`): reverse KL.

        MiniLLM's direction, GKD's data. An extra arm. Start it from a model that answers at all, e.g. an `sft`.
        `changes`: fields of `OnPolicyKD`.
        """
        return self._trained("on-policy KD", stages.on_policy_kd, start, dialogues, changes, teacher=teacher)

    def dae(
        self, start: Arm, dialogues: Rows, *, expert: Arm, general_teacher: Arm | None = None, **changes: Any
    ) -> Arm:
        """Domain alignment of `start` on flagged dialogues (`methods.dae.train_dae`): eq. 6.

        Domain rows follow `expert`, general ones `general_teacher`, by default the frozen start itself, as printed.
        `changes`: fields of `DAE`, e.g. reference_term=False, domain_teacher="general" (one teacher for all rows),
        misrouted=0.5 (flags turned over), keep_steps=(10, 20).
        """
        teachers = {"expert": expert, "general_teacher": general_teacher}
        return self._trained("DAE", stages.dae, start, dialogues, changes, **teachers)

    def tuned(self, start: Arm, dialogues: Rows, **changes: Any) -> Arm:
        """Plain fine-tuning of `start` on DAE's dialogues, flags ignored; batch, steps and schedule are DAE's.

        `changes`: fields of `DoseRecipe`, e.g. keep_steps=(10, 20), whose models are `arm.after_step(10)`.
        """
        return self._trained("fine-tuning", stages.tuned, start, dialogues, changes)

    # --- what they answer ---------------------------------------------------------------------------------------------

    def ask(
        self,
        arms: Mapping[str, Arm],
        *,
        held_out: Rows | None = None,
        hot: bool = False,
        start: Arm | Mapping[str, Arm] | None = None,
        **changes: Any,
    ) -> Answers:
        """Ask every arm under every seed the same chat and domain questions, with the same draws; train what is
        missing.

        hot: also all chat questions at T = 0.7. start: the arm from which each arm's divergence is measured, on
        held-out random dialogues; or by name of an arm its own, which the others do without. held_out: pairs on whose
        test split each model's own ranking is measured. `changes`: fields of `KDEvaluation`, e.g. per_group=0 for no
        domain question.
        """
        starts = dict.fromkeys(arms, start) if isinstance(start, Arm) else start or {}
        unasked = [name for name in starts if name not in arms]
        if unasked:
            raise ValueError(f"start names an arm {unasked[0]!r} that is not asked; asked: {', '.join(arms)}")
        self._require(*arms.values(), *starts.values(), *given(held_out=held_out).values())
        changes = given(**changes)

        def evaluation(seed: int, name: str) -> Stage:
            begun = starts[name].of(seed) if name in starts else None
            pairs = held_out and held_out.stage(seed)
            model = arms[name].of(seed)
            return stages.evaluation(self.profile, seed, model, hot=hot, start=begun, held_out=pairs, **changes)

        return self._ask(arms, evaluation)

    def ask_again(self, arms: Mapping[str, Arm], times: int, *, hot: bool = False, **changes: Any) -> Answers:
        """One model of each arm, that of seed 0, asked `times` times with other draws; `seed` counts the times."""
        self._require(*arms.values())
        changes, draws = {"hot": hot, **given(**changes)}, range(AGAIN, AGAIN + times)
        return self._answers({
            name: [stages.evaluation(self.profile, draw, arm.of(0), **changes) for draw in draws]
            for name, arm in arms.items()
        })  # fmt: skip

    def attention_maps(self, arms: Mapping[str, Arm], dialogues: Rows, *, longest: int) -> Maps:
        """Attention maps of each arm's model of seed 0 on the first held-out dialogue of at most `longest` tokens."""
        self._require(*arms.values(), dialogues)
        models = {name: arm.of(0) for name, arm in arms.items()}
        recipe = AttentionMaps(
            models=tuple(models),
            folders=tuple(model.folder for model in models.values()),
            longest=longest,
            device=stages.evaluation(self.profile, 0, next(iter(models.values()))).recipe.device,
        )
        inputs = {"dialogues": dialogues.stage(0), **{name: model.stage for name, model in models.items()}}
        stage = Stage(
            "attention_maps", "zephyr_lab.methods.stages.inspection:build_attention_maps", recipe, inputs=inputs
        )
        return Maps.read(get(stage) / "maps.json")

    # --- parts --------------------------------------------------------------------------------------------------------

    def _data(self, kind: str, make: Callable[..., Stage], changes: Mapping[str, Any]) -> Rows:
        changes = given(**changes)
        return self._rows(kind, lambda seed: make(self.profile, seed, **changes), changes)

    def _one(self, method: str, make: Callable[..., Stage], changes: Mapping[str, Any]) -> Arm:
        """A model that is one for all seeds."""
        changes = given(**changes)
        return self._arm(method, lambda seed: Model(make(self.profile, **changes)), changes)
