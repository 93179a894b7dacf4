"""A stand-in for a server of the stack: answers every GET with 200, and notes when it starts and is told to end.

python stub_server.py NAME PORT NOTES [FAULT]
FAULT is exit (ends at once), deaf (never listens) or stubborn (ignores SIGTERM).
"""

import http.server
import os
import signal
import sys
import time


def note(notes: str, event: str) -> None:
    """Add a line to the notes, which all servers of a test share."""
    with open(notes, "a", encoding="utf-8") as file:
        file.write(event + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    """Says yes to everything, and tells the variables of its process that a test asks for."""

    def do_GET(self) -> None:
        """Answer with the value of the environment variable that the path names."""
        self._answer(os.environ.get(self.path.strip("/"), "{}" if self.path == "/health" else "").encode())

    def do_POST(self) -> None:
        """Answer as the simplest ML backend does to /setup."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'{"model_version": "stub-1"}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(name: str, port: str, notes: str, fault: str = "") -> None:
    """Serve until SIGTERM."""

    def end(_number: int, _frame: object) -> None:
        note(notes, f"{name} stopped")
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if fault == "stubborn" else end)
    note(notes, f"{name} started")
    if fault == "exit":
        sys.stderr.write("the disk is on fire\n")
        sys.exit(7)
    if fault == "deaf":
        time.sleep(600)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
