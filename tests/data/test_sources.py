"""Folders in a hub's layout, and a hub (a small one on the loopback)."""

import gzip
import json
import os
import subprocess
import sys
import textwrap

import pandas
import pytest

from data_rows import completion
from stub_hub import serving
from zephyr_lab.core.rows import BadRow
from zephyr_lab.data import schemas, sources
from zephyr_lab.data.sources import Folder

TALKS = [{"id": str(i), "data": ["Hi", f"Answer {i}."]} for i in range(5)]


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(source, split):
    return [row.data for row in source.rows(split)]


def hub_layout(folder):
    """Shards of one split as parquet under data/, another split as gzipped lines, and the files beside them."""
    (folder / "data").mkdir(parents=True)
    pandas.DataFrame(TALKS[:3]).to_parquet(folder / "data" / "train_sft-00000-of-00002-0123456789abcdef.parquet")
    pandas.DataFrame(TALKS[3:]).to_parquet(folder / "data" / "train_sft-00001-of-00002-0123456789abcdef.parquet")
    (folder / "test_sft.jsonl.gz").write_bytes(gzip.compress(lines(TALKS[:1]).encode()))
    (folder / "README.md").write_text("# a set\n", encoding="utf-8")
    (folder / "dataset_infos.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_folder_in_the_hub_s_layout(tmp_path):
    source = Folder(hub_layout(tmp_path / "set"))
    assert set(source.splits()) == {"train_sft", "test_sft"}
    assert read(source, "train_sft") == TALKS
    assert read(source, "test_sft") == TALKS[:1]
    with pytest.raises(ValueError, match="set has no split 'dev'; it has "):
        source.rows("dev")


def test_a_row_of_a_folder_names_its_file(tmp_path):
    rows = list(Folder(hub_layout(tmp_path / "set")).rows("train_sft"))
    assert [(row.file, row.number) for row in rows][2:4] == [
        ("data/train_sft-00000-of-00002-0123456789abcdef.parquet", 3),
        ("data/train_sft-00001-of-00002-0123456789abcdef.parquet", 1),
    ]


def test_what_datasets_saves_is_read(tmp_path):
    from datasets import Dataset, DatasetDict

    made = DatasetDict({"train": Dataset.from_list(TALKS), "test": Dataset.from_list(TALKS[:2])})
    made.save_to_disk(tmp_path / "saved")
    made["train"].to_json(tmp_path / "plain" / "train.json")
    made["test"].to_parquet(tmp_path / "plain" / "test.parquet")
    for folder in ("saved", "plain"):
        source = Folder(tmp_path / folder)
        assert sorted(source.splits()) == ["test", "train"]
        assert (read(source, "train"), read(source, "test")) == (TALKS, TALKS[:2])


def test_a_cut_arrow_file_keeps_its_good_rows(tmp_path):
    from datasets import Dataset

    Dataset.from_list(TALKS * 2000).save_to_disk(tmp_path / "train")
    (shard,) = (tmp_path / "train").glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size * 3 // 4])
    rows = list(Folder(tmp_path).rows("train"))
    assert isinstance(rows[-1], BadRow) and "cannot be read" in rows[-1].problem
    assert [row.data for row in rows[:-1]] == (TALKS * 2000)[: len(rows) - 1]
    assert len(rows) > 1


def test_a_shard_that_cannot_be_read_is_one_bad_row(tmp_path):
    folder = hub_layout(tmp_path / "set")
    (folder / "data" / "train_sft-00002-of-00002.parquet").write_bytes(b"no table")
    (folder / "train_sft.jsonl").write_bytes(b"")
    talks, bad = sources.usable(Folder(folder), "train_sft", schemas.dialogue)
    assert [talk.row.data for talk in talks] == TALKS
    assert [(row.file, "readable parquet" in row.problem or "is empty" in row.problem) for row in bad] == [
        ("data/train_sft-00002-of-00002.parquet", True),
        ("train_sft.jsonl", True),
    ]


def test_a_folder_without_rows_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds no rows; looked for \*\.jsonl"):
        Folder(tmp_path).splits()
    with pytest.raises(FileNotFoundError, match="no folder"):
        Folder(tmp_path / "absent").splits()


def test_bad_rows_are_set_aside_by_row_and_column(tmp_path):
    path = tmp_path / "train.jsonl"
    good = {"instruction": "Why?", "completions": [completion(5), completion(3)]}
    path.write_text(lines([good, {"instruction": "Why?"}, good]) + "{broken\n", encoding="utf-8")
    prompts, bad = sources.usable(Folder(tmp_path), "train", schemas.scored_prompt)
    assert len(prompts) == 2
    assert [(row.row, row.column) for row in bad] == [(2, "completions"), (4, None)]


def test_a_source_without_a_usable_row_is_refused(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(lines([{"a": 1}, {"a": 2}]), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"no usable row in split 'train' of .* \(2 read\): train\.jsonl row 1, column"
    ):
        sources.usable(Folder(tmp_path), "train", schemas.dialogue)


def test_a_hub_s_set_is_loaded_by_datasets(tmp_path):
    folder = hub_layout(tmp_path / "set")
    (folder / "test_sft.jsonl.gz").unlink()
    pandas.DataFrame(TALKS[:1]).to_parquet(folder / "data" / "test_sft-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train_sft\n    path: data/train_sft-*\n  - split: test_sft\n    path: data/test_sft-*\n---\n",
        encoding="utf-8",
    )
    # In a process of its own: the hub's address and cache are read at import.
    code = """
        import json, sys
        from zephyr_lab.data import sources, schemas
        from zephyr_lab.data import chat
        from zephyr_lab.data.hub import Hub

        talks, bad = sources.usable(Hub("lab/talks"), "train_sft", schemas.dialogue)
        told = {"rows": [talk.row.data for talk in talks], "bad": len(bad)}
        for name, hub, split in (
            ("split", Hub("lab/talks"), "dev"),
            ("set", Hub("lab/absent"), "train"),
        ):
            try:
                hub.rows(split)
            except (ValueError, OSError) as error:
                told[name] = f"{type(error).__name__}: {error}"
        print(json.dumps(told))
    """
    with serving(folder, "lab/talks") as address:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_OFFLINE": "0",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["bad"]) == (TALKS, 0)
    assert told["split"].startswith("ValueError: ") and "dev" in told["split"]
    assert told["set"].startswith("OSError: cannot load lab/absent from the hub: ")
