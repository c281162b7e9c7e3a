"""A stage of the hub holds a reference to the commit that was found, not a copy."""

from types import SimpleNamespace

from zephyr_lab.core.files import read_json
from zephyr_lab.methods.recipes.pretrain import HubModel
from zephyr_lab.methods.stages import pretrain


def test_the_commit_that_was_found_is_what_the_stage_names(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(model, **options):
        asked.update(model=model, **options)
        return str(tmp_path / "models--owner--name" / "snapshots" / "0123abc")

    monkeypatch.setattr(pretrain, "snapshot_download", snapshot_download)
    context = SimpleNamespace(checkpoints=tmp_path, progress=lambda *steps, **numbers: None)
    recipe = HubModel(model="owner/name", revision="main")
    assert pretrain.build_hub_model(recipe, seed=0, inputs={}, out=tmp_path, context=context) == {}
    assert (asked["model"], asked["revision"]) == ("owner/name", "main")
    assert "*.bin" not in asked["allow_patterns"]  # pickles can run code
    assert read_json(tmp_path / "hub.json") == {"model": "owner/name", "commit": "0123abc"}
