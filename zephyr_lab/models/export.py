"""A trained model's folder for other runners: a GGUF file (llama.cpp, Ollama), an Ollama Modelfile, servers' commands.

GGUF in llama.cpp's layout of Llama models, to which Mistral belongs while no token lies beyond its window, with a
byte-level BPE tokenizer such as SmolLM2's. What this layout cannot say is refused by name, never left out.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from zephyr_lab.models import own_folder, saved
from zephyr_lab.models.own_template import MARK, OwnTemplate

NEEDS_GGUF = 'gguf is not installed; pip install "zephyr-lab[real]"'
STORED = ("f32", "f16", "bf16", "q8_0")
KINDS = ("llama", "mistral")
ELSEWHERE = "llama.cpp's own convert_hf_to_gguf.py knows more kinds"
BLOCK = 32  # numbers that share a scale in q8_0
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
PIECES = {"gpt-2": [BYTES], "smollm": [DIGITS, BYTES]}  # llama.cpp's names of ways to cut a text before its merges


def to_gguf(folder: Path, out: Path, *, stored: str = "bf16") -> Path:
    """Write the model in `folder` as one GGUF file, and return its path. Weights are read one at a time.

    stored: how matrices are kept, "f32", "f16", "bf16" or "q8_0" (8 bits, a scale for 32 numbers); norms are float32.
    The chat template goes along, and the ids that end an answer. Raises ImportError without the package gguf,
    ValueError in one line for what the layout cannot say, FileNotFoundError where `folder` holds no whole model.
    """
    if stored not in STORED:
        raise ValueError(f"stored must be one of {', '.join(STORED)}, got {stored!r}")
    if find_spec("gguf") is None:
        raise ImportError(NEEDS_GGUF)
    import gguf

    folder, out = Path(folder), Path(out)
    own_folder.inspect(folder)
    config = AutoConfig.from_pretrained(folder)
    _require_layout(folder, config)
    tokenizer = saved.load_tokenizer(folder)
    part = out.with_name(f"{out.name}.part")
    writer = gguf.GGUFWriter(part, "llama")
    try:
        _add_shape(writer, config, name=folder.resolve().name)
        writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if stored == 'f32' else 'MOSTLY'}_{stored.upper()}"])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_tokenizer(writer, tokenizer, entries=config.vocab_size)
        _add_ends(writer, folder, tokenizer, config)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
        kinds = {}
        for name, shape in _shapes(folder, config):
            own = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if own is None:
                raise _refusal(folder, f"holds {name}, which no Llama has")
            kind = gguf.GGMLQuantizationType[stored.upper()] if len(shape) > 1 else gguf.GGMLQuantizationType.F32
            if stored == "q8_0" and shape[-1] % BLOCK:
                raise ValueError(f"{name} has rows of {shape[-1]} numbers, and q8_0 stores blocks of {BLOCK}: take f16")
            size = gguf.quant_shape_to_byte_shape(shape, kind)
            writer.add_tensor_info(own, size, np.dtype(np.uint8), int(np.prod(size)), raw_dtype=kind)
            kinds[name] = kind
        if len(kinds) != (wanted := 2 + 9 * config.num_hidden_layers + (not config.tie_word_embeddings)):
            raise _refusal(folder, f"holds {len(kinds)} weights, and a Llama of its shape has {wanted}")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, weight in _weights(folder, kinds):
            writer.write_tensor_data(_stored(name, _in_place(name, weight, config), kinds[name]))
        writer.close()
        os.replace(part, out)
    finally:
        writer.close()
        part.unlink(missing_ok=True)
    return out


def modelfile(folder: Path, gguf: Path | str = "model.gguf") -> str:
    """Ollama's Modelfile for the GGUF file of a model: its turns as Ollama writes them, and what ends an answer.

    Ollama does not run a tokenizer's own chat template, so its turns are read off and checked on dialogues. Raises
    ValueError for a template that is no row of turns with one beginning and one end a role.
    """
    tokenizer = saved.load_tokenizer(Path(folder))
    turns, default = _turns(tokenizer)
    cases = " else ".join(
        f'if eq .Role "{role}" }}}}{begin}{{{{ .Content }}}}{end}{{{{' for role, (begin, end) in turns.items()
    )
    template = f"{{{{ range .Messages }}}}{{{{ {cases} end }}}}{{{{ end }}}}{turns['assistant'][0]}"
    lines = [f"FROM {gguf if str(gguf).startswith(('/', '.')) else f'./{gguf}'}", f'TEMPLATE """{template}"""']
    lines += [f'SYSTEM """{default}"""'] if default else []
    lines += [f'PARAMETER stop "{tokenizer.decode([end])}"' for end in _ends(Path(folder), tokenizer)]
    return "\n".join(lines) + "\n"


def commands(folder: Path) -> dict[str, str]:
    """The command lines that serve a model: llama.cpp and Ollama its GGUF file, vLLM and TGI its folder."""
    config = AutoConfig.from_pretrained(folder)
    place, name = shlex.quote(str(folder)), shlex.quote(Path(folder).resolve().name.lower())
    length = config.max_position_embeddings
    limits = f"--max-total-tokens {length} --max-input-tokens {length - 1}"
    return {
        "llama.cpp": "llama-server --model model.gguf --port 8080",
        "Ollama": f"ollama create {name} -f Modelfile && ollama run {name}",
        "vLLM": f"vllm serve {place} --served-model-name {name} --max-model-len {length}",
        "TGI": f"text-generation-launcher --model-id {place} {limits}",
    }


def _refusal(folder: Path, why: str) -> ValueError:
    return ValueError(f"the model in {folder} {why}; {ELSEWHERE}")


def _require_layout(folder: Path, config: PretrainedConfig) -> None:
    """Raises ValueError, naming it, for anything in the config that llama.cpp's Llama does not compute."""
    if config.model_type not in KINDS:
        raise _refusal(folder, f"is of kind {config.model_type!r}, and GGUF files are written of {' and '.join(KINDS)}")
    rope = dict(config.rope_parameters or {})
    plain = {
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "partial_rotary_factor": 1.0,
        "rope_type": "default",
    }  # fmt: skip
    for name, value in plain.items():
        own = rope.get(name, getattr(config, name, value))
        if own != value:
            raise _refusal(folder, f"has {name} {own!r}, and this layout {value!r} alone")
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        raise _refusal(folder, f"sees {window} of {config.max_position_embeddings} positions, and this layout all")


