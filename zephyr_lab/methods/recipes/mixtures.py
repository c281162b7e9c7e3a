"""Recipes of mixtures of experts made from dense models, without training. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_not_negative, require_one_of

ROUTERS = ("random", "hidden")
SHARED = ("first", "mean")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Upcycle:
    """A mixture whose experts all start as one dense model's feed-forward layers (sparse upcycling).

    start: folder inside the dense model's stage. experts: how many, `top` of them for each token. noise: standard
    deviation of what is added to each expert weight, relative to that tensor's own; 0 keeps the function exactly.
    router_sd: standard deviation of the routers' random weights.
    """

    start: str
    experts: int
    top: int
    noise: float
    router_sd: float
    dtype: str

    def __post_init__(self) -> None:
        require_one_of("dtype", self.dtype, DTYPES)
        require_at_least(2, experts=self.experts)
        if not 1 <= self.top <= self.experts:
            raise ValueError(f"top must be from 1 to experts = {self.experts}, got {self.top}")
        require_not_negative(noise=self.noise, router_sd=self.router_sd)


@dataclass(frozen=True, kw_only=True)
class Merge:
    """A mixture of two dense models of one architecture: their feed-forward layers become its two experts.

    first, second: folders inside their stages. Both experts serve every token. shared: whose attention, embeddings and
    norms it has, the first model's or the mean of both. router: "random" weights with `router_sd`, or "hidden": the
    mean hidden state that each model's own prompts leave before the layer, `prompts` of them, as mergekit's mode of
    that name.
    """

    first: str
    second: str
    shared: str
    router: str
    router_sd: float
    prompts: int
    dtype: str

    def __post_init__(self) -> None:
        require_one_of("shared", self.shared, SHARED)
        require_one_of("router", self.router, ROUTERS)
        require_one_of("dtype", self.dtype, DTYPES)
        require_at_least(1, prompts=self.prompts)
        require_not_negative(router_sd=self.router_sd)
