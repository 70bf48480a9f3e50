"""A server on this machine that speaks as much of the Hugging Face hub as its client asks for.

Repositories, commits with files inside them or through LFS, listings and downloads; tokens decide who may
write, and a private repository is hidden from others. What it is asked for stands in `Hub.requests`.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_owner"


@dataclass
class Repository:
    """One model: its files at each commit, the newest last."""

    private: bool = False
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, "created", {})])

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        for sha, _, files in reversed(self.commits):
            if revision in ("main", sha):
                return sha, files
        return None


class Hub:
    """The state of the server."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.address = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, code: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, code: int, kind: str) -> None:
        self._answer(code, {"error": kind}, X_Error_Code=kind)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _handle(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.hub.requests.append(f"{self.command} {'/'.join(path)}")
        owner = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command in ("POST", "PUT") and path[0] != "objects" and not owner:
            return self._refuse(401, "Unauthorized")
        match path:
            case ["api", "repos", "create"]:
                return self._create(json.loads(body))
            case ["api", "validate-yaml"]:
                return self._answer(200, {"errors": [], "warnings": []})
            case ["objects", oid]:
                assert hashlib.sha256(body).hexdigest() == oid
                self.hub.objects[oid] = body
                return self._answer(200)
            case ["api", "models", user, name, *rest]:
                repository = self.hub.repositories.get(f"{user}/{name}")
            case [user, name, *rest]:
                repository = self.hub.repositories.get(f"{user}/{name.removesuffix('.git')}")
            case _:
                return self._refuse(404, "EntryNotFound")
        if repository is None or (repository.private and not owner):
            return self._refuse(404, "RepoNotFound")
        return self._of(repository, f"{user}/{name}", rest, body)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('organization', 'owner')}/{wanted['name']}"
        url = {"url": f"{self.hub.address}/{name}", "name": name, "id": name}
        if name in self.hub.repositories:
            return self._answer(409, {**url, "error": "you already created this model repo"})
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.repositories[name] = Repository(bool(private))
        return self._answer(200, url)

    def _of(self, repository: Repository, name: str, rest: list[str], body: bytes) -> None:
        match rest:
            case ["preupload", _]:
                files = [{"path": file["path"], "size": file["size"]} for file in json.loads(body)["files"]]
                modes = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["size"] > 10_000 else "regular",
                        "shouldIgnore": False,
                    }
                    for file in files
                ]
                return self._answer(200, {"files": modes})
            case ["info", "lfs", "objects", "batch"]:
                asked = json.loads(body)["objects"]
                made = [
                    {**each, "actions": {"upload": {"href": f"{self.hub.address}/objects/{each['oid']}"}}}
                    for each in asked
                ]
                return self._answer(200, {"transfer": "basic", "objects": made})
            case ["commit", _]:
                return self._commit(repository, name, [json.loads(line) for line in body.splitlines()])
            case []:
                return self._info(repository, name, "main")
            case ["revision", revision]:
                return self._info(repository, name, revision)
            case ["tree", revision, *_]:
                found = repository.at(revision)
                assert found is not None
                tree = [{"type": "file", "path": p, "size": len(d), "oid": _oid(d)} for p, d in found[1].items()]
                return self._answer(200, tree, Content_Type="application/json")
            case ["resolve", revision, *parts]:
                return self._file(repository, revision, "/".join(parts))
        return self._refuse(404, "EntryNotFound")

    def _commit(self, repository: Repository, name: str, lines: list[dict[str, Any]]) -> None:
        files = dict(repository.commits[-1][2])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = hashlib.sha1(repr((len(repository.commits), sorted(files))).encode()).hexdigest()
        repository.commits.append((sha, lines[0]["value"]["summary"], files))
        url = f"{self.hub.address}/{name}/commit/{sha}"
        self._answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _info(self, repository: Repository, name: str, revision: str) -> None:
        found = repository.at(revision)
        if found is None:
            return self._refuse(404, "RevisionNotFound")
        siblings = [{"rfilename": path} for path in found[1]]
        return self._answer(200, {"id": name, "sha": found[0], "private": repository.private, "siblings": siblings})

    def _file(self, repository: Repository, revision: str, path: str) -> None:
        found = repository.at(revision)
        if found is None or path not in found[1]:
            return self._refuse(404, "EntryNotFound" if found else "RevisionNotFound")
        data = found[1][path]
        return self._answer(200, data, ETag=f'"{_oid(data)}"', X_Repo_Commit=found[0])


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def running() -> Iterator[Hub]:
    """A server on the loopback address, until the end."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
