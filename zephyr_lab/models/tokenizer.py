"""Byte-pair tokenizer of the embedded world: trained on its text, loss-free on any other.

Characters that the training text lacks fall back to their UTF-8 bytes. Spaces stay spaces (no "▁" stands for them, so
a literal "▁" survives too), and each digit is a token. Loads in stock transformers.
"""

import json
from collections.abc import Iterable

from jinja2 import TemplateError
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
ROLES = ("user", "assistant", "system")
ROLE_TOKENS = {role: f"<|{role}|>" for role in ROLES}
SPECIAL_TOKENS = (PAD, BOS, EOS, *ROLE_TOKENS.values())
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))

TEXTS_AT_ONCE = 10_000  # the library's encodings take kilobytes a text until their ids are read off

# Zephyr's turns. The generation block is what assistant masks are made of: the answer and its </s>, nothing else.
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role']=='user' %}{{ '<|user|>\\n' + m['content'] + eos_token + '\\n' }}"
    "{% elif m['role']=='system' %}{{ '<|system|>\\n' + m['content'] + eos_token + '\\n' }}"
    "{% elif m['role']=='assistant' %}{{ '<|assistant|>\\n' }}"
    "{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}{{ '\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

PLAIN_TURNS = [
    {"role": "user", "content": "What is 2 plus 3?"},
    {"role": "assistant", "content": "It is 5."},
    {"role": "user", "content": "Why?"},
]

# A word, or marks, with the space before it; each digit, each line break and each further space alone. No piece reaches
# over a line break, so the ids of "<|user|>\n" + content are those of the two parts, whatever the content is.
PIECES = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s")


def train(texts: Iterable[str], *, entries: int) -> PreTrainedTokenizerFast:
    """Tokenizer of at most `entries` entries: 6 special tokens, 256 bytes, then characters and merges of `texts`.

    Fewer entries come back where the text has no more pairs to merge. Raises ValueError if its characters alone do
    not fit.
    """
    reserved = len(SPECIAL_TOKENS) + len(BYTE_TOKENS)
    learned = Tokenizer(BPE())
    learned.pre_tokenizer = _pre_tokenizer()
    trainer = BpeTrainer(vocab_size=max(entries - reserved, 0), show_progress=False)
    learned.train_from_iterator(texts, trainer)
    # The byte tokens join the vocabulary afterwards: as special tokens of the trainer they would be dropped in
    # decoding, and the literal text "<0x41>" would be read as a byte.
    model = json.loads(learned.to_str())["model"]
    pieces = [piece for piece, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    if reserved + len(pieces) > entries:
        raise ValueError(f"entries must be at least {reserved + len(pieces)} for this text's characters, got {entries}")
    vocabulary = {token: entry for entry, token in enumerate((*SPECIAL_TOKENS, *BYTE_TOKENS, *pieces))}
    merges = [tuple(pair) for pair in model["merges"]]
    backend = Tokenizer(BPE(vocabulary, merges, byte_fallback=True))
    backend.pre_tokenizer = _pre_tokenizer()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=list(ROLE_TOKENS.values()),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def content_ids(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Ids of each text as plain content: "</s>" or "<|user|>" in it is spelt out, never a special token.

    Raises ValueError for text that is not Unicode (a lone surrogate).
    """
    for text in texts:
        require_unicode(text)
    ids: list[list[int]] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = texts[start : start + TEXTS_AT_ONCE]
        ids += tokenizer(batch, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The text of `ids`, special tokens left out; the exact inverse of `content_ids`."""
    return tokenizer.decode(ids, skip_special_tokens=True)


def writes_zephyrs_turns(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether dialogues are written in Zephyr's template: the tokenizer has none of its own, or one of the same ids.

    Compared are the ids of a small dialogue, BOS aside, so that another wording of the same template counts.
    """
    if tokenizer.chat_template is None:
        return True
    try:
        return _rendered(tokenizer, None) == _rendered(tokenizer, CHAT_TEMPLATE)
    except (TemplateError, ValueError, TypeError):  # a template that refuses such turns is another one
        return False


def _rendered(tokenizer: PreTrainedTokenizerBase, template: str | None) -> list[int]:
    """Ids of a dialogue in a template (None: the tokenizer's own), without BOS."""
    turns = [{"role": "system", "content": "Be brief."}, *PLAIN_TURNS]
    ids = tokenizer.apply_chat_template(turns, chat_template=template, add_generation_prompt=True)["input_ids"]
    return ids[1:] if ids and ids[0] == tokenizer.bos_token_id else ids


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(PIECES, behavior="isolated")


def require_unicode(text: str) -> None:
    """Raises ValueError for text that is not Unicode (a lone surrogate)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"text has {text[error.start]!r} at character {error.start}, which is not Unicode") from error
