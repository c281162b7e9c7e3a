"""Chat templates built as published ones are, and small tokenizers that have their tokens.

Each is written with `{% generation %}` round what an answer's mask should hold; `chatting` takes these tags out, so
that the library must find the places by itself, and `marked` leaves them in for the stock masks.
"""

import re
from functools import cache

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from other_tokenizers import other

ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' and 'DEFAULT' %}"
    "{{ '<|im_start|>system\\nDEFAULT<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML.replace("'DEFAULT'", "false"),
    "smollm2": CHATML.replace("DEFAULT", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "qwen2.5": CHATML.replace("DEFAULT", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
        "{% else %}{{ m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}" + ALTERNATE + "{% if m['role'] == 'assistant' %}{{ '<start_of_turn>model\\n' }}"
        "{% generation %}{{ m['content'] | trim + '<end_of_turn>' }}{% endgeneration %}{{ '\\n' }}"
        "{% else %}{{ '<start_of_turn>' + m['role'] + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}" + ALTERNATE + "{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set told = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set told = false %}{% endif %}{% for m in rest %}"
        "{% if loop.index0 == 0 and told != false %}"
        "{% set content = '<<SYS>>\\n' + told + '\\n<</SYS>>\\n\\n' + m['content'] %}"
        "{% else %}{% set content = m['content'] %}{% endif %}"
        "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% else %}{% generation %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endgeneration %}{% endif %}"
        "{% endfor %}"
    ),
    "vicuna": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + ' ' }}"
        "{% elif m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
        "{% else %}{{ 'ASSISTANT:' }}{% generation %}{{ ' ' + m['content'] + eos_token }}{% endgeneration %}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    # the end of the text stands only where no answer is asked for
    "phi3": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|end|>' }}{% endgeneration %}"
        "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    # thoughts go from all answers but the last, which always has some
    "qwen3": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}"
        "{% if '</think>' in m['content'] %}{% set said = m['content'].split('</think>')[-1].lstrip('\\n') %}"
        "{% set thought = m['content'].split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
        "{% else %}{% set said = m['content'] %}{% set thought = '' %}{% endif %}"
        "{% if loop.last %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' + said.lstrip('\\n') }}"
        "{% else %}{{ said }}{% endif %}{{ '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
}
TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
    "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
)  # fmt: skip
TAKES_NO_SYSTEM = ("gemma", "mistral")


@cache
def marked(template: str, kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of that kind whose template marks its answers."""
    made = other(kind).backend_tokenizer
    made = type(made).from_str(made.to_str())
    made.add_special_tokens(list(TOKENS))
    made.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=list(TOKENS),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


@cache
def chatting(template: str, kind: str) -> PreTrainedTokenizerFast:
    """As `marked`, with no mark in its template."""
    return written(re.sub(r"\{% (end)?generation %\}", "", TEMPLATES[template]), kind)


def written(template: str, kind: str = "breaks") -> PreTrainedTokenizerFast:
    """A tokenizer of that kind with the template."""
    import copy

    tokenizer = copy.deepcopy(marked("chatml", kind))
    tokenizer.chat_template = template
    return tokenizer
