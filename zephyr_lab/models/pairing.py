"""Which of a teacher's layers and heads each layer and head of a student follows, and whether the two fit at all."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from zephyr_lab.models.tokenizer import CHAT_TEMPLATE, PLAIN_TURNS

UNIFORM, GROUP_MEANS = "uniform", "group_means"
WORDS = {"layer": UNIFORM, "head": GROUP_MEANS}  # for maps of layers and of heads


@dataclass(frozen=True, slots=True)
class Pairing:
    """The teacher's layer for each of the student's, and its heads for each head; all counted from 0.

    A head of the student follows the mean map of `group` heads, which stand side by side in `heads`.
    """

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    group: int = 1


def pair(
    student: PretrainedConfig,
    teacher: PretrainedConfig,
    *,
    layer_map: Sequence[int] | str = (),
    head_map: Sequence[int] | str = (),
) -> Pairing:
    """Equal numbers unless a map is given (section 2.1: layer i with layer i, head with head).

    layer_map: the teacher's layer for each of the student's, or "uniform": an even choice, the last for the last.
    head_map: likewise, or "group_means": the mean map of heads / student heads neighbours. Where numbers are equal both
    words mean equal numbers.

    Raises ValueError, saying which map is needed, where the two models' numbers differ and none is given, or a
    map has the wrong length or names what the teacher lacks, where heads do not divide into groups; and for a model
    without such numbers.
    """
    layers, heads = (
        [_number(one, name) for one in (student, teacher)] for name in ("num_hidden_layers", "num_attention_heads")
    )
    if layer_map == UNIFORM:
        layer_map = _spread(*layers)
    if head_map != GROUP_MEANS:
        return Pairing(_paired("layer", *layers, layer_map), _paired("head", *heads, head_map))
    ours, theirs = heads
    if theirs % ours:
        raise ValueError(
            f"head_map {GROUP_MEANS!r} takes means of equally many heads, and the teacher's {theirs} do not divide "
            f"into {ours} groups: set head_map to a head for each of the student's, e.g. {_spread(ours, theirs)}"
        )
    return Pairing(_paired("layer", *layers, layer_map), tuple(range(theirs)), theirs // ours)


def shared_entries(teacher_tokenizer: PreTrainedTokenizerBase | None, **configs: PretrainedConfig) -> int | None:
    """How many entries two models' output layers have in common, by id; None where they have the same number.

    One token list is padded to different sizes, by how many processors a model was trained on (Qwen 2.5: 151,936 and
    152,064). That it is one list the teacher's tokenizer must show: without it, raises ValueError as
    `require_same_vocabulary`; and where it has ids that one of the models lacks.
    """
    sizes = {config.get_text_config().vocab_size for config in configs.values()}
    if teacher_tokenizer is None or len(sizes) == 1:
        require_same_vocabulary(**configs)
        return None
    if (largest := max(teacher_tokenizer.get_vocab().values())) >= min(sizes):
        raise ValueError(
            f"the tokenizer has ids up to {largest}, and {' and '.join(configs)} share the first {min(sizes)} entries "
            "alone; resize the smaller model's embeddings to the tokenizer"
        )
    return min(sizes)


def require_same_tokenizer(**tokenizers: PreTrainedTokenizerBase) -> None:
    """Raises ValueError naming two of the models (by keyword) whose tokenizers turn some text into other ids.

    Compared are vocabularies and special tokens: a distribution over other tokens cannot be a target.
    """
    (first, reference), *others = tokenizers.items()
    ours = reference.get_vocab()
    for name, tokenizer in others:
        theirs = tokenizer.get_vocab()
        if ours != theirs:
            token = next(iter(sorted(ours.items() ^ theirs.items())))[0]
            raise ValueError(
                f"{first} and {name} have different tokenizers: {len(ours)} and {len(theirs)} entries, {token!r} is "
                "not the same in both; distil from a teacher with the student's tokenizer, or train on its own answers"
            )
        if reference.eos_token_id != tokenizer.eos_token_id:
            raise ValueError(
                f"{first} and {name} end answers with different tokens: {reference.eos_token!r} and "
                f"{tokenizer.eos_token!r}"
            )


def require_same_turns(**tokenizers: PreTrainedTokenizerBase) -> None:
    """Raises ValueError naming two of the models (by keyword) whose chat templates write a dialogue in other ids.

    What one of them reads in the other's turns it has not learned.
    """
    (first, reference), *others = tokenizers.items()
    ours = _turns(reference)
    for name, tokenizer in others:
        if (theirs := _turns(tokenizer)) != ours:
            raise ValueError(
                f"{first} and {name} have different chat templates: {tokenizer.decode(ours)[:60]!r} and "
                f"{tokenizer.decode(theirs)[:60]!r}; take a teacher of the student's turns, set both to one template, "
                "or train on the teacher's own answers"
            )


def require_same_vocabulary(**configs: PretrainedConfig) -> None:
    """Raises ValueError naming two models (by keyword) whose output layers differ in size."""
    (first, reference), *others = configs.items()
    ours = reference.get_text_config().vocab_size
    for name, config in others:
        if (theirs := config.get_text_config().vocab_size) != ours:
            raise ValueError(
                f"{first} and {name} have different vocabularies: {ours} and {theirs} entries; resize the embeddings "
                "of one, give train_kd a teacher_tokenizer that shows them to be one list padded to two sizes, or "
                "train on the teacher's own answers"
            )


def _turns(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of a dialogue, without a system turn, in the template that is used for the tokenizer, BOS included."""
    template = CHAT_TEMPLATE if tokenizer.chat_template is None else None
    return list(tokenizer.apply_chat_template(PLAIN_TURNS, chat_template=template)["input_ids"])


def _number(config: PretrainedConfig, name: str) -> int:
    """A number of a model's text part."""
    number = getattr(config.get_text_config(), name, None)
    if number is None:
        raise ValueError(
            f"a {config.model_type} model has no {name} in its config, so its attention pairs with no other's: set "
            "attention_weight to 0"
        )
    return number


def _paired(kind: str, ours: int, theirs: int, mapped: Sequence[int]) -> tuple[int, ...]:
    if not mapped:
        if ours != theirs:
            raise ValueError(
                f"the student has {ours} {kind}s and the teacher {theirs}: set {kind}_map to {WORDS[kind]!r}, or to "
                f"the teacher's {kind} for each of the student's, e.g. {_spread(ours, theirs)}, or attention_weight "
                "to 0"
            )
        return tuple(range(ours))
    if len(mapped) != ours:
        raise ValueError(f"{kind}_map must name one {kind} for each of the student's {ours}, got {len(mapped)}")
    for number in mapped:
        if not 0 <= number < theirs:
            raise ValueError(f"{kind}_map names {kind} {number}, but the teacher has {theirs} (0 to {theirs - 1})")
    return tuple(mapped)


def _spread(ours: int, theirs: int) -> list[int]:
    """An even choice of the teacher's, the last for the last."""
    return [((one + 1) * theirs) // ours - 1 if theirs >= ours else one * theirs // ours for one in range(ours)]
