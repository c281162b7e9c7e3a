"""A model of somebody's own, before it is loaded: what its folder holds, whether it can train, what memory that takes.

Weights are read from safetensors alone, and no code of a folder is ever run. A folder that holds something else is
refused in one line that says what to do.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from zephyr_lab.core.rows import one_line

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOAT32, ADAM = 4, 8  # bytes a parameter
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_TEACHES = "save it where you trust it, by model.save_pretrained(FOLDER), which writes safetensors"


@dataclass(frozen=True)
class Contents:
    """What a folder holds: its config, and how many numbers its weights are."""

    folder: Path
    config: Mapping[str, Any]
    parameters: int


@dataclass(frozen=True)
class Memory:
    """Bytes that a training takes, by what for; an estimate, activations most of all."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def line(self) -> str:
        """`about 3.1 GB: weights 0.5, gradients 0.5, AdamW 1.1, activations 1.0`."""
        parts = ", ".join(f"{name} {size / 1e9:.2g}" for name, size in self.parts.items() if size)
        return f"about {self.total / 1e9:.2g} GB: {parts}"


def located(model: str) -> Path:
    """The folder of a model: itself, or the files of a model of the hub, fetched where they are not cached yet.

    Raises OSError where there is neither.
    """
    folder = Path(model)
    if folder.exists() or model.count("/") != 1 or model.startswith(("/", ".", "~")):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=_WANTED))
    except (OSError, ValueError) as error:
        raise OSError(
            f"{model} is no folder here, and cannot be fetched from the hub ({one_line(error)}); name a folder that "
            "holds config.json and safetensors"
        ) from error


def inspect(folder: Path) -> Contents:
    """What `folder` holds. Raises FileNotFoundError or ValueError, in one line, for what is no causal model in whole
    safetensors that transformers itself can build."""
    if folder.is_file():
        raise ValueError(f"{folder} is a file; name the folder that holds config.json and the weights in safetensors")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, so no model: name a model's own folder")
    config = _json(folder / "config.json")
    _require_known(folder, config)
    parameters = sum(_numbers(path) for path in weights(folder))
    return Contents(folder, config, parameters)


def _require_known(folder: Path, config: Mapping[str, Any]) -> None:
    kind, built = config.get("model_type"), config.get("architectures") or []
    if kind not in CONFIG_MAPPING_NAMES:
        own = "asks for code of its own (auto_map), which is never run" if "auto_map" in config else "is unknown here"
        raise ValueError(f"the model in {folder}, of kind {kind!r}, {own}; take one that transformers knows")
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, ())
    writes = {known} if isinstance(known, str) else set(known)
    if config.get("is_encoder_decoder") or not writes or (built and not writes & set(built)):
        raise ValueError(
            f"the model in {folder} is {', '.join(built) or kind}, an encoder or a model of another kind; training "
            f"takes a causal language model ({', '.join(sorted(writes)) or '...ForCausalLM'})"
        )
    if config.get("quantization_config"):
        raise ValueError(f"the model in {folder} is quantised already; training takes its whole weights")


def weights(folder: Path) -> list[Path]:
    """The safetensors files of a model's weights. Raises FileNotFoundError or ValueError where there are none."""
    if (folder / INDEX).is_file():
        named = sorted(set(_json(folder / INDEX).get("weight_map", {}).values()))
        if missing := [name for name in named if not (folder / name).is_file()]:
            raise FileNotFoundError(f"{folder} lacks {missing[0]}, which {INDEX} names: copy the model again")
        return [folder / name for name in named]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if pickles := sorted(path.name for kind in PICKLES for path in folder.glob(kind)):
        raise ValueError(f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code; {_TEACHES}")
    raise FileNotFoundError(f"{folder} holds no {WEIGHTS}; {_TEACHES}")


def _numbers(path: Path) -> int:
    """How many numbers a file of safetensors holds, by its header. Raises ValueError where the file is not whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length) if 8 < length + 8 <= size else b""
    try:
        tensors = {name: one for name, one in json.loads(head).items() if name != "__metadata__"}
        end = max((one["data_offsets"][1] for one in tensors.values()), default=0)
        count = sum(_product(one["shape"]) for one in tensors.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is no safetensors file, or its beginning is damaged: copy it again") from error
    if size != 8 + length + end:
        raise ValueError(f"{path} is cut short: {size} bytes of the {8 + length + end} it must have; copy it again")
    return count


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({one_line(error)}): copy the model again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object: copy the model again")
    return content


def memory(
    model: Contents, *, rows: int, tokens: int, trained: int | None = None, teacher: Contents | None = None
) -> Memory:
    """What training in float32 by AdamW takes: `rows` of `tokens` each in one pass with a gradient.

    trained: numbers that train, those of an adapter (all, where None). Activations are ten hidden vectors and four of
    the feed-forward a token and layer, and three rows of logits a token.
    """
    own = model.parameters if trained is None else trained
    config = model.config
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    inner = int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    a_token = FLOAT32 * (layers * (10 * hidden + 4 * inner) + 3 * int(config.get("vocab_size") or 0))
    extra = 0 if trained is None else trained
    return Memory(
        {
            "weights": FLOAT32 * (model.parameters + extra),
            "gradients": FLOAT32 * own,
            "AdamW": ADAM * own,
            "teacher": 0 if teacher is None else FLOAT32 * teacher.parameters,
            "activations": rows * tokens * a_token,
        }
    )


def free_memory() -> float | None:
    """Bytes that are free: on the GPU where there is one, else for this process; None where the system does not say."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    free = next(1024.0 * int(line.split()[1]) for line in info.read_text().splitlines() if "MemAvailable" in line)
    group = Path("/sys/fs/cgroup")
    limit, used = (
        (group / name).read_text().strip() if (group / name).is_file() else "max"
        for name in ("memory.max", "memory.current")
    )
    return free if "max" in (limit, used) else min(free, float(limit) - float(used))
