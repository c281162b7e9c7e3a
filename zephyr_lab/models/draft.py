"""The feature draft: one decoder layer that guesses the target's next feature from its last one and the next token.

Li et al. 2024 (EAGLE, arXiv 2401.15077) with the shared and private experts of Lin et al. 2026 (EDA, arXiv
2603.09527), read from the authors' code (papers/eda/NOTES.md, section 2). With h_t the target's feature after its final
norm, E the embedding and W the target's output head: z_t = fc[E(x_{t+1}); h_t], u = z + Attn(z), f_{t+1} = u +
S(norm(u)) + P(norm(u)), and softmax(W f_{t+1}) is the draft's distribution of x_{t+2}.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers import PreTrainedModel

from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.models.draft_shape import DraftShape

Features = Float[Tensor, "row position hidden"]
KeysValues = tuple[Tensor, Tensor]  # (row, head, position, head size) each
INITIALIZER_RANGE = 0.02
ROPE_THETA, NORM_EPS = 10_000.0, 1e-6  # Llama's, for a target that has neither


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTraits:
    """What a draft takes over from its target besides sizes: the base of rotary positions and its norms' epsilon."""

    rope_theta: float
    norm_eps: float

    @classmethod
    def of(cls, target: PreTrainedModel) -> "TargetTraits":
        """Those of `target`; the usual ones where it has none (GPT-2 learns its positions), since the draft's layer is
        its own. Raises ValueError for rotary positions that are scaled or differ from layer to layer.
        """
        config = target.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or {"rope_theta": ROPE_THETA}
        if "rope_theta" not in rope:
            raise ValueError(
                f"the target's rotary positions differ by layers ({', '.join(map(str, rope))}); drafts have one layer "
                "and know one kind"
            )
        if rope.get("rope_type", "default") != "default":
            raise ValueError(f"the target's rotary positions are {rope['rope_type']!r}; drafts know 'default' alone")
        return cls(rope_theta=float(rope["rope_theta"]), norm_eps=float(getattr(config, "rms_norm_eps", NORM_EPS)))


class FeatureDraft(nn.Module):
    """The draft's layer with its frozen embedding; the target's head, which it also needs, stays the target's."""

    def __init__(self, shape: DraftShape, traits: TargetTraits) -> None:
        super().__init__()
        self.shape, self.traits = shape, traits
        hidden, head_size = shape.hidden, shape.head_size
        self.embedding = nn.Embedding(shape.entries, hidden)
        self.embedding.weight.requires_grad_(False)
        self.fc = nn.Linear(2 * hidden, hidden)
        self.q_proj = nn.Linear(hidden, shape.heads * head_size, bias=False)
        self.k_proj = nn.Linear(hidden, shape.kv_heads * head_size, bias=False)
        self.v_proj = nn.Linear(hidden, shape.kv_heads * head_size, bias=False)
        self.o_proj = nn.Linear(shape.heads * head_size, hidden, bias=False)
        self.norm = nn.RMSNorm(hidden, eps=traits.norm_eps)
        self.shared = Experts(hidden, shape.shared_width, shape.shared_experts, top=shape.top, router=shape.routers)
        self.private = Experts(hidden, shape.private_width, shape.private_experts, top=shape.top, router=shape.routers)
        frequencies = traits.rope_theta ** -(torch.arange(0, head_size, 2) / head_size)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(
        self,
        ids: TokenIds,
        features: Features,
        places: TokenIds,
        *,
        mask: Bool[Tensor, "row 1 query key"] | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Features, KeysValues]:
        """The guessed features f_{t+1} of each pair (x_{t+1}, h_t), and the keys and values of the pairs alone.

        `ids` are the next tokens x_{t+1}, `places` where they stand. Without `mask` each pair sees those before it in
        its row and itself; with it, what it says of the keys of `past` and, after them, of the pairs.
        """
        z = self.fc(torch.cat([self.embedding(ids), features], dim=-1))
        queries, keys, values = self.project(z, places)
        everything = (
            (keys, values) if past is None else (torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2))
        )
        return self.finish(z, self.attend(queries, *everything, mask)), (keys, values)

    def project(self, z: Features, places: TokenIds) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (row, head, position, head size) each, turned by their places."""
        angles = places[:, None, :, None] * self.frequencies
        angles = torch.cat([angles, angles], dim=-1)
        cosines, sines = angles.cos().to(z.dtype), angles.sin().to(z.dtype)
        queries, keys, values = (self._heads(layer(z)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return _turned(queries, cosines, sines), _turned(keys, cosines, sines), values

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Grouped-query attention, (row, position, heads x head size); `mask` None: causal."""
        group = self.shape.heads // self.shape.kv_heads
        keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=mask is None)
        return attended.transpose(1, 2).flatten(2)

    def finish(self, z: Features, attended: Tensor) -> Features:
        """The layer after its attention: both residual sums and the experts."""
        u = z + self.o_proj(attended)
        normed = self.norm(u)
        return u + self.shared(normed) + self.private(normed)

    def reset_private(self, seed: int) -> None:
        """Give the private experts and their router random weights again, as the paper's second stage starts."""
        _initialise(self.private, seed)

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.shape.head_size)).transpose(1, 2)


