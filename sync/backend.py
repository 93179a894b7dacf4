"""The ML backend as a client sees it: images of tasks in, predictions out. Nothing of Label Studio or FiftyOne.

Nothing is sent twice from here: what to do about an error is told by its class, and done by who called.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import requests

from labels import fields
from labels.errors import LabelingError, ServiceError

PREDICT_TIMEOUT_S: Final = 300.0
HEALTH_TIMEOUT_S: Final = 5.0
LOAD_TIMEOUT_S: Final = 300.0
LOAD_POLL_S: Final = 0.2
LOAD_ANSWER_TIMEOUT_S: Final = 60.0
BUSY: Final = 503
# A proxy in between says these while the server behind it is away.
AWAY: Final = frozenset({502, 504})
REFUSED: Final = frozenset({400, 401, 403, 404, 405})
DEFAULT_RETRY_AFTER_S: Final = 2.0
LONGEST_RETRY_AFTER_S: Final = 60.0
USER: Final = "labelloop"
SCORE_NAMES: Final = (fields.U_SUM, fields.U_DISAGREE, fields.U_RARE)
BATCH_JOB: Final = {"X-Labelloop-Priority": "batch"}


class BackendBusyError(ServiceError):
    """The backend has no place for the request now; the same one helps after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendLostError(ServiceError):
    """Nobody answered: the backend starts, stops, or is gone."""


class BatchError(ServiceError):
    """The backend could not answer for just these tasks: fewer of them at once, or another time, may help."""


@dataclass(frozen=True, slots=True)
class BackendPrediction:
    """What the backend says of one task: regions and a score in 0..1, or the problem that kept it from answering.

    ``scores`` are further measures of uncertainty by name, each 0..1 or None where it was not computed.
    """

    model_version: str
    score: float | None
    result: tuple[Mapping[str, Any], ...]
    problem: str | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServedWeights:
    """Weights by their content-given name, and the place they were found in: a path, a folder, a package, a hub."""

    model_version: str
    source: str


