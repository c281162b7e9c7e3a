"""A caller's rows in TRL's layouts and ours: good ones stay, bad ones are named, tokens are those of TRL.

Prompts as TRL has them: good rows kept, bad ones named, ids up to where the answer begins.
"""

import pytest
from datasets import Dataset

from chat_templates import TEMPLATES, chatting, written
from other_tokenizers import other
from tiny_models import small_tokenizer
from zephyr_lab.data.chat import encode_prompts, prompt_ids
from zephyr_lab.data.splits import Answered, PlainText, Preference, Split, dialogues, pairs, prompts
from zephyr_lab.methods.examples import IGNORED, dialogue_examples, pair_examples


def turn(role, content):
    return {"role": role, "content": content}


ASKED, SAID = turn("user", "What is 2 plus 3?"), turn("assistant", "It is 5.")
FURTHER = [ASKED, SAID, turn("user", "Why?")]
TALK = [ASKED, SAID]
SHARE_GPT = [{"from": "human", "value": ASKED["content"]}, {"from": "gpt", "value": SAID["content"]}]


@pytest.mark.parametrize("kind", [list, iter, Dataset.from_list])
@pytest.mark.parametrize(
    "row, read",
    [
        ({"messages": TALK}, TALK),
        ({"conversations": SHARE_GPT}, TALK),
        ({"instruction": ASKED["content"], "output": SAID["content"]}, TALK),
        ({"text": "Ida lives in Oslo."}, PlainText(None, "Ida lives in Oslo.")),
        ({"prompt": "Ida lives", "completion": " in Oslo."}, PlainText("Ida lives", " in Oslo.")),
        ({"prompt": "Ida lives", "completion": ""}, PlainText("Ida lives", "")),
        ({"prompt": FURTHER, "completion": [SAID]}, Answered(FURTHER, SAID["content"])),
    ],
)
def test_dialogues_are_read_in_each_layout(kind, row, read):
    assert dialogues(kind([row, row])) == Split([read, read], [1, 2], [])


@pytest.mark.parametrize("kind", [list, iter, Dataset.from_list])
@pytest.mark.parametrize(
    "row, read",
    [
        ({"prompt": "2+3?", "chosen": " 5", "rejected": ""}, Preference("2+3?", " 5", "")),
        ({"prompt": FURTHER, "chosen": [SAID], "rejected": [turn("assistant", "No")]},
         Preference(FURTHER, SAID["content"], "No")),
        ({"chosen": [*FURTHER, SAID], "rejected": [*FURTHER, turn("assistant", "No")]},
         Preference(FURTHER, SAID["content"], "No")),
        ({"prompt": "Why?", "chosen": [*FURTHER, SAID], "rejected": [*FURTHER, turn("assistant", "No")]},
         Preference(FURTHER, SAID["content"], "No")),
    ],
)  # fmt: skip
def test_pairs_are_read_in_each_layout(kind, row, read):
    assert pairs(kind([row, row])) == Split([read, read], [1, 2], [])


def test_columns_that_a_table_filled_up_with_null_are_no_layout():
    columns = {"text": ["Ida lives.", None, "Tom lives."], "messages": [None, TALK, None]}
    split = dialogues(Dataset.from_dict(columns))
    assert split.rows == [PlainText(None, "Ida lives."), PlainText(None, "Tom lives.")] and split.numbers == [1, 3]
    assert str(split.bad[0]) == (
        "row 2, column messages: holds messages, but row 1 holds a text: one data set has one layout"
    )


def test_a_split_is_returned_as_it_is():
    split = Split([TALK], [7], [])
    assert dialogues(split) is split and pairs(split) is split


BAD_DIALOGUES = [
    ({"messages": [ASKED]}, "row 2, column messages: has no assistant's turn to learn from"),
    ({"messages": None}, "row 2, column messages: must be a list, got None"),
    ({"messages": [turn("user", " "), SAID]}, "row 2, column messages: has an empty prompt: a user's turn is blank"),
    (
        {"messages": [ASKED, turn("tool", "x")]},
        r"row 2, column messages\[1\].role: must be one of system, user, assistant",
    ),
    ({"text": "Hi"}, "row 2, column text: holds a text, but row 1 holds messages: one data set has one layout"),
    ({"text": None}, "row 2, column text: must be a text, got None"),
    ({"prompt": "a", "completion": "b"}, "row 2, column prompt: holds a prompt and a completion that are texts, but"),
    ({"prompt": "", "completion": "b"}, "row 2, column prompt: must be a text that is not blank, got ''"),
    ({"prompt": "a", "completion": None}, "row 2, column completion: must be a text, got None"),
    ({"prompt": "a"}, "row 2, column completion: is missing"),
    ({"prompt": [], "completion": [SAID]}, "row 2, column prompt: must be a list that is not empty, got an empty list"),
    ({"prompt": TALK, "completion": [SAID]}, "row 2, column prompt: must end with the user's turn, but ends with the"),
    ({"prompt": FURTHER, "completion": "5"}, None),
    ({"other": 1}, "row 2, column messages: is missing, .* the row has other"),
    ("text", "row 2: must be a mapping of columns, got 'text'"),
]