class Experts(nn.Module):
    """A group of gated feed-forward networks, of which `top` are added up at each position; with none it is 0.

    With a router its weights are the softmax over the chosen experts (1 where one is chosen, which then gets no
    gradient); without, all weigh the same.
    """

    def __init__(self, hidden: int, width: int, experts: int, *, top: int, router: bool) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Expert(hidden, width) for _ in range(experts))
        self.top = min(top, experts)
        self.router = nn.Linear(hidden, experts, bias=False) if router and experts else None

    def forward(self, normed: Features) -> Features:
        """The weighted sum of the chosen experts' outputs."""
        if not self.experts:
            return torch.zeros_like(normed)
        if len(self.experts) == 1:
            return self.experts[0](normed)
        outputs = torch.stack([expert(normed) for expert in self.experts], dim=-1)
        if self.router is None:
            return outputs.mean(dim=-1)
        scores = self.router(normed)
        chosen = scores.topk(self.top, dim=-1)
        shares = chosen.values.softmax(dim=-1).to(scores.dtype)  # autocast computes a softmax in float32
        weights = torch.zeros_like(scores).scatter(-1, chosen.indices, shares)
        return (outputs * weights[..., None, :]).sum(dim=-1)


class Expert(nn.Module):
    """A feed-forward network gated by SiLU."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, width, bias=False)
        self.up = nn.Linear(hidden, width, bias=False)
        self.down = nn.Linear(width, hidden, bias=False)

    def forward(self, normed: Features) -> Features:
        """down(silu(gate(v)) * up(v))."""
        return self.down(silu(self.gate(normed)) * self.up(normed))


def build(shape: DraftShape, target: PreTrainedModel, *, seed: int) -> FeatureDraft:
    """A fresh draft of `target` with a copy of its embedding; `seed` decides all other weights.

    Raises ValueError where the target's width or vocabulary is not that of `shape`.
    """
    draft = FeatureDraft(shape, TargetTraits.of(target))
    _initialise(draft, seed)
    take_embedding(draft, target)
    return draft


def take_embedding(draft: FeatureDraft, target: PreTrainedModel) -> None:
    """Copy the target's embedding into the draft. Raises ValueError where `require_fit` does."""
    require_fit(draft, target)
    draft.embedding.weight.data.copy_(target.get_input_embeddings().weight.detach())


def require_fit(draft: FeatureDraft, target: PreTrainedModel) -> None:
    """Raises ValueError unless draft and target have one vocabulary and one width."""
    entries, hidden = target.get_input_embeddings().weight.shape
    if draft.shape.entries != entries:
        raise ValueError(
            f"draft and target have different vocabularies: {draft.shape.entries} and {entries} entries; "
            "train a draft for this target"
        )
    if draft.shape.hidden != hidden:
        raise ValueError(f"the draft reads features of {draft.shape.hidden} dimensions, the target's have {hidden}")


