"""Who may ask: Label Studio and sync, by basic auth; the webhook also by its secret. Without a password, everybody."""

from __future__ import annotations

import hmac
from typing import Final

from flask import Flask, Response, jsonify, request

from ml_backend.serving.metrics import Metrics
from ml_backend.settings import Settings

USER: Final = "labelloop"
SECRET_HEADER: Final = "X-Labelloop-Secret"  # noqa: S105  the name of a header
# Says no more than whether the model is there; whoever watches over processes has no password.
OPEN_ROUTES: Final = frozenset({"/ready"})
WEBHOOK: Final = "/webhook"


def guard(app: Flask, settings: Settings, metrics: Metrics) -> None:
    """Have every request checked before its view sees it, on routes that do not exist too."""

    @app.before_request
    def check() -> Response | None:
        if settings.password is None or request.path in OPEN_ROUTES:
            return None
        if is_known(settings.password) or (request.path == WEBHOOK and knows_secret(settings.webhook_secret)):
            return None
        metrics.errors.labels("unauthorized").inc()
        # Nothing of a body is read for somebody we do not know.
        answer = jsonify(error=f"name and password are missing or wrong (basic auth, user {USER!r})")
        answer.status_code = 401
        answer.headers["WWW-Authenticate"] = 'Basic realm="labelloop ML backend", charset="UTF-8"'
        return answer


def is_known(password: str) -> bool:
    """Return whether the request carries our user and this password."""
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    is_user = _is_same(given.username, USER)
    return _is_same(given.password, password) and is_user


def knows_secret(secret: str | None) -> bool:
    """Return whether the request carries the webhook's secret; False where there is none."""
    return secret is not None and _is_same(request.headers.get(SECRET_HEADER), secret)


def _is_same(given: str | None, expected: str) -> bool:
    # As bytes: what is given may hold any character.
    return hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), expected.encode())
