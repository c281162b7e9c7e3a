"""Token rows for dSFT and dDPO with our own exact masks, and an account of every row that needed a remark.

The trainers get finished ids and labels: by themselves they drop rows whose prompt fills the limit without a word, and
content that spells "<|user|>" could forge a turn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from zephyr_lab.data import splits
from zephyr_lab.data.chat import (
    EncodedDialogue,
    attempt_dialogues,
    attempt_prompts,
    continued_ids,
    require_system_turn,
    text_ids,
)
from zephyr_lab.data.splits import TEST, TRAIN, Answered, Messages, PlainText, Preference, Talk
from zephyr_lab.methods.recipes.training import SFT
from zephyr_lab.models.own_template import CHANGED, Unwritable

Example = TypeVar("Example")
IGNORED = -100  # a label that no loss counts
SHOWN = 10


@dataclass(slots=True)
class Finding:
    """A remark on rows: how many it concerns, the first of them by number (from 1), and whether they were set aside."""

    rows: int = 0
    first: list[int] = field(default_factory=list)
    set_aside: bool = False


@dataclass(slots=True)
class Account:
    """Of `read` rows `used` became examples; `findings`: remarks on them, by name."""

    read: int
    used: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)

    def note(self, remark: str, number: int, *, set_aside: bool = False) -> None:
        """Count row `number` under `remark`."""
        finding = self.findings.setdefault(remark, Finding(set_aside=set_aside))
        finding.rows += 1
        if len(finding.first) < SHOWN:
            finding.first.append(number)

    def metrics(self) -> dict[str, float]:
        """{"rows", "used", "<finding>": count, ...}, names with "_" for spaces."""
        return counts(asdict(self))

    def line(self) -> str:
        """One line for people: `1500 rows, 1498 used; equal answers: 3 (rows 4, 9, 17)`."""
        parts = [f"{self.read} rows, {self.used} used"]
        for remark, finding in self.findings.items():
            numbers = ", ".join(map(str, finding.first)) + (", ..." if finding.rows > len(finding.first) else "")
            parts.append(f"{remark}: {finding.rows}{' set aside' if finding.set_aside else ''} (rows {numbers})")
        return "; ".join(parts)


def counts(account: Mapping[str, Any]) -> dict[str, float]:
    """`Account.metrics` of an account that was written down as plain values."""
    findings = {name.replace(" ", "_"): float(finding["rows"]) for name, finding in account["findings"].items()}
    return {"rows": float(account["read"]), "used": float(account["used"]), **findings}


@dataclass(frozen=True, slots=True)
class DialogueExample:
    """Ids of a dialogue; `labels` are the ids that count in the loss, IGNORED elsewhere."""

    input_ids: list[int]
    labels: list[int]

    @property
    def longest(self) -> int:
        """Tokens of the row."""
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class PairExample:
    """Ids of a prompt up to where the answer begins, and of both answers, each with its </s>."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def longest(self) -> int:
        """Tokens of the longer of the two whole rows."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def tokens(self) -> int:
        """Tokens of both whole rows."""
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


def read_splits(
    read: Callable[..., tuple[list[Example], Account]],
    recipe: Any,
    tokenizer: PreTrainedTokenizerBase,
    train: Any,
    held_out: Any,
) -> tuple[dict[str, list[Example]], dict[str, dict[str, Any]]]:
    """By split, what `read` (`read_dialogues`, `read_pairs`) makes of it, and the account of its rows as plain values.

    Without held-out rows there is no TEST. A line a split is printed.
    """
    by_split = {
        split: read(recipe, tokenizer, rows, name=split)
        for split, rows in ((TRAIN, train), (TEST, held_out))
        if rows is not None
    }
    return (
        {split: examples for split, (examples, _) in by_split.items()},
        {split: asdict(account) for split, (_, account) in by_split.items()},
    )


def read_dialogues(
    recipe: SFT, tokenizer: PreTrainedTokenizerBase, rows: Any, *, name: str = ""
) -> tuple[list[DialogueExample], Account]:
    """`dialogue_examples` of a caller's rows or a `Split`; under a `name` the account is printed."""
    dialogues = splits.dialogues(rows)
    examples, account = dialogue_examples(
        tokenizer,
        dialogues.rows,
        max_length=recipe.max_length,
        answers_only=recipe.answers_only,
        system_turn=recipe.system_turn,
        numbers=dialogues.numbers,
    )
    if name:
        print(f"{name}: {dialogues.line(account.line())}")
    return examples, account


def read_pairs(
    recipe: Any, tokenizer: PreTrainedTokenizerBase, rows: Any, *, name: str = ""
) -> tuple[list[PairExample], Account]:
    """`pair_examples` of a caller's rows or a `Split`, cut as `recipe` (of `recipes.pairs`) says; printed as above.

    Where the recipe does not say, equal answers are set aside, and no system turn is put first.
    """
    pairs = splits.pairs(rows)
    examples, account = pair_examples(
        tokenizer,
        pairs.rows,
        max_length=recipe.max_length,
        max_prompt_length=recipe.max_prompt_length,
        long_prompts=recipe.long_prompts,
        equal_answers=getattr(recipe, "equal_answers", "set_aside"),
        system_turn=getattr(recipe, "system_turn", False),
        numbers=pairs.numbers,
    )
    if name:
        print(f"{name}: {pairs.line(account.line())}")
    return examples, account


