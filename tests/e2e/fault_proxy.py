"""A proxy on loopback that does to requests what networks and servers do to them now and then."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding")
UPSTREAM_TIMEOUT_S = 60


class Fault(Enum):
    """What may become of a request."""

    RESET_BEFORE = "the connection is reset, and the request never arrives"
    RESET_AFTER = "the request is carried out, and the answer is lost"
    TRUNCATED = "the request is carried out, and half of the answer arrives"
    LATE = "the request is carried out, and the answer comes after the time-out"
    TWICE = "the request is carried out twice"
    STATUS_401 = "401, nothing is carried out"
    STATUS_429 = "429, nothing is carried out"
    STATUS_500 = "500, nothing is carried out"
    STATUS_500_AFTER = "500, and all the same the request is carried out"
    STATUS_503 = "503, nothing is carried out"
    NO_JSON = "200 with a page of HTML, nothing is carried out"


@dataclass
class Plan:
    """Which requests meet with which fault: ``times`` of them, from the ``first`` on. Tokens are never touched."""

    fault: Fault | None = None
    first: int = 0
    times: int = 1
    seen: int = 0
    hit: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, path: str) -> Fault | None:
        """Return what is to become of the next request."""
        if "/token" in path:
            return None
        with self.lock:
            number = self.seen
            self.seen += 1
            if self.fault is not None and self.first <= number < self.first + self.times:
                self.hit += 1
                return self.fault
        return None


class FaultProxy(ThreadingHTTPServer):
    """Hands requests on to one server, but for those that the plan is for."""

    daemon_threads = True

    def __init__(self, target: str, late_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.late_s = late_s
        self.plan = Plan()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def do_GET(self) -> None:
        fault = self.server.plan.choose(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        if fault is Fault.RESET_BEFORE:
            self._reset()
        elif fault is Fault.NO_JSON:
            self._answer(200, {"Content-Type": "text/html"}, b"<html>The service is being upgraded</html>")
        elif fault in STATUSES:
            self._answer(STATUSES[fault], {"Content-Type": "application/json", "Retry-After": "0"}, b'{"detail": "no"}')
        else:
            self._carry_out(fault, body)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815  the names the base class looks for

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _carry_out(self, fault: Fault | None, body: bytes) -> None:
        status, headers, answer = self._ask(body)
        if fault is Fault.TWICE:
            self._ask(body)
        if fault is Fault.RESET_AFTER:
            self._reset()
        elif fault is Fault.STATUS_500_AFTER:
            self._answer(500, {"Content-Type": "application/json"}, b'{"detail": "no"}')
        elif fault is Fault.TRUNCATED:
            self._answer(status, headers, answer[: len(answer) // 2], length=len(answer) + 1)
            self._reset()
        else:
            if fault is Fault.LATE:
                time.sleep(self.server.late_s)
            self._answer(status, headers, answer)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(
            str(self.server.target.hostname), self.server.target.port, timeout=UPSTREAM_TIMEOUT_S
        )
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            return answer.status, kept, answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, *, length: int | None = None) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

    def _reset(self) -> None:
        """End the connection with a reset, as a process that dies does."""
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True


STATUSES = {Fault.STATUS_401: 401, Fault.STATUS_429: 429, Fault.STATUS_500: 500, Fault.STATUS_503: 503}


@contextmanager
def open_proxy(target: str, *, late_s: float) -> Iterator[FaultProxy]:
    """Run a proxy in threads of this process."""
    proxy = FaultProxy(target, late_s)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
