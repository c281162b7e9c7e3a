"""One step of KD without whole logits and without maps, for any training loop: equations (1) to (5) of 2406.19112.

Both models run by sdpa; the attention loss is computed layer by layer from queries and keys, the prediction loss from
the hidden states of the positions that count. Equal to the plain step of `methods.kd` (tested). Gradients are those of
the whole loss: add losses, call backward once.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zephyr_lab.core.shapes import TokenMask
from zephyr_lab.losses.fast.attention_blocks import Sight, attention_kl_sum, sight
from zephyr_lab.losses.fast.kd_head import Divergence, Hidden, LinearHead, TokenShares, forward_kl, kd_head_losses
from zephyr_lab.models.attention import LayerTap, tapping
from zephyr_lab.models.causal import accepted, causal_model, evaluating
from zephyr_lab.models.lean_feed_forward import lean_feed_forward
from zephyr_lab.models.logits import FAILURES, WHOLE, body_of, plain_head
from zephyr_lab.models.packed_attention import require_apart
from zephyr_lab.models.pairing import Pairing


@dataclass(frozen=True, slots=True)
class Parts:
    """The loss to train on (eq. 5), and as plain numbers the three that it is mixed from.

    attention is None where none was asked for, or where the models' layers or heads do not pair.
    """

    loss: Tensor
    prediction: Tensor
    attention: Tensor | None
    cross_entropy: Tensor


@dataclass(frozen=True, slots=True)
class Passes:
    """Hidden states of both models at the positions that count, (token, hidden), and the attention loss if any."""

    hidden: Tensor
    teacher_hidden: Tensor
    attention: Tensor | None


def linear_head(model: nn.Module) -> LinearHead:
    """The model's head for the fused losses: ask once, before training and before the model is wrapped.

    Raises ValueError as `models.logits`.
    """
    head = plain_head(model)
    try_out(model)
    return LinearHead(head.weight, head.bias)


def last_hidden(model: nn.Module, inputs: Mapping[str, Any], counted: TokenMask) -> Hidden:
    """What the model's head reads at the counted positions, (token, hidden), without the logits of all positions.

    The feed-forward block of the last layer runs for these positions alone where a trial showed that this changes
    nothing (`_ends_by_token`). Blocks like Llama's keep only gate and up for the backward pass
    (`models.lean_feed_forward`). `model` may be wrapped for several devices or carry adapters: the wrapper's own
    forward runs. Raises ValueError for a model whose logits depend on more than its last hidden states.
    """
    causal = causal_model(model)
    body = body_of(causal).module
    again = body.training and body.is_activation_checkpointing  # runs the layer a second time, without these hooks
    # Before the hooks: the first call runs the body. Of no token a 4-bit block of bitsandbytes ends the process.
    ends_by_token = not again and _ends_by_token(body) and bool(counted.any())
    caught: list[Tensor] = []
    hooks = [body.register_forward_hook(lambda module, args, output: caught.append(output.last_hidden_state))]
    if ends_by_token:
        hooks += _for_counted(body, counted)
    try:
        with nullcontext() if again else lean_feed_forward(body):
            model(**{**inputs, **accepted(causal, use_cache=False, logits_to_keep=1)})
    finally:
        for hook in hooks:
            hook.remove()
    hidden = caught[0][counted]
    device = hidden.device.type  # under autocast the model's own head would multiply in this type
    return hidden.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden


def try_out(model: nn.Module) -> None:
    """Try on a few tokens what `last_hidden` may leave out: once, and before the model's attention is tapped, which
    would take these tokens for the batch's. Raises ValueError as `last_hidden`."""
    _ends_by_token(body_of(model).module)


_by_token: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _ends_by_token(body: nn.Module) -> bool:
    """Whether the last feed-forward block and what follows it treat each token alone; tried on the first call."""
    if body not in _by_token:
        _by_token[body] = _last_block(body) is not None and _shown_by_token(body)
    return _by_token[body]


