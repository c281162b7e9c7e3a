"""Small random models of the causal families of the installed transformers: as many as a few common settings build."""

from collections.abc import Iterator

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel, logging

SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 211, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1,
}  # fmt: skip
# What makes a family small or whole beyond that, where its config has a setting of the name.
IF_PRESENT = {
    "head_dim": 16, "moe_intermediate_size": 32, "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16, "moe_topk": 2, "rotary_dim": 8,
    "shared_expert_intermediate_size": 32, "num_dense_layers": 1, "first_k_dense_replace": 1, "is_decoder": True,
    "index_head_dim": 32, "index_n_heads": 2, "decoder_layers": 2, "encoder_layers": 2, "decoder_ffn_dim": 64,
    "encoder_ffn_dim": 64, "decoder_attention_heads": 4, "encoder_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
# What families do to their logits after the head, off or harmless by default in some.
CHANGED_LOGITS = {
    "logits_scaling": 4.0, "logit_scale": 0.3, "final_logit_softcapping": 2.0, "lm_head_multiplier": 3.0,
    "output_multiplier": 3.0, "softcap": 2.0, "logits_soft_cap": 2.0,
}  # fmt: skip
LARGEST = 4_000_000  # parameters


def families() -> list[str]:
    """Names of all families that have a causal model."""
    return [name for name, config in CONFIG_MAPPING.items() if config in MODEL_FOR_CAUSAL_LM_MAPPING]


def family_model(name: str, **changes) -> PreTrainedModel | None:
    """A random model of the family in evaluation mode, its matrices scaled up so that effects show.

    None where these settings do not build one that can read four tokens.
    """
    logging.set_verbosity_error()
    kind = CONFIG_MAPPING[name]
    try:
        known = kind()
        settings = {key: value for key, value in IF_PRESENT.items() if getattr(known, key, None) is not None}
        settings |= {key: value for key, value in CHANGED_LOGITS.items() if hasattr(known, key)}
        config = kind(**{**SIZES, **settings, **changes})
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
        with torch.device("meta"):
            if sum(one.numel() for one in architecture(config).parameters()) > LARGEST:
                return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = architecture(config).eval()
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.data.mul_(6)
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
    except Exception:  # a family that such settings do not build is none of ours
        return None
    return model if logits.isfinite().all() and logits.shape[-1] >= SIZES["vocab_size"] else None


def all_models() -> Iterator[tuple[str, PreTrainedModel]]:
    """Each family that can be built, one after another: memory holds one."""
    for name in families():
        if (model := family_model(name)) is not None:
            yield name, model
