"""Talks to labelloop's console over HTTP: starts a job, follows it, reads the status. Knows nothing of FiftyOne."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import requests

from labels.errors import ServiceError

TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.5
START_IT = "start it with 'labelloop up'"


@dataclass(frozen=True)
class Job:
    """A job as the console tells it: progress is 0..1 or None, report is None until the job is done."""

    id: int
    job: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "stopped", "interrupted"]
    progress: float | None = None
    message: str = ""
    report: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """True once nothing about this job will change."""
        return self.state not in ("queued", "running")

    @property
    def lines(self) -> list[str]:
        """The report in words, the summary first; how the job ended where it has none. Never empty."""
        if self.error is not None:
            return [f"{self.job} {'was ' if self.state != 'failed' else ''}{self.state}: {self.error}"]
        lines = [] if self.report is None else self.report.get("lines", [])
        return [str(line) for line in lines] or [f"{self.job}: {self.state}"]

    @property
    def has_failed(self) -> bool:
        """Whether the job ended without a report."""
        return self.is_over and self.state != "done"

    @property
    def is_clean(self) -> bool:
        """Whether the job is done, no item failed, and nothing waits for a person."""
        report = self.report
        return self.state == "done" and report is not None and not report.get("failed") and not report.get("conflicts")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Job:
        """Return the job of the console's JSON; keys of a newer console are left out."""
        return cls(**{key: record[key] for key in cls.__dataclass_fields__ if key in record})


@dataclass(frozen=True)
class Console:
    """The console at a URL; the token stays out of its repr."""

    url: str
    token: str = field(repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Console:
        """Return the console that LABELLOOP_CONSOLE_URL and LABELLOOP_CONSOLE_TOKEN_FILE tell of.

        Raises:
            ServiceError: one of them is missing or cannot be used.
        """
        url, token_file = environ.get("LABELLOOP_CONSOLE_URL"), environ.get("LABELLOOP_CONSOLE_TOKEN_FILE")
        if not url or not token_file:
            missing = "LABELLOOP_CONSOLE_TOKEN_FILE" if url else "LABELLOOP_CONSOLE_URL"
            raise ServiceError(f"this App was started without {missing}: 'labelloop up' starts one that has it")
        try:
            token = Path(token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ServiceError(f"LABELLOOP_CONSOLE_TOKEN_FILE: {token_file} cannot be read ({error})") from error
        return cls(url.rstrip("/"), token)

    def fetch_status(self, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Return counts, links, model version and last runs.

        Raises:
            ServiceError: the console did not answer, or answered no.
        """
        return self._call("GET", "/api/status", timeout_s=timeout_s)

    def run(
        self, job: str, params: Mapping[str, Any] | None = None, *, poll_interval_s: float = POLL_INTERVAL_S
    ) -> Iterator[Job]:
        """Start a job and yield it again and again until it is over; the last one says how it ended.

        Raises:
            ServiceError: the console did not answer, or answered no. A job that failed is no error here.
        """
        started = self._call("POST", "/api/jobs", json={"job": job, "params": dict(params or {}), "started_by": "app"})
        while True:
            current = Job.from_dict(self._call("GET", f"/api/jobs/{started['id']}"))
            yield current
            if current.is_over:
                return
            time.sleep(poll_interval_s)

    def run_to_end(self, job: str, params: Mapping[str, Any] | None = None) -> Job:
        """Start a job, wait for its end, and return it.

        Raises:
            ServiceError: the console did not answer, or the job failed or was cancelled.
        """
        *_, last = self.run(job, params)
        if last.has_failed:
            raise ServiceError(last.lines[0])
        return last

    def _call(self, method: str, path: str, *, json: object = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            answer = requests.request(method, self.url + path, json=json, headers=headers, timeout=timeout_s)
            body = answer.json()
        except requests.JSONDecodeError as error:
            raise ServiceError(f"{self.url}: what answers there is not labelloop's console") from error
        except requests.RequestException as error:
            raise ServiceError(f"labelloop's console at {self.url} does not answer: {START_IT}") from error
        if not isinstance(body, dict):
            raise ServiceError(f"{self.url}: what answers there is not labelloop's console")
        if not answer.ok:
            raise ServiceError(f"labelloop's console: {body.get('error', answer.status_code)}")
        return body
