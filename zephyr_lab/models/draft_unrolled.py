"""A feature draft as it runs on its own guesses: one pass for each depth of a draft, all places of a row at once."""

import torch
from jaxtyping import Float
from torch import Tensor

from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.models.draft import FeatureDraft, Features

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
    given = true
    for step in range(depth):
        z = draft.fc(torch.cat([draft.embedding(following), given], dim=-1))
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
        given = torch.cat([torch.zeros_like(own[-1][:, :1]), own[-1][:, :-1]], dim=1)
    return own
