"""A chat of several turns: what the model reads is the whole rendered dialogue, what streams is what it generates."""

import pytest
import torch

from any_models import any_model
from chat_templates import chatting
from tiny_models import small_model, small_tokenizer
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.lab.own.chat import Chat, talk
from zephyr_lab.models.causal import positions_of

QUESTIONS = ("What is 2 plus 3?", "Why?", "And 4 plus 1?")


def chat_of(template, **settings):
    """A chat of a random model with a template of its own, or with Zephyr's."""
    if template == "zephyr":
        return Chat(small_model(seed=3), small_tokenizer(), **settings)
    tokenizer = chatting(template, "gpt2")
    model = any_model("llama")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return Chat(model, tokenizer, **settings)


def rendered(chat, dialogue):
    return chat.tokenizer.apply_chat_template(dialogue, add_generation_prompt=True)["input_ids"]


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("template", ["zephyr", "chatml", "smollm2"])
def test_each_turn_reads_the_whole_dialogue_and_streams_what_generate_gives(template, system):
    chat = chat_of(template, system=system, max_new_tokens=6)
    dialogue = [] if system is None else [{"role": "system", "content": system}]
    for question in QUESTIONS:
        said = "".join(chat.reply(question))
        dialogue.append({"role": "user", "content": question})
        ids = rendered(chat, dialogue)
        assert chat.read == ids and chat.left_out == 0
        given = chat.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long(), max_new_tokens=6, do_sample=False,
            eos_token_id=sorted(chat.ends), pad_token_id=0,
        )  # fmt: skip
        expected = chat.tokenizer.decode(given[0, len(ids) :], skip_special_tokens=True)
        assert said == expected
        dialogue.append({"role": "assistant", "content": said})
    assert chat.messages == dialogue[system is not None :]


def test_equal_seeds_draw_equal_answers_and_turns_draw_anew():
    first, again, other = (chat_of("zephyr", temperature=1.0, max_new_tokens=8, seed=seed) for seed in (1, 1, 2))
    answers = [["".join(chat.reply("Why?")) for _ in range(2)] for chat in (first, again, other)]
    assert answers[0] == answers[1] != answers[2] and answers[0][0] != answers[0][1]


def test_an_answer_ends_at_the_templates_own_end_though_the_config_names_another():
    chat = chat_of("chatml", max_new_tokens=8)
    assert chat.tokenizer.convert_tokens_to_ids("<|im_end|>") in chat.ends
    ids = rendered(chat, [{"role": "user", "content": "Why?"}])
    (given,) = sample(chat.model, [ids], max_new_tokens=8, temperatures=0.0, generator=None)
    chat.ends = {given.ids[3]}
    "".join(chat.reply("Why?"))
    assert not chat.cut and chat.notes == []


def test_a_dialogue_that_outgrows_the_model_loses_its_first_turns_and_says_so(capsys):
    chat = chat_of("zephyr", system="Be brief.", max_new_tokens=8)
    for _ in range(8):
        talk(chat, "What is 2 plus 3, and why is it not 4?")
    said = capsys.readouterr().out
    assert len(chat.messages) == 16 and chat.left_out > 0 and chat.left_out % 2 == 0
    kept = [{"role": "system", "content": "Be brief."}, *chat.messages[chat.left_out : -1]]
    assert chat.read == rendered(chat, kept)
    room = positions_of(chat.model)
    assert len(chat.read) + 8 <= room < len(rendered(chat, [kept[0], *chat.messages[chat.left_out - 2 : -1]])) + 8
    assert f"[the first {chat.left_out} turns were not read: with 8 new tokens the dialogue exceeds" in said
    assert "[cut at 8 tokens; a larger max_new_tokens lets it end]" in said
    with pytest.raises(ValueError, match=r"the question has \d+ tokens with its system turn; .* 128 positions"):
        talk(chat, "why " * 200)
    assert len(chat.messages) == 16


def test_an_interrupted_answer_stays_as_far_as_it_came_and_one_not_begun_does_not():
    chat = chat_of("zephyr", max_new_tokens=20)
    whole = "".join(chat.reply("Why?"))
    chat.messages.clear()
    pieces = chat.reply("Why?")
    first = next(pieces)
    pieces.close()
    assert chat.messages == [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": first}]
    assert whole.startswith(first) and chat.cut

    def interrupted(**_):
        raise KeyboardInterrupt

    chat.model.forward = interrupted
    with pytest.raises(KeyboardInterrupt):
        "".join(chat.reply("And?"))
    assert len(chat.messages) == 2


def test_a_template_without_a_system_turn_refuses_one():
    with pytest.raises(ValueError, match="system"):
        chat_of("gemma", system="Be brief.")