@pytest.mark.parametrize("row, told", BAD_DIALOGUES)
def test_a_bad_dialogue_is_named_and_the_rest_is_kept(row, told):
    split = dialogues([{"messages": TALK}, row, {"messages": TALK}])
    if told is None:
        assert split.rows[1] == Answered(FURTHER, "5") and not split.bad
        return
    assert (split.rows, split.numbers) == ([TALK, TALK], [1, 3])
    with pytest.raises(ValueError, match=told):
        raise ValueError(str(split.bad[0]))
    assert split.line("2 rows").startswith("1 unusable rows; 2 rows; unusable: row 2")


GOOD_PAIR = {"prompt": [ASKED], "chosen": [SAID], "rejected": [turn("assistant", "No")]}


@pytest.mark.parametrize(
    "row, told",
    [
        ({**GOOD_PAIR, "chosen": None}, "row 2, column chosen: must be a text or a list, got None"),
        ({"prompt": [ASKED], "rejected": [SAID]}, "row 2, column chosen: is missing"),
        ({**GOOD_PAIR, "prompt": [turn("user", "\n")]}, "row 2, column prompt: has an empty prompt"),
        ({**GOOD_PAIR, "prompt": []}, "row 2, column prompt: must be a list that is not empty, got an empty list"),
        ({**GOOD_PAIR, "rejected": "No"}, "row 2, column rejected: must be an assistant's message alone, as chosen"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "row 2, column prompt: must be a text that is not blank"),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "row 2, column prompt: must be a text, got None"),
        ({"chosen": "a", "rejected": "b"}, "row 2, column prompt: is missing"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, "row 2, column rejected: must be a text, got None"),
        (
            {"prompt": "p", "chosen": "a", "rejected": "b"},
            "row 2, column chosen: holds texts, but row 1 holds mess",
        ),
        ({"chosen": TALK, "rejected": FURTHER}, "row 2, column rejected: must end with the assistant's answer"),
        ({"chosen": TALK, "rejected": [*FURTHER, SAID]}, "row 2, column rejected: answers another prompt than chosen"),
    ],
)
def test_a_bad_pair_is_named_and_the_rest_is_kept(row, told):
    split = pairs([GOOD_PAIR, row, GOOD_PAIR])
    assert len(split.rows) == 2 and split.numbers == [1, 3]
    assert str(split.bad[0]).startswith(told)


@pytest.mark.parametrize("read", [dialogues, pairs])
@pytest.mark.parametrize("rows, told", [([], r"\(0 read\)$"), ([{"text": ""}] * 2, r"\(2 read\): row 1, column ")])
def test_rows_of_which_none_is_usable_are_refused_in_one_line(read, rows, told):
    with pytest.raises(ValueError, match="^no row is a (dialogue|pair) that can be used " + told) as error:
        read(rows)
    assert "\n" not in str(error.value)


def trl_dialogues(tokenizer, rows):
    """Ids and labels as TRL's SFTTrainer prepares them."""
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer._tokenizer, trainer.chat_template = tokenizer, None
    trainer.completion_only_loss = "prompt" in rows[0]
    args = SFTConfig(output_dir="unused", max_length=None, use_cpu=True, bf16=False, report_to="none")
    made = trainer._prepare_dataset(Dataset.from_list(rows), tokenizer, args, False, None, "train")
    return list(zip(made["input_ids"], made["labels"], strict=True))


