"""Models that read a few tokens at a time, each with a cache whose kept columns stay packed to the right.

Speculative decoding takes tokens back: of the columns that a run adds, `keep` commits those of accepted tokens and
drops the others. Masks are explicit, so a run may be a chain or a tree, and rows may differ in length: a column counts
by its place in its row, -1 where it is padding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from zephyr_lab.core.shapes import Logits, NextLogits, TokenIds, TokenMask
from zephyr_lab.models.causal import in_mode, one_by_one
from zephyr_lab.models.draft import FeatureDraft, Features, KeysValues
from zephyr_lab.models.draft_files import Draft
from zephyr_lab.models.logits import last_hidden_states, logits_of

SLOW_PATH = "decode it without a draft (transformers' generate, or zephyr_lab.decoding.sampling)"
# Errors of logits, over the largest, that rounding may make.
EXACT = {torch.float64: 1e-5, torch.float32: 1e-3}
ROUNDED = 5e-2
LONGEST_TRIAL, SHORTEST_TRIAL = 512, 16  # the window is walked past where it is no longer than this
SHIFT = 3  # tokens by which the first row of a trial is shorter

_tried: WeakSet[PreTrainedModel] = WeakSet()

Sees = Bool[Tensor, "row position open"]  # open: columns not kept yet, then the run's own


@dataclass(frozen=True, slots=True)
class Output:
    """Features after the final norm, (row, position, hidden), and the model whose head turns them into logits.

    Logits are computed on request: a head can cost more than a draft's layer, and a prompt needs only its last ones.
    """

    features: Features
    model: PreTrainedModel

    @property
    def logits(self) -> Logits:
        """Of all positions, (row, position, entry)."""
        return logits_of(self.model, self.features)

    @property
    def last_logits(self) -> NextLogits:
        """Of the last position, (row, entry)."""
        return logits_of(self.model, self.features[:, -1])


class CachedSteps(ABC):
    """A model with its cache: which columns a token sees, and how the cache is packed."""

    def __init__(self, rows: int, *, window: int | None, device: torch.device) -> None:
        self._window = window
        self._places = torch.zeros(rows, 0, dtype=torch.long, device=device)
        self._kept = 0  # columns on the left that are committed; those after them are open

    def run(
        self, ids: TokenIds, places: TokenIds, sees: Sees | None = None, features: Features | None = None
    ) -> Output:
        """Outputs of new tokens, whose columns stay open until `keep`.

        Each token sees the kept columns of its row, the open and new ones where `sees` is True (None: nothing is open,
        and the new ones are a chain), and itself. `features`: for a feature draft, the feature before each token.
        """
        if sees is None:
            sees = torch.ones(*ids.shape, ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        everywhere = torch.cat([self._places, places], dim=1)
        columns = everywhere[:, None, :]
        kept = torch.ones_like(sees[:, :, :1]).expand(-1, -1, self._kept)
        mask = torch.cat([kept, sees], dim=2) & (columns >= 0)
        if self._window is not None:
            mask &= columns > places[:, :, None] - self._window
        new = ids.shape[1]
        # A padding token sees itself, for a softmax over nothing would be NaN.
        mask[:, :, -new:] |= torch.eye(new, dtype=torch.bool, device=ids.device)
        output = self._forward(ids, places.clamp(min=0), features, mask[:, None])
        self._places = everywhere
        return output

    def keep(self, kept: TokenMask) -> None:
        """Commit the open columns where `kept` (row, open) is True, and drop the others."""
        whole = torch.cat([self._places[:, : self._kept] >= 0, kept & (self._places[:, self._kept :] >= 0)], dim=1)
        if whole.all():
            self._kept = whole.shape[1]
            return
        width = int(whole.sum(dim=1).max())
        order = whole.long().argsort(dim=1, stable=True)[:, whole.shape[1] - width :]
        self._places = self._places.gather(1, order).masked_fill(~whole.gather(1, order), -1)
        self._change(lambda tensor: _columns(tensor, order))
        self._kept = width

    def drop(self) -> None:
        """Drop all open columns."""
        if self._places.shape[1] > self._kept:
            self._places = self._places[:, : self._kept]
            self._change(lambda tensor: tensor[:, :, : self._kept])

    def select(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self._places = self._places[rows]
        self._change(lambda tensor: tensor[rows])

    @abstractmethod
    def _forward(self, ids: Tensor, places: Tensor, features: Tensor | None, mask: Tensor) -> Output: ...

    @abstractmethod
    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        """Replace every cached tensor, (row, head, column, size)."""


class CausalSteps(CachedSteps):
    """A causal model of transformers: the target, or a causal draft.

    Raises ValueError for a model that mixes layers with and without a sliding window, for an attention that cannot
    take an explicit mask of True and False and, at the first use, where a trial of a few tokens does not give the
    logits of whole forward passes.
    """

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        if model.config._attn_implementation != "sdpa":
            raise ValueError(
                f"attention {model.config._attn_implementation!r} takes no tree masks; load the model with 'sdpa'"
            )
        super().__init__(rows, window=attention_window(model), device=model.device)
        _require_exact(model)
        self.dtype = model.dtype
        self._model = model
        self._cache = DynamicCache()  # without the model's window: a window's cache could not take tokens back

    def _forward(self, ids: Tensor, places: Tensor, features: Tensor | None, mask: Tensor) -> Output:
        del features
        hidden = last_hidden_states(
            self._model,
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
        )
        return Output(hidden, self._model)

    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        for layer in self._cache.layers:
            layer.keys, layer.values = change(layer.keys), change(layer.values)


class FeatureSteps(CachedSteps):
    """A feature draft, whose features the target's head turns into logits."""

    def __init__(self, draft: FeatureDraft, target: PreTrainedModel, rows: int) -> None:
        super().__init__(rows, window=None, device=draft.fc.weight.device)
        self._draft, self._target = draft, target
        self._past: KeysValues | None = None

    def _forward(self, ids: Tensor, places: Tensor, features: Tensor | None, mask: Tensor) -> Output:
        guessed, (keys, values) = self._draft(ids, features, places, mask=mask, past=self._past)
        if self._past is not None:
            keys, values = torch.cat([self._past[0], keys], dim=2), torch.cat([self._past[1], values], dim=2)
        self._past = keys, values
        return Output(guessed, self._target)

    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        if self._past is not None:
            self._past = change(self._past[0]), change(self._past[1])


