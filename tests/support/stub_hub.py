"""A hub of one data set on the loopback interface: the few answers that `datasets` asks for, from a folder."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(folder: Path, name: str) -> Iterator[str]:
    """The address under which the files of `folder` are the data set `name`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answers, folder, name))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Answers(BaseHTTPRequestHandler):
    def __init__(self, folder: Path, name: str, *arguments) -> None:
        self.folder, self.set_name = folder, name
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"/datasets/{self.set_name}/resolve/"):
            self.file(path.split("/resolve/")[1].partition("/")[2])
        elif path.startswith(f"/api/datasets/{self.set_name}"):
            if "/tree/" in path:
                below = path.split(COMMIT)[-1].strip("/")
                self.send([entry for entry in self.entries() if entry["path"].startswith(below)])
            else:
                files = [{"rfilename": entry["path"]} for entry in self.entries() if entry["type"] == "file"]
                self.send({"_id": "1", "id": self.set_name, "sha": COMMIT, "private": False, "gated": False,
                           "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": files})  # fmt: skip
        else:
            self.send({"error": "unknown"}, status=404)

    def entries(self) -> list[dict]:
        found = []
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_dir():
                found.append({"type": "directory", "path": name, "oid": "0" * 40})
            else:
                found.append({"type": "file", "path": name, "size": path.stat().st_size, "oid": _digest(path)})
        return found

    def file(self, name: str) -> None:
        path = self.folder / name
        if not path.is_file():
            self.send({"error": "Entry not found"}, status=404, headers={"X-Error-Code": "EntryNotFound"})
            return
        self.send(path.read_bytes(), headers={"ETag": f'"{_digest(path)}"'})

    def send(self, content, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        """Quiet: a test's output is its own."""


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
