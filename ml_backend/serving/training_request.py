"""Asks the console to train: what Label Studio's *Start training* button comes to. Nothing is trained here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import requests

from ml_backend.settings import Settings

TIMEOUT_S: Final = 10.0
JOB: Final = "train"
OK_STATUS: Final = 200
GOING: Final = ("queued", "running")
NO_CONSOLE: Final = (
    "training is started by the console, and this ML backend was told of none (LABELLOOP_CONSOLE_URL and"
    " LABELLOOP_CONSOLE_TOKEN_FILE)"
)
NOTHING_REVIEWED: Final = "nothing is reviewed yet: submit some tasks, and training can begin"


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking: ``run`` is the number of the training's run, None where it was not started."""

    status: int
    message: str
    run: int | None = None


def ask_for_training(settings: Settings) -> Asked:
    """Start the training job, as the last training did, on what is reviewed now; return at once.

    While one waits or runs, no other is started: Label Studio can be set to ask with every annotation.
    """
    if settings.console_url is None or settings.console_token_file is None:
        return Asked(501, NO_CONSOLE)
    try:
        token = settings.console_token_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        return Asked(501, f"LABELLOOP_CONSOLE_TOKEN_FILE: cannot be read ({error.strerror})")
    with requests.Session() as session:
        # A proxy of the environment must not be asked for a server of ours, nor a .netrc for its password.
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token}"
        try:
            counts = _ask(session, "GET", f"{settings.console_url}/api/status").get("counts") or {}
            going = _find_going(_ask(session, "GET", f"{settings.console_url}/api/jobs?job={JOB}&limit=1"))
            if going is not None:
                return Asked(OK_STATUS, f"training is run {going} of the console already", going)
            run = int(_ask(session, "POST", f"{settings.console_url}/api/jobs", {"job": JOB, "params": {}})["id"])
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            return Asked(503, f"the console did not start the training ({_explain(error)})")
    if counts.get("reviewed", 0) + counts.get("conflicts", 0) == 0:
        # Label Studio's dialog shows no answer, so the refusal is a run too: there somebody finds it.
        return Asked(409, f"{NOTHING_REVIEWED} (run {run} of the console)")
    return Asked(OK_STATUS, f"training is run {run} of the console", run)


def _find_going(answer: dict[str, Any]) -> int | None:
    """Return the newest training's run where it is not over."""
    return next((int(run["id"]) for run in answer["jobs"] if run["state"] in GOING), None)


def _ask(session: requests.Session, method: str, url: str, body: Any = None) -> dict[str, Any]:
    answer = session.request(method, url, json=body, timeout=TIMEOUT_S, allow_redirects=False)
    if not answer.ok:
        try:
            problem = str(answer.json().get("error", answer.reason))
        except (ValueError, AttributeError):
            problem = answer.reason
        raise ValueError(f"{answer.status_code} {problem}")
    found = answer.json()
    if not isinstance(found, dict):
        raise TypeError("its answer is no object")
    return found


def _explain(error: Exception) -> str:
    return (
        f"no answer: {type(error).__name__}"
        if isinstance(error, requests.ConnectionError)
        else " ".join(str(error).split())[:200]
    )
