"""Asks each tool whether it answers, and answers the same question; says nothing about how well."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import requests
from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from sync.console.status import Tool

TIMEOUT_S = 1.5


@dataclass(frozen=True)
class Health:
    """Whether a tool answers; 'unknown' where nothing tells. problem is one short line, or empty."""

    state: Literal["up", "down", "unknown"]
    problem: str = ""


def fetch_health(tools: Sequence[Tool] | None) -> Mapping[str, Health]:
    """Return the health of each tool by its key; asks all at once and waits at most about two seconds."""
    if not tools:
        return {}
    with ThreadPoolExecutor(max_workers=len(tools)) as pool:
        return dict(zip((tool.key for tool in tools), pool.map(_ask, tools), strict=True))


def _ask(tool: Tool) -> Health:
    if tool.health_url is None:
        return Health("unknown")
    address = urlsplit(tool.health_url)
    try:
        if address.scheme == "tcp":
            socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S).close()
        else:
            _fetch(tool.health_url)
    except (OSError, requests.RequestException) as error:
        return Health("down", _describe(error))
    return Health("up")


def _fetch(url: str) -> None:
    with requests.get(url, timeout=TIMEOUT_S, allow_redirects=False, stream=True) as response:
        if response.status_code >= 500:
            raise requests.HTTPError(f"answers {response.status_code}")


def _describe(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return str(error)
    if isinstance(error, (TimeoutError, requests.Timeout)):
        return f"no answer within {TIMEOUT_S} s"
    return "does not answer"


def make_health() -> Blueprint:
    """Return /health: open to everybody, asks nobody, tells only that the console answers."""
    health = Blueprint("health", __name__)

    @health.get("/health")
    def show_health() -> ResponseReturnValue:
        return jsonify(status="UP")

    return health
