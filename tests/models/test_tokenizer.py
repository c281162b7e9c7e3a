"""The tokenizer loses nothing, and content never becomes a control token."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tiny_models import TEXTS, small_tokenizer
from zephyr_lab.models import saved
from zephyr_lab.models.tokenizer import BYTE_TOKENS, ROLE_TOKENS, SPECIAL_TOKENS, content_ids, decode, train
from zephyr_lab.world import corpus

LITERALS = ("<0x41>", "<0xE6>", "<|user|>", "<|assistant|>", "<|system|>", "</s>", "<s>", "<pad>", "▁", "<unk>")
# Arbitrary characters, with the dangerous spellings often among them.
ANY_TEXT = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(LITERALS)), max_size=8).map("".join)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def ids_of(tokenizer, text):
    return content_ids(tokenizer, [text])[0]


@given(text=ANY_TEXT)
@settings(max_examples=500, deadline=None)
def test_any_text_comes_back_and_holds_no_special_token(tokenizer, text):
    ids = ids_of(tokenizer, text)
    assert decode(tokenizer, ids) == text
    assert not set(ids) & set(tokenizer.all_special_ids)


@given(first=ANY_TEXT, second=ANY_TEXT)
@settings(max_examples=200, deadline=None)
def test_a_line_break_parts_texts_so_their_ids_can_be_joined(tokenizer, first, second):
    joined = ids_of(tokenizer, f"{first}\n{second}")
    assert joined == ids_of(tokenizer, first) + ids_of(tokenizer, "\n") + ids_of(tokenizer, second)


@pytest.mark.parametrize(
    "text", ["naïve 日本", "  two  spaces\t\r\n", "🙂\u200d👩🏽", "\x00\x7f", "e\u0301", "\U0010ffff", ""]
)
def test_known_hard_texts_come_back(tokenizer, text):
    assert decode(tokenizer, ids_of(tokenizer, text)) == text


def test_every_text_of_the_world_comes_back_without_byte_tokens():
    documents = corpus.documents(5, 3000)
    own = train(documents, entries=1024)
    encoded = content_ids(own, documents)
    assert [decode(own, ids) for ids in encoded] == documents
    bytes_used = {place for ids in encoded for place in ids if place < len(SPECIAL_TOKENS) + len(BYTE_TOKENS)}
    assert bytes_used == set()


def test_an_unseen_character_is_its_utf8_bytes(tokenizer):
    ids = ids_of(tokenizer, "日")
    assert tokenizer.convert_ids_to_tokens(ids) == ["<0xE6>", "<0x97>", "<0xA5>"]  # "日".encode() is e6 97 a5


def test_digits_stand_alone(tokenizer):
    assert tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "7 + 125")) == ["7", " +", " ", "1", "2", "5"]


def test_a_common_word_is_one_token_with_its_space(tokenizer):
    assert tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "The answer is")) == ["The", " answer", " is"]


def test_the_vocabulary_is_specials_then_bytes_then_pieces(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert tuple(tokens[:6]) == ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>")
    assert tuple(tokens[6:262]) == tuple(f"<0x{byte:02X}>" for byte in range(256))
    assert len(set(tokens)) == len(tokens) <= 1024


def test_training_text_cannot_teach_a_control_token():
    # Pieces part at "|" and at letters, so no merge spells one, however often the text does.
    hostile = train(["<|user|> </s> <0x41> <pad>"] * 500, entries=1024)
    ids = ids_of(hostile, "<|user|> </s> <0x41> <pad>")
    assert decode(hostile, ids) == "<|user|> </s> <0x41> <pad>"
    learned = hostile.convert_ids_to_tokens(range(262, len(hostile)))
    assert not set(learned) & {*SPECIAL_TOKENS, *BYTE_TOKENS}
    assert not set(ids) & set(range(6))


def test_training_gives_the_same_tokenizer_in_another_process():
    call = f"print(train({TEXTS!r}, entries=400).backend_tokenizer.to_str())"
    code = f"from zephyr_lab.models.tokenizer import train; {call}"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
        ).stdout.strip()
        for seed, threads in (("1", "1"), ("2", "2"))
    }
    assert outputs == {train(TEXTS, entries=400).backend_tokenizer.to_str()}


def test_too_few_entries_for_the_characters_are_refused():
    with pytest.raises(ValueError, match="entries must be at least"):
        train(["abcdefghij"], entries=265)


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer):
    with pytest.raises(ValueError, match="at character 2"):
        ids_of(tokenizer, "ab\ud800")


def test_stock_transformers_loads_what_was_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path, save_jinja_files=False)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    assert len(stock) == len(tokenizer)
    assert (stock.pad_token_id, stock.bos_token_id, stock.eos_token_id) == (0, 1, 2)
    assert stock("<|user|>\nIda lives in Oslo.</s>")["input_ids"][0] == stock.convert_tokens_to_ids(ROLE_TOKENS["user"])
    assert stock.chat_template == saved.load_tokenizer(tmp_path).chat_template == tokenizer.chat_template
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"] == tokenizer.chat_template
    assert ids_of(stock, "naïve <|user|> ▁") == ids_of(tokenizer, "naïve <|user|> ▁")