def trl_pairs(tokenizer, rows):
    """Ids of prompts, chosen and rejected answers as TRL's DPOTrainer prepares them."""
    from trl import DPOConfig, DPOTrainer

    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer._tokenizer = tokenizer
    args = DPOConfig(output_dir="unused", max_length=None, use_cpu=True, bf16=False, report_to="none")
    made = trainer._prepare_dataset(Dataset.from_list(rows), tokenizer, args, "train")
    return list(zip(made["prompt_ids"], made["chosen_ids"], made["rejected_ids"], strict=True))


TOKENIZERS = {
    "zephyr": small_tokenizer(),
    "zephyr, bytes": other("gpt2", bos=False),
    "chatml": chatting("chatml", "breaks"),
    "chatml, spaces first": chatting("chatml", "prepend"),
    "smollm2": chatting("smollm2", "gpt2"),
    "bos before texts": other("prepend"),
}
NO_BOS = [name for name in TOKENIZERS if name != "bos before texts"]  # Zephyr's turns take the tokenizer's BOS
TEXTS = [("Ida lives", " in Oslo."), ("Ida lives ", "in Oslo."), ("2+", "3</s>"), ("a", ""), ("Ida\n", "\nlives")]


def own_dialogues(tokenizer, rows):
    found = dialogues(rows)
    assert not found.bad
    made, _ = dialogue_examples(tokenizer, found.rows, max_length=999, answers_only=True, system_turn=False)
    return [(one.input_ids, one.labels) for one in made]


def own_pairs(tokenizer, rows):
    found = pairs(rows)
    assert not found.bad
    made, _ = pair_examples(
        tokenizer, found.rows, max_length=999, max_prompt_length=999, long_prompts="set_aside", equal_answers="keep",
        system_turn=False,
    )  # fmt: skip
    return [(one.prompt_ids, one.chosen_ids, one.rejected_ids) for one in made]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_plain_texts_are_tokenised_as_trl_tokenises_them(name):
    tokenizer = TOKENIZERS[name]
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in TEXTS]
    assert own_dialogues(tokenizer, rows) == trl_dialogues(tokenizer, rows)
    whole = [{"text": prompt + completion} for prompt, completion in TEXTS]
    first_left_out = [(ids, [IGNORED, *labels[1:]]) for ids, labels in trl_dialogues(tokenizer, whole)]
    assert own_dialogues(tokenizer, whole) == first_left_out  # no token predicts the first
    three = [{"prompt": prompt, "chosen": good, "rejected": f"{good} not"} for prompt, good in TEXTS]
    assert own_pairs(tokenizer, three) == trl_pairs(tokenizer, three)


@pytest.mark.parametrize("name", NO_BOS)
def test_messages_are_tokenised_as_trl_tokenises_them_but_for_what_closes_a_turn(name):
    tokenizer = TOKENIZERS[name]
    rows = [{"prompt": FURTHER, "completion": [turn("assistant", "So it is.")]}]
    ((ids, labels),), ((theirs, counted),) = own_dialogues(tokenizer, rows), trl_dialogues(tokenizer, rows)
    assert ids == theirs
    learned = [id_ for id_ in labels if id_ != IGNORED]
    wanted = [id_ for id_ in counted if id_ != IGNORED]
    assert learned == wanted[: len(learned)] and tokenizer.decode(wanted[len(learned) :]).strip() == ""
    assert labels.index(learned[0]) == counted.index(learned[0])
    whole = [{"messages": [*FURTHER, SAID]}]
    assert [ids for ids, _ in own_dialogues(tokenizer, whole)] == [ids for ids, _ in trl_dialogues(tokenizer, whole)]
    apart = {"prompt": FURTHER, "chosen": [SAID], "rejected": [turn("assistant", "No")]}
    joined = {"chosen": [*FURTHER, SAID], "rejected": [*FURTHER, turn("assistant", "No")]}
    for row in (apart, joined):
        ((prompt, *ours),), ((wanted, *answers),) = own_pairs(tokenizer, [row]), trl_pairs(tokenizer, [row])
        assert prompt == wanted
        for answer, closed in zip(ours, answers, strict=True):
            assert answer == closed[: len(answer)] and tokenizer.decode(closed[len(answer) :]).strip() == ""


def test_of_a_prompt_and_its_completion_no_earlier_answer_is_learned():
    tokenizer = chatting("chatml", "breaks")
    ((ids, labels),) = own_dialogues(tokenizer, [{"prompt": FURTHER, "completion": [turn("assistant", "So.")]}])
    assert tokenizer.decode([id_ for id_ in labels if id_ != IGNORED]) == "So.<|im_end|>"
    ((whole, all_labels),) = own_dialogues(tokenizer, [{"messages": [*FURTHER, turn("assistant", "So.")]}])
    assert whole == ids
    assert tokenizer.decode([id_ for id_ in all_labels if id_ != IGNORED]) == "It is 5.<|im_end|>So.<|im_end|>"


