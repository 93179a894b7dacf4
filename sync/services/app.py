"""The FiftyOne App server of one curator: `python -m sync.services.app`.

One server process is one person's view: view, selection and open panels live in the process and are shared by every
browser on it. It has no login and serves any file its user can read, so it listens on this machine alone unless
LABELLOOP_HOST says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fiftyone_plugins.app.brain import to_backend_environment, to_lancedb_environment
from labels.errors import ServiceError

DEFAULT_PORT = 5151


def main() -> None:
    """Serve the App until the process is told to stop."""
    host, port = read_address(os.environ)
    # FiftyOne reads all of this while it is imported, so it has to be there before.
    os.environ.update(to_app_environment(os.environ, host=host, port=port))
    from fiftyone.server.main import start_server

    start_server(port=port, address=host)


def read_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return host and port from LABELLOOP_HOST and LABELLOOP_PORT.

    Raises:
        ServiceError: the port is not a port number.

    >>> read_address({})
    ('127.0.0.1', 5151)
    """
    host = environment.get("LABELLOOP_HOST", "127.0.0.1")
    text = environment.get("LABELLOOP_PORT", str(DEFAULT_PORT))
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ServiceError(f"LABELLOOP_PORT={text!r}: is not a port number (1 to 65535)")
    return host, int(text)


def to_app_environment(environment: Mapping[str, str], *, host: str, port: int) -> dict[str, str]:
    """Return the variables the App server needs; what the environment names already is kept, but for the plugins."""
    defaults = {
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DO_NOT_TRACK": "1",
        # Without it each request runs every plugin's code again.
        "FIFTYONE_PLUGINS_CACHE_ENABLED": "true",
        # Without it the App hides the Schedule button of long operators.
        "FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS": "true",
    }
    return {
        **{key: environment.get(key, value) for key, value in defaults.items()},
        # Only our own: FiftyOne loads anything with a fiftyone.yml below this folder.
        "FIFTYONE_PLUGINS_DIR": str(find_plugins_folder()),
        **to_backend_environment(),
        **to_lancedb_environment(environment.get("LABELLOOP_HOME")),
        "FIFTYONE_DEFAULT_APP_ADDRESS": host,
        "FIFTYONE_DEFAULT_APP_PORT": str(port),
    }


def find_plugins_folder() -> Path:
    """Return the folder of labelloop's plugins for the FiftyOne App."""
    import fiftyone_plugins

    (folder,) = list(fiftyone_plugins.__path__)
    return Path(folder)


if __name__ == "__main__":
    main()
