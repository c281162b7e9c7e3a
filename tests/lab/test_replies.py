"""Replies are the model's own continuation of the chat prompt, as text."""

import torch

from tiny_models import small_model, small_tokenizer
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.lab.replies import Reply, reply
from zephyr_lab.models.tokenizer import decode

FIRST = [{"role": "user", "content": "Compute 2 plus 3."}]
SECOND = [*FIRST, {"role": "assistant", "content": "The answer is 5."}, {"role": "user", "content": "Now add 4."}]


def test_a_reply_is_the_text_that_follows_the_prompt():
    model, tokenizer = small_model(), small_tokenizer()
    replies = reply(model, tokenizer, [FIRST, SECOND], max_new_tokens=6, temperatures=0.0, generator=None)
    completions = sample(
        model, encode_prompts(tokenizer, [FIRST, SECOND]), max_new_tokens=6, temperatures=0.0, generator=None
    )
    assert replies == [Reply(decode(tokenizer, list(done.ids)), done.finished) for done in completions]


def test_the_end_of_an_answer_is_told_and_not_shown():
    model, tokenizer = small_model(), small_tokenizer()
    model.lm_head.weight.data[:] = 0  # all logits equal: the draw alone decides
    generator = torch.Generator().manual_seed(0)
    replies = reply(model, tokenizer, [FIRST] * 300, max_new_tokens=3, temperatures=1.0, generator=generator)
    ended = [answer for answer in replies if answer.finished]
    assert 0 < len(ended) < 60
    assert all("</s>" not in answer.text for answer in replies)