def dialogue_examples(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Talk],
    *,
    max_length: int,
    answers_only: bool,
    system_turn: bool,
    numbers: Sequence[int] | None = None,
) -> tuple[list[DialogueExample], Account]:
    """Examples in the dialogues' order. A row beyond `max_length` loses its end; one that keeps no answer is set aside.

    So is one that the tokenizer's chat template cannot write. Of a plain text all tokens are learned, of a prompt and
    its completion those of the completion; texts without turns take no `system_turn`. `numbers`: what the account calls
    the dialogues, 1, 2, ... unless given. Raises ValueError where no row is left.
    """
    examples, account = each_dialogue(
        tokenizer,
        dialogues,
        max_length=max_length,
        answers_only=answers_only,
        system_turn=system_turn,
        numbers=numbers,
    )
    require_some(account, max_length=max_length)
    return [example for example in examples if example is not None], account


def each_dialogue(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Talk],
    *,
    max_length: int,
    answers_only: bool,
    system_turn: bool,
    numbers: Sequence[int] | None = None,
) -> tuple[list[DialogueExample | None], Account]:
    """As `dialogue_examples`, one entry a dialogue, None where it is set aside; all of them may be."""
    account = Account(len(dialogues))
    examples: list[DialogueExample | None] = []
    encoded = _encoded(tokenizer, dialogues, system_turn=system_turn)
    for number, dialogue, whole in zip(_numbers(dialogues, numbers), dialogues, encoded, strict=True):
        if isinstance(whole, Unwritable):
            account.note(whole.kind, number, set_aside=True)
            examples.append(None)
            continue
        if any(not answer.strip() for answer in _answer_texts(dialogue)):
            account.note("empty answer", number)
        ids, mask = whole.ids[:max_length], whole.answer_mask[:max_length]
        if not any(mask[1:]):
            account.note("no answer within the limit", number, set_aside=True)
            examples.append(None)
            continue
        if len(whole.ids) > max_length:
            account.note("end cut off", number)
        # No token predicts the first: trainers that count labels would divide by one too many (GPT-2's).
        counted = (False, *(mask[1:] if answers_only else (True,) * (len(ids) - 1)))
        examples.append(
            DialogueExample(list(ids), [id_ if counts else IGNORED for id_, counts in zip(ids, counted, strict=True)])
        )
        account.used += 1
    return examples, account


def pair_examples(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Preference],
    *,
    max_length: int,
    max_prompt_length: int,
    long_prompts: str,
    equal_answers: str,
    system_turn: bool,
    numbers: Sequence[int] | None = None,
) -> tuple[list[PairExample], Account]:
    """Examples in the pairs' order. Empty answers are noted and stay: the end token alone is an answer too.

    Pairs of equal texts stay or are set aside (`equal_answers` "keep" or "set_aside"). A prompt beyond
    `max_prompt_length` loses its beginning (`long_prompts` "cut_left") or is set aside with its pair ("set_aside"); an
    answer that reaches over `max_length` loses its end; a pair whose prompt leaves it no token is set aside, and so is
    one that the tokenizer's chat template cannot write. `numbers`: what the account calls the pairs, 1, 2, ... unless
    given. Raises ValueError where no pair is left.
    """
    account = Account(len(pairs))
    examples = []
    sides = _sides(tokenizer, pairs, system_turn=system_turn)
    for number, pair, ids in zip(_numbers(pairs, numbers), pairs, sides, strict=True):
        if isinstance(ids, Unwritable):
            account.note(ids.kind, number, set_aside=True)
            continue
        prompt, good, bad = ids
        if pair.chosen == pair.rejected:
            account.note("equal answers", number, set_aside=equal_answers == "set_aside")
            if equal_answers == "set_aside":
                continue
        if not pair.chosen.strip() or not pair.rejected.strip():
            account.note("empty answer", number)
        if len(prompt) > max_prompt_length:
            if long_prompts == "set_aside":
                account.note("prompt beyond the limit", number, set_aside=True)
                continue
            account.note("beginning of the prompt cut off", number)
            prompt = prompt[-max_prompt_length:]
        room = max_length - len(prompt)
        if room < 1:
            account.note("no room for an answer behind the prompt", number, set_aside=True)
            continue
        if max(len(good), len(bad)) > room:
            account.note("end of an answer cut off", number)
        examples.append(PairExample(prompt, good[:room], bad[:room]))
        account.used += 1
    require_some(account, max_length=max_length)
    return examples, account


