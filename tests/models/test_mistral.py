"""The builder says what it builds: sizes, ids, window, seeds."""

import pytest
import torch

from tiny_models import SMALL, small_model, small_tokenizer
from zephyr_lab.models import mistral, saved

BASE = mistral.MistralShape(hidden=96, layers=3, heads=4, kv_heads=2, ffn=256, window=96, context=256)


def test_the_tiny_base_has_as_many_parameters_as_its_sizes_say():
    # a layer: q and o 96 x 96, k and v 96 x 48, three matrices 96 x 256, two norms; then embedding and last norm
    tokenizer = small_tokenizer()
    model = mistral.build(BASE, tokenizer, seed=0)
    assert model.num_parameters() == len(tokenizer) * 96 + 3 * (2 * 9216 + 2 * 4608 + 3 * 24576 + 192) + 96


def test_nothing_is_left_to_the_librarys_defaults():
    tokenizer = small_tokenizer()
    config = mistral.build(BASE, tokenizer, seed=0).config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.vocab_size == len(tokenizer)
    assert config.sliding_window == 96
    assert config.tie_word_embeddings
    assert config.rope_parameters["rope_theta"] == 10_000.0
    assert config.rms_norm_eps == 1e-6
    assert config.num_key_value_heads == 2


def test_embedding_and_head_are_one_tensor():
    model = small_model()
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def last_logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0, -1]


def test_the_window_bites():
    # One layer with a window of 16: the last of 20 tokens sees the 15 before it, and no token further back.
    windowed, full = small_model(layers=1, window=16), small_model(layers=1, window=None)
    assert all(torch.equal(a, b) for a, b in zip(windowed.parameters(), full.parameters(), strict=True))
    ids = list(range(300, 320))
    inside, outside = ids.copy(), ids.copy()
    inside[4], outside[3] = 400, 400
    assert torch.allclose(last_logits(windowed, outside), last_logits(windowed, ids), atol=1e-6)
    assert not torch.allclose(last_logits(windowed, inside), last_logits(windowed, ids), atol=1e-3)
    assert not torch.allclose(last_logits(full, outside), last_logits(full, ids), atol=1e-3)


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (mistral.build(SMALL, small_tokenizer(), seed=seed) for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 33}, "hidden must be a multiple of heads"),
        ({"kv_heads": 3}, "heads must be a multiple of kv_heads"),
        ({"hidden": 36, "heads": 4}, "must be even"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    sizes = {name: getattr(SMALL, name) for name in SMALL.__slots__}
    with pytest.raises(ValueError, match=message):
        mistral.MistralShape(**{**sizes, **changes})


def test_saved_and_loaded_it_is_the_same_model_in_the_same_bytes(tmp_path):
    model, tokenizer = small_model(seed=3), small_tokenizer()
    for name in ("one", "two"):
        saved.save(model, tokenizer, tmp_path / name)
    loaded = saved.load_model(tmp_path / "one")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    assert not loaded.training
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert set(contents(tmp_path / "one")) == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_saving_and_loading_say_nothing(tmp_path, capfd):
    saved.save(small_model(), small_tokenizer(), tmp_path)
    saved.load_model(tmp_path)
    assert capfd.readouterr() == ("", "")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_reference_leads_to_the_model_it_names(tmp_path):
    model = small_model(seed=4)
    saved.save(model, small_tokenizer(), tmp_path / "elsewhere")
    (tmp_path / "stage").mkdir()
    saved.refer(tmp_path / "stage", model=str(tmp_path / "elsewhere"), commit="main")
    loaded = saved.load_model(tmp_path / "stage")
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert saved.load_tokenizer(tmp_path / "stage").chat_template == small_tokenizer().chat_template


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds neither config\.json nor hub\.json"):
        saved.load_model(tmp_path)
