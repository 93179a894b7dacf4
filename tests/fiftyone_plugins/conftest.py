"""FiftyOne with our plugins on a database of its own, and a console that only pretends to work."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from PIL import Image
from werkzeug.serving import make_server

import fiftyone_plugins
from labels.report import Failure, Report

TOKEN = "the-token"
STATUS: dict[str, Any] = {
    "counts": {"not_sent": 1204, "queued": 96, "reviewed": 32, "skipped": 0, "conflicts": 2, "failed": None},
    "dataset": "photos",
    "model_version": None,
    "links": {"label_studio": "http://127.0.0.1:8080/projects/1/data"},
    "runs": [],
}
REPORTS = {
    "push": Report("push", moved=2, failed=(Failure("b_1.jpg", "is empty"),)).to_dict(),
    "pull": Report("pull", moved=3).to_dict(),
    "resolve": Report("resolve", moved=1).to_dict(),
    "queue": Report("queue", moved=5, is_dry_run=True).to_dict(),
}


@dataclass
class FakeConsole:
    """Answers like the console: each job is seen running once, then done. Keeps what it was asked."""

    url: str = ""
    status: dict[str, Any] = field(default_factory=lambda: dict(STATUS))
    error: str | None = None
    is_cancelled: bool = False
    submitted: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0

    def make_app(self) -> Flask:
        app = Flask(__name__)

        @app.before_request
        def check_token() -> ResponseReturnValue | None:
            if request.headers.get("Authorization") == f"Bearer {TOKEN}":
                return None
            return jsonify(error="the token is missing or wrong"), 401

        @app.get("/api/status")
        def show_status() -> ResponseReturnValue:
            return jsonify(self.status)

        @app.post("/api/jobs")
        def submit() -> ResponseReturnValue:
            asked = request.get_json()
            if asked.pop("started_by", None) != "app":
                return jsonify(error="started_by: expected app"), 400
            self.submitted.append(asked)
            self.looks = 0
            return jsonify(id=1), 202

        @app.get("/api/jobs/1")
        def show_job() -> ResponseReturnValue:
            self.looks += 1
            return jsonify(self.read_job())

        return app

    def read_job(self) -> dict[str, Any]:
        job = self.submitted[-1]["job"]
        shown = {"id": 1, "job": job, "created_at": "2026-01-02T03:04:05+00:00", "report": None, "error": None}
        if self.looks == 1:
            return {**shown, "state": "running", "progress": 0.5, "message": "sent 1 of 2"}
        if self.error is not None:
            return {**shown, "state": "failed", "progress": None, "message": "", "error": self.error}
        if self.is_cancelled:
            return {**shown, "state": "cancelled", "progress": 0.5, "message": ""}
        return {**shown, "state": "done", "progress": 1.0, "message": "", "report": REPORTS[job]}


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeConsole]:
    """A console on a free port, which the environment tells of."""
    console = FakeConsole()
    server = make_server("127.0.0.1", 0, console.make_app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    console.url = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("LABELLOOP_CONSOLE_URL", console.url)
    monkeypatch.setenv("LABELLOOP_CONSOLE_TOKEN_FILE", str(tmp_path / "token"))
    yield console
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def fiftyone(mongod_uri: str) -> Any:
    """FiftyOne on the session's database, loading our plugins and no others."""
    with warnings.catch_warnings():
        # FiftyOne and what it imports are not ours to mend. It connects to its database while it is imported.
        warnings.simplefilter("ignore")
        import fiftyone
        import fiftyone.operators
        import fiftyone.plugins
    fiftyone.config.plugins_dir = str(Path(fiftyone_plugins.__file__).parent)
    return fiftyone


@pytest.fixture
def dataset(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Six photos: one queued, one in conflict, four never sent."""
    dataset = fiftyone.Dataset("photos")
    samples = []
    for number, state in enumerate(["queued", "conflict", None, None, None, None]):
        path = tmp_path / f"{number}.jpg"
        Image.new("RGB", (40, 20)).save(path)
        samples.append(fiftyone.Sample(filepath=str(path), review_state=state))
    dataset.add_samples(samples, progress=False)
    yield dataset
    dataset.delete()
