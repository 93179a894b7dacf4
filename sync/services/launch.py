"""Becomes one program of the stack: `python -m sync.services.launch PROGRAMS_FILE NAME`, run by supervisord.

supervisord could set an environment itself, but its file format has no way to write quotes and commas in a value, and
the secrets would lie in a second place. Here they go from their file into the process, which keeps its id.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sync.services.secrets import read_secret

# A shell that works with another Label Studio must not steer ours.
FOREIGN_PREFIXES = ("LABEL_STUDIO_", "HEARTEX_")


def main(arguments: list[str]) -> None:
    """Replace this process by the program; does not return."""
    file, name = arguments
    entry = json.loads(Path(file).read_text(encoding="utf-8"))[name]
    environment = to_child_environment(entry, os.environ)
    os.execve(entry["argv"][0], entry["argv"], environment)  # noqa: S606  the command line is our own


def to_child_environment(entry: Mapping[str, Any], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: what was inherited, less what is meant for others, plus its own."""
    environment = {key: value for key, value in inherited.items() if not key.startswith(FOREIGN_PREFIXES)}
    environment["PYTHONUNBUFFERED"] = "1"
    # A proxy must not be asked for addresses of this machine.
    for key in ("NO_PROXY", "no_proxy"):
        environment[key] = ",".join(filter(None, [environment.get(key), "127.0.0.1,localhost"]))
    environment.update(entry["environment"])
    for key, path in entry["secret_environment"].items():
        secret = read_secret(Path(path))
        if secret is not None:
            environment[key] = secret
    return environment


if __name__ == "__main__":
    main(sys.argv[1:])