def test_rows_that_a_template_cannot_write_are_set_aside_by_number():
    tokenizer = written(TEMPLATES["gemma"])
    talks = [TALK, [turn("system", "Be brief."), *TALK], TALK]
    kept, account = dialogue_examples(tokenizer, talks, max_length=99, answers_only=True, system_turn=False)
    assert len(kept) == account.used == 2
    told = "3 rows, 2 used; refused by the chat template (System role not supported): 1 set aside (rows 2)"
    assert account.line() == told
    options = {"long_prompts": "set_aside", "equal_answers": "keep", "max_length": 99, "max_prompt_length": 99}
    some = [Preference(talk[:-1], "5", "6") for talk in talks]
    left, account = pair_examples(tokenizer, some, system_turn=False, **options)
    assert len(left) == 2 and account.line() == told
    with pytest.raises(ValueError, match=r"none of 1 rows can be trained on .*refused by the chat template \(System"):
        pair_examples(tokenizer, some[1:2], system_turn=False, **options)
    with pytest.raises(ValueError, match="takes no system turn"):
        pair_examples(tokenizer, some[:1], system_turn=True, **options)


def test_a_text_without_an_end_token_is_refused_by_name():
    tokenizer = written(TEMPLATES["chatml"])
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="has no eos_token, so no text would end"):
        own_dialogues(tokenizer, [{"text": "Hi"}])


GREETING = [{"role": "user", "content": "Hi"}]
ANSWERED = [*GREETING, {"role": "assistant", "content": "Yes?"}]


@pytest.mark.parametrize("rows", [[{"prompt": "Hi"}, {"prompt": "Ho", "solution": "x"}], [{"prompt": GREETING}] * 2])
def test_texts_and_messages_come_through_as_they_are(rows):
    assert prompts(rows).rows == [row["prompt"] for row in rows]
    assert prompts(Dataset.from_list(rows)).rows == [row["prompt"] for row in rows]


def test_a_split_stays_what_it_is():
    split = Split(["Hi"], [3], [])
    assert prompts(split) is split


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "  "}, "column prompt: must be a text that is not blank, got '  '"),
        ({"prompt": None}, "column prompt: must be a text, got None"),
        ({"prompt": []}, "column prompt: must be a list that is not empty, got an empty list"),
        ({"prompt": ANSWERED}, "column prompt: must end with the user's turn, but ends with the assistant"),
        ({"prompt": [{"role": "user", "content": " "}]}, "column prompt: has an empty prompt: a user's turn is blank"),
        ({"prompt": [{"role": "bot", "content": "Hi"}]}, "column prompt[0].role: must be one of system, user, assist"),
        ({"prompt": GREETING}, "column prompt: holds messages, but row 1 holds texts: one data set has one layout"),
        ({"question": "Hi"}, "column prompt: is missing; the columns are question"),
        ("Hi", "must be a mapping of columns, got 'Hi'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_kept(row, problem):
    found = prompts([{"prompt": "Hi"}, row, {"prompt": "Ho"}])
    assert (found.rows, found.numbers) == (["Hi", "Ho"], [1, 3])
    (bad,) = found.bad
    assert bad.row == 2 and problem in str(bad)


def test_rows_of_which_none_can_be_used_are_refused():
    with pytest.raises(ValueError, match=r"no row is a prompt that can be used \(1 read\): row 1, column prompt"):
        prompts([{"prompt": ""}])


def test_texts_are_read_as_they_are_and_messages_by_the_template():
    tokenizer = small_tokenizer()
    assert prompt_ids(tokenizer, ["Hi", "Name two."]) == [tokenizer(text)["input_ids"] for text in ("Hi", "Name two.")]
    assert prompt_ids(tokenizer, [GREETING]) == encode_prompts(tokenizer, [GREETING])
    assert prompt_ids(tokenizer, []) == []


def test_a_template_of_the_tokenizers_own_is_used():
    tokenizer = other("gpt2")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    (ids,) = prompt_ids(tokenizer, [GREETING])
    assert ids == tokenizer.apply_chat_template(GREETING, add_generation_prompt=True, return_dict=True)["input_ids"]
