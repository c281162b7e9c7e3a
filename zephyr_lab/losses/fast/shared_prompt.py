"""Preference losses with the prompt of each pair computed once, for a loop or a trainer of your own.

    packed = pair_packing.pack([(prompt_ids, chosen_ids, rejected_ids), ...])
    with torch.no_grad():
        reference = shared_prompt.pair_log_probs(reference_model, packed)  # once; two numbers a pair
    shared_prompt.loss(model, packed, reference, pair_losses.dpo(beta=0.1)).loss.backward()

Values and gradients are those of padded rows and whole logits up to rounding. What cannot be exact is refused.
"""

from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from zephyr_lab.core.packed_rows import precision, rope_limits
from zephyr_lab.losses.fast import pair_head
from zephyr_lab.losses.fast.pair_head import TILE_ENTRIES, HeadLoss, target_log_probs
from zephyr_lab.losses.fast.pair_losses import PairLoss
from zephyr_lab.losses.fast.pair_packing import PackedPairs, pack
from zephyr_lab.losses.fast.shared_prompt_attention import attending, selecting
from zephyr_lab.losses.fast.supported import SLOW_PATH, output_head, require_lengths, require_supported
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs

# Relative difference of summed log-probabilities that rounding may make.
EXACT = {torch.float64: 1e-6, torch.float32: 1e-3}
ROUNDED = 5e-2
LONGEST_TRIAL, SHORTEST_TRIAL, LEAST_TRIAL = 512, 64, 12

_tried: WeakSet[nn.Module] = WeakSet()


def pair_log_probs(model: nn.Module, packed: PackedPairs, *, tile_entries: int = TILE_ENTRIES) -> PairLogProbs:
    """log pi(response | prompt) of both responses of each pair, summed over tokens, in nats, float64.

    They carry a gradient where it is enabled, for any loss to follow. `tile_entries`: logits alive at once. Raises
    ValueError for a model that the shared prompt is not exact for.
    """
    causal = require_exact(model)
    hidden, head = _before_head(causal, packed)
    rows = target_log_probs(hidden, head.weight, head.bias, packed.targets(), tile_entries=tile_entries)
    return pair_head.pair_sums(rows, packed.shapes)


def loss(
    model: nn.Module, packed: PackedPairs, reference: PairLogProbs | None, pair_loss: PairLoss, *,
    tile_entries: int = TILE_ENTRIES,
) -> HeadLoss:  # fmt: skip
    """The mean of `pair_loss` over the pairs, to call `backward` on once; the head's gradient is made already.

    `reference`: what `pair_log_probs` of the reference gave for the same pairs, None for losses without one. The
    policy's log-probabilities and statistics of its responses come along for logs, in the order of
    `PackedPairs.targets`. `tile_entries`: logits alive at once. Raises ValueError for a model that the shared prompt is
    not exact for, and where the loss has no finite slope.
    """
    causal = require_exact(model)
    hidden, head = _before_head(causal, packed)
    lengths = packed.lengths

    def of_pairs(policy: PairLogProbs, pairs: slice) -> Tensor:
        base = None if reference is None else PairLogProbs(reference.chosen[pairs], reference.rejected[pairs])
        return pair_loss(policy, base, PairLengths(lengths.chosen[pairs], lengths.rejected[pairs]))

    return pair_head.mean_loss(
        hidden, head.weight, head.bias, packed.targets(), packed.shapes, of_pairs, tile_entries=tile_entries
    )


def _before_head(model: nn.Module, packed: PackedPairs) -> tuple[Tensor, nn.Linear]:
    """Hidden states that the head reads, a row a target, and the head."""
    require_lengths(model, max(shape.prompt + max(shape.chosen, shape.rejected) for shape in packed.shapes))
    with attending(model), selecting(model, packed) as places:
        states = model.base_model(
            input_ids=packed.ids, position_ids=packed.positions, packed_pairs=packed, use_cache=False
        ).last_hidden_state
    return states[0].index_select(0, places), output_head(model)


def require_exact(model: nn.Module) -> nn.Module:
    """The causal language model in `model`, after the first call's trial of the shared prompt against plain rows.

    `pair_log_probs` and `loss` call it; call it yourself before a model's `forward` is wrapped: the trial would
    enter the wrapper a second time. Raises ValueError for a model that the shared prompt is not exact for.
    """
    causal = require_supported(model)
    if causal not in _tried:
        _tried.add(causal)  # before the trial, which comes by here
        try:
            _try_out(causal, model)
        except BaseException:
            _tried.discard(causal)
            raise
    return causal


def _try_out(model: nn.Module, whole: nn.Module) -> None:
    """Raises ValueError unless two small pairs get the log-probabilities that `whole`, adapters and all, gives them."""
    config = model.config.get_text_config()
    tokens = [place * 7919 % config.vocab_size for place in range(_trial_length(config))]
    pairs = [(tokens[4:], tokens[:4], tokens[8:11]), (tokens[:3], tokens[3:5], tokens[5:9])]
    device = next(model.parameters()).device
    tolerance = EXACT.get(precision(model), ROUNDED)
    with torch.no_grad():
        ours = pair_log_probs(model, pack(pairs).to(device))
        for place, (prompt, *responses) in enumerate(pairs):
            for response, packed_log_prob in zip(responses, (ours.chosen, ours.rejected), strict=True):
                plain = _plain_log_prob(whole, torch.tensor([[*prompt, *response]], device=device), len(response))
                if not bool((packed_log_prob[place] - plain).abs() <= tolerance * (1 + plain.abs())):
                    raise ValueError(
                        f"no shared prompt for this model: on a trial {type(model).__name__} gave {plain:.4f} as the "
                        f"log-probability of a response and packed pairs {packed_log_prob[place]:.4f}; {SLOW_PATH}"
                    )


def _trial_length(config: Any) -> int:
    """Tokens of the longest trial row: past the window, up to `LONGEST_TRIAL`.

    A larger window is not walked through; the attention function compares it with the one that the mask would have.
    """
    window = getattr(config, "sliding_window", None) or 0
    wanted = (window if window <= LONGEST_TRIAL else SHORTEST_TRIAL) + 16
    longest = [getattr(config, "max_position_embeddings", None) or wanted]
    longest += [limit - 1 for _, limit in rope_limits(config)]
    if (length := min(wanted, *longest)) < LEAST_TRIAL:
        raise ValueError(f"no shared prompt for this model: it takes texts of {length} tokens at most; {SLOW_PATH}")
    return length


def _plain_log_prob(model: nn.Module, ids: Tensor, response: int) -> Tensor:
    """log-probability of the last `response` tokens of one row, by the model's own logits."""
    logits = model(input_ids=ids, use_cache=False).logits[0, -response - 1 : -1]
    return logits.log_softmax(dim=-1).gather(1, ids[0, -response:, None]).sum()
