"""A small random model of each causal family of the installed transformers, for what must hold in all of them.

`CONFIG_MAPPING`'s own configurations with the names that sizes have anywhere shrunk; a family that needs more has a
line of its own. Weights are drawn anew, large enough that an omitted window, cap or scale shows in the logits.
"""

import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

ENTRIES, HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 211, 64, 2, 4, 2, 16
WINDOW = 6
ROOM = 128  # positions

FAMILIES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

# Names of sizes, in whatever configuration has them.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), ENTRIES),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "hidden_size_global", "embedding_size", "dim",
                     "lru_width"), HIDDEN),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "d_inner", "dff", "dim_ff",
                     "decoder_ffn_dim", "encoder_ffn_dim", "feed_forward_size", "intermediate_size_mlp",
                     "dense_intermediate_size", "prefix_dense_intermediate_size"), 96),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers",
                     "num_encoder_layers", "num_decoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "encoder_attention_heads",
                     "attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads",
                     "swa_num_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), KV_HEADS),
    **dict.fromkeys(("head_dim", "dim_head", "d_head", "attention_head_dim", "attention_head_size", "kv_channels",
                     "swa_head_dim", "global_head_dim", "linear_head_dim", "linear_key_head_dim",
                     "linear_value_head_dim"), HEAD_DIM),
    **dict.fromkeys(("linear_num_heads", "linear_num_key_heads", "linear_num_value_heads"), HEADS),
    **dict.fromkeys(("qk_nope_head_dim", "v_head_dim"), HEAD_DIM), "qk_rope_head_dim": 8,
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank"), 24),
    **dict.fromkeys(("index_head_dim", "indexer_head_dim"), HEAD_DIM), "index_n_heads": 2, "index_topk": 8,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size",
                     "shared_experts_intermediate_size", "expert_ffn_hidden_size",
                     "moe_shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size", "window_size", "local_attention",
                     "attention_chunk_size"), WINDOW),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "context_length", "n_ctx",
                     "max_target_positions"), ROOM),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8), **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_n_groups", "mamba_ngroups", "n_groups"), 2),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 8), "mamba_d_ssm": 128,
    "is_decoder": True, "causal": True, "use_sliding_window": True, "max_window_layers": 1, "logits_scaling": 4.0,
    "logit_scale": 0.25, "lm_head_multiplier": 0.5, "final_logit_softcapping": 5.0, "logits_soft_cap": 5.0,
    "output_logit_soft_cap": 5.0, "query_pre_attn_scalar": HEAD_DIM, "rotary_dim": 8, "hidden_size_per_layer_input": 8,
    "laurel_rank": 8,
    "num_kv_shared_layers": 0, "num_mtp_layers": 0, "num_nextn_predict_layers": 0, "bos_token_id": 1, "eos_token_id": 2,
    **dict.fromkeys(("depth", "num_channels"), 2), "image_size": 16, "patch_size": 8,
    "pad_token_id": 0, "sep_token_id": 3, "eod_token_id": 3,
}  # fmt: skip
# Noise, which a test that compares numbers switches off by name.
NOISE = ("dropout", "pdrop", "layerdrop", "jitter")
# What a family needs besides.
OWN: dict[str, dict[str, Any]] = {
    "blt": {"encoder_hash_byte_group_vocab": 32},
    "dots3_note_text": {
        "swa_qk_nope_head_dim": 16,
        "swa_v_head_dim": 16,
        "swa_qk_rope_head_dim": 8,
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": HEADS,
        "swa_head_dim": 24,
        "swa_q_lora_rank": 24,
        "swa_kv_lora_rank": 24,
        "head_dim": 24,
    },
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "inkling_text": {"logits_mup_width_multiplier": 2.0},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_DIM,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "cohere_compass_text": {
        "rope_parameters": {
            "full_attention": None,
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": KV_HEADS, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": HIDDEN},
    },
    "gemma4_unified_vision": {"patch_size": 2, "pooling_kernel_size": 2, "mm_posemb_size": 8, "mm_embed_dim": 32},
    "phi4_multimodal_audio": {"ext_pw_out_channel": 32, "nemo_conv_channels": 16, "num_blocks": 1},
    "gemma2": {"attn_logit_softcapping": 5.0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite": {"attention_multiplier": 0.3, "residual_multiplier": 0.7, "embedding_multiplier": 2.0},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {"zero_expert_num": 2, "qk_head_dim": HEAD_DIM + 8, "head_dim": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "mpt": {"attn_config": {"attn_pdrop": 0}},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds": False,
        "lsh_attn_chunk_length": 8,
        "local_attn_chunk_length": 8,
        "num_buckets": 2,
    },
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 48},
    "roc_bert": {
        "pronunciation_vocab_size": ENTRIES,
        "shape_vocab_size": ENTRIES,
        "pronunciation_embed_dim": 16,
        "shape_embed_dim": 16,
    },
    "xlnet": {"attn_type": "uni"},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2, "num_hidden_layers": 4},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}