@torch.no_grad()
def _shown_by_token(body: nn.Module) -> bool:
    ids = torch.arange(3, 13, device=body.device).view(2, 5) % body.config.get_text_config().vocab_size
    counted = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 1, 0]], dtype=torch.bool, device=ids.device)
    hooks = []
    with evaluating(body):
        try:
            whole = body(input_ids=ids, **accepted(body, use_cache=False)).last_hidden_state[counted]
        except FAILURES as error:  # an adapter, say, that keeps what its wrapper has read before
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(
                f"{type(body).__name__} does not read ids without what is around it ({line}); {WHOLE}"
            ) from error
        try:
            hooks += _for_counted(body, counted)
            alone = body(input_ids=ids, **accepted(body, use_cache=False)).last_hidden_state[counted]
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
            return False  # the block takes or returns something else than a tensor of all tokens
        finally:
            for hook in hooks:
                hook.remove()
    limits = torch.finfo(whole.dtype)
    tolerance = 64 * limits.eps * max(float(whole.nan_to_num().abs().max()), limits.tiny)
    return torch.allclose(alone, whole, rtol=0.0, atol=tolerance, equal_nan=True)


def _last_block(body: nn.Module) -> nn.Module | None:
    layers = getattr(body, "layers", None)
    block = getattr(layers[-1], "mlp", None) if isinstance(layers, nn.ModuleList) and len(layers) else None
    return block if isinstance(block, nn.Module) else None


def _for_counted(body: nn.Module, counted: TokenMask) -> list[RemovableHandle]:
    """Hooks that let the last feed-forward block run for the counted tokens alone."""
    block = _last_block(body)
    return [
        block.register_forward_pre_hook(lambda module, args: (args[0][counted][None], *args[1:])),
        block.register_forward_hook(lambda module, args, output: _at(output, counted)),
    ]


def _at(output: Any, counted: TokenMask) -> Any:
    """Rows at their positions, zeros elsewhere; further outputs of a block as they are."""
    if isinstance(output, tuple):
        return _at(output[0], counted), *output[1:]
    if output.shape[:2] != (1, int(counted.sum())):
        raise ValueError(f"a block gave {tuple(output.shape)} for {int(counted.sum())} tokens")
    return output.new_zeros(*counted.shape, output.shape[-1]).masked_scatter(counted[..., None], output[0])


def lean_kd_losses(
    student: nn.Module,
    teacher: nn.Module,
    inputs: Mapping[str, Any],
    *,
    heads: tuple[LinearHead, LinearHead],
    counted: TokenMask,
    shares: TokenShares,
    ce_shares: TokenShares | None = None,
    pairing: Pairing | None,
    prediction_weight: float,
    attention_weight: float,
    ce_weight: float,
    temperature: float,
    divergence: Divergence = forward_kl,
) -> Parts:
    """Equation (5) over the positions in `counted`, each loss summed with their `shares`, in order of the mask.

    inputs: what both models' forward takes (input_ids; attention_mask where padding is on the left or inside;
    position_ids that restart where texts are packed). heads: student's and teacher's, by `linear_head`. ce_shares: the
    cross-entropy's, where they differ: `counted` then holds the positions of either loss, with a share of 0 where a
    position does not count for one. pairing: whose maps each layer and head follows (`models.pairing.pair`); None
    leaves the attention loss out. A loss of weight 0 is returned without a gradient.

    Raises ValueError where a last position counts that has no share of its own in the cross-entropy.
    """
    if ce_shares is None and bool(counted[:, -1].any()):
        raise ValueError("counted holds a last position, which predicts nothing; shift the mask (losses.kd.predicting)")
    passes = both_passes(
        student,
        teacher,
        inputs,
        counted=counted,
        shares=shares,
        pairing=pairing,
        attention_trained=bool(attention_weight),
    )
    ids = inputs["input_ids"]
    following = torch.cat([ids[:, 1:], ids[:, :1]], dim=1)[counted]  # after a last position: any id, its share is 0
    head = kd_head_losses(
        passes.hidden,
        heads[0],
        teacher_hidden=passes.teacher_hidden,
        teacher_head=heads[1],
        next_ids=following,
        shares=shares,
        ce_shares=ce_shares,
        prediction_weight=prediction_weight,
        ce_weight=ce_weight,
        temperature=temperature,
        divergence=divergence,
    )
    loss, attention = head.loss, passes.attention
    if attention is not None and attention_weight:
        alone = not prediction_weight and not ce_weight
        loss = attention_weight * attention if alone else loss + attention_weight * attention
    return Parts(loss, head.prediction, None if attention is None else attention.detach(), head.cross_entropy)