def _add_shape(writer: Any, config: PretrainedConfig, *, name: str) -> None:
    writer.add_name(name)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase, *, entries: int) -> None:
    import gguf

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError("the tokenizer has no fast backend (tokenizer.json), whose rules could be written down")
    rules = json.loads(backend.to_str())
    model = rules["model"]
    if odd := _odd_rule(rules):
        raise ValueError(f"the tokenizer {odd}; GGUF files are written of byte-level BPE alone; {ELSEWHERE}")
    if (most := max(tokenizer.get_vocab().values())) >= entries:
        raise ValueError(f"the tokenizer has ids up to {most}, and the model rows for {entries}: they do not match")
    tokens, kinds = [f"[PAD{id_}]" for id_ in range(entries)], [gguf.TokenType.UNUSED] * entries
    for token, id_ in model["vocab"].items():
        tokens[id_], kinds[id_] = token, gguf.TokenType.NORMAL
    for one in rules["added_tokens"]:
        tokens[one["id"]] = one["content"]
        kinds[one["id"]] = gguf.TokenType.CONTROL if one["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pieces(rules))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in model["merges"]])
    bare, whole = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    first, last = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
    around = {(False, False): bare, (True, False): first + bare, (False, True): bare + last}
    added = next((marks for marks, ids in around.items() if ids == whole), None)
    if added is None:
        raise ValueError("the tokenizer puts more around a text than one beginning or one end; remove its template")
    writer.add_add_bos_token(added[0])
    writer.add_add_eos_token(added[1])
    for name, id_ in (
        ("bos", tokenizer.bos_token_id),
        ("unk", tokenizer.unk_token_id),
        ("pad", tokenizer.pad_token_id),
    ):
        if id_ is not None:
            getattr(writer, f"add_{name}_token_id")(id_)
    # a comment trims as the mark does, and other readers of templates do not know the mark
    writer.add_chat_template(re.sub(r"\{%(-?)\s*(?:end)?generation\s*(-?)%\}", r"{#\1 \2#}", tokenizer.chat_template))


def _odd_rule(rules: Mapping[str, Any]) -> str:
    """What of a tokenizer.json has no place in a GGUF file; "" where all has."""
    model = rules["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        return f"is {model['type']}{' with bytes as a fallback' * bool(model.get('byte_fallback'))}"
    if rules.get("normalizer") is not None:
        return f"normalises texts ({rules['normalizer']['type']})"
    if any(model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "ignore_merges")):
        return "marks parts of words, drops merges or ignores them"
    if not _pieces(rules):
        return f"cuts texts in a way of its own ({json.dumps(rules['pre_tokenizer'])[:80]})"
    if any(one[name] for one in rules["added_tokens"] for name in ("single_word", "lstrip", "rstrip")):
        return "has special tokens that take in spaces"
    return ""


def _pieces(rules: Mapping[str, Any]) -> str:
    """llama.cpp's name of the way in which texts are cut before merges; "" for another one."""
    cut = rules.get("pre_tokenizer") or {}
    steps = [{name: one[name] for name in one if name != "trim_offsets"} for one in cut.get("pretokenizers", [cut])]
    return next((name for name, known in PIECES.items() if known == steps), "")


def _ends(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end an answer, the tokenizer's end token first."""
    config = AutoConfig.from_pretrained(folder)
    with suppress(OSError):
        config = GenerationConfig.from_pretrained(folder)
    known = config.eos_token_id
    ids = [tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])]
    with suppress(ValueError):  # a template that shows no end of an answer
        ids.append(OwnTemplate(tokenizer).end_id)
    return list(dict.fromkeys(one for one in ids if one is not None))


