"""Prompts as TRL has them: good rows kept, bad ones named, ids up to where the answer begins."""

import pytest
from datasets import Dataset

from other_tokenizers import other
from tiny_models import small_tokenizer
from zephyr_lab.data.chat import encode_prompts, prompt_ids
from zephyr_lab.data.splits import Split, prompts

ASKED = [{"role": "user", "content": "Hi"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "Yes?"}]


@pytest.mark.parametrize("rows", [[{"prompt": "Hi"}, {"prompt": "Ho", "solution": "x"}], [{"prompt": ASKED}] * 2])
def test_texts_and_messages_come_through_as_they_are(rows):
    assert prompts(rows).rows == [row["prompt"] for row in rows]
    assert prompts(Dataset.from_list(rows)).rows == [row["prompt"] for row in rows]


def test_a_split_stays_what_it_is():
    split = Split(["Hi"], [3], [])
    assert prompts(split) is split


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "  "}, "must be a text that is not blank, or messages; got '  '"),
        ({"prompt": None}, "must be a text that is not blank, or messages; got None"),
        ({"prompt": []}, "a dialogue needs at least one turn"),
        ({"prompt": ANSWERED}, "must end with a user's turn, got 'assistant' last"),
        ({"prompt": [{"role": "user", "content": " "}]}, "the user's last turn is blank"),
        ({"prompt": [{"role": "bot", "content": "Hi"}]}, "unknown role 'bot'"),
        ({"prompt": ASKED}, "is messages where the rows before have a text: one layout for all rows"),
        ({"question": "Hi"}, "is missing; the row is {'question': 'Hi'}"),
        ("Hi", "is missing; the row is 'Hi'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_kept(row, problem):
    found = prompts([{"prompt": "Hi"}, row, {"prompt": "Ho"}])
    assert (found.rows, found.numbers) == (["Hi", "Ho"], [1, 3])
    assert [(bad.row, bad.column) for bad in found.bad] == [(2, "prompt")] and problem in found.bad[0].problem


def test_rows_of_which_none_can_be_used_are_refused():
    with pytest.raises(ValueError, match=r"no usable rows: 1 unusable rows; .*row 1, column prompt"):
        prompts([{"prompt": ""}])


def test_texts_are_read_as_they_are_and_messages_by_the_template():
    tokenizer = small_tokenizer()
    assert prompt_ids(tokenizer, ["Hi", "Name two."]) == [tokenizer(text)["input_ids"] for text in ("Hi", "Name two.")]
    assert prompt_ids(tokenizer, [ASKED]) == encode_prompts(tokenizer, [ASKED])
    assert prompt_ids(tokenizer, []) == []


def test_a_template_of_the_tokenizers_own_is_used():
    tokenizer = other("gpt2")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    (ids,) = prompt_ids(tokenizer, [ASKED])
    assert ids == tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=True)["input_ids"]
