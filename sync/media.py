"""Where images lie for Label Studio: links to people's folders under one document root, and the address of each image.

Label Studio serves files below its document root only. A person's folder is linked there under a name of its own, so
nothing is copied and two folders of the same name never mix.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote

from labels.errors import ItemError, LabelingError
from sync.settings import Home

CONVERTED: Final = "_converted"


def to_link_name(folder: Path) -> str:
    """Return the name a folder is linked under: its own, made safe, and a few digits of its path.

    >>> to_link_name(Path("/data/My photos")).rpartition("-")[0]
    'My_photos'
    """
    safe = re.sub(r"[^A-Za-z0-9._]+", "_", folder.name).strip("._") or "images"
    return f"{safe}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"


def link_folder(home: Home, folder: Path) -> str:
    """Link a folder under the document root and return the link's name; a second time changes nothing.

    Raises:
        LabelingError: the name is taken by something else.
    """
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
    return home.images / CONVERTED / f"{sha256}.png"


def to_url(home: Home, path: Path) -> str:
    """Return the address under which Label Studio and the ML backend find an image, relative to Label Studio.

    Raises:
        ItemError: the image is in no linked folder.
    """
    for link in sorted(home.images.iterdir()) if home.images.is_dir() else ():
        root = link.readlink() if link.is_symlink() else link
        if path.is_relative_to(root):
            relative = Path(home.images.name, link.name, path.relative_to(root)).as_posix()
            return f"/data/local-files/?d={quote(relative)}"
    raise ItemError(str(path), "is in no folder that Label Studio may serve; run labelloop up --images on its folder")
