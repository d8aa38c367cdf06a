"""A hub on this machine, as far as the hub's own client asks it for models: repositories, commits with large files, downloads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
TOKEN = "hf_of-this-test-alone"


class Hub(ThreadingHTTPServer):
    """What it was given.

    Attributes:
        url: where it is asked.
        repositories: name → whether it is private.
        files: of all repositories, name/path → content.
        commits: the messages of commits, in order.
        large: contents that came apart from commits, by their SHA-256.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.large: dict[str, bytes] = {}

    def handle_error(self, *_) -> None:
        """Clients that leave are no news."""


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None: ...

    def answer(self, body: dict | list | bytes, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_one(self) -> None:
        path, hub = unquote(urlsplit(self.path).path), self.server
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/large/"):  # where the answer about large files has sent the client
            hub.large[path.removeprefix("/large/")] = data
            return self.answer({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid credentials"}, 401)
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}"
            status = 409 if name in hub.repositories else 200
            hub.repositories.setdefault(name, asked.get("visibility") == "private" or bool(asked.get("private")))
            return self.answer({"url": f"{hub.url}/{name}"}, status)
        name = "/".join(re.sub(r"^/(api/models/)?", "", path).split("/")[:2]).removesuffix(".git")
        if name not in hub.repositories:
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if "/preupload/" in path:
            paths = [one["path"] for one in json.loads(data)["files"]]
            return self.answer({"files": [
                {"path": path, "uploadMode": "lfs" if path.endswith(".safetensors") else "regular", "shouldIgnore": False} for path in paths
            ]})  # fmt: skip
        if path.endswith("/info/lfs/objects/batch"):
            return self.answer({"transfer": "basic", "objects": [
                {**one, "actions": {"upload": {"href": f"{hub.url}/large/{one['oid']}"}}} for one in json.loads(data)["objects"]
            ]})  # fmt: skip
        if "/commit/" in path:
            for line in map(json.loads, data.splitlines()):
                self.take(name, line["key"], line["value"])
            return self.answer({"success": True, "commitOid": COMMIT, "commitUrl": f"{hub.url}/{name}/commit/{COMMIT}"})
        held = {key.removeprefix(f"{name}/"): content for key, content in hub.files.items() if key.startswith(f"{name}/")}
        if "/tree/" in path:
            return self.answer([{"type": "file", "path": key, "size": len(content), "oid": COMMIT} for key, content in held.items()])
        if "/resolve/" in path:
            content = held[path.split("/resolve/")[1].partition("/")[2]]
            return self.answer(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)
        if not re.search(r"/revision/\w+$", path):
            return self.answer({"error": "Not here"}, 404)
        siblings = [{"rfilename": key} for key in held]
        return self.answer({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": hub.repositories[name], "tags": []})

    def take(self, name: str, kind: str, value: dict) -> None:
        if kind == "header":
            self.server.commits.append(value["summary"])
        else:
            large = kind == "lfsFile"
            self.server.files[f"{name}/{value['path']}"] = self.server.large[value["oid"]] if large else base64.b64decode(value["content"])

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815


@contextmanager
def hub_here() -> Iterator[Hub]:
    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
