"""Small tokenizers of other people's layouts: sentencepiece's (with its three ways to put a mark first), bytes'."""

from functools import cache

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from tiny_models import TEXTS
from zephyr_lab.models.tokenizer import BYTE_TOKENS, CHAT_TEMPLATE, ROLE_TOKENS

MARK = "\u2581"
WORDS = [line for text in TEXTS[:100] for line in text.splitlines()]
# Qwen's and Llama 3's: marks take the line breaks behind them, and line breaks stay together
BREAKS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KINDS = ("prepend", "first", "always", "gpt2", "gpt2 prefixed", "breaks")


@cache
def other(kind: str, *, tags: bool = False, bos: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of that kind; `tags`: role tags are special tokens; `bos`: it puts <s> before each text."""
    backend = _sentencepiece(kind) if kind in ("prepend", "first", "always") else _bytes(kind)
    backend.add_special_tokens(["<unk>", "<s>", "</s>", "<pad>", *(ROLE_TOKENS.values() if tags else ())])
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=list(ROLE_TOKENS.values()) if tags else [],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _sentencepiece(kind: str) -> Tokenizer:
    """Bytes stand in for what the vocabulary lacks, line breaks among it, as in Llama's and Mistral's."""
    learned = Tokenizer(BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    learned.train_from_iterator(WORDS, BpeTrainer(vocab_size=400, show_progress=False))
    pieces, merges = _learned(learned)
    names = ["<unk>", "<s>", "</s>", *BYTE_TOKENS, *pieces]
    made = Tokenizer(
        BPE({name: place for place, name in enumerate(names)}, merges, byte_fallback=True, unk_token="<unk>")
    )
    if kind == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    made.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()])
    return made


def _bytes(kind: str) -> Tokenizer:
    made = Tokenizer(BPE())
    if kind == "breaks":
        split = pre_tokenizers.Split(Regex(BREAKS), behavior="isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "gpt2 prefixed")
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [*TEXTS[:100], "</s>\n\n<|user|>\n\n<|assistant|>\n\n" * 9]
    made.train_from_iterator(texts, BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    return made


def _learned(tokenizer: Tokenizer) -> tuple[list[str], list[tuple[str, str]]]:
    import json

    model = json.loads(tokenizer.to_str())["model"]
    pieces = [piece for piece, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    return pieces, [tuple(pair) for pair in model["merges"]]
