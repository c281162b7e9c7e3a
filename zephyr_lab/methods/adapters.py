"""Adapters: LoRA on a model's own linear layers, bases in 4 and 8 bits, merging, files, and what trainings ask of them.

Hu et al. 2021, arXiv 2106.09685 (LoRA); Dettmers et al. 2023, arXiv 2305.14314 (QLoRA). peft makes the adapters and
runs them, bitsandbytes the low-bit layers (extra `real`); neither trains anything here.
"""

import copy
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from zephyr_lab.core import files
from zephyr_lab.models.causal import causal_model

WEIGHTS, CONFIG, BASE = "adapter_model.safetensors", "adapter_config.json", "base.json"
NEEDS_BITSANDBYTES = 'bitsandbytes is not installed; pip install "zephyr-lab[real]"'


class Parameters(NamedTuple):
    """How many numbers of a model train, and how many it has; of a low-bit layer those of the layer it stands for."""

    trained: int
    total: int


def lora(
    model: PreTrainedModel | PeftModel,
    rank: int = 16,
    *,
    alpha: float | int | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    seed: int = 0,
) -> PeftModel:
    """`model` with a LoRA adapter of `rank` on its linear layers; they are changed in place, only the adapter trains.

    A layer's output gains alpha / rank * B A x, with B = 0 at first: the model starts as it was. alpha: by default
    `rank`. targets: names of layers, or their last parts ("q_proj"); by default all linear ones but the output head.
    Experts of a mixture that are stacked in one tensor are no linear layers: they stay as they are, which is printed.
    seed: of A.

    Raises ValueError for a name that no linear layer has, the head, and a model that has an adapter already.

    >>> from zephyr_lab.models.example import example_model
    >>> adapted = lora(example_model()[0], rank=2)
    >>> parameters(adapted)
    Parameters(trained=2624, total=28768)
    """
    if hasattr(model, "peft_config"):
        raise ValueError("the model has an adapter already: take `merged(model)`, or train the one it has")
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    layers, stacked = linear_layers(model), stacked_weights(model)
    named = layers if targets is None else [name for target in targets for name in _named(target, layers, stacked)]
    if not named:
        raise ValueError(f"{type(model).__name__} has no linear layer below its head; name its layers: targets=[...]")
    if stacked and targets is None:
        print(f"LoRA leaves stacked experts as they are: {', '.join(_last_parts(stacked))}")
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=sorted(set(named)),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def linear_layers(model: PreTrainedModel) -> list[str]:
    """The names of all linear layers but the output head, low-bit ones included."""
    head = model.get_output_embeddings()
    return [name for name, one in model.named_modules() if isinstance(one, nn.Linear | Conv1D) and one is not head]


def stacked_weights(model: nn.Module) -> list[str]:
    """The names of weights that hold a matrix for each expert of a mixture."""
    return [name for name, weight in model.named_parameters() if weight.ndim == 3 and "conv" not in name]


def _named(target: str, layers: Sequence[str], stacked: Sequence[str]) -> list[str]:
    matching = [name for name in layers if f".{name}".endswith(f".{target}")]
    if not matching:
        if any(target in name.split(".") for name in stacked):
            raise ValueError(
                f"{target!r} is of experts stacked in one tensor, no linear layer; leave it out of targets"
            )
        raise ValueError(
            f"no linear layer below the head is named {target!r}; there are: {', '.join(_last_parts(layers))}"
        )
    return matching


def _last_parts(names: Sequence[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})


def parameters(model: nn.Module) -> Parameters:
    """How many numbers train, and how many there are."""
    sizes = [(weight.requires_grad, _size(weight)) for weight in model.parameters()]
    return Parameters(sum(size for trains, size in sizes if trains), sum(size for _, size in sizes))


def _size(weight: nn.Parameter) -> int:
    packed = getattr(weight, "quant_state", None)  # two numbers a byte
    return weight.numel() if packed is None else packed.shape.numel()


def merged(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """A copy of the model with its active adapter added to the weights: a plain model that saves as a plain folder.

    Raises ValueError for a base in 4 or 8 bits: its merged weights would be rounded again, and answer otherwise.
    """
    require_adapter(model)
    causal_model(model)
    if bits(model):
        raise ValueError(
            f"the adapter's base is in {bits(model)} bits, and merging would round its sum; save the adapter, load the "
            "base whole, and merge there: merged(adapters.load(base, folder))"
        )
    return copy.deepcopy(model).merge_and_unload(safe_merge=True).requires_grad_(True).eval()


def save(model: PeftModel | PreTrainedModel, folder: Path) -> None:
    """Write the adapter alone: adapter_model.safetensors, adapter_config.json, and base.json, which base it is of."""
    require_adapter(model)
    model.save_pretrained(folder)
    files.write_json(Path(folder) / BASE, _base_of(model))


def load(base: PreTrainedModel, folder: Path, *, trains: bool = False) -> PeftModel:
    """`base`, changed in place, with the adapter in `folder`; trains: whether the adapter goes on learning.

    Raises FileNotFoundError where the folder holds no adapter in safetensors; ValueError for a file that is cut short,
    for an adapter of another model's layers, and for one that `save` wrote for other weights of the same precision.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {name}; an adapter is written by adapters.save (never a pickle)"
            )
    if hasattr(base, "peft_config"):
        raise ValueError("the base has an adapter already; load the base again")
    try:
        stored = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}); save or copy the adapter again") from error
    ours, theirs = _base_of(base), files.read_json(folder / BASE) if (folder / BASE).is_file() else {}
    if theirs.get("precision") == ours["precision"] and theirs["weights"] != ours["weights"]:
        raise ValueError(f"the adapter in {folder} was trained on other base weights; load it on those")
    try:
        model = PeftModel.from_pretrained(base, folder, is_trainable=trains)
    except (RuntimeError, ValueError) as error:  # other sizes, no such layers
        raise ValueError(f"the adapter in {folder} is of another model; load it on its own base") from error
    if stored.keys() != get_peft_model_state_dict(model).keys():
        raise ValueError(f"the adapter in {folder} is of other layers than the base has; load it on its own base")
    return model


def load_4bit(folder: Path, *, compute: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model in `folder` with its linear layers in 4 bits (nf4, its scales quantised too), the head left whole.

    compute: what products are computed in. Ready for `lora` and its training, and never repacked (`require_unpacked`).
    Raises ImportError where bitsandbytes is absent.
    """
    quantised = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": compute}
    return _low_bit(folder, compute, load_in_4bit=True, **quantised)


def load_8bit(folder: Path) -> PreTrainedModel:
    """The model in `folder` with its linear layers in 8 bits (int8), the head left whole. Raises as `load_4bit`.

    int8 rounds what goes into a layer too, so a row's log-probabilities depend on its batch: DPO refuses such a base.
    """
    return _low_bit(folder, torch.float32, load_in_8bit=True)


def _low_bit(folder: Path, dtype: torch.dtype, **settings: Any) -> PreTrainedModel:
    if find_spec("bitsandbytes") is None:
        raise ImportError(NEEDS_BITSANDBYTES)
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; low-bit loading takes a model's own folder")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # in 8 bits it warns at every layer of every pass
    config = BitsAndBytesConfig(**settings)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=config, local_files_only=True)
    require_unpacked(model)
    return model.eval()


