"""The feature draft is the layer it says it is, and only the parts that an arm names can move."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer, MistralRotaryEmbedding

from tiny_drafts import little_feature_draft, little_target
from tiny_models import small_tokenizer
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models import draft_files
from zephyr_lab.models.draft import FeatureDraft, build, shape_for, take_embedding, trainable
from zephyr_lab.models.draft_shape import PARTS

SIZES = {"heads": 2, "kv_heads": 1, "shared_experts": 1, "private_experts": 1, "shared_width": 12, "private_width": 6}


@pytest.fixture(scope="module")
def target():
    return little_target()


def draft_of(target, **changes):
    """A draft with weights large enough to show."""
    shape = shape_for(target, **{**SIZES, "top": 1, "routers": True, **changes})
    draft = build(shape, target, seed=3).double()
    for parameter in draft.parameters():
        if parameter.ndim == 2 and parameter.requires_grad:
            parameter.data.mul_(15)
    return draft.eval()


def pairs(target, rows=2, length=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, target.config.vocab_size, (rows, length), generator=generator)
    features = torch.randn(rows, length, target.config.hidden_size, generator=generator, dtype=torch.float64)
    return ids, features, torch.arange(1, length + 1).expand(rows, -1)


def test_without_private_experts_it_is_a_decoder_layer_of_transformers_without_its_first_norm(target):
    draft = draft_of(target, private_experts=0, private_width=0, routers=False)
    layer = MistralDecoderLayer(target.config, layer_idx=0).double()
    layer.input_layernorm = nn.Identity()
    expert = draft.shared.experts[0]
    theirs = layer.self_attn, layer.mlp
    for name, (own, other) in {
        "attention": ((draft.q_proj, draft.k_proj, draft.v_proj, draft.o_proj), theirs[0]),
        "feed-forward": ((expert.gate, expert.up, expert.down), theirs[1]),
    }.items():
        names = (
            ("q_proj", "k_proj", "v_proj", "o_proj") if name == "attention" else ("gate_proj", "up_proj", "down_proj")
        )
        for module, key in zip(own, names, strict=True):
            getattr(other, key).weight.data.copy_(module.weight.data)
    ids, features, places = pairs(target)
    with torch.inference_mode():
        z = draft.fc(torch.cat([draft.embedding(ids), features], dim=-1))
        turns = MistralRotaryEmbedding(target.config)(z, places)
        mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
        wanted = layer(z, attention_mask=mask, position_embeddings=turns)
        found, _ = draft(ids, features, places)
    torch.testing.assert_close(found, wanted if isinstance(wanted, torch.Tensor) else wanted[0], rtol=0, atol=1e-6)


def test_private_experts_add_to_the_shared(target):
    draft = draft_of(target)
    normed = torch.randn(1, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    silent = torch.zeros_like(normed)
    before = draft.finish(silent, silent)
    z = normed
    with_both = draft.finish(z, silent)
    draft.private.experts[0].down.weight.data.zero_()
    shared_alone = draft.finish(z, silent)
    assert not torch.allclose(with_both, shared_alone)
    torch.testing.assert_close(shared_alone, z + draft.shared(draft.norm(z)))
    assert before.abs().max() == 0  # nothing in, nothing out


def test_a_chosen_expert_alone_weighs_1_whatever_its_router_says(target):
    draft = draft_of(target, shared_experts=3)
    normed = torch.randn(2, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = draft.shared(normed)
    chosen = draft.shared.router(normed).argmax(dim=-1)
    for row in range(2):
        for place in range(4):
            expert = draft.shared.experts[chosen[row, place]]
            torch.testing.assert_close(found[row, place], expert(normed[row : row + 1, place : place + 1])[0, 0])
    found.sum().backward()
    assert draft.shared.router.weight.grad.abs().max() < 1e-12  # why the authors' routers learn nothing


def test_two_chosen_experts_weigh_as_their_softmax(target):
    draft = draft_of(target, shared_experts=3, private_experts=2, top=2)
    normed = torch.randn(1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scores, places = draft.shared.router(normed)[0, 0].topk(2)
    wanted = sum(
        weight * draft.shared.experts[place](normed)[0, 0]
        for weight, place in zip(scores.softmax(dim=-1), places, strict=True)
    )
    torch.testing.assert_close(draft.shared(normed)[0, 0], wanted)


def test_the_closed_form_counts_the_parameters(target):
    for changes in ({}, {"routers": False}, {"shared_experts": 2, "private_experts": 3, "top": 2}):
        draft = draft_of(target, **changes)
        counts = sum(parameter.numel() for name, parameter in draft.named_parameters() if "embedding" not in name)
        assert draft.shape.own == counts
        assert draft.shape.embedding == draft.embedding.weight.numel()


@pytest.mark.parametrize("part", [part for part in PARTS if part != "lora"])
def test_an_arm_trains_as_many_parameters_as_its_part_has(target, part):
    draft = draft_of(target)
    assert sum(parameter.numel() for parameter in trainable(draft, part)) == draft.shape.trained(part)
    assert not draft.embedding.weight.requires_grad


def test_pairs_see_none_after_them(target):
    draft = draft_of(target)
    ids, features, places = pairs(target)
    whole, _ = draft(ids, features, places)
    changed = features.clone()
    changed[:, 4:] += 1
    later, _ = draft(ids, changed, places)
    torch.testing.assert_close(whole[:, :4], later[:, :4])
    assert not torch.allclose(whole[:, 4:], later[:, 4:])


def test_a_cache_gives_what_the_whole_row_gives(target):
    draft = draft_of(target)
    ids, features, places = pairs(target)
    whole, _ = draft(ids, features, places)
    first, past = draft(ids[:, :4], features[:, :4], places[:, :4])
    mask = torch.tensor([[True] * 5 + [False], [True] * 6])[None, None].expand(2, 1, -1, -1)
    rest, _ = draft(ids[:, 4:], features[:, 4:], places[:, 4:], mask=mask, past=past)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole)


def test_equal_seeds_give_equal_weights_and_fresh_private_experts_are_others(target):
    shape = shape_for(target, **SIZES, top=1, routers=True)
    one, two = build(shape, target, seed=1), build(shape, target, seed=1)
    assert all(torch.equal(*both) for both in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    two.reset_private(9)
    moved = {name for name in one.state_dict() if not torch.equal(one.state_dict()[name], two.state_dict()[name])}
    assert moved == {name for name in one.state_dict() if name.startswith("private.")}


def test_a_draft_on_disk_is_the_same_draft_and_the_same_bytes(target, tmp_path):
    draft = little_feature_draft(target, steps=1).float()
    for folder in ("a", "b"):
        draft_files.save(draft, tmp_path / folder, tokenizer=small_tokenizer(), notes={"part": "all"})
    assert (tmp_path / "a/draft.safetensors").read_bytes() == (tmp_path / "b/draft.safetensors").read_bytes()
    read = draft_files.load(tmp_path / "a")
    assert isinstance(read, FeatureDraft)
    ids, features, places = pairs(target)
    torch.testing.assert_close(read(ids, features.float(), places)[0], draft(ids, features.float(), places)[0])
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"draft.json", "draft.safetensors"}


def test_a_folder_without_a_draft_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no draft\.json"):
        draft_files.load(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"entries": 7}, "different vocabularies: 6 and 7 entries; train a draft"),
        ({"hidden_size": 16, "head_dim": 8}, "features of 8 dimensions, the target's have 16"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(target, other, message):
    with pytest.raises(ValueError, match=message):
        take_embedding(draft_of(target), little_target(**other))


def test_scaled_rotary_positions_and_unfitting_heads_are_refused(target):
    with pytest.raises(ValueError, match="heads must divide the target's width of 8, got 3"):
        shape_for(target, **{**SIZES, "heads": 3, "kv_heads": 3}, top=1, routers=False)
    scaled = little_target()
    scaled.config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(ValueError, match="'linear'; drafts know 'default' alone"):
        build(shape_for(scaled, **SIZES, top=1, routers=False), scaled, seed=0)


def test_a_part_that_no_draft_has_is_named(target):
    with pytest.raises(ValueError, match="part must be one of all, private"):
        trainable(draft_of(target), "head")


def test_the_shape_can_change_its_private_width_alone(target):
    shape = shape_for(target, **SIZES, top=1, routers=True)
    assert replace(shape, private_width=12).own - shape.own == 3 * 8 * 6
    assert feature_draft.require_fit(FeatureDraft(shape, feature_draft.TargetTraits.of(target)), target) is None
