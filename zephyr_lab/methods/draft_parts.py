"""Which parameters of a draft train, LoRA's adapters in and out of it, and what updates them."""

import copy
from collections.abc import Callable

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from zephyr_lab.core.seeds import derive
from zephyr_lab.methods.optimizers import ADAM_BETAS, muon_and_adamw
from zephyr_lab.methods.recipes.draft import DraftSteps
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.draft_files import Draft

LORA_SCALE = 2.0  # alpha / rank
FEATURE_MAPS = ["fc", "q_proj", "k_proj", "v_proj", "o_proj", "gate", "up", "down"]
CAUSAL_MAPS = "all-linear"  # all but the output head


def prepare(draft: Draft, part: str, *, rank: int, seed: int) -> list[nn.Parameter]:
    """Freeze all but `part`, put LoRA's adapters in where it is that, and return what trains.

    A draft that comes with adapters in its layers trains what they leave trainable. Raises ValueError for a part that
    the draft does not have.
    """
    if any(isinstance(module, BaseTunerLayer) for module in draft.modules()):
        if part != "all":
            raise ValueError(
                f"the draft has adapters already, and they alone would train: part must be 'all', got {part!r}; merge "
                "them first for another part"
            )
    elif part == "lora":
        _add_adapters(draft, rank, seed)
    elif isinstance(draft, FeatureDraft):
        return feature_draft.trainable(draft, part)
    elif part != "all":
        raise ValueError(f"a causal draft has no private experts and no fc: part must be 'all' or 'lora', got {part!r}")
    else:
        draft.requires_grad_(True)
    return [parameter for parameter in draft.parameters() if parameter.requires_grad]


def _add_adapters(draft: Draft, rank: int, seed: int) -> None:
    draft.requires_grad_(False)
    maps = FEATURE_MAPS if isinstance(draft, FeatureDraft) else CAUSAL_MAPS
    adapters = LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, lora_dropout=0.0, target_modules=maps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "lora"))
        inject_adapter_in_model(adapters, draft)


def merge(draft: Draft) -> Draft:
    """`draft`, its adapters added to the weights that they adapt, so that it is a plain draft again."""
    adapters = [(name, layer) for name, layer in draft.named_modules() if isinstance(layer, LoraLayer)]
    for name, layer in adapters:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(draft.get_submodule(parent), child, layer.get_base_layer())
    return draft


def merged(draft: Draft) -> Draft:
    """As `merge`, of a copy."""
    return merge(copy.deepcopy(draft))


def optimizers(settings: DraftSteps, draft: Draft, trained: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Those of `settings.optimizer`, over `trained`."""
    return OPTIMIZERS[settings.optimizer](settings, draft, trained)


def _adamw(settings: DraftSteps, draft: Draft, trained: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """AdamW for all that trains."""
    del draft
    return [torch.optim.AdamW(trained, lr=settings.learning_rate, betas=ADAM_BETAS, weight_decay=settings.weight_decay)]


def _muon(settings: DraftSteps, draft: Draft, trained: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the draft and AdamW for the rest."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if not isinstance(draft, FeatureDraft):
        return muon_and_adamw(draft, learning_rate=rate, weight_decay=decay)
    matrices = [parameter for parameter in trained if parameter.ndim == 2]
    others = [parameter for parameter in trained if parameter.ndim != 2]
    both = []
    if matrices:
        both.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    if others:
        both.append(torch.optim.AdamW(others, lr=rate, betas=ADAM_BETAS, weight_decay=0.0))
    return both


Optimizers = Callable[[DraftSteps, Draft, list[nn.Parameter]], list[torch.optim.Optimizer]]
OPTIMIZERS: dict[str, Optimizers] = {"adamw": _adamw, "muon": _muon}