class MLBackend:
    """An ML backend that speaks Label Studio's protocol.

    Raises:
        ServiceError: from every method, when it does not answer or answers something else.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._password = password

    def fetch_model_version(self) -> str:
        """Return the version of the weights that are served."""
        return self.fetch_weights().model_version

    def fetch_weights(self, *, timeout_s: float = HEALTH_TIMEOUT_S) -> ServedWeights:
        """Return which weights are served and where they came from."""
        body = self._ask("GET", "/health", timeout_s=timeout_s)
        if "model_version" not in body:
            raise ServiceError(f"ML backend at {self.url}: no answer (its health names no model)")
        version, source = body["model_version"], body.get("weights_source")
        if version is None:
            raise ServiceError(f"ML backend at {self.url}: its model is still being loaded, come back in a moment")
        return ServedWeights(str(version), "unknown" if source is None else str(source))

    def fetch_unmapped_labels(self, label_config: str) -> list[str]:
        """Return the labels that the served model never pre-draws."""
        answer = self._ask("POST", "/setup", {"schema": label_config})
        # Null while it does not know; another server of the protocol does not tell at all.
        return [str(label) for label in answer.get("unmapped_labels") or ()]

    def fetch_problem(self, label_config: str) -> str | None:
        """Return why the served model gives nothing by a label config; None: it does, or nobody can tell yet."""
        problem = self._ask("POST", "/setup", {"schema": label_config}).get("problem")
        return None if problem is None else str(problem)

    def reload(self) -> None:
        """Have the served model loaded once more, with what was made for it since, and wait until it is served.

        Raises:
            ServiceError: it refuses, cannot load it, or takes longer than five minutes.
        """
        self._load({"reload": True})

    def load(self, model: str) -> None:
        """Have another model loaded beside the one that is served, and wait until it has taken its place.

        Raises:
            ServiceError: it refuses, cannot load it (the one before stays), or takes longer than five minutes.
        """
        self._load({"model": model})

    def _load(self, wanted: Mapping[str, Any]) -> None:
        # Long time-outs: the import of a library holds up every thread of the backend.
        body = self._ask("POST", "/versions", wanted, timeout_s=LOAD_ANSWER_TIMEOUT_S)
        give_up_s = time.monotonic() + LOAD_TIMEOUT_S
        while body["loading"] is not None:
            if time.monotonic() > give_up_s:
                raise ServiceError(f"ML backend at {self.url}: is still loading its model")
            time.sleep(LOAD_POLL_S)
            body = self._ask("GET", "/versions", timeout_s=LOAD_ANSWER_TIMEOUT_S)
        if body["problem"] is not None:
            raise ServiceError(f"ML backend at {self.url}: {body['problem']}")

    def _ask(
        self, method: str, route: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = HEALTH_TIMEOUT_S
    ) -> dict[str, Any]:
        """Return the object that a short question is answered with."""
        try:
            with self._open_session() as session:
                answer = session.request(method, f"{self.url}{route}", json=body, timeout=timeout_s)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise ServiceError(f"ML backend at {self.url}: no answer ({error})") from error
        if not isinstance(found, dict):
            raise ServiceError(f"ML backend at {self.url}: no answer ({route} gives no object)")
        return found

    def fetch_predictions(
        self,
        tasks: Sequence[Mapping[str, Any]],
        label_config: str,
        *,
        label_counts: Mapping[str, int] | None = None,
        score_threshold: float | None = None,
    ) -> list[BackendPrediction]:
        """Return one prediction a task, in order. Each task has an ``id`` and the ``data`` of Label Studio's tasks.

        ``label_counts`` tells how many reviewed regions each class has: what is rare among them is worth a look. A
        ``score_threshold`` stands in for all those of the label config and of the backend's settings.

        Raises:
            BackendBusyError, BackendLostError, BatchError: see there; the request may be made again.
            LabelingError: the backend refuses what it is asked, and would again.
        """
        params: dict[str, Any] = {} if label_counts is None else {"label_counts": dict(label_counts)}
        if score_threshold is not None:
            params["score_threshold"] = score_threshold
        answer = self._post({"tasks": list(tasks), "label_config": label_config, "project": None, "params": params})
        try:
            body = answer.json()
            results = body["results"]
            problems = {error["task"]: str(error["error"]) for error in body.get("errors", ())}
            if len(results) != len(tasks):
                raise BatchError(f"ML backend at {self.url}: {len(results)} results for {len(tasks)} tasks")
            return [
                _to_prediction(result, problems.get(task["id"])) for task, result in zip(tasks, results, strict=True)
            ]
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise BatchError(f"ML backend at {self.url}: its answer is no prediction ({error!r})") from error

    def _post(self, body: Mapping[str, Any]) -> requests.Response:
        try:
            with self._open_session() as session:
                # People who wait for a task to open go first, however few tasks we ask for.
                answer = session.post(f"{self.url}/predict", json=body, headers=BATCH_JOB, timeout=PREDICT_TIMEOUT_S)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise BackendLostError(f"ML backend at {self.url}: no answer ({error})") from error
        except requests.RequestException as error:
            raise BatchError(f"ML backend at {self.url}: a broken answer ({error})") from error
        status = answer.status_code
        if status == BUSY:
            raise BackendBusyError(f"ML backend at {self.url}: it is busy", _read_retry_after(answer))
        if status in AWAY:
            raise BackendLostError(f"ML backend at {self.url}: no answer ({status})")
        if status in REFUSED:
            raise LabelingError(f"ML backend at {self.url}: {status} {_read_error(answer)}")
        if not answer.ok:
            raise BatchError(f"ML backend at {self.url}: {status} {_read_error(answer)}")
        return answer

    def _open_session(self) -> requests.Session:
        session = requests.Session()
        # A proxy of this shell must not be asked for a server of this machine, nor a .netrc for its password.
        session.trust_env = False
        session.auth = None if self._password is None else (USER, self._password)
        return session


def _to_prediction(result: Mapping[str, Any] | Sequence[Any], problem: str | None) -> BackendPrediction:
    """Return one task's answer; a task that failed has no prediction, but an empty list."""
    if not isinstance(result, Mapping):
        return BackendPrediction("", None, (), problem or "the ML backend gave no prediction")
    return BackendPrediction(
        model_version=str(result["model_version"]),
        score=result["score"],
        result=tuple(result["result"]),
        problem=problem,
        scores=_read_scores(result.get("prediction_meta")),
    )


def _read_scores(meta: Any) -> dict[str, float | None]:
    """Return the measures among what a backend tells of a prediction; one that tells nothing has none."""
    if not isinstance(meta, Mapping):
        return {}
    scores = {name: meta.get(name) for name in SCORE_NAMES}
    return {name: float(value) if isinstance(value, int | float) else None for name, value in scores.items()}


def _read_retry_after(answer: requests.Response) -> float:
    # A date is allowed there too; who sends one has no queue to wait for.
    text = answer.headers.get("Retry-After", "")
    seconds = float(text) if text.isdecimal() else DEFAULT_RETRY_AFTER_S
    return min(seconds, LONGEST_RETRY_AFTER_S)


def _read_error(answer: requests.Response) -> str:
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return answer.reason
    return str(body.get("error", answer.reason)) if isinstance(body, Mapping) else answer.reason