# Other settings of a family that change what a token may look at, or what is drawn in training: family, changes.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, dynamic RoPE": (
        "llama",
        {
            "max_position_embeddings": 8,
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 10000.0,
                "factor": 2.0,
            },
        },
    ),
    "phi3, longrope": (
        "phi3",
        {
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 8,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 8,
                "long_factor": [3.0] * 8,
                "original_max_position_embeddings": 8,
                "factor": 8.0,
            },
        },
    ),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "mixtral, no window": ("mixtral", {"sliding_window": None}),
    "qwen2, no window": ("qwen2", {"use_sliding_window": False, "sliding_window": None}),
    "llama, tied head": ("llama", {"tie_word_embeddings": True}),
    "qwen2_moe, wide window": ("qwen2_moe", {"sliding_window": 20, "max_window_layers": 0}),
    "gemma2, no caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "granite, no scaling": ("granite", {"logits_scaling": 1.0}),
}
# Those whose forward pass takes no float64 on a CPU.
FLOAT32 = {"inkling2_text", "xglm"}
# Families that no small configuration makes a causal model of text alone, and why.
ABSENT: dict[str, str] = {
    "cpmant": "it reads its whole input both ways: what follows a token changes that token's logits",
    "dots3_note": "its causal model is dots3_note_text's, and stands here under that name",
    "gemma3n": "its image tower needs the package timm; its text model stands here as gemma3n_text",
    "gemma4_assistant": "an assistant reads hidden states and keys of its target, no text of its own",
    "gemma4_unified_assistant": "an assistant reads hidden states and keys of its target, no text of its own",
    "musicgen": "it predicts several audio codebooks at once, no text",
    "musicgen_melody": "it predicts several audio codebooks at once, no text",
}


def class_name(family: str) -> str:
    """The name of the family's (or variant's) causal model."""
    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[VARIANTS.get(family, (family,))[0]]


def small_config(family: str, **changes: Any) -> PretrainedConfig:
    """The family's configuration, shrunk. Raises what the configuration itself raises."""
    return _shrunk(CONFIG_MAPPING[family], **changes)


def small_model(family: str, *, seed: int = 0, attention: str | None = None, **changes: Any) -> PreTrainedModel:
    """A random model of the family or variant in training mode, whose logits differ by whole nats between tokens.

    In float64 where the family runs in it. `attention`: an attention implementation; None: the model's own choice.
    """
    family, varied = VARIANTS.get(family, (family, {}))
    changes = {**varied, **changes}
    config = small_config(family, **changes)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if kind.config_class is not type(config):  # as AutoModelForCausalLM has it
        config = config.get_text_config(decoder=True)
    config._experts_implementation = "eager"  # the only one in float64
    if attention is not None:
        config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        enliven(model)
    return model.to(torch.float32 if family in FLOAT32 else torch.float64).train()


def family_model(family: str, **changes: Any) -> PreTrainedModel:
    """As `small_model`, in float32 and in evaluation mode."""
    return small_model(family, **changes).float().eval()


def all_models() -> Iterator[tuple[str, PreTrainedModel]]:
    """Each family that can be built, with its model, one after another: memory holds one."""
    for family in FAMILIES:
        if family not in ABSENT:
            yield family, family_model(family)


def noise_settings(family: str) -> dict[str, float]:
    """Every setting of the family that draws something in training, switched on."""
    known = inspect.signature(CONFIG_MAPPING[VARIANTS.get(family, (family, {}))[0]].__init__).parameters
    return {name: 0.1 for name in known if _noisy(name)}


def _noisy(name: str) -> bool:
    return any(noise in name for noise in NOISE) and not name.startswith("classifier")


def enliven(model: nn.Module) -> None:
    """Draw the matrices anew and shake vectors, from the global generator."""
    with torch.no_grad():
        for path, module in model.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                if isinstance(module, nn.Embedding):
                    weight.normal_(0, 0.3)
                elif weight.ndim >= 2 and weight.is_floating_point() and min(weight.shape[-2:]) > 1:
                    weight.normal_(0, 1.5 / math.sqrt(weight.shape[-1]))
                elif weight.ndim == 1 and name in ("weight", "bias", "temp"):
                    weight.add_(torch.randn_like(weight), alpha=0.1)
                if path.endswith("q_norm"):  # scores of which no weight is too small for float32
                    weight.mul_(0.4)


def _shrunk(kind: type[PretrainedConfig], **changes: Any) -> PretrainedConfig:
    known = inspect.signature(kind.__init__).parameters
    small = {name: value for name, value in SIZES.items() if name in known}
    small |= {name: 0.0 for name in known if _noisy(name)}
    if "kv_lora_rank" in known:  # latent attention: each head has keys of its own
        small["num_key_value_heads"] = HEADS
    if "layer_types" in known:  # each kind that the family has, once at least
        kinds = list(dict.fromkeys(kind().layer_types or ()))
        if len(kinds) > 1:
            small["layer_types"] = (kinds * LAYERS)[: max(LAYERS, len(kinds))]
            small["num_hidden_layers"] = len(small["layer_types"])
    for name, part in kind.sub_configs.items():
        if name not in {**OWN.get(kind.model_type, {}), **changes}:
            own = type(getattr(kind(), name, None)) if part is AutoConfig else part
            if issubclass(own, PretrainedConfig):
                small[name] = _shrunk(own)
    return kind(**{**small, **OWN.get(kind.model_type, {}), **changes})