def require_some(account: Account, *, max_length: int) -> None:
    """Raises ValueError, saying what was found in which rows, where none of them became an example."""
    if not account.used:
        raise ValueError(f"none of {account.read} rows can be trained on at max_length {max_length}: {account.line()}")


def _encoded(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Talk], *, system_turn: bool
) -> list[EncodedDialogue | Unwritable]:
    """Ids and masks of each row, messages in the chat template and texts as they are."""
    turns = _opened(tokenizer, [_messages(row) for row in rows if not isinstance(row, PlainText)], wanted=system_turn)
    written = iter(attempt_dialogues(tokenizer, turns) if turns else [])
    return [_plain(tokenizer, row) if isinstance(row, PlainText) else _last_only(row, next(written)) for row in rows]


def _plain(tokenizer: PreTrainedTokenizerBase, row: PlainText) -> EncodedDialogue:
    if row.prompt is None:
        ids = text_ids(tokenizer, row.completion)
        return EncodedDialogue(tuple(ids), (True,) * len(ids))
    prompt, (answer,) = continued_ids(tokenizer, row.prompt, [row.completion])
    return EncodedDialogue((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))


def _messages(row: Talk) -> Messages:
    if isinstance(row, Answered):
        return [*row.prompt, {"role": "assistant", "content": row.answer}]
    return row


def _last_only(row: Talk, whole: EncodedDialogue | Unwritable) -> EncodedDialogue | Unwritable:
    """The dialogue; where one answer is asked for, no other is masked."""
    if isinstance(whole, Unwritable) or not isinstance(row, Answered):
        return whole
    mask = list(whole.answer_mask)
    end = len(mask) - mask[::-1].index(True)  # behind the last answer
    start = max((place + 1 for place in range(end) if not mask[place]), default=0)
    return EncodedDialogue(whole.ids, tuple(start <= place < end for place in range(len(mask))))


def _answer_texts(row: Talk) -> list[str]:
    if isinstance(row, PlainText):
        return [row.completion]
    if isinstance(row, Answered):
        return [row.answer]
    return [turn["content"] for turn in row if turn["role"] == "assistant"]


def _opened(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Messages], *, wanted: bool) -> list[Messages]:
    """The dialogues, an empty system turn put first if it is wanted and there is none.

    Raises ValueError where the tokenizer's chat template takes none.
    """
    if not wanted or not dialogues:
        return list(dialogues)
    require_system_turn(tokenizer)
    return [
        dialogue if not dialogue or dialogue[0]["role"] == "system" else [{"role": "system", "content": ""}, *dialogue]
        for dialogue in dialogues
    ]


def _sides(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Preference], *, system_turn: bool
) -> list[tuple[list[int], list[int], list[int]] | Unwritable]:
    """Ids of each pair's prompt, chosen and rejected answer."""
    spoken = [pair for pair in pairs if not isinstance(pair.prompt, str)]
    before = _opened(tokenizer, [pair.prompt for pair in spoken], wanted=system_turn)  # type: ignore[misc]
    prompts = attempt_prompts(tokenizer, before) if before else []
    chosen = _answers(tokenizer, before, [pair.chosen for pair in spoken], prompts)
    rejected = _answers(tokenizer, before, [pair.rejected for pair in spoken], prompts)
    written = iter(zip(prompts, chosen, rejected, strict=True))
    sides: list[tuple[list[int], list[int], list[int]] | Unwritable] = []
    for pair in pairs:
        if isinstance(pair.prompt, str):
            prompt, (good, bad) = continued_ids(tokenizer, pair.prompt, [pair.chosen, pair.rejected])
            sides.append((prompt, good, bad))
        else:
            parts = next(written)
            sides.append(next((part for part in parts if isinstance(part, Unwritable)), parts))  # type: ignore[arg-type]
    return sides


def _answers(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    texts: Sequence[str],
    before: Sequence[list[int] | Unwritable],
) -> list[list[int] | Unwritable]:
    """Ids of each answer after its prompt, the end of its turn included, without what closes the turn behind it."""
    dialogues = [[*prompt, {"role": "assistant", "content": text}] for prompt, text in zip(prompts, texts, strict=True)]
    encoded = attempt_dialogues(tokenizer, dialogues) if dialogues else []
    return [_behind(whole, ids) for whole, ids in zip(encoded, before, strict=True)]


def _behind(whole: EncodedDialogue | Unwritable, before: list[int] | Unwritable) -> list[int] | Unwritable:
    if isinstance(whole, Unwritable) or isinstance(before, Unwritable):
        return whole if isinstance(whole, Unwritable) else []
    if list(whole.ids[: len(before)]) != before:
        return Unwritable(CHANGED, "the ids of the prompt are others once the answer is there")
    rest = zip(whole.ids[len(before) :], whole.answer_mask[len(before) :], strict=True)
    return [id_ for id_, counts in rest if counts]


def _numbers(rows: Sequence[object], numbers: Sequence[int] | None) -> Sequence[int]:
    return range(1, len(rows) + 1) if numbers is None else numbers