def shape_for(target: PreTrainedModel, *, heads: int, **sizes: int) -> DraftShape:
    """The shape of a draft of `target`, whose width is shared out among `heads`; `sizes` are the fields of `DraftShape`
    that the target does not decide: kv_heads, top, routers, experts and their widths. Raises ValueError as it does."""
    entries, hidden = target.get_input_embeddings().weight.shape
    if hidden % heads:
        raise ValueError(f"heads must divide the target's width of {hidden}, got {heads}")
    return DraftShape(entries=entries, hidden=hidden, heads=heads, head_size=hidden // heads, **sizes)


def trainable(draft: FeatureDraft, part: str) -> list[nn.Parameter]:
    """The parameters that an arm trains, `part` one of "all", "private", "private_and_fc", "fc", "none".

    All others stop asking for gradients. LoRA's are added by whoever trains them.
    """
    chosen = {
        "all": [draft],
        "private": [draft.private],
        "private_and_fc": [draft.private, draft.fc],
        "fc": [draft.fc],
        "none": [],
    }
    if part not in chosen:
        raise ValueError(f"part must be one of {', '.join(chosen)}, got {part!r}")
    draft.requires_grad_(False)
    for module in chosen[part]:
        module.requires_grad_(True)
    draft.embedding.requires_grad_(False)
    return [parameter for parameter in draft.parameters() if parameter.requires_grad]


def _initialise(module: nn.Module, seed: int) -> None:
    """Normal weights of `INITIALIZER_RANGE`, zero biases, norms of one; embeddings are left to the target."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data.normal_(0.0, INITIALIZER_RANGE, generator=generator)
            if layer.bias is not None:
                layer.bias.data.zero_()


def _turned(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosines + torch.cat([-second, first], dim=-1) * sines


PairFeatures = Float[Tensor, "row pair hidden"]


def unrolled(draft: FeatureDraft, ids: TokenIds, features: Features, *, depth: int) -> list[PairFeatures]:
    """Guessed features at each depth of a draft, as the decoding loop would have them; (row, pair, hidden) each.

    `ids` (row, position) are whole rows, padded on the right if at all, `features` (row, position, hidden) the
    target's. Pair t is (x_{t+1}, h_t); entry t of list item d guesses feature t + 1, so the token x_{t+2}, where the
    draft began d pairs earlier: pairs up to t - d with true features, then d pairs with the draft's own. Entries
    t < d mean nothing.
    """
    following, true = ids[:, 1:], features[:, :-1]
    rows, pairs = following.shape
    places = torch.arange(1, pairs + 1, device=ids.device).expand(rows, pairs)
    here = torch.arange(pairs, device=ids.device)
    own: list[Tensor] = []
    keys: list[Tensor] = []
    values: list[Tensor] = []
    before = true  # features that the next depth reads
    for step in range(depth):
        z = draft.fc(torch.cat([draft.embedding(following), before], dim=-1))
        queries, step_keys, step_values = draft.project(z, places)
        keys.append(step_keys)
        values.append(step_values)
        # True pairs up to t - step, then of each earlier depth the one pair on the way here.
        seen = [here[None, :] <= here[:, None] - step]
        seen += [here[None, :] == here[:, None] - step + way for way in range(1, step + 1)]
        mask = torch.cat(seen, dim=1)
        mask = mask | (~mask.any(dim=1, keepdim=True))  # entries that mean nothing see all: a softmax needs something
        attended = draft.attend(queries, torch.cat(keys, dim=2), torch.cat(values, dim=2), mask[None, None])
        own.append(draft.finish(z, attended))
        before = torch.cat([torch.zeros_like(own[-1][:, :1]), own[-1][:, :-1]], dim=1)
    return own
