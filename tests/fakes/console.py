"""The console as the ML backend calls it: its status and its jobs, over HTTP, with a token; keeps what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

TOKEN = "a-token"


class FakeConsole:
    """Answers the two calls as the console does."""

    def __init__(self) -> None:
        self.url = ""
        self.reviewed = 3
        self.newest = "done"
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.asked: list[tuple[str, Any]] = []

    def answer(self, path: str, token: str | None, body: Any) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of an answer."""
        self.asked.append((path, body))
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "the token is missing or wrong"}
        if path == "/api/status":
            return 200, {"counts": {"reviewed": self.reviewed, "conflicts": 0}}
        if body is None:
            return 200, {"total": 1, "jobs": [{"id": 16, "job": "train", "state": self.newest}]}
        return self.refusal or (202, {"id": 17})


@contextmanager
def serve_fake_console(port: int = 0) -> Iterator[FakeConsole]:
    """Serve a console for the block, on any free port or on this one."""
    console = FakeConsole()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: Any) -> None:
            status, answer = console.answer(self.path, self.headers.get("Authorization"), body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", port), Handler)
    console.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield console
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
