"""Finding released files, and fetching them from a publisher: here a server on the loopback address."""

import errno
import gzip
import hashlib
import io
import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from zephyr_lab.data import released
from zephyr_lab.data import released as files_at_hand
from zephyr_lab.data.released import Released, catalogue, content_sha256, derive, entry


class Publisher(ThreadingHTTPServer):
    """Serves `pages` (path to body); `/missing` answers 404, a path in `cut` breaks off after half the body."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.pages: dict[str, bytes] = {}
        self.cut: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.pages.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path in self.server.cut else body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher():
    server = Publisher()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty data folder and an empty cache."""
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ZEPHYR_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def plain(content: bytes, **changes) -> Released:
    digest = hashlib.sha256(content).hexdigest()
    facts = {
        "name": "a_file",
        "path": "publisher/a_file.jsonl",
        "about": "made up",
        "repository": "owner/repository",
        "licence": "MIT",
        "rows": 1,
        "size": len(content),
        "sha256": digest,
        "recipe": "copy",
        "upstream": ("https://example.org/owner/a_file.jsonl",),
    }
    return Released(**{**facts, **changes})


def left_in(folder: Path) -> list[str]:
    return sorted(str(found.relative_to(folder)) for found in folder.rglob("*") if found.is_file())


# the catalogue


def test_entries_have_distinct_paths_and_whole_hashes():
    entries = list(catalogue().values())
    assert len({found.path for found in entries}) == len(entries) == 25
    for found in entries:
        assert len(found.sha256) == len(found.content_sha256) == 64
        assert int(found.content_sha256, 16) > 0
        assert bool(found.upstream) == bool(found.recipe)
        assert all(address.startswith("https://") for address in found.upstream)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no released file named 'mt_bench'; known: mt_bench_scores, .*list data"):
        entry("mt_bench")


def test_the_catalogue_describes_the_files_at_hand(released, monkeypatch):
    folder = released(entry("mt_bench_scores").path).parents[1]
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(folder))
    for line in files_at_hand.listing():
        assert (line.found, line.same) == ("ZEPHYR_LAB_DATA", True), line.name
        assert line.size == (folder / entry(line.name).path).stat().st_size


# finding


def test_the_data_folder_comes_before_the_cache(places):
    where = {"data": places / "data", "cache": places / "cache" / "data"}
    path = entry("mt_bench_scores").path
    assert files_at_hand.path("mt_bench_scores") is None
    for place in ("cache", "data"):
        (where[place] / path).parent.mkdir(parents=True)
        (where[place] / path).write_text(place)
        assert files_at_hand.path("mt_bench_scores").read_text() == place


def test_a_read_and_an_absence_are_both_told_to_the_session(places, monkeypatch):
    record = places / "record.jsonl"
    monkeypatch.setenv("ZEPHYR_LAB_RECORD", str(record))
    found = places / "data" / entry("pandalm_labels").path
    files_at_hand.path("pandalm_labels")
    found.parent.mkdir(parents=True)
    found.write_bytes(b"idx\n")
    files_at_hand.path("pandalm_labels")
    told = [json.loads(line) for line in record.read_text().splitlines()]
    assert [event["name"] for event in told] == ["data:pandalm/labels.csv"] * 2
    assert [event["sha256"] for event in told] == [None, hashlib.sha256(b"idx\n").hexdigest()]


def test_an_absent_file_is_answered_with_the_next_step(places):
    assert files_at_hand.how_to_get("alpaca_eval_v1").endswith("zephyr-lab list data --fetch alpaca_eval_v1")
    step = "set ZEPHYR_LAB_DATA to a folder that holds pandalm/labels.csv (WeOpenML/PandaLM at 3871806)"
    assert files_at_hand.how_to_get("pandalm_labels") == step


