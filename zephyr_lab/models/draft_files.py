"""Drafts on disk: draft.json says what a draft is; its weights are safetensors in the same folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.models import saved
from zephyr_lab.models.draft import FeatureDraft, TargetTraits
from zephyr_lab.models.draft_shape import DraftShape

DESCRIPTION, WEIGHTS = "draft.json", "draft.safetensors"
FEATURE, CAUSAL = "feature", "causal"
Draft = FeatureDraft | PreTrainedModel


def save(draft: Draft, folder: Path, *, tokenizer: PreTrainedTokenizerBase, notes: dict[str, Any]) -> None:
    """Write a draft and what is said of it (`notes`, plain values) to `folder`. Equal weights give equal bytes."""
    if isinstance(draft, FeatureDraft):
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in draft.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        description = {"kind": FEATURE, "shape": asdict(draft.shape), "traits": asdict(draft.traits)}
    else:
        saved.save(draft, tokenizer, folder)
        description = {"kind": CAUSAL}
    files.write_json(folder / DESCRIPTION, {**description, "notes": notes})


def load(folder: Path) -> Draft:
    """The draft of `folder`, on the CPU, in evaluation mode. Raises FileNotFoundError where there is none."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {DESCRIPTION}, so no draft; a draft's folder bears its arm's name")
    description = files.read_json(path)
    if description["kind"] == CAUSAL:
        return saved.load_model(folder)
    draft = FeatureDraft(DraftShape(**description["shape"]), TargetTraits(**description["traits"]))
    draft.load_state_dict(load_file(folder / WEIGHTS))
    return draft.eval()
