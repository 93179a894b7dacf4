"""The programs of the local stack: command lines, environments, ports, order. Nothing is started here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labels.config import default_label_config_path
from labels.errors import LabelingError
from sync.services.mongod import find_mongod, to_database_uri, to_mongod_argv
from sync.services.ports import LOOPBACK
from sync.settings import DEFAULT_ADMIN_EMAIL, DEFAULT_PROJECT, Home

MONGOD = "mongod"
LABEL_STUDIO = "label-studio"
ML_BACKEND = "ml-backend"
CONSOLE = "console"
APP = "app"

# None: any free port.
DEFAULT_PORTS: Mapping[str, int | None] = {MONGOD: None, LABEL_STUDIO: 8080, ML_BACKEND: 9090, CONSOLE: 9091, APP: 5151}

# mongod is stopped last: a FiftyOne process that loses it hangs for as long as its driver looks for another server.
FIRST = 1
LATER = 100


@dataclass(frozen=True)
class StackSettings:
    """What a person can choose about the local stack; `database_uri` None means a MongoDB server of our own."""

    project_title: str = DEFAULT_PROJECT
    admin_email: str = DEFAULT_ADMIN_EMAIL
    label_config: Path = field(default_factory=default_label_config_path)
    database_uri: str | None = None
    model: str = "yolo11n"
    device: str = "auto"
    score_threshold: float = 0.2
    batch_size: int = 8
    ports: Mapping[str, int | None] = field(default_factory=lambda: dict(DEFAULT_PORTS))


@dataclass(frozen=True)
class Program:
    """One supervised process.

    `health_path` None: it is up as soon as its port answers. `secret_environment` names files whose content becomes a
    variable when the process starts, so that no secret is written a second time.
    """

    name: str
    argv: tuple[str, ...]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_environment: Mapping[str, str] = field(default_factory=dict)
    health_path: str | None = "/health"
    needs: tuple[str, ...] = ()
    priority: int = LATER
    start_timeout_s: float = 120.0
    stop_timeout_s: int = 8

    @property
    def url(self) -> str:
        """The address of the program on this machine."""
        return f"http://{LOOPBACK}:{self.port}"


def list_program_names(settings: StackSettings) -> tuple[str, ...]:
    """Return the programs of a stack; mongod is not among them when the database is somebody else's."""
    return tuple(name for name in settings.ports if name != MONGOD or settings.database_uri is None)


def plan_programs(home: Home, settings: StackSettings, ports: Mapping[str, int]) -> list[Program]:
    """Return the programs of the local stack on these ports.

    Raises:
        ServiceError: no MongoDB server is installed and none was named.
    """
    programs = []
    if settings.database_uri is None:
        programs.append(_plan_mongod(home, ports[MONGOD]))
    return [
        *programs,
        _plan_label_studio(home, settings, ports[LABEL_STUDIO]),
        _plan_ml_backend(home, settings, ports),
        _plan_console(home, settings, ports),
        plan_app(home, settings, ports),
    ]


def _plan_mongod(home: Home, port: int) -> Program:
    return Program(
        name=MONGOD,
        argv=to_mongod_argv(find_mongod(), data=home.mongodb, port=port),
        port=port,
        health_path=None,
        priority=FIRST,
        start_timeout_s=60.0,
        stop_timeout_s=30,
    )


def _plan_label_studio(home: Home, settings: StackSettings, port: int) -> Program:
    return Program(
        name=LABEL_STUDIO,
        argv=_python("label_studio.server", "start", "--no-browser", "--internal-host", LOOPBACK, "--port", str(port)),
        port=port,
        environment={
            **LABEL_STUDIO_QUIET,
            "LABEL_STUDIO_BASE_DATA_DIR": str(home.label_studio),
            "LABEL_STUDIO_DJANGO_DB": "sqlite",
            "LABEL_STUDIO_HOST": f"http://{LOOPBACK}:{port}",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(home.media),
            "LABEL_STUDIO_USERNAME": settings.admin_email,
        },
        secret_environment={"LABEL_STUDIO_PASSWORD": str(home.secrets / "admin_password")},
        # The first start makes the database, which takes 25 s on a quiet machine.
        start_timeout_s=300.0,
    )


# The same switches as in docker-compose.yml: no calls to the outside, strict predictions, local addresses allowed.
LABEL_STUDIO_QUIET: Mapping[str, str] = {
    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
    "LABEL_STUDIO_SENTRY_DSN": "",
    "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
    "LABEL_STUDIO_FEATURE_FLAGS_OFFLINE": "true",
    "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
    "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
    "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
    "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
    "LABEL_STUDIO_DEBUG": "false",
    # Without this flag Label Studio answers 201 to a prediction with an unknown label and drops it.
    "fflag_feat_utc_210_prediction_validation_15082025": "true",
}


