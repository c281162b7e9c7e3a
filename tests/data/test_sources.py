"""One interface: the embedded world, files, folders in a hub's layout, and a hub (a small one on the loopback)."""

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
from zephyr_lab.data.sources import File, Folder, World

TALKS = [{"id": str(i), "data": ["Hi", f"Answer {i}."]} for i in range(5)]


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(source, split):
    return [row.data for row in source.rows(split)]


# --- the world -----------------------------------------------------------------------------------------------------


def test_the_world_is_a_source_of_both_kinds():
    talks, bad = sources.usable(World("dialogues", {"train": 20, "test": 5}), "train", schemas.dialogue)
    assert (len(talks), bad) == (20, [])
    prompts, bad = sources.usable(World("completions", {"train": 20}), "train", schemas.scored_prompt)
    assert (len(prompts), bad) == (20, [])
    assert all(len(prompt.completions) == 4 for prompt in prompts)


def test_the_world_s_splits_differ_and_repeat_themselves():
    world = World("dialogues", {"train": 8, "test": 8}, seed=3)
    assert read(world, "train") == read(world, "train") != read(world, "test")
    assert read(world, "train") != read(World("dialogues", {"train": 8}, seed=4), "train")


def test_options_reach_the_world_s_generator():
    from zephyr_lab.world.answers import CLEAN

    (talk,) = World("dialogues", {"train": 1}, options={"noise": CLEAN, "domain_share": 1.0}).rows("train")
    assert talk.data["data"][1][0].isupper()


def test_the_world_makes_nothing_else():
    with pytest.raises(ValueError, match="makes no 'images'; allowed: dialogues, completions"):
        World("images", {"train": 1})


# --- files and folders ---------------------------------------------------------------------------------------------


def test_a_file_has_one_split(tmp_path):
    path = tmp_path / "talks.jsonl"
    path.write_text(lines(TALKS), encoding="utf-8")
    source = sources.open_source(path)
    assert source == File(path) and source.splits() == ("train",)
    assert read(source, "train") == TALKS
    with pytest.raises(ValueError, match=r"talks\.jsonl has no split 'test'; it has train"):
        source.rows("test")


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
    source = sources.open_source(hub_layout(tmp_path / "set"))
    assert set(source.splits()) == {"train_sft", "test_sft"}
    assert read(source, "train_sft") == TALKS
    assert read(source, "test_sft") == TALKS[:1]


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
    path = tmp_path / "scored.jsonl"
    good = {"instruction": "Why?", "completions": [completion(5), completion(3)]}
    path.write_text(lines([good, {"instruction": "Why?"}, good]) + "{broken\n", encoding="utf-8")
    prompts, bad = sources.usable(File(path), "train", schemas.scored_prompt)
    assert len(prompts) == 2
    assert [(row.row, row.column) for row in bad] == [(2, "completions"), (4, None)]


def test_a_source_without_a_usable_row_is_refused(tmp_path):
    path = tmp_path / "scored.jsonl"
    path.write_text(lines([{"a": 1}, {"a": 2}]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"no usable row in split 'train' of scored\.jsonl \(2 read\): row 1, column"):
        sources.usable(File(path), "train", schemas.dialogue)


# --- the hub -------------------------------------------------------------------------------------------------------


def test_a_hub_id_is_not_followed_unless_asked():
    with pytest.raises(ValueError, match="needs the network, which is used only when asked for"):
        sources.open_source("HuggingFaceH4/ultrachat_200k")
    assert sources.open_source("HuggingFaceH4/ultrachat_200k", network=True).name == "HuggingFaceH4/ultrachat_200k"


@pytest.mark.parametrize("where", ["absent.jsonl", "data/absent.parquet", "a/b/c", "absent"])
def test_an_absent_file_is_no_hub_id(where):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        sources.open_source(where, network=True)


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

        source = sources.open_source("lab/talks", network=True)
        talks, bad = sources.usable(source, "train_sft", schemas.dialogue)
        told = {"splits": source.splits(), "rows": [talk.row.data for talk in talks], "bad": len(bad)}
        for name, hub, split in (
            ("part", Hub("lab/talks", expected={"train_sft": 9}), "train_sft"),
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
    assert set(told["splits"]) == {"train_sft", "test_sft"}
    assert (told["rows"], told["bad"]) == (TALKS, 0)
    assert told["part"] == "ValueError: lab/talks gave 5 rows of train_sft, published are 9"
    assert told["split"].startswith("ValueError: ") and "dev" in told["split"]
    assert told["set"].startswith("OSError: cannot load lab/absent from the hub: ")
