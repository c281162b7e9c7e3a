"""figures/provenance.json: what every notebook's stages have in common is written once.

A thousand stages come from some dozens of recipes: with modules and versions beside each, most of it was repetition.
"""

from collections.abc import Mapping
from typing import Any

SHARED = ("modules", "versions")  # equal for stages whose source digest is


def packed(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{"notebooks": records whose stages name only their source, "sources": digest -> modules and versions}."""
    sources: dict[str, dict[str, Any]] = {}
    notebooks = {}
    for name, record in records.items():
        for stage in record["stages"]:
            sources[stage["source"]] = {field: stage[field] for field in SHARED}
        stages = [{field: value for field, value in stage.items() if field not in SHARED} for stage in record["stages"]]
        notebooks[name] = {**record, "stages": stages}
    return {"notebooks": notebooks, "sources": dict(sorted(sources.items()))}


def record_of(content: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    """The record of one notebook as it was before `packed`."""
    record = content["notebooks"][notebook]
    return {**record, "stages": [{**stage, **content["sources"][stage["source"]]} for stage in record["stages"]]}