def _plan_ml_backend(home: Home, settings: StackSettings, ports: Mapping[str, int]) -> Program:
    return Program(
        name=ML_BACKEND,
        argv=_python("ml_backend"),
        port=ports[ML_BACKEND],
        environment={
            **_server_environment(home, ports, ML_BACKEND),
            "LABELLOOP_MODEL": settings.model,
            "LABELLOOP_MODELS_DIR": str(home.models),
            "LABELLOOP_MEDIA_ROOT": str(home.media),
            "LABELLOOP_SCORE_THRESHOLD": str(settings.score_threshold),
            "LABELLOOP_BATCH_SIZE": str(settings.batch_size),
            "LABELLOOP_DEVICE": settings.device,
            "LABELLOOP_ML_BACKEND_PASSWORD_FILE": str(home.secrets / "ml_backend_password"),
            "LABELLOOP_WEBHOOK_SECRET_FILE": str(home.secrets / "webhook_secret"),
            "LABELLOOP_CONSOLE_URL": f"http://{LOOPBACK}:{ports[CONSOLE]}",
            "LABELLOOP_CONSOLE_TOKEN_FILE": str(home.secrets / "console_token"),
        },
        # Its port answers at once; this says whether the model is there.
        health_path="/ready",
    )


def _plan_console(home: Home, settings: StackSettings, ports: Mapping[str, int]) -> Program:
    return Program(
        name=CONSOLE,
        argv=_python("sync.console"),
        port=ports[CONSOLE],
        environment={
            **_server_environment(home, ports, CONSOLE),
            **to_fiftyone_environment(get_database_uri(settings, ports)),
            "LABELLOOP_CONSOLE_TOKEN_FILE": str(home.secrets / "console_token"),
            "LABELLOOP_WEBHOOK_SECRET_FILE": str(home.secrets / "webhook_secret"),
            "LABEL_STUDIO_HOST": f"http://{LOOPBACK}:{ports[LABEL_STUDIO]}",
            "LABELLOOP_ML_BACKEND_URL": f"http://{LOOPBACK}:{ports[ML_BACKEND]}",
            "LABELLOOP_APP_URL": f"http://{LOOPBACK}:{ports[APP]}",
        },
        needs=_database_needs(settings),
    )


def plan_app(home: Home, settings: StackSettings, ports: Mapping[str, int], *, name: str = APP) -> Program:
    """Return a FiftyOne App server: `app`, or `app-NAME` for one more curator. One server is one person's view."""
    return Program(
        name=name,
        argv=_python("sync.services.app"),
        port=ports[name],
        environment={
            "LABELLOOP_HOME": str(home.path),
            "LABELLOOP_HOST": LOOPBACK,
            "LABELLOOP_PORT": str(ports[name]),
            "LABELLOOP_CONSOLE_URL": f"http://{LOOPBACK}:{ports[CONSOLE]}",
            "LABELLOOP_CONSOLE_TOKEN_FILE": str(home.secrets / "console_token"),
            **to_fiftyone_environment(get_database_uri(settings, ports)),
        },
        health_path="/fiftyone",
        needs=_database_needs(settings),
        # It holds nothing, and waits for open browsers before it ends by itself.
        stop_timeout_s=5,
    )


def to_app_name(curator: str) -> str:
    """Return the program name of a curator's App server.

    Raises:
        LabelingError: the name is none, or one that could be mistaken for a path.

    >>> to_app_name("Ana María")
    'app-ana-mar-a'
    """
    if not re.fullmatch(r"[\w .@'-]+", curator) or curator.startswith("."):
        raise LabelingError(f"curator {curator!r}: expected a name of letters, digits, spaces and . - _ @ '")
    slug = re.sub(r"[^a-z0-9]+", "-", curator.lower()).strip("-")
    if slug == "":
        raise LabelingError(f"curator {curator!r}: a name needs at least one letter a-z or digit")
    return f"{APP}-{slug}"


def get_database_uri(settings: StackSettings, ports: Mapping[str, int]) -> str:
    """Return the address of the database: the named one, else our own."""
    return to_database_uri(ports[MONGOD]) if settings.database_uri is None else settings.database_uri


def to_fiftyone_environment(database_uri: str) -> dict[str, str]:
    """Return the variables every process of ours that imports FiftyOne needs; they must be set before the import."""
    return {
        "FIFTYONE_DATABASE_URI": database_uri,
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DO_NOT_TRACK": "1",
    }


def _server_environment(home: Home, ports: Mapping[str, int], name: str) -> dict[str, str]:
    return {
        "LABELLOOP_HOME": str(home.path),
        "LABELLOOP_HOST": LOOPBACK,
        "LABELLOOP_PORT": str(ports[name]),
        "LABEL_STUDIO_URL": f"http://{LOOPBACK}:{ports[LABEL_STUDIO]}",
        "LABEL_STUDIO_API_KEY_FILE": str(home.secrets / "label_studio_token"),
    }


def _database_needs(settings: StackSettings) -> tuple[str, ...]:
    return (MONGOD,) if settings.database_uri is None else ()


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # -P: the working directory stays out of the import path, where a folder of some name could hide a package.
    return (os.path.abspath(sys.executable), "-P", "-m", module, *arguments)
