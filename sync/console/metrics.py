"""Numbers for Prometheus: jobs and samples by state, how long answers take, webhooks. With the token, or logged in."""

from __future__ import annotations

import time
from collections import Counter as Count
from collections.abc import Iterator
from dataclasses import asdict

from flask import Blueprint, Flask, Response, g, request, session
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from labels.errors import LabelingError
from sync.console.access import has_token
from sync.console.parts import Parts
from sync.console.sessions import Sessions

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
RUNS_COUNTED = 1000


class Metrics:
    """What the console counts itself, and what it reads when it is asked."""

    def __init__(self, parts: Parts) -> None:
        self.registry = CollectorRegistry()
        self.webhooks = Counter(
            "labelloop_webhooks", "Events of Label Studio, taken or refused", ["outcome"], registry=self.registry
        )
        self._durations = Histogram(
            "labelloop_request_duration_seconds",
            "How long answers of the console took",
            ["endpoint", "method", "status"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.registry.register(_StateCollector(parts))

    def watch(self, app: Flask) -> None:
        """Time every request of the app; an address that is none counts under one name."""

        @app.before_request
        def begin() -> None:
            g.begin_s = time.perf_counter()

        @app.after_request
        def end(response: Response) -> Response:
            begin_s = g.pop("begin_s", None)
            if begin_s is not None:
                names = (request.endpoint or "none", request.method, str(response.status_code))
                self._durations.labels(*names).observe(time.perf_counter() - begin_s)
            return response


class _StateCollector(Collector):
    """Reads the states of samples and jobs at each scrape; what cannot be read is left out, which is not zero."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> Iterator[Metric]:
        """Name nothing: whoever registers this must not cause a read."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers of this moment."""
        samples = GaugeMetricFamily("labelloop_samples", "Samples by state of review", labels=["state"])
        for state, count in asdict(self._parts.status.read_or_problem().counts).items():
            if count is not None:
                samples.add_metric([state], count)
        yield samples
        jobs = GaugeMetricFamily(
            "labelloop_jobs", f"Jobs by name and state, of the newest {RUNS_COUNTED}", labels=["job", "state"]
        )
        try:
            runs = self._parts.runner.read_runs(RUNS_COUNTED)
        except LabelingError:
            return
        for (job, state), count in sorted(Count((run.job, run.state) for run in runs).items()):
            jobs.add_metric([job, state], count)
        yield jobs


def make_metrics(metrics: Metrics, token: str, sessions: Sessions) -> Blueprint:
    """Return /metrics."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def show_metrics() -> ResponseReturnValue:
        if not (has_token(token) or sessions.is_logged_in(session)):
            raise Unauthorized("the token is missing or wrong", www_authenticate=WWWAuthenticate("bearer"))
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint
