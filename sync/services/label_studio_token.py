"""The personal access token of Label Studio's first user: made over HTTP as the browser would, kept in a file.

Label Studio allows one such token a user, shows it once, and keeps it without its signature. So the file is the only
complete copy; when it is lost, the old token is revoked and a new one is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from labels.errors import ServiceError
from sync.services.secrets import read_secret, write_secret

TIMEOUT_S = 60.0


def read_or_make_token(url: str, *, email: str, password_file: Path, token_file: Path) -> str:
    """Return a token that works, made now if the stored one is missing or refused; the second time it is the same one.

    Raises:
        ServiceError: Label Studio does not accept the password, or does not answer.
    """
    stored = read_secret(token_file)
    with requests.Session() as session:
        # No proxy of this shell, and no .netrc in the place of our login.
        session.trust_env = False
        if stored is not None and _is_accepted(session, url, stored):
            return stored
        password = read_secret(password_file)
        if password is None:
            raise ServiceError(f"{password_file}: is missing, put the password of {email} in Label Studio there")
        _login(session, url, email=email, password=password, password_file=password_file)
        _revoke_tokens(session, url)
        token: str = _request(session, "POST", url, "/api/token/", expected=(201,)).json()["token"]
    write_secret(token_file, token)
    return token


def fetch_json(url: str, token: str, path: str) -> Any:
    """Return the answer to a GET with a personal access token, for the few things Label Studio's SDK has no call for.

    Raises:
        ServiceError: Label Studio refuses the token, or does not answer.
    """
    with requests.Session() as session:
        session.trust_env = False
        answer = _request(session, "POST", url, "/api/token/refresh/", json={"refresh": token}, expected=(200,))
        session.headers["Authorization"] = f"Bearer {answer.json()['access']}"
        return _request(session, "GET", url, path, expected=(200,)).json()


def _is_accepted(session: requests.Session, url: str, token: str) -> bool:
    answer = _request(session, "POST", url, "/api/token/refresh/", json={"refresh": token}, expected=(200, 400, 401))
    return answer.status_code == 200


def _login(session: requests.Session, url: str, *, email: str, password: str, password_file: Path) -> None:
    _request(session, "GET", url, "/user/login/", expected=(200,))
    form = {"email": email, "password": password, "csrfmiddlewaretoken": session.cookies.get("csrftoken") or ""}
    answer = _request(session, "POST", url, "/user/login/", data=form, expected=(200, 302))
    # A refused login is the same page again.
    if answer.status_code != 302:
        raise ServiceError(
            f"Label Studio does not accept the password of {email} in {password_file}: put the right one there, "
            f"or set it with: label-studio reset_password --username {email}"
        )


def _revoke_tokens(session: requests.Session, url: str) -> None:
    """Revoke the user's tokens; Label Studio lists them without signature, and takes that to revoke one."""
    for entry in _request(session, "GET", url, "/api/token/", expected=(200,)).json():
        _request(session, "POST", url, "/api/token/blacklist/", json={"refresh": entry["token"]}, expected=(204, 404))


def _request(
    session: requests.Session, method: str, url: str, path: str, *, expected: tuple[int, ...], **body: Any
) -> requests.Response:
    headers = {"Referer": f"{url}{path}", "X-CSRFToken": session.cookies.get("csrftoken") or ""}
    try:
        answer = session.request(method, url + path, headers=headers, timeout=TIMEOUT_S, allow_redirects=False, **body)
    except requests.RequestException as error:
        # The text of the error could hold the request, and the request holds the password.
        raise ServiceError(f"{method} {url}{path}: no answer ({type(error).__name__})") from None
    if answer.status_code not in expected:
        raise ServiceError(f"{method} {url}{path}: {answer.status_code}, expected {' or '.join(map(str, expected))}")
    return answer
