"""Prompts that a policy is to answer while it learns: rows as TRL has them, read, checked, and as token ids."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from zephyr_lab.core.row_types import Row
from zephyr_lab.data.chat import attempt_prompts, require_turns
from zephyr_lab.data.splits import Messages, Split, each_row
from zephyr_lab.models.own_template import Unwritable

Prompt = Messages | str


def prompts(rows: Any) -> Split[Prompt]:
    """The prompts of rows {"prompt": text} or {"prompt": messages that end with the user's}; other columns are left.

    All are texts or all are messages, as the first usable row has it. Rows that cannot be used are kept apart with
    their numbers, counted from 1. Raises ValueError where none can be used.

    >>> prompts([{"prompt": "2 + 2 ="}, {"prompt": ""}]).bad[0].problem
    "must be a text that is not blank, or messages; got ''"
    """
    if isinstance(rows, Split):
        return rows
    found: Split[Prompt] = Split([], [], [])
    for number, row in enumerate(each_row(rows), start=1):
        problem = _problem(row, found.rows[0] if found.rows else None)
        if problem is None:
            found.rows.append(row["prompt"])
            found.numbers.append(number)
        else:
            data = dict(row) if isinstance(row, Mapping) else {"row": row}
            found.bad.append(Row(number, data).refused("prompt", problem))
    return require_some(found)


def require_some(found: Split[Any]) -> Split[Any]:
    """`found`, or ValueError naming the first rows at fault where no row can be used."""
    if not found.rows:
        raise ValueError(f"no usable rows: {found.line('0 rows used')}")
    return found


def prompt_ids(tokenizer: PreTrainedTokenizerBase, given: Sequence[Prompt]) -> list[list[int] | Unwritable]:
    """Ids of each prompt up to where the answer begins: a text as the tokenizer reads it, messages by its template.

    What the template cannot write stands in the place of its ids.
    """
    if not given:
        return []
    if isinstance(given[0], str):
        return [list(ids) for ids in tokenizer(list(given))["input_ids"]]
    return attempt_prompts(tokenizer, given)


def _problem(row: Any, first: Prompt | None) -> str | None:
    """Why the row cannot be used, if so."""
    if not isinstance(row, Mapping) or "prompt" not in row:
        return f"is missing; the row is {row!r:.60}"
    prompt = row["prompt"]
    if isinstance(prompt, str) or not isinstance(prompt, list):
        if not isinstance(prompt, str) or not prompt.strip():
            return f"must be a text that is not blank, or messages; got {prompt!r:.60}"
    else:
        try:
            require_turns(prompt)
        except ValueError as error:
            return str(error)
        if prompt[-1]["role"] != "user":
            return f"must end with a user's turn, got {prompt[-1]['role']!r} last"
        if not prompt[-1]["content"].strip():
            return "the user's last turn is blank"
    if first is not None and type(first) is not type(prompt):
        return f"is {_kind(prompt)} where the rows before have {_kind(first)}: one layout for all rows"
    return None


def _kind(prompt: Prompt) -> str:
    return "a text" if isinstance(prompt, str) else "messages"
