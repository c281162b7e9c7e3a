"""The blocked attention loss: values and gradients of whole maps, for any window, padding, documents and groups."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr_lab.losses.attention_kd import attention_kl, attention_map
from zephyr_lab.losses.fast import attention_blocks
from zephyr_lab.losses.fast.attention_blocks import attention_kl_sum, sight


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    """Queries and keys of two models that share heads alone, and shares with gaps."""

    def __init__(self, seed=0, rows=2, heads=4, kv_heads=2, teacher_kv_heads=4, positions=6, counted=0.6):
        self.queries = random(seed, rows, heads, positions, 3).requires_grad_()
        self.keys = random(seed + 1, rows, kv_heads, positions, 3).requires_grad_()
        self.teacher = (
            random(seed + 2, rows, heads, positions, 5),
            random(seed + 3, rows, teacher_kv_heads, positions, 5),
        )
        chosen = torch.rand(rows, positions, generator=torch.Generator().manual_seed(seed + 4)) < counted
        self.shares = random(seed + 5, rows, positions).abs() * chosen

    def blocked(self, seen):
        return attention_kl_sum(
            self.queries, self.keys, seen, self.shares, scale=0.7, teacher_queries=self.teacher[0],
            teacher_keys=self.teacher[1], teacher_scale=0.4,
        )  # fmt: skip

    def whole(self, allowed):
        own = attention_map(self.queries, self.keys, allowed, scale=0.7)
        found = attention_kl(own, attention_map(*self.teacher, allowed, scale=0.4), allowed)
        return (found * self.shares[:, None]).sum()

    def gradients(self, loss):
        return torch.autograd.grad(loss, [self.queries, self.keys])


def allowed_by_loops(rows, positions, window, real, places):
    """Cell by cell: not ahead, near enough, real, of the same document."""
    found = torch.zeros(rows, 1, positions, positions, dtype=torch.bool)
    for row in range(rows):
        for query in range(positions):
            for key in range(query + 1):
                near = window is None or query - key < window
                same = places is None or query - places[row, query] == key - places[row, key]
                found[row, 0, query, key] = near and same and (real is None or bool(real[row, key]))
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), positions=st.integers(1, 12), window=st.sampled_from([None, 1, 3]),
    groups=st.sampled_from([(1, 1), (2, 4), (4, 2)]), masked=st.sampled_from(["no", "left", "right", "holes"]),
    packed=st.booleans(), least=st.sampled_from([1, 3, 64]),
)  # fmt: skip
def test_value_and_gradients_are_those_of_whole_maps(seed, positions, window, groups, masked, packed, least):
    case = Case(seed, kv_heads=groups[0], teacher_kv_heads=groups[1], positions=positions)
    generator = torch.Generator().manual_seed(seed)
    place, cut = torch.arange(positions).expand(2, -1), torch.randint(positions + 1, (2, 1), generator=generator)
    real = {
        "no": None, "left": place >= cut, "right": place < cut,
        "holes": torch.rand(2, positions, generator=generator) < 0.6,
    }[masked]  # fmt: skip
    places = torch.where(place < cut, place, place - cut) if packed else None
    if real is not None:
        case.shares *= real  # what padding looks at is nobody's business
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_blocks, "LEAST_QUERIES", least)
        patch.setattr(attention_blocks, "CPU_SCORES", 0)
        found = case.blocked(sight(2, positions, window=window, real=real, places=places))
    allowed = allowed_by_loops(2, positions, window, real, places)
    expected = case.whole(allowed)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    for ours, theirs in zip(case.gradients(found), case.gradients(expected), strict=True):
        assert ours.isfinite().all() and torch.allclose(ours, theirs, atol=1e-12)


def test_a_query_that_sees_nothing_has_neither_loss_nor_gradient():
    case = Case(counted=1.1)
    real = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    for_queries, _ = case.gradients(case.blocked(sight(2, 6, window=2, real=real)))
    assert (for_queries[0, :, :3] == 0).all() and for_queries.isfinite().all()


def test_the_published_formula_is_no_number_where_this_one_is_finite():
    # kd-dae: KL of log(probabilities), 0 * -inf where a window or padding bans a key.
    case, allowed = Case(counted=1.1), allowed_by_loops(2, 6, 2, None, None)
    maps = attention_map(case.queries, case.keys, allowed, scale=0.7)
    teacher = attention_map(*case.teacher, allowed, scale=0.4)
    published = torch.nn.functional.kl_div(maps.log(), teacher.log(), reduction="none", log_target=True)
    assert published.sum().isnan()
    assert case.blocked(sight(2, 6, window=2)).isfinite()


def test_rows_that_do_not_count_cost_no_block():
    case = Case(counted=-1.0)
    assert case.blocked(sight(2, 6, window=None)).item() == 0
    assert not list(attention_blocks._blocks(case.shares[0], sight(2, 6, window=None), 0, 4))


def test_half_precision_is_within_its_rounding():
    case = Case(positions=12)
    expected = case.gradients(case.whole(allowed_by_loops(2, 12, None, None, None)))
    case.queries, case.keys = (one.detach().bfloat16().requires_grad_() for one in (case.queries, case.keys))
    case.teacher = tuple(one.bfloat16() for one in case.teacher)
    for ours, theirs in zip(case.gradients(case.blocked(sight(2, 12, window=None))), expected, strict=True):
        assert ours.dtype == torch.bfloat16 and (ours.double() - theirs).abs().max() < 0.05 * theirs.abs().max()


def test_a_factor_on_the_loss_reaches_the_gradients_and_a_second_backward_is_refused():
    case = Case()
    expected = case.gradients(3 * case.whole(allowed_by_loops(2, 6, None, None, None)))
    found = 3 * case.blocked(sight(2, 6, window=None))
    found.backward(retain_graph=True)
    assert torch.allclose(case.queries.grad, expected[0]) and torch.allclose(case.keys.grad, expected[1])
    with pytest.raises(RuntimeError, match="spent by one backward"):
        found.backward()


def test_what_does_not_fit_is_refused():
    case = Case()
    seen = sight(2, 6, window=None)
    case.teacher = case.teacher[0][:, :2], case.teacher[1]
    with pytest.raises(ValueError, match=r"positions differ: student \(2, 4, 6\), teacher \(2, 2, 6\)"):
        case.blocked(seen)
    case = Case(teacher_kv_heads=3)
    with pytest.raises(ValueError, match="teacher_keys have 3 heads, which do not divide the 4"):
        case.blocked(seen)
    case = Case()
    case.shares.requires_grad_()
    with pytest.raises(ValueError, match="shares must be plain numbers"):
        case.blocked(seen)
    case = Case()
    case.queries = case.queries.half()
    with pytest.raises(ValueError, match="float16 gradients need a scaled loss"):
        case.blocked(seen)
    with pytest.raises(ValueError, match=r"window must be at least 1 \(a token sees itself\), got 0"):
        sight(1, 4, window=0)
