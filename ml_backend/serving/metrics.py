"""What the server did since it started, as Prometheus reads it."""

from __future__ import annotations

import sys
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0)


class Metrics:
    """The counts and times of one server, in a registry of its own; safe for many threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._count("requests", "HTTP requests answered", "route", "status")
        self.images = self._count("images", "images the model looked at")
        self.tasks = self._count("tasks", "tasks answered: with a prediction, or failed", "outcome")
        self.errors = self._count("errors", "what went wrong, by kind", "kind")
        self.cache = self._count("cache_lookups", "images looked up in the result cache", "result")
        self.batch_images = self._histogram("batch_images", "images of one forward pass", BATCH_BUCKETS)
        self.queue_wait = self._histogram("queue_wait_seconds", "wait of an image for the model", None, "lane")
        self.forward = self._histogram("forward_seconds", "time of one batch in the model", None)
        self.read = self._histogram("read_seconds", "time to get the bytes of one image", None)
        self.decode = self._histogram("decode_seconds", "time to decode one image", None)
        self.queued = Gauge(
            "labelloop_queued_images", "images that wait for the model", ("lane",), registry=self.registry
        )
        self.model = Gauge(
            "labelloop_model_info", "1 for the model that is served", ("version",), registry=self.registry
        )
        self.swaps = self._count("model_loads", "models loaded, or failed to load", "outcome")
        memory = Gauge("labelloop_gpu_memory_bytes", "memory of the GPU that torch holds", registry=self.registry)
        memory.set_function(read_gpu_memory)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def read_value(self, name: str, **labels: str) -> float:
        """Return one sample's value, 0 where nothing was counted yet.

        >>> metrics = Metrics()
        >>> metrics.images.inc(2)
        >>> metrics.read_value("images_total")
        2.0
        """
        return self.registry.get_sample_value(f"labelloop_{name}", labels) or 0.0

    def _count(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"labelloop_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[int, ...] | None, *labels: str) -> Histogram:
        return Histogram(f"labelloop_{name}", text, labels, registry=self.registry, buckets=buckets or SECONDS_BUCKETS)


def read_gpu_memory() -> float:
    """Return the bytes torch holds on all GPUs; 0 where torch is not loaded or has touched none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0.0
    return float(sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count())))
