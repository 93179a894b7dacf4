"""Names of exported files, so that no two images share one. Reads and writes nothing.

A name is the source's own, made harmless, and 12 hex digits of the SHA-256 of its path: ``a/cat.jpg`` becomes
``cat-0f1e2d3c4b5a``. It depends on that one path and on nothing else, so adding images renames no old one, and
neither ``b/CAT.jpg`` on a file system that ignores case nor a byte-identical copy in another folder takes its place.
Moving the images to another folder does change the names.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from labels.errors import LabelingError

HASH_DIGITS: Final = 12
LONGEST_STEM: Final = 80
# A name of a file has room for 255 bytes, of which 13 go to the digits and some to a suffix.
LONGEST_STEM_BYTES: Final = 236


def export_stem(path: Path) -> str:
    """Return the name of a source's exported files, without a suffix.

    >>> export_stem(Path("/photos/my cat.jpg"))
    'my_cat-996c96cb5a36'
    """
    readable = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", path.stem)).strip("_")[:LONGEST_STEM]
    # In some writing a letter is three or four bytes.
    readable = readable.encode()[:LONGEST_STEM_BYTES].decode(errors="ignore")
    digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).hexdigest()
    return f"{readable or 'image'}-{digest[:HASH_DIGITS]}"


def export_suffix(path: Path) -> str:
    """Return the suffix of a source's exported image, in lower case.

    >>> export_suffix(Path("a.JPG"))
    '.jpg'
    """
    return re.sub(r"[^.\w]", "", path.suffix.lower())


def export_stems(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the export name of each source.

    Raises:
        LabelingError: a path occurs twice, so that two samples would be written to one file.
    """
    stems: dict[Path, str] = {}
    owners: dict[str, Path] = {}
    for path in paths:
        stem = export_stem(path)
        owner = owners.setdefault(stem.casefold(), path)
        if path in stems or owner != path:
            raise LabelingError(f"{path} and {owner} would be exported to one file (expected each image once)")
        stems[path] = stem
    return stems
