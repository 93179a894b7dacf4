"""Who is logged in: what a session holds, when it ends, and which ones were ended by hand. Knows nothing of pages.

A session is a signed cookie, so that a restart logs nobody out. It ends after a day's rest, after a week, when the
password changes, and at the logout, which the console has to remember: a copy of the cookie must be worth nothing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from sync.services.console_login import is_password, read_password_hash

IDLE_S: Final = 12 * 3600
LONGEST_S: Final = 7 * 24 * 3600
# A session that is in use is stamped at most once a minute: each stamp is a new cookie.
STAMP_S: Final = 60

Session = MutableMapping[str, Any]
Clock = Callable[[], float]


class Sessions:
    """Begins, checks and ends sessions; `ended_file` remembers those that were ended before their time."""

    def __init__(self, password_file: Path, ended_file: Path, clock: Clock = time.time) -> None:
        self._password_file = password_file
        self._ended = _EndedSessions(ended_file)
        self._clock = clock

    def log_in(self, session: Session, password: str) -> bool:
        """Make this a session of the admin where the password is right; return whether it is.

        Raises:
            ServiceError: the file with the password's hash cannot be read.
        """
        password_hash = read_password_hash(self._password_file)
        if not is_password(password_hash, password):
            return False
        # What was in the session before the login may be somebody else's.
        session.clear()
        now = int(self._clock())
        session.update(id=secrets.token_urlsafe(16), since=now, seen=now, password=_to_fingerprint(password_hash))
        return True

    def is_logged_in(self, session: Session) -> bool:
        """Return whether this session is the admin's, and still is."""
        now = self._clock()
        since, seen, known = session.get("since"), session.get("seen"), session.get("password")
        if not (isinstance(since, int) and isinstance(seen, int) and isinstance(session.get("id"), str)):
            return False
        if now - seen > IDLE_S or now - since > LONGEST_S or self._ended.holds(session["id"]):
            return False
        try:
            return known == _to_fingerprint(read_password_hash(self._password_file))
        except LabelingError:
            return False

    def stamp(self, session: Session) -> None:
        """Note that a person is there."""
        now = int(self._clock())
        if now - session["seen"] >= STAMP_S:
            session["seen"] = now

    def log_out(self, session: Session) -> None:
        """End this session, and every copy of its cookie."""
        if isinstance(session.get("id"), str):
            self._ended.add(session["id"], until=session["since"] + LONGEST_S, now=self._clock())
        session.clear()


def _to_fingerprint(password_hash: str) -> str:
    """Return what tells one password from another; the cookie's owner can read it, so it is not the hash itself."""
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]


class _EndedSessions:
    """Ids of sessions that were ended, kept in a file until they would have ended by themselves."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._until = self._read()

    def holds(self, session_id: str) -> bool:
        return session_id in self._until

    def add(self, session_id: str, *, until: float, now: float) -> None:
        with self._lock:
            self._until = {key: end for key, end in self._until.items() if end > now} | {session_id: until}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(self._until), encoding="utf-8")
            part.replace(self._file)

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LabelingError(f"{self._file}: cannot be read ({error}); remove it to forget past logouts") from error
        return {str(key): float(end) for key, end in found.items()}