def both_passes(
    student: nn.Module,
    teacher: nn.Module,
    inputs: Mapping[str, Any],
    *,
    counted: TokenMask,
    shares: TokenShares,
    pairing: Pairing | None,
    attention_trained: bool = True,
) -> Passes:
    """Both models' forward passes and the attention loss on the way, the mean over layers and heads (eq. 4, 5).

    Positions of share 0 cost the attention loss nothing. Raises ValueError for packed rows as
    `packed_attention.require_apart`.
    """
    try_out(student)
    try_out(teacher)
    if "position_ids" in inputs and inputs.get("attention_mask") is None:  # packed, as transformers reads it
        longest = int(inputs["position_ids"].max()) + 1
        for model in (student, teacher):
            require_apart(getattr(model, "module", model), longest)
    if pairing is None:
        with torch.no_grad():
            teacher_hidden = last_hidden(teacher, inputs, counted)
        return Passes(last_hidden(student, inputs, counted), teacher_hidden, None)
    taps: dict[int, LayerTap] = {}

    def keep(tap: LayerTap) -> None:
        if tap.layer in pairing.layers:
            taps[tap.layer] = tap

    with torch.no_grad(), tapping(teacher, keep):
        teacher_hidden = last_hidden(teacher, inputs, counted)
    follower = _Follower(taps, pairing, spread(shares, counted), inputs, trained=attention_trained)
    with tapping(getattr(student, "module", student), follower):
        hidden = last_hidden(student, inputs, counted)
    return Passes(hidden, teacher_hidden, torch.stack(follower.divergences).sum())


class _Follower:
    """Taps the student and computes each layer's divergence from the teacher's paired layer."""

    def __init__(
        self, taps: dict[int, LayerTap], pairing: Pairing, shares: Tensor, inputs: Mapping[str, Any], *, trained: bool
    ) -> None:
        self._taps, self._pairing, self._shares, self._inputs = taps, pairing, shares, inputs
        self._trained = trained
        self._sights: dict[int | None, Sight] = {}
        self.divergences: list[Tensor] = []

    def __call__(self, tap: LayerTap) -> None:
        followed, pairs = self._pairing.layers, self._pairing.heads
        # A teacher's layer is kept until the last student layer that follows it.
        again = followed[tap.layer] in followed[tap.layer + 1 :]
        theirs = self._taps[followed[tap.layer]] if again else self._taps.pop(followed[tap.layer])
        queries, keys = theirs.queries, theirs.keys
        if pairs != tuple(range(queries.shape[1])):
            heads = torch.tensor(pairs, device=queries.device)
            keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)[:, heads]
            queries = queries[:, heads]
        own_queries, own_keys = tap.queries, tap.keys
        if not self._trained:
            own_queries, own_keys = own_queries.detach(), own_keys.detach()
        shares = self._shares / (len(followed) * tap.queries.shape[1])
        self.divergences.append(
            attention_kl_sum(
                own_queries,
                own_keys,
                self._sight(tap, theirs),
                shares,
                scale=tap.scale,
                teacher_queries=queries,
                teacher_keys=keys,
                teacher_scale=theirs.scale,
                group=self._pairing.group,
            )
        )

    def _sight(self, tap: LayerTap, theirs: LayerTap) -> Sight:
        """The positions that both models see: of two windows the smaller."""
        window = min((one for one in (tap.window, theirs.window) if one is not None), default=None)
        if window not in self._sights:
            mask, places = self._inputs.get("attention_mask"), self._inputs.get("position_ids")
            rows, _, positions, _ = tap.queries.shape
            self._sights[window] = sight(
                rows,
                positions,
                window=window,
                real=None if mask is None else mask.bool(),
                places=places if mask is None else None,
                device=tap.queries.device,
            )
        return self._sights[window]


def spread(shares: Tensor, counted: Tensor) -> Tensor:
    """Shares at their positions, (row, position), 0 elsewhere."""
    spread = torch.zeros(counted.shape, dtype=shares.dtype, device=shares.device)
    spread[counted] = shares
    return spread
