"""A server process that imitates an OpenAI-compatible endpoint, faults included: python -m tests.stages.oracle LOG FAULTS KEY DELAY_S

It prints its port. Each prompt meets each of the faults once before it is answered; what is said follows from the prompt alone. A line of LOG
is a digest of the prompt and what came of it.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SLOW_S = 1.5


class Oracle(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    faults: tuple[str, ...] = ()
    key, delay_s, log = "", 0.0, ""
    met: dict[str, int] = {}  # noqa: RUF012
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        digest = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:12]
        with self.lock:
            number = self.met[digest] = self.met.get(digest, 0) + 1
        given = self.headers.get("Authorization", "")
        if self.key and given != f"Bearer {self.key}":
            return self._send(401, {"error": {"message": f"wrong key {given}"}}, digest)
        if "too long" in body["messages"][-1]["content"]:
            return self._send(400, {"error": {"message": "too many tokens"}}, digest)
        fault = self.faults[number - 1] if number <= len(self.faults) else ""
        if fault in ("429", "500"):
            return self._send(int(fault), {"error": {"message": "later"}}, digest, {"Retry-After": "0.01"})
        if fault == "cut":
            self._log(digest, "cut")
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault == "garbage":
            return self._send(200, '{"choices": [', digest)
        time.sleep(self.delay_s)
        said = f"Question: What is number {digest[:6]}?\nAnswer: It is {digest[6:]}." if int(digest[0], 16) else "I would rather not."
        choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return self._send(200, {"choices": [choice], "usage": {"total_tokens": 7}}, digest)

    def _send(self, status: int, plain: object, digest: str, headers: dict[str, str] | None = None) -> None:
        content = (plain if isinstance(plain, str) else json.dumps(plain)).encode()
        self._log(digest, "garbage" if isinstance(plain, str) else str(status))
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass  # whoever asked has gone

    def _log(self, digest: str, status: str) -> None:
        with self.lock, open(self.log, "a") as file:
            file.write(f"{digest} {status}\n")

    def log_message(self, *_: object) -> None:
        pass


class Running:
    """The server as a process of its own.

    Args:
        log: a file.
        faults: "429", "500", "cut", "garbage", "slow".
        key: that it wants; empty for none.
        delay_s: before each answer.
    """

    def __init__(self, log: Path, faults: str = "", key: str = "", delay_s: float = 0.0) -> None:
        self.log = log
        command = [sys.executable, "-m", "tests.stages.oracle", str(log), faults, key, str(delay_s)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def asked(self) -> list[tuple[str, str]]:
        """(digest of the prompt, what came of it) of each request."""
        return [tuple(line.split()) for line in self.log.read_text().splitlines()] if self.log.exists() else []


if __name__ == "__main__":
    Oracle.log, faults, Oracle.key, delay = sys.argv[1:]
    Oracle.faults, Oracle.delay_s = tuple(filter(None, faults.split(","))), float(delay)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Oracle)
    print(server.server_port, flush=True)
    server.serve_forever()
