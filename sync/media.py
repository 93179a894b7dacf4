"""Where images lie for Label Studio: links to people's folders under one document root, and the address of each image.

Label Studio serves files below its document root only. A person's folder is linked there under a name of its own, so
nothing is copied and two folders of the same name never mix.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from labels.errors import ItemError, LabelingError
from sync.images import COPIES_FOLDER
from sync.settings import Home


def to_link_name(folder: Path) -> str:
    """Return the name a folder is linked under: its own, made safe, and a few digits of its path.

    >>> to_link_name(Path("/data/My photos")).rpartition("-")[0]
    'My_photos'
    """
    safe = re.sub(r"[^A-Za-z0-9._]+", "_", folder.name).strip("._") or "images"
    return f"{safe}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"


def link_folder(home: Home, folder: Path) -> str:
    """Link a folder under the document root and return the link's name; a second time changes nothing.

    A folder that lies there already needs no link: then its place below the document root is returned.

    Raises:
        LabelingError: the name is taken by something else.
    """
    if folder.is_relative_to(home.images.resolve()):
        return str(folder.relative_to(home.images.resolve()))
    home.images.mkdir(parents=True, exist_ok=True)
    name = to_link_name(folder)
    link = home.images / name
    if link.is_symlink() and link.readlink() == folder:
        return name
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError as error:
        raise LabelingError(f"{link}: cannot be linked to {folder} ({error.strerror})") from error
    return name


def to_copy_path(home: Home, sha256: str) -> Path:
    """Return where the browser's copy of an image lies."""
    return home.images / COPIES_FOLDER / f"{sha256}.png"


@dataclass(frozen=True, slots=True)
class MediaRoots:
    """The folders images lie in, and where each is found below Label Studio's document root."""

    places: Mapping[Path, Path]

    @classmethod
    def read(cls, home: Home) -> MediaRoots:
        """Return the roots of a home, as they are now."""
        own = Path(home.images.name)
        links = sorted(path for path in home.images.iterdir() if path.is_symlink()) if home.images.is_dir() else []
        places = {home.images: own, home.images.resolve(): own}
        return cls(places | {link.readlink(): own / link.name for link in links})

    def to_url(self, path: Path) -> str:
        """Return the address under which Label Studio and the ML backend find an image, relative to Label Studio.

        Raises:
            ItemError: the image is in no linked folder.
        """
        for root, place in self.places.items():
            if path.is_relative_to(root):
                return f"/data/local-files/?d={quote((place / path.relative_to(root)).as_posix())}"
        raise ItemError(str(path), "is in no folder that Label Studio may serve; run labelloop ingest on its folder")