def test_the_list_tells_absent_same_and_changed_files_apart(places):
    questions = places / "data" / entry("mt_bench_questions").path
    packed = places / "data" / entry("medusa_judgments").path
    for found in (questions, packed):
        found.parent.mkdir(parents=True)
        found.write_bytes(b"something else")  # for the second: no gzip archive at all
    lines = {line.name: line for line in files_at_hand.listing()}
    assert lines["mt_bench_questions"].same is False
    assert lines["medusa_judgments"].same is False
    assert (lines["pandalm_labels"].found, lines["pandalm_labels"].same) == ("absent", None)
    assert not lines["pandalm_labels"].fetchable


# fetching


def test_a_download_arrives_whole_with_its_origin_beside_it(publisher, tmp_path):
    body = b'{"question_id": 81}\n'
    publisher.pages["/owner/a_file.jsonl"] = body
    where = released.fetch(plain(body), tmp_path, mirror=publisher.address)
    assert where == tmp_path / "publisher/a_file.jsonl"
    assert where.read_bytes() == body
    origin = json.loads(where.with_name("a_file.jsonl.source.json").read_text())["from"]
    assert origin == [{"address": "https://example.org/owner/a_file.jsonl", "sha256": hashlib.sha256(body).hexdigest()}]


def test_the_cache_that_a_download_fills_is_where_files_are_found(publisher, places, monkeypatch):
    body = b'{"question_id": 81}\n'
    publisher.pages["/owner/a_file.jsonl"] = body
    monkeypatch.setattr(files_at_hand, "entry", lambda name: plain(body, name=name))
    where = files_at_hand.download("a_file", mirror=publisher.address)
    assert files_at_hand.path("a_file") == where == places / "cache/data/publisher/a_file.jsonl"


def test_a_file_that_says_something_else_is_refused(publisher, tmp_path):
    publisher.pages["/owner/a_file.jsonl"] = b'{"question_id": 82}\n'
    with pytest.raises(ValueError, match=r"a_file: the publisher's file no longer has the content .* nothing was kept"):
        released.fetch(plain(b'{"question_id": 81}\n'), tmp_path, mirror=publisher.address)
    assert left_in(tmp_path) == []


def test_a_missing_page_is_one_clear_line(publisher, tmp_path):
    with pytest.raises(OSError, match=r"^cannot fetch http://127.*/owner/a_file.jsonl: the server answered 404"):
        released.fetch(plain(b"x"), tmp_path, mirror=publisher.address)
    assert left_in(tmp_path) == []


def test_a_connection_that_breaks_off_leaves_nothing(publisher, tmp_path):
    body = b'{"question_id": 81}\n' * 1000
    publisher.pages["/owner/a_file.jsonl"] = body
    publisher.cut.add("/owner/a_file.jsonl")
    with pytest.raises(OSError, match=r"^cannot fetch .* the connection broke off"):
        released.fetch(plain(body), tmp_path, mirror=publisher.address)
    assert left_in(tmp_path) == []


def test_a_server_that_is_not_there_is_one_clear_line():
    with socket.socket() as taken:  # bound, not listening: whoever calls is refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"^cannot fetch http://127\.0\.0\.1.*refused"):
            released.get("https://example.org/a", mirror=f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_a_full_disk_leaves_nothing_half_written(publisher, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    body = b'{"question_id": 81}\n'
    publisher.pages["/owner/a_file.jsonl"] = body
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"^a_file was downloaded but could not be kept: .*No space left"):
        released.fetch(plain(body), tmp_path, mirror=publisher.address)
    assert left_in(tmp_path) == []


def test_a_file_put_together_by_hand_has_no_download(places):
    with pytest.raises(ValueError, match=r"pandalm_labels cannot be downloaded: .*set ZEPHYR_LAB_DATA"):
        files_at_hand.download("pandalm_labels")


def test_a_page_in_place_of_the_file_is_refused(publisher, tmp_path):
    publisher.pages["/owner/a_file.jsonl"] = b"<html>please sign in</html>"
    asked = plain(b"x", recipe="judgments", models=("a",))
    with pytest.raises(ValueError, match=r"a_file: the publisher's file has another form than expected"):
        released.fetch(asked, tmp_path, mirror=publisher.address)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("mirror", ["file:///etc", "127.0.0.1:8000", ""])
def test_a_mirror_is_an_http_address(mirror):
    with pytest.raises(ValueError, match="mirror must be an http"):
        released.at_mirror("https://example.org/a", mirror)


def test_a_mirror_keeps_the_path():
    assert released.at_mirror("https://example.org/a/b.json", "http://h:1/m/") == "http://h:1/m/a/b.json"


# deriving


def judgement(model, question, turn, score) -> dict:
    return {
        "question_id": question,
        "model": model,
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "the whole conversation",
        "judgment": f"Größe. [[{score}]]",
        "score": score,
        "turn": turn,
        "tstamp": 1.25,
    }


def json_lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_judgements_keep_the_wanted_models_and_lose_the_prompt():
    asked = plain(b"", recipe="judgments", models=("a",))
    packed = released.derive(asked, [json_lines([judgement("a", 81, 1, 9), judgement("b", 81, 1, 3)])])
    kept = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]
    expected = judgement("a", 81, 1, 9)
    del expected["user_prompt"]
    assert kept == [expected]
    assert packed == released.derive(asked, [json_lines([judgement("a", 81, 1, 9)])])  # no time stamp inside


