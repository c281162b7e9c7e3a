"""Packing the provenance loses nothing and writes what stages share once."""

from zephyr_lab.lab import provenance_file


def stage(key, source):
    return {"name": "kd", "key": key, "seed": 0, "source": source, "modules": [source], "versions": {"torch": "2"}}


def test_packed_records_come_back_whole():
    records = {
        "10": {"title": "ten", "stages": [stage("a", "s"), stage("b", "t")]},
        "11": {"title": "eleven", "stages": [stage("a", "s")]},
    }
    content = provenance_file.packed(records)
    assert list(content["sources"]) == ["s", "t"]
    assert content["notebooks"]["11"]["stages"] == [{"name": "kd", "key": "a", "seed": 0, "source": "s"}]
    assert {name: provenance_file.record_of(content, name) for name in records} == records
