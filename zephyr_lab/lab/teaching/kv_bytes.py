"""The key-value cache of the base model, counted: what a sliding window saves (S1-27)."""

import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.engine.scheduler import get, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab.numbers import Known
from zephyr_lab.lab.teaching.rlhf_stages import PAPER
from zephyr_lab.lab.zephyr_stages import base_stage
from zephyr_lab.methods.recipes.inspection import KVCache

CLAIM = "S1-27"
EFFECT = "bytes of the cache that a second window of text adds to the first"


def stage(profile: str) -> Stage:
    """The count for the profile's base model."""
    recipe = settings.load(PAPER, profile, "kv_cache", KVCache)
    return Stage(
        "kv-cache", "zephyr_lab.methods.stages.inspection:build_kv_cache", recipe, inputs={"base": base_stage(profile)}
    )


def counted(profile: str) -> dict[str, float]:
    """Window, layers, bytes a token by arithmetic, bytes after one and two windows, and the span layers * window."""
    get(stage(profile))
    counts = metrics(stage(profile))
    return {**counts, "span": counts["layers"] * counts["window"]}


def known(profile: str) -> Known:
    """The cache of a first window holds its tokens, but for one that the library drops at the border."""
    counts = counted(profile)
    tokens = counts["bytes_1"] / counts["token_bytes"]
    length = counts["window"] or settings.load(PAPER, profile, "kv_cache", KVCache).full_attention_tokens
    return Known("tokens held after one window", tokens, length, 1)


def effect(profile: str) -> pd.DataFrame:
    """What `check.claims` takes for S1-27. A count has no chance in it: its interval is itself; n: bytes compared."""
    counts = counted(profile)
    added = counts["bytes_2"] - counts["bytes_1"]
    row = {"row": CLAIM, "metric": EFFECT, "value": added, "low": added, "high": added}
    return scores.effects([{**row, "n": int(counts["bytes_2"]), "seeds": 1}])