def draft_steps(draft: Draft, target: PreTrainedModel, rows: int) -> CachedSteps:
    """`draft` beside its target, on `rows` rows."""
    return FeatureSteps(draft, target, rows) if isinstance(draft, FeatureDraft) else CausalSteps(draft, rows)


def require_still(model: PreTrainedModel, longest: int) -> None:
    """Raises ValueError where rotary embeddings change within `longest` tokens: cached keys would keep the old ones."""
    if (fault := one_by_one(model, longest)) is not None:
        raise ValueError(f"{type(model).__name__} cannot be fed in steps: {fault}; {SLOW_PATH}")


def attention_window(model: PreTrainedModel) -> int | None:
    """The sliding window of the model's attention, None where each token sees all before it. Raises ValueError."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    if len(kinds) > 1:
        raise ValueError(f"layers of several kinds ({', '.join(sorted(kinds))}) cannot share one mask here")
    return window if kinds == {"sliding_attention"} else None


def _require_exact(model: PreTrainedModel) -> None:
    """Raises ValueError unless `model`, read in steps, gives on a trial the logits of its own whole forward passes.

    This finds layers that keep a state instead of columns, other kinds of cache, and masks and positions of a model's
    own. Only models that passed are remembered.
    """
    if model in _tried:
        return
    _tried.add(model)  # the trial itself makes a CausalSteps
    try:
        with torch.no_grad(), in_mode(model, training=False):
            worst = _trial_error(model)
        if not worst <= EXACT.get(model.dtype, ROUNDED):
            raise ValueError(f"on a trial its logits in steps were {worst:.1%} off those of whole forward passes")
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        _tried.discard(model)
        line = f"{type(error).__name__}: {error}".splitlines()[0].removeprefix("ValueError: ").rstrip(".;")
        raise ValueError(f"{type(model).__name__} cannot be fed in steps: {line}; {SLOW_PATH}") from error
    except BaseException:
        _tried.discard(model)
        raise


def _trial_error(model: PreTrainedModel) -> float:
    """The largest error of logits, over the largest logit, of two rows that are read, branch, take back and go on."""
    vocabulary = model.config.get_text_config().vocab_size
    window = attention_window(model) or 0
    length = (window if window <= LONGEST_TRIAL else SHORTEST_TRIAL) + 8
    ids = 3 + torch.arange(length * 7, length * 9, device=model.device).view(2, -1) * 31 % max(vocabulary - 3, 1)
    places = torch.arange(length, device=model.device) - torch.tensor([[SHIFT], [0]], device=model.device)
    read = ids.masked_fill(places < 0, 0)
    branch, last = ids[:, 1:4], ids[:, 4:5]  # root and two leaves; what follows the leaf that is kept
    errors = []

    def compare(logits: Tensor, row: int, *further: Tensor) -> None:
        whole = torch.cat([ids[row, places[row] >= 0], *further])[None]
        expected = model(input_ids=whole, use_cache=False).logits[0, -len(logits) :].float()
        off = (logits.float() - expected).abs().amax(dim=-1) / expected.abs().max().clamp(min=1e-6)
        # In half precision a router may choose otherwise at some token; what is wrong is wrong at most of them.
        errors.append(float(off.max() if model.dtype in EXACT else off.median()))

    steps = CausalSteps(model, 2)
    prompts = steps.run(read, places.masked_fill(places < 0, -1)).logits
    steps.keep(places >= 0)
    tree = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool, device=model.device).expand(2, -1, -1)
    depth = torch.tensor([1, 2, 2], device=model.device)
    grown = steps.run(branch, places[:, -1:] + depth, tree).logits
    kept = torch.tensor([[True, False, True], [True, True, False]], device=model.device)
    steps.keep(kept)
    once = steps.run(last, places[:, -1:] + 3).logits
    steps.drop()
    steps.select(torch.tensor([1], device=model.device))
    again = steps.run(last[1:], places[1:, -1:] + 3).logits
    for row in range(2):
        compare(prompts[row, places[row] >= 0], row)
        for leaf in (1, 2):
            compare(grown[row, [0, leaf]], row, branch[row, [0, leaf]])
        compare(once[row], row, branch[row, kept[row]], last[row])
    compare(again[0], 1, branch[1, kept[1]], last[1])
    return max(errors)


def _columns(tensor: Tensor, order: Tensor) -> Tensor:
    """Columns `order` (row, column) of (row, head, column, size)."""
    index = order[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[3])
    return tensor.gather(2, index)
