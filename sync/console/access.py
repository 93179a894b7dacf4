"""Who gets in: login and logout, the guard before every page, and the check of every form. Pages come after it."""

from __future__ import annotations

import hmac
import math
import time
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from flask import Blueprint, Flask, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter, RateLimitExceeded
from flask_limiter.util import get_remote_address
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import Unauthorized

from sync.console.sessions import LONGEST_S, Sessions
from sync.console.settings import ConsoleSettings

FAILED_LOGINS: Final = "5 per minute; 30 per hour"
OPEN_ENDPOINTS: Final = frozenset({"access.show_login", "access.log_in", "static", "health.show_health"})
# Programs come with a token or a secret, which these check themselves.
PROGRAM_BLUEPRINTS: Final = ("api", "webhooks", "metrics")
# What a page asks for by itself says nothing of whether a person is there.
POLLED_ENDPOINTS: Final = ("live.show_live",)


def guard(app: Flask, settings: ConsoleSettings, sessions: Sessions) -> CSRFProtect:
    """Close the app but for the login: a page asks for a session, a form besides for its token."""
    app.config.update(
        SECRET_KEY=settings.session_key,
        # Cookies know no ports: two consoles on one machine would log each other out.
        SESSION_COOKIE_NAME=f"labelloop_{settings.port}",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=settings.is_behind_tls,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=LONGEST_S),
        # The token is the session's own and ends with it; a page left open over lunch must still work.
        WTF_CSRF_TIME_LIMIT=None,
    )

    @app.before_request
    def require_login() -> ResponseReturnValue | None:
        if request.endpoint is None or request.endpoint in OPEN_ENDPOINTS or request.blueprint in PROGRAM_BLUEPRINTS:
            return None
        if sessions.is_logged_in(session):
            if request.endpoint not in POLLED_ENDPOINTS:
                sessions.stamp(session)
            return None
        if request.path.endswith(".json") or request.blueprint == "images":
            raise Unauthorized("log in first")
        return redirect(url_for("access.show_login", next=_here() if request.method == "GET" else None), 303)

    csrf = CSRFProtect(app)
    app.register_blueprint(_make_login(app, sessions))
    return csrf


def _make_login(app: Flask, sessions: Sessions) -> Blueprint:
    access = Blueprint("access", __name__)
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", strategy="moving-window")

    @access.get("/login")
    def show_login() -> ResponseReturnValue:
        if sessions.is_logged_in(session):
            return redirect(_to_local_path(request.args.get("next")), 303)
        return render_template("login.html", next=request.args.get("next", ""))

    @access.post("/login")
    @limiter.limit(FAILED_LOGINS, deduct_when=lambda response: response.status_code == 401)
    def log_in() -> ResponseReturnValue:
        wanted = request.form.get("next", "")
        if not sessions.log_in(session, request.form.get("password", "")):
            return render_template("login.html", next=wanted, problem="This is not the password."), 401
        session.permanent = True
        return redirect(_to_local_path(wanted), 303)

    @access.post("/logout")
    def log_out() -> ResponseReturnValue:
        sessions.log_out(session)
        return redirect(url_for("access.show_login"), 303)

    @app.errorhandler(RateLimitExceeded)
    def refuse_for_now(error: RateLimitExceeded) -> ResponseReturnValue:
        current = limiter.current_limit
        wait_s = 60 if current is None else max(1, math.ceil(current.reset_at - time.time()))
        text = f"Too many wrong passwords. Try again in {_in_words(wait_s)}."
        page = render_template("login.html", next=request.form.get("next", ""), problem=text)
        return page, 429, {"Retry-After": str(wait_s)}

    return access


def is_same_secret(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing of the secret; bytes, since a header may hold more than ASCII."""
    return hmac.compare_digest(given.encode(), expected.encode())


def has_token(token: str) -> bool:
    """Return whether the request carries this bearer token."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and is_same_secret(given.strip(), token)


def _here() -> str:
    return request.full_path if request.query_string else request.path


def _to_local_path(wanted: str | None) -> str:
    """Return a path of this console, for wherever somebody wants to go; browsers read a backslash as a slash."""
    path = wanted or ""
    parts = urlsplit(path)
    is_local = path.startswith("/") and not path.startswith("//") and not (parts.scheme or parts.netloc)
    if not is_local or "\\" in path or any(ord(letter) < 32 for letter in path):
        return url_for("overview.show_overview")
    return path


def _in_words(wait_s: int) -> str:
    minutes = math.ceil(wait_s / 60)
    return f"{wait_s} seconds" if wait_s < 120 else f"{minutes} minutes"
