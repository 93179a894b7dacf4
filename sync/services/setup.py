"""What `labelloop up` does around the programs, for programs that something else starts, such as docker compose.

`python -m sync.services.setup secrets` makes the secrets the servers read, before they start.
`python -m sync.services.setup connect` makes user token, project, storage, ML backend and webhook, once they are up.
Both find what is there and leave it as it is.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from labels.errors import LabelingError, ServiceError
from sync.services.bootstrap import bootstrap
from sync.services.console_login import make_console_login
from sync.services.programs import StackSettings
from sync.services.secrets import read_or_make_secret, read_secret, write_secret
from sync.services.stack import SECRETS
from sync.services.stack_record import Addresses
from sync.settings import DEFAULT_ADMIN_EMAIL, DEFAULT_PROJECT, Home, Project, find_label_config

logger = logging.getLogger(__name__)

ADDRESSES = ("LABEL_STUDIO_URL", "LABELLOOP_ML_BACKEND_URL", "LABELLOOP_CONSOLE_URL", "FIFTYONE_DATABASE_URI")


def make_secrets(home: Home, environment: Mapping[str, str]) -> None:
    """Make the secrets that are missing; the first user's password is LABELLOOP_ADMIN_PASSWORD where that is set."""
    home.make()
    password = environment.get("LABELLOOP_ADMIN_PASSWORD")
    if password and read_secret(home.secrets / "admin_password") != password:
        write_secret(home.secrets / "admin_password", password)
    for name in SECRETS:
        read_or_make_secret(home.secrets / name)
    make_console_login(home.secrets)


def connect_tools(home: Home, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Fill Label Studio and remember its project; return what was made or mended.

    Raises:
        ServiceError: a variable with an address is missing, or a server answers no.
    """
    missing = [key for key in ADDRESSES if not environment.get(key)]
    if missing:
        raise ServiceError(f"{', '.join(missing)}: not set, expected the address of a running server")
    label_studio, ml_backend, console, database_uri = (environment[key] for key in ADDRESSES)
    addresses = Addresses(
        label_studio=label_studio,
        ml_backend=ml_backend,
        console=console,
        app=environment.get("LABELLOOP_APP_URL", ""),
        database_uri=database_uri,
    )
    project = Project.read(home) or Project(name=DEFAULT_PROJECT)
    settings = StackSettings(
        project_title=project.name,
        admin_email=environment.get("LABELLOOP_ADMIN_EMAIL") or DEFAULT_ADMIN_EMAIL,
        label_config=find_label_config(home),
    )
    workbench = bootstrap(home, settings, addresses, project_id=project.label_studio_id)
    filled = replace(project, label_studio_id=workbench.project_id, label_studio_view=workbench.view_id)
    if filled != Project.read(home):
        filled.write(home)
    return workbench.changes


def main(arguments: list[str]) -> int:
    """Do one of the two steps; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home = Home.from_environment(os.environ)
    try:
        match arguments:
            case ["secrets"]:
                make_secrets(home, os.environ)
            case ["connect"]:
                for change in connect_tools(home, os.environ):
                    logger.info("Label Studio: %s made", change)
            case _:
                raise ServiceError(f"{' '.join(arguments)!r}: no such step (secrets, connect)")
    except LabelingError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
