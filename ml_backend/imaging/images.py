"""Finds a task's image: on the shared file system when Label Studio serves it from there, else over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from labels.errors import ItemError
from ml_backend.imaging.fetching import Fetcher, FetchError

LOCAL_FILES_PATH: Final = "/data/local-files/"
# Folders of people are linked at this depth of the media root (media/images/LINK), and nowhere deeper.
LINK_DEPTH: Final = 2


class ImageReader:
    """Reads the bytes of images by the address a task carries."""

    def __init__(self, *, media_root: Path, fetcher: Fetcher, max_bytes: int) -> None:
        self._media_root = os.path.abspath(media_root)
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    def read_content(self, url: str, *, item: str) -> bytes:
        """Return the file at an address.

        Raises:
            ItemError: the address leads nowhere we may go, or nothing can be read there; ``item`` is named.
        """
        try:
            parts = urlsplit(url)
            is_own = not (parts.scheme or parts.netloc) or self._fetcher.is_label_studio(url)
        except (ValueError, FetchError) as error:
            raise ItemError(item, f"{_shorten(url)}: not an http or https address") from error
        if is_own and parts.path.rstrip("/") + "/" == LOCAL_FILES_PATH:
            path = self._find_local(parse_qs(parts.query).get("d", [""])[0], item)
            # os.path answers False where pathlib raises: a name that is too long, say.
            if os.path.isfile(path):
                return read_file(path, item=item, name=_shorten(url), max_bytes=self._max_bytes)
        if not parts.scheme and self._fetcher.label_studio_url is None:
            raise ItemError(item, f"{_shorten(url)}: no such file under LABELLOOP_MEDIA_ROOT, and no LABEL_STUDIO_URL")
        try:
            return self._fetcher.fetch(url)
        except FetchError as error:
            raise ItemError(item, f"{_shorten(url)}: {error}") from error

    def _find_local(self, relative: str, item: str) -> Path:
        """Return where a file under the media root really lies.

        A folder that is linked into the root (``LINK_DEPTH``) counts as part of it. Another link that leads out of
        where it lies does not: it may have come with somebody's images.
        """
        if not relative or "\0" in relative:
            raise ItemError(item, "the local file's path is empty or broken")
        inside = self._media_root.rstrip(os.sep) + os.sep
        path = os.path.normpath(os.path.join(self._media_root, relative))
        if not path.startswith(inside):
            raise ItemError(item, f"{_shorten(relative)}: outside of the media root")
        real = os.path.realpath(path)
        for root in self._list_roots(path.removeprefix(inside).split(os.sep)):
            if real.startswith(root.rstrip(os.sep) + os.sep):
                return Path(real)
        raise ItemError(item, f"{_shorten(relative)}: a link that leads outside of the media root")

    def _list_roots(self, parts: list[str]) -> list[str]:
        """Return the folders a path of these parts may end in: the root, and a folder linked into it on the way."""
        folders = [os.path.join(self._media_root, *parts[:depth]) for depth in range(1, LINK_DEPTH + 1)]
        linked = [folder for folder in folders if os.path.islink(folder) and os.path.isdir(folder)]
        return [os.path.realpath(folder) for folder in (self._media_root, *linked)]


def read_file(path: Path, *, item: str, name: str, max_bytes: int) -> bytes:
    """Return a file's content; ``name`` is what a message calls it.

    Raises:
        ItemError: it cannot be read, or is larger than ``max_bytes``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise ItemError(item, f"{name}: cannot be read ({error.strerror})") from error
    if len(content) > max_bytes:
        raise ItemError(item, f"{name}: larger than {max_bytes} bytes")
    return content


def _shorten(url: str) -> str:
    """Return an address as fit for a message: the place of a local file, else no query, which may carry a signature."""
    try:
        parts = urlsplit(url)
        if parts.path == LOCAL_FILES_PATH:
            text = LOCAL_FILES_PATH + "?d=" + parse_qs(parts.query).get("d", [""])[0]
        else:
            # A name and password before the host are no part of where an image is.
            text = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        text = url.partition("?")[0].rpartition("@")[2]
    return to_line(text, 200)


def to_line(text: str, length: int) -> str:
    r"""Return a text that somebody sent as fit for one line of a log: no line breaks or escapes, and not too long.

    >>> to_line("a\nb", 10), to_line("abcdef", 4)
    ('a�b', 'abc…')
    """
    line = "".join(character if character.isprintable() else "�" for character in text[: length + 1])
    return line if len(line) <= length else line[: length - 1] + "…"
