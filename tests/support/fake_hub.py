"""The Hugging Face hub as its real client sees it, on this machine: repositories in memory, behind
the API that making, committing, listing and resolving ask.
"""

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

LARGE = 20_000  # bytes from which a file goes to the store of large ones, as on the hub


@dataclass
class Repo:
    """A repository: its files, and what is told of them where that is not so."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    config: dict = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)  # name -> size, in the place of the true one
    served: dict[str, bytes] = field(default_factory=dict)  # name -> other content than is listed
    cut: set[str] = field(default_factory=set)  # names that are sent in half, then nothing
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()

    def listed(self) -> list[dict]:
        rows = []
        for name in dict.fromkeys([*self.files, *self.told]):
            content = self.files.get(name, b"")
            row = {
                "rfilename": name,
                "size": self.told.get(name, len(content)),
                "blobId": blob_id(content),
            }
            if len(content) >= LARGE:
                oid = hashlib.sha256(content).hexdigest()
                row["lfs"] = {"sha256": oid, "size": row["size"], "pointerSize": 130}
            rows.append(row)
        return rows


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class FakeHub:
    """What is asked of it is in `asked`, as (method, path)."""

    def __init__(self, url: str):
        self.url = url
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.wait_seconds = 0.0
        self.refused = 0  # an HTTP status for whatever writes

    def fetched(self) -> list[str]:
        """Names of the files that were fetched."""
        asked = [path for how, path in self.asked if how == "GET" and "/resolve/" in path]
        return [path.rpartition("/")[2] for path in asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *args) -> None:
        pass

    def _answer(self, status: int, value=None, headers=None, content: bytes | None = None) -> None:
        body = json.dumps(value).encode() if content is None else content
        self.send_response(status)
        told = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, text in (told | (headers or {})).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, what: str = "RepoNotFound") -> None:
        self._answer(404, {"error": what}, {"X-Error-Code": what})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _begin(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        time.sleep(self.hub.wait_seconds)
        return path

    def do_HEAD(self) -> None:
        self._resolve(self._begin())

    def do_GET(self) -> None:
        path = self._begin()
        if not path.startswith("/api/models/"):
            return self._resolve(path)
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        repo = self.hub.repos.get(f"{owner}/{name}")
        if repo is None:
            return self._missing()
        if rest[:1] == ["tree"]:
            rows = [
                {"type": "file", "path": r["rfilename"], "oid": r["blobId"], **_no_name(r)}
                for r in repo.listed()
            ]
            return self._answer(200, rows)
        told = {"id": f"{owner}/{name}", "sha": repo.sha, "private": repo.private, "tags": []}
        return self._answer(200, told | {"siblings": repo.listed(), "config": repo.config})

    def _resolve(self, path: str) -> None:
        parts = path.strip("/").split("/")
        repo = self.hub.repos.get("/".join(parts[:2]))
        if repo is None or parts[2:3] != ["resolve"]:
            return self._missing()
        name = "/".join(parts[4:])
        if name not in repo.files:
            return self._missing("EntryNotFound")
        content = repo.served.get(name, repo.files[name])
        headers = {"X-Repo-Commit": repo.sha, "ETag": f'"{blob_id(content)}"'}
        if name in repo.cut and self.command == "GET":
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self._answer(200, headers=headers, content=content)

    def do_PUT(self) -> None:
        path = self._begin()
        self.hub.large[path.rpartition("/")[2]] = self._body()
        self._answer(200, {}, {"ETag": '"x"'})

    def do_POST(self) -> None:
        path, body = self._begin(), self._body()
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if self.hub.refused:
            return self._answer(self.hub.refused, {"error": "not yours"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        owner, name, what, _ = path.removeprefix("/api/models/").split("/")
        repo = self.hub.repos[f"{owner}/{name}"]
        if what == "preupload":
            files = json.loads(body)["files"]
            return self._answer(200, {"files": [_mode(one) for one in files]})
        return self._commit(f"{owner}/{name}", repo, body)

    def _create(self, asked: dict) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.hub.repos:
            return self._answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        files = {".gitattributes": b"*.tflite filter=lfs\n"}
        self.hub.repos[name] = Repo(files=files, private=private)
        return self._answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _batch(self, asked: dict) -> None:
        found = []
        for one in asked["objects"]:
            upload = {"href": f"{self.hub.url}/large/{one['oid']}"}
            found.append({**one, "actions": {"upload": upload}})
        self._answer(200, {"transfer": "basic", "objects": found})

    def _commit(self, name: str, repo: Repo, body: bytes) -> None:
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.large[value["oid"]]
            elif row["key"] == "deletedFile":
                del repo.files[value["path"]]
        repo.commits += 1
        told = {"commitUrl": f"{self.hub.url}/{name}/commit/{repo.sha}", "commitOid": repo.sha}
        self._answer(200, {**told, "success": True, "hookOutput": ""})


def _no_name(row: dict) -> dict:
    found = {"size": row["size"]}
    if "lfs" in row:
        found["lfs"] = {"oid": row["lfs"]["sha256"], "size": row["size"], "pointerSize": 130}
    return found


def _mode(one: dict) -> dict:
    large = "lfs" if one["size"] >= LARGE else "regular"
    return {"path": one["path"], "uploadMode": large, "shouldIgnore": False}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """Somebody who does not wait for an answer is no error."""


@contextlib.contextmanager
def fake_hub(cache) -> Iterator[FakeHub]:
    """A hub that the real client asks, with a cache of its own, and a token."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _runtime

    server = _Server(("127.0.0.1", 0), _Handler)
    hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(_runtime, "is_xet_available", lambda: False)
        patch.setenv("HF_TOKEN", "hf_of_a_test")
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
