"""Choosing the next token of each row from its logits, by the row's temperature and one uniform number."""

import torch

from zephyr_lab.core.shapes import NextLogits, RowIds, RowNumbers


def choose(logits: NextLogits, temperatures: RowNumbers, uniforms: RowNumbers) -> RowIds:
    """Token of each row: the argmax at temperature 0, else a draw from softmax(logits / temperature).

    The draw inverts the cumulative distribution at the row's number from [0, 1), in float64: a row's token depends on
    nothing but its own logits and number, so neither its neighbours nor its place in the batch change it.
    """
    greedy = logits.argmax(dim=-1)
    if not temperatures.any():
        return greedy
    divisors = torch.where(temperatures > 0, temperatures, 1.0).double()
    cumulative = torch.softmax(logits.double() / divisors[:, None], dim=-1).cumsum(dim=-1)
    points = uniforms.double()[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, points, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    return torch.where(temperatures > 0, drawn, greedy)
