"""A stage of the hub holds a reference to the commit that was found, not a copy."""

from types import SimpleNamespace

from zephyr_lab.core.files import read_json
from zephyr_lab.methods.recipes.hub_model import HubModel
from zephyr_lab.methods.stages import hub_model


def test_the_commit_that_was_found_is_what_the_stage_names(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(model, **options):
        asked.update(model=model, **options)
        return str(tmp_path / "models--owner--name" / "snapshots" / "0123abc")

    monkeypatch.setattr(hub_model, "snapshot_download", snapshot_download)
    context = SimpleNamespace(checkpoints=tmp_path, progress=lambda *steps, **numbers: None)
    recipe = HubModel(model="owner/name", revision="main")
    assert hub_model.build(recipe, seed=0, inputs={}, out=tmp_path, context=context) == {}
    assert (asked["model"], asked["revision"]) == ("owner/name", "main")
    assert "*.bin" not in asked["allow_patterns"]  # pickles can run code
    assert read_json(tmp_path / "hub.json") == {"model": "owner/name", "commit": "0123abc"}
