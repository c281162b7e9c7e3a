"""Packing: many short documents in rows of one length, kept apart by their positions.

A row is documents one after another, each counted from position 0. Models of transformers read the restarts as borders
and let no document see another, but only where neither an attention mask nor a cache is in play: pass use_cache=False,
whose default would let the documents see each other without a word.
"""

from collections.abc import Iterable, Sequence

import torch

from zephyr_lab.core.shapes import TokenIds, TokenMask


def pack(documents: Iterable[Sequence[int]], *, length: int, eos_id: int, pad_id: int) -> TokenIds:
    """Rows of `length` ids that hold every document once, each followed by `eos_id`; the rest of a row is padding.

    Each document goes to the open row with the least room that it fits in. One that is longer than a row is cut into
    rows of its own. Rows come in the order in which they were opened.
    """
    if length < 2:
        raise ValueError(f"length must be at least 2, got {length}")
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(length + 1)]  # room left -> rows with that room
    rooms = 0  # bit r is set where a row has room r
    for document in documents:
        ids = [*document, eos_id]
        while len(ids) > length:
            rows.append(ids[:length])
            ids = ids[length:]
        fitting = rooms >> len(ids)
        if fitting:
            room = len(ids) + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            row = len(rows)
            rows.append([])
        rows[row] += ids
        left = length - len(rows[row])
        by_room[left].append(row)
        rooms |= 1 << left
    filled = [row + [pad_id] * (length - len(row)) for row in rows]
    return torch.tensor(filled, dtype=torch.long).view(-1, length)


def document_positions(rows: TokenIds, *, eos_id: int) -> TokenIds:
    """Position of each token in its document: 0 at the start of a row and after each `eos_id`."""
    places = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    starts = torch.ones_like(rows, dtype=torch.bool)
    starts[:, 1:] = rows[:, :-1] == eos_id
    return places - torch.where(starts, places, 0).cummax(dim=1).values


def predictable(rows: TokenIds, positions: TokenIds, *, pad_id: int) -> TokenMask:
    """True on the tokens that follow another of their document, so that a model can be asked for them."""
    return (positions > 0) & (rows != pad_id)
