"""What training functions are compared with: log-probabilities of one row at a time, and one step by a plain loop."""

import copy

import torch

from model_families import family_model
from tiny_models import small_tokenizer
from zephyr_lab.data.splits import pairs
from zephyr_lab.methods.examples import pair_examples

FAMILIES = ("llama", "qwen2", "gemma", "gpt2")
ENTRIES = 640  # of tiny_models.small_tokenizer
PAIRS = [
    {"prompt": "Name a city.", "chosen": "Oslo lies in the north.", "rejected": "no"},
    {"prompt": "What is 2 + 3?", "chosen": "5", "rejected": "The answer is six, I am sure."},
    {"prompt": "Say hello and then say more.", "chosen": "Hello there.", "rejected": "Go away."},
]
ONE_STEP = {"batch": 3, "learning_rate": 1e-3, "warmup": 0.0, "progress": lambda *_, **__: None}


def small(family: str, **changes):
    """A random model of the family with the small tokenizer's vocabulary."""
    return family_model(family, vocab_size=ENTRIES, **changes)


def examples(rows=PAIRS):
    """The pairs as ids, as training has them."""
    made, _ = pair_examples(
        small_tokenizer(), pairs(rows).rows, max_length=1024, max_prompt_length=512, long_prompts="cut_left",
        equal_answers="set_aside", system_turn=False,
    )  # fmt: skip
    return made


def token_log_probs(model, prompt, answer):
    """log pi of each of the answer's tokens, by the whole logits of one row, shape (token,)."""
    logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    places = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return logits[places, torch.tensor(answer)]


def answer_log_probs(model, prompts, answers):
    """log pi of whole answers, shape (row,)."""
    return torch.stack([token_log_probs(model, *row).sum() for row in zip(prompts, answers, strict=True)])


def step(model, loss, *, learning_rate, clip=1.0):
    """`model` after one AdamW step on `loss(model)`, the loss, and which weights it moved by more than rounding."""
    model = copy.deepcopy(model)
    model.zero_grad()
    value = loss(model)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    # the first step of Adam is the gradient's sign: where the gradient is rounding, so is the sign
    clear = {name: (one.grad.abs() > 1e-5) for name, one in model.named_parameters() if one.grad is not None}
    torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0).step()
    return model, value.item(), clear


def require_same(trained, expected, clear, *, tolerance):
    """Asserts that the weights that moved are the same in both."""
    theirs = dict(expected.named_parameters())
    assert sum(int(marks.sum()) for marks in clear.values()) > 1000
    for name, weight in trained.named_parameters():
        if name in clear:
            assert torch.allclose(weight[clear[name]], theirs[name][clear[name]], atol=tolerance), name
