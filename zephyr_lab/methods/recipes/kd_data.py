"""Recipes of the data of KD and DAE: quality-assured, domain and mixed dialogues, and a teacher's own answers."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes import limits
from zephyr_lab.methods.recipes.data import NOISES

KINDS = ("extraction", "reasoning", "qna", "summary")  # of the paper's e-commerce data


@dataclass(frozen=True, kw_only=True)
class QualityDialogues:
    """Quality-assured dialogues, our reading: the filters' rules, then a judge's mean score of both answers.

    The paper does not say how its 20k were assured. rows, held_out: how many are kept; more are drawn until there are
    enough. least_score: from 1 to 10; judge_sd: the judge's error on each answer, 0 for the exact rubric.
    """

    world: str
    rows: int
    held_out: int
    noise: str
    duplicates: float
    filters: tuple[str, ...]
    least_score: float
    judge_sd: float

    def __post_init__(self) -> None:
        limits.require_world(self.world)
        limits.require_one_of("noise", self.noise, NOISES)
        limits.require_at_least(1, rows=self.rows, held_out=self.held_out)
        limits.require_share(duplicates=self.duplicates)
        if not 1 <= self.least_score <= 10:
            raise ValueError(f"least_score must be from 1 to 10, got {self.least_score}")
        limits.require_not_negative(judge_sd=self.judge_sd)


@dataclass(frozen=True, kw_only=True)
class MixedDialogues:
    """Dialogues of which exactly `domain_share` are e-commerce ones, in random order, each row with a flag "is_domain".

    noise, domain_noise: how faulty the general and the domain answers are. A share of 1 is domain data alone.
    """

    world: str
    rows: int
    held_out: int
    domain_share: float
    noise: str
    domain_noise: str

    def __post_init__(self) -> None:
        limits.require_world(self.world)
        limits.require_one_of("noise", self.noise, NOISES)
        limits.require_one_of("domain_noise", self.domain_noise, NOISES)
        limits.require_at_least(1, rows=self.rows, held_out=self.held_out)
        limits.require_share(domain_share=self.domain_share)


@dataclass(frozen=True, kw_only=True)
class DomainPairs:
    """Preference pairs of which about `domain_share` are e-commerce ones; other fields as `WorldPairs`."""

    world: str
    prompts: int
    held_out: int
    domain_share: float
    writers: tuple[str, ...]
    rating_sd: float
    aspect_sd: float
    chosen: str
    rejected: str

    def __post_init__(self) -> None:
        limits.require_world(self.world)
        limits.require_at_least(1, prompts=self.prompts, held_out=self.held_out)
        limits.require_share(domain_share=self.domain_share)
        for writer in self.writers:
            limits.require_one_of("writers", writer, NOISES)
        if len(self.writers) < 4 or len(set(self.writers)) < len(self.writers):
            raise ValueError(f"writers must be four or more different noise levels, got {', '.join(self.writers)}")
        limits.require_not_negative(rating_sd=self.rating_sd, aspect_sd=self.aspect_sd)


@dataclass(frozen=True, kw_only=True)
class OwnAnswers:
    """A data set's questions answered by a teacher: sequence-level distillation (Kim and Rush 2016), a control.

    teacher: folder inside the teacher's stage. A dialogue's later questions are asked after the teacher's own earlier
    answers. temperature: of the draws, 0 for the most likely tokens; max_new_tokens: the most that an answer may have.
    """

    teacher: str
    temperature: float
    max_new_tokens: int
    device: str

    def __post_init__(self) -> None:
        limits.require_device(self.device)
        limits.require_at_least(1, max_new_tokens=self.max_new_tokens)
        limits.require_not_negative(temperature=self.temperature)


@dataclass(frozen=True, kw_only=True)
class PublicMix:
    """Rows of public instruction sets, mixed: `sets` names them (`data.public_sets`), `rows` how many of each.

    The published recipe says which sets and not how many rows. held_out: rows of the mix kept for measuring.
    """

    sets: tuple[str, ...]
    rows: tuple[int, ...]
    held_out: int

    def __post_init__(self) -> None:
        limits.require_at_least(1, held_out=self.held_out)
        if not self.sets or len(self.sets) != len(self.rows):
            raise ValueError(f"each of {len(self.sets)} sets needs a number of rows, got {len(self.rows)}")
        for name, rows in zip(self.sets, self.rows, strict=True):
            limits.require_at_least(1, **{f"rows of {name}": rows})


@dataclass(frozen=True, kw_only=True)
class FolderMix:
    """A folder of domain dialogues beside general ones, each row with a flag "is_domain".

    folder: below the data folder, with train.jsonl and test.jsonl of {"messages", "kind"}; digest: SHA-256 over its
    files, so that other contents are another stage. kinds: task kinds that are taken. rows, domain_share: of the mix;
    the general rows come from the stage's input.
    """

    folder: str
    digest: str
    kinds: tuple[str, ...]
    rows: int
    held_out: int
    domain_share: float

    def __post_init__(self) -> None:
        limits.require_at_least(1, rows=self.rows, held_out=self.held_out)
        limits.require_share(domain_share=self.domain_share)
        for kind in self.kinds:
            limits.require_one_of("kinds", kind, KINDS)


@dataclass(frozen=True, kw_only=True)
class FolderPairs:
    """Preference pairs of a domain from a folder in H4's layout; folder, digest: as `FolderMix`."""

    folder: str
    digest: str
    held_out: int

    def __post_init__(self) -> None:
        limits.require_at_least(1, held_out=self.held_out)
