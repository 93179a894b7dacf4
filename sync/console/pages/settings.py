"""The settings as the console reads them: to look at, not to change; of a secret only where it lies."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from sync.console.parts import Parts
from sync.console.sessions import IDLE_S, LONGEST_S

HIDDEN: Final = "••••••"
SECRETS: Final = (
    ("Console password", "console_password", "as a hash; change it with: labelloop password"),
    ("Session key", "console_session_key", "signs the sessions of this page"),
    ("API token", "console_token", "for programs: Authorization: Bearer …"),
    ("Webhook secret", "webhook_secret", "Label Studio sends it with each event"),
    ("Label Studio token", "label_studio_token", "with it the jobs read and write tasks"),
)


def make_settings(parts: Parts) -> Blueprint:
    """Return /settings."""
    settings = Blueprint("settings", __name__, url_prefix="/settings")

    @settings.get("/")
    def show_settings() -> ResponseReturnValue:
        own, facts = parts.settings, parts.catalogue.read_facts()
        project, services = facts.project, facts.services
        groups = {
            "Project": {
                "State folder": str(own.home.path),
                "Project and dataset": None if project is None else project.name,
                "Project in Label Studio": None if project is None else project.label_studio_id,
                "Weights at the start": None if project is None else project.model,
                "Several annotators": None if project is None else project.annotators,
                "Label config": str(facts.config_path),
            },
            "Tools": {
                "Label Studio": hide_password(services.label_studio),
                "ML backend": hide_password(services.ml_backend),
                "FiftyOne App": services.app,
                "MongoDB": hide_password(services.database_uri),
                "Job queue": hide_password(own.redis_url) if own.redis_url else str(own.home.jobs_db),
            },
            "Console": {
                "Listens on": f"{own.host}:{own.port}",
                "Answers to the names": ", ".join(own.trusted_hosts),
                "Behind TLS": "yes" if own.is_behind_tls else "no",
                "A login ends": f"after {IDLE_S // 3600} h without use, at the latest after {LONGEST_S // 86400} days",
                **{f"Scheduled {job}": when for job, when in own.schedule.describe().items()},
            },
        }
        secrets = [(title, own.home.secrets / name, hint) for title, name, hint in SECRETS]
        return render_template(
            "settings.html",
            groups=groups,
            classes=facts.classes,
            secrets=[(title, path, path.is_file(), hint) for title, path, hint in secrets],
            hidden=HIDDEN,
        )

    return settings


def hide_password(url: str) -> str:
    """Return an address without the password in it.

    >>> hide_password("mongodb://me:secret@db.example:27017/?tls=true")
    'mongodb://me:••••••@db.example:27017/?tls=true'
    >>> hide_password("http://127.0.0.1:8080")
    'http://127.0.0.1:8080'
    """
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    if not at:
        return url
    name, colon, _ = login.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}{colon}{HIDDEN if colon else ''}@{place}"))
