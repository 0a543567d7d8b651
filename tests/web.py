"""A web server on this machine for tests: plain files, and the API of the Hugging Face hub, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Reply:
    """What the server answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Web:
    """A server: `files` by path, and `asked`, the requests so far as `METHOD path`."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    """The parts of files that were asked for."""
    url: str = ""
    status: int | None = None
    """Answers everything with this."""
    ranges: bool = True
    etags: bool = True
    break_after: int | None = None
    """Closes the connection, once, when so many bytes were sent."""

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Answer a request for a file."""
        content = self.files.get(unquote(urlsplit(path).path))
        if content is None:
            return Reply(404)
        return self.file(content, headers)

    def file(self, content: bytes, headers: dict[str, str]) -> Reply:
        """Answer with a file or the part of it that is asked for."""
        given = {"Accept-Ranges": "bytes"} if self.ranges else {}
        if self.etags:
            given["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if self.ranges and asked:
            start = int(asked[1])
            end = min(int(asked[2] or len(content) - 1), len(content) - 1)
            if start >= len(content):
                return Reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            given["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return Reply(206, content[start : end + 1], given)
        return Reply(200, content, given)


@dataclass
class Hub(Web):
    """A server with data sets: commits by id and revision, and the files of each commit."""

    sets: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False

    def push(self, id: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a commit of these files, which the branch then is at; return it."""
        text = json.dumps([id, {name: body.hex() for name, body in files.items()}])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.sets.setdefault(id, {})[branch] = commit
        return commit

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Answer as the hub does."""
        parts = urlsplit(path)
        route = unquote(parts.path)
        known = next(
            (id for id in self.sets if re.match(rf"(/api)?/datasets/{id}(/|$)", route)), ""
        )
        if not known:
            return Reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            code = "GatedRepo" if self.gated else "RepoNotFound"
            return Reply(401, b"{}", {"X-Error-Code": code})
        rest = route.split(known, 1)[1].strip("/")
        verb, _, tail = rest.partition("/")
        commit, inner = self._commit(known, tail or "main")
        if commit is None:
            return Reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = self.commits[commit]
        if verb in ("", "revision"):
            info = {"id": known, "sha": commit, "private": False, "tags": [], "downloads": 0}
            return _json({**info, "siblings": [{"rfilename": name} for name in files]})
        if verb == "tree":
            return self._tree(
                files, inner, "true" in parse_qs(parts.query).get("recursive", [""])[0].lower()
            )
        if verb == "paths-info":
            asked = parse_qs(body.decode()).get("paths", [])
            found = [entry for path in asked for entry in _entry(files, path)]
            return _json(found)
        if verb == "resolve" and inner in files:
            reply = self.file(files[inner], headers)
            reply.headers["X-Repo-Commit"] = commit
            return reply
        return Reply(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})

    def _commit(self, id: str, tail: str) -> tuple[str | None, str]:
        revisions = {**self.sets[id], **{commit: commit for commit in self.commits}}
        for name in sorted(revisions, key=len, reverse=True):
            if tail == name or tail.startswith(name + "/"):
                return revisions[name], tail[len(name) :].strip("/")
        return None, ""

    def _tree(self, files: dict[str, bytes], folder: str, recursive: bool) -> Reply:
        prefix = f"{folder}/" if folder else ""
        inside = [name for name in files if name.startswith(prefix)]
        if folder and not inside:
            return Reply(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        folders = {
            prefix + "/".join(name[len(prefix) :].split("/")[:depth])
            for name in inside
            for depth in range(1, name[len(prefix) :].count("/") + 1)
        }
        entries = [entry for name in (*sorted(folders), *inside) for entry in _entry(files, name)]
        if not recursive:
            entries = [e for e in entries if "/" not in e["path"][len(prefix) :]]
        return _json(entries)


def _entry(files: dict[str, bytes], path: str) -> list[dict[str, object]]:
    if path in files:
        oid = hashlib.sha1(files[path]).hexdigest()
        return [{"type": "file", "path": path, "size": len(files[path]), "oid": oid}]
    if any(name.startswith(f"{path}/") for name in files):
        return [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40}]
    return []


def _json(value: object) -> Reply:
    return Reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.web.asked.append(f"{self.command} {self.path}")
        if "range" in headers and self.command == "GET":
            self.web.parts.append(headers["range"])
        if self.web.status is not None:
            reply = Reply(self.web.status)
        else:
            reply = self.web.reply(self.command, self.path, headers, body)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            # Who asked for a part and is sent the whole hangs up: that is no break.
            self._send(reply.body, may_break=self.web.ranges or "range" not in headers)

    def _send(self, body: bytes, *, may_break: bool) -> None:
        left = self.web.break_after if may_break else None
        if left is not None and len(body) > left:
            self.web.break_after = None
            body, self.close_connection = body[:left], True
        elif left is not None:
            self.web.break_after = left - len(body)
        with suppress(ConnectionError):
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = _answer  # noqa: N815 - the names are those of http.server

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Serve on a free port of this machine; `web.url` is the address."""
    with listening(type("Handler", (_Handler,), {"web": web})) as url:
        web.url = url
        yield web


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests on a free port of this machine; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
