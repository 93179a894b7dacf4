"""Says which model is served: none yet, one, or one while the next is being loaded in a thread of its own.

Whoever has begun with a model ends with it; it is let go when the last of them is done.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from labels.errors import LabelingError, ServiceError
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.served import ServedModel
from ml_backend.serving.tasks import locate_bug

logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 5

Announce = Callable[[str], None]
Load = Callable[[str, Announce], ServedModel]
"""Loads a model by its name; tells the version as soon as it is known, which is long before the model is ready."""


class LoadingError(ServiceError):
    """The model is not there yet; ``retry_after_s`` says when to come again."""

    retry_after_s = RETRY_AFTER_S


@dataclass(frozen=True)
class LoadState:
    """Where loading stands. ``version`` is what answers carry, or will: None while nobody knows it yet."""

    version: str | None
    versions: tuple[str, ...]
    is_ready: bool
    loading: str | None
    problem: str | None

    @property
    def name(self) -> str:
        """One word for it: ready, loading or failed; a model that is served goes before the next one."""
        if self.is_ready:
            return "ready"
        return "failed" if self.problem is not None and self.loading is None else "loading"


def _forget(_name: str) -> None:
    """Remember nothing."""


class ModelHolder:
    """Holds the model that is served, and loads the next one in a thread of its own.

    ``is_logging`` False: whoever waits says himself what went wrong. ``remember`` is told the name of each model that
    takes over, before it does.
    """

    def __init__(
        self, load: Load, *, metrics: Metrics, is_logging: bool = True, remember: Callable[[str], None] = _forget
    ) -> None:
        self._load = load
        self._metrics = metrics
        self._remember = remember
        self._name: str | None = None
        self._is_logging = is_logging
        self._changed = threading.Condition()
        self._served: ServedModel | None = None
        self._versions: list[str] = []
        self._announced: str | None = None
        self._loading: str | None = None
        self._problem: str | None = None

    def start_loading(self, name: str, *, otherwise: str | None = None) -> None:
        """Load a model in the background, and serve it in place of the other when it is ready.

        ``otherwise`` is loaded where that one cannot be; why it could not stays the problem.

        Raises:
            LoadingError: another one is being loaded.
        """
        with self._changed:
            if self._loading is not None:
                raise LoadingError(f"{self._loading} is being loaded, one at a time")
            self._loading, self._problem = name, None
        threading.Thread(target=self._run, args=(name, otherwise), name="loading", daemon=True).start()

    def start_reloading(self) -> None:
        """Load the model that is served once more, as with a calibration that was made since.

        Raises:
            LoadingError: another one is being loaded, or none is served.
        """
        with self._changed:
            name = self._name
        if name is None:
            raise LoadingError("the model is being loaded, come back in a moment")
        self.start_loading(name)

    def get(self, *, wait_s: float = 0.0) -> ServedModel:
        """Return the model that is served, waiting a while for the first one.

        Raises:
            LoadingError: it is not ready yet, or could not be loaded.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._served is not None or self._loading is None, wait_s)
            if self._served is not None:
                return self._served
            if self._loading is not None:
                raise LoadingError("the model is being loaded, come back in a moment")
            raise LoadingError("no model could be loaded")

    def wait(self, timeout_s: float | None = None) -> str | None:
        """Wait until nothing is being loaded any more, and return what went wrong: None is nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._loading is None, timeout_s)
            return self._problem

    def read_state(self) -> LoadState:
        """Return where loading stands, at once."""
        with self._changed:
            return LoadState(
                version=self._served.version if self._served is not None else self._announced,
                versions=tuple(self._versions),
                is_ready=self._served is not None,
                loading=self._loading,
                problem=self._problem,
            )

    def _run(self, name: str, otherwise: str | None) -> None:
        model, problem = self._try(name)
        if model is None and otherwise is not None:
            logger.warning("%s; %s is loaded instead", problem, otherwise)
            name = otherwise
            model, second_problem = self._try(name)
            problem = problem if second_problem is None else second_problem
        if model is not None:
            # Before it is served: whoever sees the new model may end the process.
            self._remember(name)
        elif self._is_logging:
            # Before anybody hears of it: whoever waits may end the process, and has the last word.
            logger.error("%s", problem)
        with self._changed:
            is_taking_over = self._served is not None
            if model is not None:
                self._serve(model)
                self._name = name
            self._loading, self._problem = None, problem
            self._changed.notify_all()
        self._metrics.swaps.labels("failed" if problem else "loaded").inc()
        if problem is None and is_taking_over:
            # The model before goes with the last request that uses it; what of it lies in cycles is looked for here.
            gc.collect()

    def _try(self, name: str) -> tuple[ServedModel | None, str | None]:
        """Return the model, or why there is none."""
        try:
            return self._load(name, self._announce), None
        except LabelingError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - the end of a thread: whoever waits must hear of it
            return None, f"model {name!r}: cannot be loaded ({locate_bug(error)})"

    def _serve(self, model: ServedModel) -> None:
        if self._served is not None:
            self._metrics.model.remove(self._served.version)
        self._served = model
        self._metrics.model.labels(model.version).set(1)
        if model.version in self._versions:
            self._versions.remove(model.version)
        self._versions.append(model.version)
        logger.info("serving %s (from: %s)", model.version, model.source)

    def _announce(self, version: str) -> None:
        with self._changed:
            self._announced = version