def bits(model: nn.Module) -> int:
    """4 or 8 where linear layers are of bitsandbytes, else 0."""
    return 4 if getattr(model, "is_loaded_in_4bit", False) else 8 * getattr(model, "is_loaded_in_8bit", False)


def require_adapter(model: Any) -> None:
    """Raises TypeError for a model without an adapter of peft."""
    if not isinstance(model, PeftModel):
        raise TypeError(
            f"expected a model with an adapter, got {type(model).__name__}; make one by adapters.lora(model)"
        )


# --- what trainings ask -----------------------------------------------------------------------------------------------


def require_steady(model: nn.Module) -> None:
    """Raises ValueError for a base in 8 bits: a difference of two passes would be the rounding of its activations."""
    if bits(model) == 8:
        raise ValueError(
            "a base in 8 bits rounds activations by their batch, and DPO would compare roundings: its loss would not "
            "start at ln 2; load the base in 4 bits, adapters.load_4bit, or whole"
        )


def require_unpacked(model: nn.Module) -> None:
    """Let no 4-bit layer be repacked from here on. Raises ValueError where one is already.

    On processors with bfloat16 instructions one pass in evaluation mode lays the weights out anew, for an operation
    that has no gradient: all adapters below would learn nothing, without an error.
    """
    for name, layer in model.named_modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            if getattr(getattr(layer.weight, "quant_state", None), "packing_format_for_cpu", False):
                raise ValueError(
                    f"{name} was repacked by a pass without gradient and can no longer train: load the model again, by "
                    "adapters.load_4bit"
                )
            layer.support_avx512bf16_for_cpu = False


def require_gradient(model: nn.Module) -> None:
    """Raises ValueError where LoRA of one kind of layer ("q_proj") has no gradient at all, after a loss that is not 0.

    Below a base that cuts gradients off some kinds still learn, by the adapters above them.
    """
    learns: dict[str, bool] = {}
    for name, layer in model.named_modules():
        weights = [one for one in layer.parameters() if one.requires_grad] if isinstance(layer, LoraLayer) else []
        if weights:
            kind = name.rpartition(".")[2]
            has_any = any(one.grad is not None and bool(one.grad.any()) for one in weights)
            learns[kind] = learns.get(kind, False) or has_any
    if still := sorted(kind for kind, has_any in learns.items() if not has_any):
        raise ValueError(
            f"the first step gave {', '.join(still)} no gradient: their base cuts it off, or no row of the batch can "
            "teach; load the model again, a 4-bit one by adapters.load_4bit"
        )


@contextmanager
def precision_kept(model: nn.Module) -> Iterator[None]:
    """Within, a trainer may be made of `model`; afterwards its weights that train are as precise as they were.

    On a low-bit base TRL makes adapters bfloat16, where steps of a small learning rate round to nothing.
    """
    before = [(weight, weight.data) for weight in model.parameters() if weight.requires_grad]
    yield
    for weight, data in before:
        if weight.dtype != data.dtype:
            weight.data = data


def identity(model: nn.Module) -> dict[str, str]:
    """What checkpoints of the adapter alone do not hold: its settings and its base; nothing for a plain model."""
    if not isinstance(model, PeftModel):
        return {}
    settings = [
        (adapter, name, sorted(value) if isinstance(value, set) else value)
        for adapter, config in model.peft_config.items()
        for name, value in sorted(config.to_dict().items())
        if name not in ("base_model_name_or_path", "inference_mode")
    ]
    return {"adapter": hashlib.sha256(repr(settings).encode()).hexdigest()[:16], "base": _base_of(model)["weights"]}


def _base_of(model: nn.Module) -> dict[str, str]:
    """The precision and a digest of the weights below an adapter."""
    digest = hashlib.sha256()
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    for name, weight in inner.state_dict().items():
        plain = name.replace(".base_layer.", ".")
        if not any(part in plain for part in ("lora_", ".modules_to_save.")):
            digest.update(plain.replace(".original_module.", ".").encode())
            digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    precision = f"{bits(model)} bits" if bits(model) else str(inner.dtype)
    return {"precision": precision, "weights": digest.hexdigest()[:16]}
