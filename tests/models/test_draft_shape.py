"""The draft's parameters, counted in closed form, are the counts in print."""

from dataclasses import replace

import pytest

from zephyr_lab.models.draft_shape import DraftShape, matching_rank, trained_share

QWEN_7B = DraftShape(
    entries=152_064,
    hidden=3584,
    heads=28,
    kv_heads=4,
    head_size=128,
    shared_experts=1,
    private_experts=1,
    shared_width=18_944,
    private_width=18_944,
    top=1,
    routers=True,
)
HALF = replace(QWEN_7B, private_width=9472)


def test_parameters_are_those_of_the_published_draft():
    assert QWEN_7B.attention == 29_360_128
    assert QWEN_7B.fc == 25_693_696
    assert QWEN_7B.shared == 203_685_888
    assert QWEN_7B.embedding == 544_997_376
    assert QWEN_7B.own == 462_436_352


def test_the_quoted_127_million_are_a_private_expert_of_half_width_with_fc():
    assert HALF.trained("private_and_fc") == 127_540_224


def test_the_shares_that_the_sources_print_are_four_ways_of_counting():
    assert trained_share(QWEN_7B, "private").of_draft == pytest.approx(0.440, abs=5e-4)
    assert trained_share(QWEN_7B, "private_and_fc").of_draft == pytest.approx(0.496, abs=5e-4)
    half = trained_share(HALF, "private_and_fc")
    assert half.of_draft == pytest.approx(0.354, abs=5e-4)
    assert half.of_full_width == pytest.approx(0.276, abs=5e-4)
    assert half.with_embedding == pytest.approx(127_540_224 / (360_593_408 + 544_997_376), rel=1e-6)


def test_a_matching_rank_has_nearest_to_the_wanted_parameters():
    wanted = HALF.trained("private_and_fc")
    rank = matching_rank(HALF, wanted)
    distance = {near: abs(HALF.lora(near) - wanted) for near in (rank - 1, rank, rank + 1)}
    assert min(distance, key=distance.get) == rank
    assert matching_rank(HALF, 1) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_heads": 3}, "multiple of kv_heads"),
        ({"head_size": 5}, "must be even"),
        ({"private_width": 0}, "private experts need a width"),
        ({"routers": False, "shared_experts": 2}, "top 1 of 2 experts needs routers"),
        ({"hidden": 0}, "hidden must be at least 1"),
    ],
)
def test_impossible_sizes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(QWEN_7B, **changes)


def test_an_unknown_part_is_named():
    with pytest.raises(ValueError, match="part must be one of all, lora"):
        QWEN_7B.trained("head")
