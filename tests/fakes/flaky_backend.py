"""An ML backend over HTTP that misbehaves as told: a real server on loopback, for what a client must live through."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Regions = Callable[[Mapping[str, Any]], list[dict[str, Any]]]


@dataclass
class FlakyBackend:
    """What the server does.

    ``mishaps`` are used up one a request: "busy" (503 with Retry-After: 0), "reset" (the connection ends without an
    answer), "half" (an answer that ends in the middle), "500", "short" (a result too few), "html",
    "refuse" (400). ``poison``: ids of
    tasks that break any request they are in. ``unusable``: ids that are answered with a problem, as often as the number
    says. ``swap_after``: after so many answered tasks the model is ``next_version``.
    """

    version: str = "flaky-1"
    next_version: str = "flaky-2"
    swap_after: int | None = None
    mishaps: list[str] = field(default_factory=list)
    poison: set[str] = field(default_factory=set)
    unusable: dict[str, int] = field(default_factory=dict)
    regions: Regions = lambda task: []
    answered: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    on_predict: Callable[[], None] = lambda: None
    _lock: Any = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Return what the server says to a request, and whether it ends before it should."""
        self.on_predict()
        with self._lock:
            self.bodies.append(body)
            mishap = self.mishaps.pop(0) if self.mishaps else ""
            tasks = body["tasks"]
            if mishap == "busy":
                return 503, b'{"error": "the queue is full"}'
            if mishap == "reset":
                return 0, b""
            if mishap == "500" or any(task["id"] in self.poison for task in tasks):
                return 500, b'{"error": "internal error"}'
            if mishap == "refuse":
                return 400, b'{"error": "label_config: not well-formed"}'
            if mishap == "html":
                return 200, b"<html>a proxy</html>"
            whole = json.dumps(self._predict(tasks[1:] if mishap == "short" else tasks)).encode()
            return 200, whole[: len(whole) // 2] if mishap == "half" else whole

    def _predict(self, tasks: list[dict[str, Any]]) -> dict[str, Any]:
        results: list[Any] = []
        errors = []
        for task in tasks:
            if self.unusable.get(task["id"], 0) > 0:
                self.unusable[task["id"]] -= 1
                results.append([])
                errors.append({"task": task["id"], "error": "the image cannot be read"})
                continue
            self.answered.append(task["id"])
            if self.swap_after is not None and len(self.answered) > self.swap_after:
                self.version = self.next_version
            scores = {"u_sum": 0.25, "u_disagree": None, "u_rare": 0.5}
            results.append(
                {"model_version": self.version, "score": 0.75, "result": self.regions(task), "prediction_meta": scores}
            )
        return {"results": results, "errors": errors}


@contextmanager
def serve_flaky_backend(backend: FlakyBackend) -> Iterator[FlakyBackend]:
    """Serve it on a free port; its ``url`` is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, json.dumps({"model_version": backend.version, "weights_source": "memory"}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/setup":
                self._send(200, json.dumps({"model_version": backend.version, "unmapped_labels": []}).encode())
                return
            status, answer = backend.answer(body)
            if status:
                self._send(status, answer)
            else:
                self.close_connection = True

        def _send(self, status: int, answer: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    backend.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield backend
    finally:
        server.shutdown()
        server.server_close()
