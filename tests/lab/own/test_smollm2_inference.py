"""A real model at work: a chat in its own template, and its weights in 8 and 4 bits by bitsandbytes."""

import pytest
import torch

import smollm2
from zephyr_lab.lab.own import precisions
from zephyr_lab.lab.own.chat import Chat
from zephyr_lab.lab.own.precisions import HALF, INT4, INT8, WHOLE
from zephyr_lab.methods import adapters
from zephyr_lab.models import saved

pytestmark = [pytest.mark.slow, smollm2.needs_smollm2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return smollm2.save_to(tmp_path_factory.mktemp("smollm2"))


def test_the_second_turn_is_read_after_the_first_and_streams_what_generate_gives(folder):
    model, tokenizer = saved.load_model(folder), saved.load_chat_tokenizer(folder)
    chat = Chat(model, tokenizer, system="Answer in one short sentence.", max_new_tokens=24)
    first, second = ("".join(chat.reply(question)) for question in ("What is the capital of France?", "And of Italy?"))
    assert "Paris" in first and "Rome" in second and not chat.cut
    dialogue = [{"role": "system", "content": chat.system}, *chat.messages[:-1]]
    ids = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True)["input_ids"]
    assert chat.read == ids
    given = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long(), max_new_tokens=24, do_sample=False
    )
    assert second == tokenizer.decode(given[0, len(ids) :], skip_special_tokens=True)


def test_fewer_bits_weigh_less_and_agree_less(folder):
    pytest.importorskip("bitsandbytes", reason=adapters.NEEDS_BITSANDBYTES)
    whole, tokenizer = saved.load_model(folder), saved.load_chat_tokenizer(folder)
    asked = [[{"role": "user", "content": text}] for text in ("Why is the sky blue?", "Name three fruits.")]
    prompts = [tokenizer.apply_chat_template(one, add_generation_prompt=True)["input_ids"] for one in asked]
    answered = precisions.greedy(whole, prompts, max_new_tokens=24)
    sizes, agree = {}, {}
    for name in (WHOLE, HALF, INT8, INT4):
        model = precisions.LOADERS[name](folder)
        sizes[name], agree[name] = precisions.file_bytes(model), precisions.agreement(model, answered).value
    assert sizes[WHOLE] > sizes[HALF] > sizes[INT8] > sizes[INT4] > 134_515_008 / 2
    assert agree[WHOLE] > 0.99 and agree[HALF] > 0.9 and agree[INT8] > 0.75 and agree[INT4] > 0.5
