"""Sizes of the feature draft of speculative decoding, and its parameters counted in closed form. No torch.

Lin et al. 2026, arXiv 2603.09527, read from the authors' code (papers/eda/NOTES.md, section 2).
"""

from dataclasses import asdict, dataclass, replace

PARTS = ("all", "lora", "private", "private_and_fc", "fc", "none")  # what an arm trains; see `trained`


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftShape:
    """Sizes of a draft of one decoder layer on a target of `hidden` dimensions and `entries` vocabulary entries.

    heads, kv_heads, head_size: of its attention. shared_experts, private_experts: feed-forward networks of
    `shared_width` and `private_width` inner dimensions, of which `top` a group are added up at each position.
    routers: a linear router a group; without, each group's experts all weigh 1 / their number.
    """

    entries: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    shared_experts: int
    private_experts: int
    shared_width: int
    private_width: int
    top: int
    routers: bool

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (0 if name in ("private_experts", "private_width", "routers") else 1):
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}")
        if self.head_size % 2:
            raise ValueError(f"head_size must be even (rotary positions), got {self.head_size}")
        if bool(self.private_experts) != bool(self.private_width):
            raise ValueError(
                f"private experts need a width and no experts need none, got {self.private_experts} experts of width "
                f"{self.private_width}"
            )
        if not self.routers and self.top < max(self.shared_experts, self.private_experts):
            raise ValueError(
                f"top {self.top} of {max(self.shared_experts, self.private_experts)} experts needs routers; "
                "set routers, or top to the number of experts"
            )

    @property
    def attention(self) -> int:
        """Parameters of the four attention maps, which have no biases."""
        return 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)

    @property
    def fc(self) -> int:
        """Parameters of the map from [embedding; feature] to the layer's input, with its bias."""
        return 2 * self.hidden * self.hidden + self.hidden

    @property
    def shared(self) -> int:
        """Parameters of the shared experts."""
        return 3 * self.hidden * self.shared_width * self.shared_experts

    @property
    def private(self) -> int:
        """Parameters of the private experts and of their router, which trains with them."""
        router = self.hidden * self.private_experts if self.routers else 0
        return 3 * self.hidden * self.private_width * self.private_experts + router

    @property
    def embedding(self) -> int:
        return self.entries * self.hidden

    @property
    def own(self) -> int:
        """All parameters of the draft but the embedding; the head is the target's."""
        router = self.hidden * self.shared_experts if self.routers else 0
        return self.attention + self.fc + self.hidden + self.shared + router + self.private

    @property
    def with_full_private_width(self) -> "DraftShape":
        """The draft that full retraining is charged for: one whose private experts are as wide as the shared."""
        return replace(self, private_width=self.shared_width, private_experts=max(self.private_experts, 1))

    def lora(self, rank: int) -> int:
        """Parameters of adapters of `rank` on every linear map but the routers."""
        attention = 2 * (self.hidden + self.head_size * self.heads) + 2 * (self.hidden + self.head_size * self.kv_heads)
        shared = 3 * (self.hidden + self.shared_width) * self.shared_experts
        private = 3 * (self.hidden + self.private_width) * self.private_experts
        return rank * (3 * self.hidden + attention + shared + private)

    def trained(self, part: str, *, rank: int = 0) -> int:
        """Parameters that an arm trains: `part` is one of `PARTS`, `rank` LoRA's.

        all: everything but embedding and head; private_and_fc: private experts, their router and fc, as the authors'
        scripts have it; none: training-free.
        """
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        counts = {
            "all": self.own,
            "lora": self.lora(rank),
            "private": self.private,
            "private_and_fc": self.private + self.fc,
            "fc": self.fc,
            "none": 0,
        }
        return counts[part]


@dataclass(frozen=True, slots=True)
class TrainedShare:
    """The share of parameters that an arm trains, counted in the three ways that the sources mix.

    of_draft: of the draft's own parameters without the embedding. with_embedding: of those and the embedding.
    of_full_width: of a draft with private experts as wide as the shared ones, without the embedding (27.6% = 127 / 462
    million in the paper).
    """

    of_draft: float
    with_embedding: float
    of_full_width: float


def trained_share(shape: DraftShape, part: str, *, rank: int = 0) -> TrainedShare:
    """The share of `shape` that an arm training `part` trains, in three ways."""
    trained = shape.trained(part, rank=rank)
    return TrainedShare(
        trained / shape.own, trained / (shape.own + shape.embedding), trained / shape.with_full_private_width.own
    )


def matching_rank(shape: DraftShape, parameters: int) -> int:
    """The LoRA rank whose adapters come nearest to `parameters`, at least 1."""
    return max(1, round(parameters / shape.lora(1)))
