"""A model hub on loopback: as much of the protocol as huggingface_hub's client needs to list and fetch files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?")


@dataclass
class Hub:
    """What it serves, how it misbehaves, and what it was asked."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    announced: dict[str, str] = field(default_factory=dict)
    """A sha256 to announce for a file instead of its own."""
    break_after: dict[str, int] = field(default_factory=dict)
    """Bytes of a file after which the connection is cut, once."""
    stall: set[str] = field(default_factory=set)
    """Files whose bytes never come."""
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def info(self, repo: str) -> dict[str, object]:
        siblings = []
        for name, data in self.repos[repo].items():
            entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if name.endswith(".safetensors"):
                sha = self.announced.get(name, hashlib.sha256(data).hexdigest())
                entry["lfs"] = {"sha256": sha, "oid": sha, "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        return {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        found = _RESOLVE.fullmatch(path) or _INFO.fullmatch(path)
        repo = found[1] if found else ""
        if repo in self.hub.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif repo not in self.hub.repos:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif found and found.re is _INFO:
            self._send(200, json.dumps(self.hub.info(repo)).encode(), {"Content-Type": "application/json"}, body)
        else:
            assert found
            self._file(repo, found[3], body)

    def _file(self, repo: str, name: str, body: bool) -> None:
        data = self.hub.repos[repo].get(name)
        if data is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        sha = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha}"', "Accept-Ranges": "bytes"}
        start, status = 0, 200
        if wanted := re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", "")):
            start, status = int(wanted[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        while body and name in self.hub.stall:
            time.sleep(0.05)
        cut = self.hub.break_after.pop(name, 0) if body else 0
        self._send(status, data[start:], headers, body, cut)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool = True, cut: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:cut] if cut else data)
        if cut:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, name="test-hub", kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
