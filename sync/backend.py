"""The ML backend as a client sees it: images of tasks in, predictions out. Nothing of Label Studio or FiftyOne."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from labels.errors import ServiceError

PREDICT_TIMEOUT_S: Final = 300.0
HEALTH_TIMEOUT_S: Final = 5.0
BUSY: Final = 503


@dataclass(frozen=True, slots=True)
class BackendPrediction:
    """What the backend says of one task: regions and a score in 0..1, or the problem that kept it from answering."""

    model_version: str
    score: float | None
    result: tuple[Mapping[str, Any], ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ServedWeights:
    """Weights by their content-given name, and the place they were found in: a path, a folder, a package, a hub."""

    model_version: str
    source: str


class _BusyError(Exception):
    """The backend's queue is full; asking again later helps."""


class MLBackend:
    """An ML backend that speaks Label Studio's protocol.

    Raises:
        ServiceError: from every method, when it does not answer or answers something else.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def fetch_model_version(self) -> str:
        """Return the version of the weights that are served."""
        return self.fetch_weights().model_version

    def fetch_weights(self) -> ServedWeights:
        """Return which weights are served and where they came from."""
        try:
            with _open_session() as session:
                answer = session.get(f"{self.url}/health", timeout=HEALTH_TIMEOUT_S)
            answer.raise_for_status()
            body = answer.json()
            return ServedWeights(str(body["model_version"]), str(body.get("weights_source", "unknown")))
        except (requests.RequestException, ValueError, KeyError) as error:
            raise ServiceError(f"ML backend at {self.url}: no answer ({error})") from error

    def fetch_predictions(self, tasks: Sequence[Mapping[str, Any]], label_config: str) -> list[BackendPrediction]:
        """Return one prediction a task, in order. Each task has an ``id`` and the ``data`` of Label Studio's tasks."""
        try:
            answer = self._post({"tasks": list(tasks), "label_config": label_config, "project": None, "params": {}})
            body = answer.json()
            results = body["results"]
            problems = {error["task"]: str(error["error"]) for error in body.get("errors", ())}
        except (_BusyError, requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"ML backend at {self.url}: no predictions ({error})") from error
        if len(results) != len(tasks):
            raise ServiceError(f"ML backend at {self.url}: {len(results)} results for {len(tasks)} tasks")
        return [
            BackendPrediction(
                model_version=str(result["model_version"]),
                score=result["score"],
                result=tuple(result["result"]),
                problem=problems.get(task["id"]),
            )
            for task, result in zip(tasks, results, strict=True)
        ]

    @retry(
        retry=retry_if_exception_type(_BusyError),
        stop=stop_after_attempt(6),
        wait=wait_exponential(multiplier=0.5, max=10),
        reraise=True,
    )
    def _post(self, body: Mapping[str, Any]) -> requests.Response:
        with _open_session() as session:
            answer = session.post(f"{self.url}/predict", json=body, timeout=PREDICT_TIMEOUT_S)
        if answer.status_code == BUSY:
            raise _BusyError("its queue is full")
        answer.raise_for_status()
        return answer


def _open_session() -> requests.Session:
    session = requests.Session()
    # A proxy of this shell must not be asked for a server of this machine.
    session.trust_env = False
    return session