def _add_ends(writer: Any, folder: Path, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    ends = _ends(folder, tokenizer)
    places = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    if len(ends) > len(places):
        raise ValueError(f"{len(ends)} ids end an answer ({ends}), and a GGUF file has places for {len(places)}")
    for add, end in zip(places, ends, strict=False):
        add(end)


def _shapes(folder: Path, config: PretrainedConfig) -> Iterator[tuple[str, Sequence[int]]]:
    """Name and shape of each weight, in the order of the files; without what another weight stands for."""
    for path in own_folder.weights(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping)
                tied = config.tie_word_embeddings and name == "lm_head.weight"
                if not tied and not name.endswith("rotary_emb.inv_freq"):
                    yield name, file.get_slice(name).get_shape()


def _weights(folder: Path, names: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The weights of these names in their order, in float32."""
    for path in own_folder.weights(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if name in names:
                    yield name, file.get_tensor(name).float().numpy()


def _in_place(name: str, weight: np.ndarray, config: PretrainedConfig) -> np.ndarray:
    """The weight with rows as llama.cpp rotates them: pairs side by side, where transformers has a head's halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _stored(name: str, weight: np.ndarray, kind: Any) -> np.ndarray:
    import gguf

    if kind.name == "F16" and np.abs(weight).max() > np.finfo(np.float16).max:
        raise ValueError(f"{name} has numbers beyond those of f16; take bf16")
    return gguf.quantize(np.ascontiguousarray(weight), kind)


def _turns(tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, tuple[str, str]], str]:
    """What a chat template writes around the content of each role, and the system turn that it adds where none is."""
    roles = ("system", "user", "assistant", "user")
    system, user, answer, more = ({"role": role, "content": f"{MARK}{place}"} for place, role in enumerate(roles))

    def text(*messages: Mapping[str, str], asks: bool = False) -> str:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks)

    try:
        begin, between, _, again, end = re.split(f"{MARK}[0-3]", text(system, user, answer, more))
        answered = text(user, answer).rpartition(answer["content"])[2]
        asked = again.removeprefix(answered)
        turns = {
            "system": (begin, between.removesuffix(asked)),
            "user": (asked, end),
            "assistant": (text(user, asks=True).removeprefix(text(user)), answered),
        }
        opening = text(user).removesuffix(asked + user["content"] + end)
        default = opening.removeprefix(begin).removesuffix(turns["system"][1])
    except (ValueError, TemplateError) as error:
        raise ValueError(f"the chat template does not write system, user and assistant in turns: {error}") from error

    def written(*messages: Mapping[str, str]) -> str:
        first = [] if messages[0]["role"] == "system" or not default else [{"role": "system", "content": default}]
        return "".join(turns[one["role"]][0] + one["content"] + turns[one["role"]][1] for one in (*first, *messages))

    probes = [(user,), (user, answer), (user, answer, more), (system, user), (system, user, answer, more, answer, user)]
    plain = not re.search(r'\{\{|"""', "".join(begin + end for begin, end in turns.values()))
    if not plain or any(text(*probe) != written(*probe) for probe in probes):
        raise ValueError(
            "the chat template is no row of turns with one beginning and one end a role, which Ollama could write; "
            "write its TEMPLATE by hand"
        )
    return turns, default
