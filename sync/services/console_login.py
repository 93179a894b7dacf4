"""The console's login: its password as a hash, and the key its sessions are signed with, in the folder of secrets.

The first password is that of the stack's first user, so that one start shows one login; it is changed on its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from werkzeug.security import check_password_hash, generate_password_hash

from labels.errors import LabelingError, ServiceError
from sync.services.secrets import read_or_make_secret, read_secret, write_secret

PASSWORD_NAME: Final = "console_password"  # noqa: S105  the name of a file
SESSION_KEY_NAME: Final = "console_session_key"
FIRST_PASSWORD_NAME: Final = "admin_password"  # noqa: S105  as above
MIN_PASSWORD_LENGTH: Final = 8
MAX_PASSWORD_LENGTH: Final = 1024


def make_console_login(secrets: Path) -> None:
    """Make the session key, and the password's hash from the stack's own password; what is there stays as it is."""
    read_or_make_secret(secrets / SESSION_KEY_NAME)
    if read_secret(secrets / PASSWORD_NAME) is None:
        write_secret(secrets / PASSWORD_NAME, to_hash(read_or_make_secret(secrets / FIRST_PASSWORD_NAME)))


def write_password(secrets: Path, password: str) -> None:
    """Make this the console's password; whoever is logged in is logged out by it.

    Raises:
        LabelingError: it is too short, or longer than anybody types.
    """
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise LabelingError(
            f"the password has {len(password)} characters (expected {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH})"
        )
    write_secret(secrets / PASSWORD_NAME, to_hash(password))


def read_password_hash(file: Path) -> str:
    """Return the hash in a file.

    Raises:
        ServiceError: it is missing, empty or cannot be read.
    """
    found = read_secret(file)
    if found is None:
        raise ServiceError(f"{file}: is missing; 'labelloop up' or 'labelloop password' writes it")
    return found


def to_hash(password: str) -> str:
    """Return a salted scrypt hash of a password."""
    return generate_password_hash(password, method="scrypt")


def is_password(password_hash: str, given: str) -> bool:
    """Return whether this is the password; a longer text than anybody types is no password, and is not hashed."""
    return len(given) <= MAX_PASSWORD_LENGTH and check_password_hash(password_hash, given)