def test_scores_are_sorted_named_by_category_and_lose_unparsed_ones():
    asked = plain(b"", recipe="scores", models=("b", "a"))
    rows = [judgement("a", 160, 2, 8.5), judgement("a", 91, 1, -1), judgement("b", 91, 1, 7), judgement("c", 81, 1, 1)]
    assert released.derive(asked, [json_lines(rows)]).decode() == (
        "model,question_id,turn,category,score\nb,91,1,roleplay,7\na,160,2,humanities,8.5\n"
    )


def test_annotations_become_lengths_and_an_unread_answer_stays_null():
    def annotation(preference):
        return {
            "instruction": "Why?",
            "output_1": "Because.",
            "generator_1": "baseline",
            "dataset": "koala",
            "output_2": "Größe",
            "generator_2": "model",
            "preference": preference,
        }

    asked = plain(b"", recipe="annotations", path="a.parquet")
    packed = released.derive(asked, [json.dumps([annotation(2.0), annotation(None)]).encode()])
    frame = pd.read_parquet(io.BytesIO(packed))
    assert frame["row"].tolist() == [0, 1]
    assert (frame["len_1"].tolist(), frame["len_2"].tolist()) == ([8, 8], [5, 5])  # characters, not bytes
    assert frame["preference"].iloc[0] == 2.0
    assert frame["preference"].isna().tolist() == [False, True]
    rows = "".join(
        f'["model",{row},"koala","Why?","baseline","model",{preference},8,5]\n'
        for row, preference in ((0, "2.0"), (1, "null"))
    )
    assert released.content_sha256("a.parquet", packed) == hashlib.sha256(rows.encode()).hexdigest()


def test_lmsys_scores_come_out_of_judgements_of_lmsys_form(released):
    """The catalogued scores, put back into FastChat's form in another order, give the catalogued file again."""
    asked = entry("mt_bench_scores")
    table = pd.read_csv(released(asked.path))
    rows = [
        judgement(row.model, row.question_id, row.turn, row.score)
        for row in table.sample(frac=1, random_state=0).itertuples()
    ]
    rows += [judgement("mpt-7b-chat", 121, 2, -1), judgement("vicuna-13b-v1.3", 81, 1, 9)]
    content = derive(asked, [json_lines(rows)])
    assert content_sha256(asked.path, content) == asked.content_sha256


@pytest.mark.parametrize("name", [found.name for found in catalogue().values() if found.recipe == "judgments"])
def test_judgements_at_hand_are_what_their_recipe_gives(name, released):
    asked = entry(name)
    with gzip.open(released(asked.path), "rt", encoding="utf-8") as file:
        rows = [{**json.loads(line), "user_prompt": "long"} for line in file]
    content = derive(asked, [json_lines([*rows, judgement("another model", 81, 1, 9)])])
    assert content_sha256(asked.path, content) == asked.content_sha256
