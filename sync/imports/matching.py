"""Which file a name in a label file means. Names are compared, never opened: ``../../x.jpg`` leads nowhere."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from sync.images import SUFFIXES
from sync.imports.reading import in_one_line

IMAGES_FOLDER: Final = "images"
# Of the original that the image in the folder was made from.
OTHER_SUFFIXES: Final = frozenset({".avif", ".gif", ".heic", ".heif", ".jp2"})


class NoMatchError(ValueError):
    """A name means no file, or several; the text says which."""


class FileIndex:
    """The files of a folder, to be found by a path, a part of one, a name, or their content.

    ``labels`` is the folder of the label files: a path in these may begin there, or in the folder of the images.
    """

    def __init__(
        self,
        folder: Path,
        files: Iterable[Path],
        sums: Mapping[Path, str] | None = None,
        *,
        labels: Path | None = None,
    ) -> None:
        # Label files of some formats leave the suffix out, or have that of another copy: such a name comes second.
        self._by_path: dict[tuple[bool, str], list[Path]] = defaultdict(list)
        self._by_end: dict[tuple[bool, str], list[Path]] = defaultdict(list)
        self._by_sum: dict[str, list[Path]] = defaultdict(list)
        is_inside = labels is not None and labels.is_relative_to(folder)
        self._starts = [labels.relative_to(folder).parts, ()] if labels is not None and is_inside else [()]
        for file in files:
            path = _composed(file.relative_to(folder).as_posix())
            for is_whole, form in ((True, path), (False, _without_suffix(path))):
                self._by_path[is_whole, form].append(file)
                for end in _to_ends(form.split("/")):
                    self._by_end[is_whole, end].append(file)
            self._by_path[True, _composed(str(file))].append(file)
        for file, sha256 in (sums or {}).items():
            self._by_sum[sha256].append(file)

    def find(self, name: str, sha256: str | None = None) -> Path:
        """Return the file that is meant: the one of that content, else at that path, else of the longest end of it.

        Raises:
            NoMatchError: there is none, or there are several.
        """
        if sha256 is not None and len(self._by_sum.get(sha256, ())) == 1:
            return self._by_sum[sha256][0]
        parts = _to_parts(_composed(name))
        paths = [_composed(name)] if Path(name).is_absolute() else []
        paths += ["/".join((*map(_composed, start), *parts)) for start in self._starts if parts]
        # Whoever names train/images/a.jpg may mean train/a.jpg: some put images into a folder of that name.
        plain = [part for part in parts if part != IMAGES_FOLDER]
        ends = sorted([*_to_ends(parts), *_to_ends(plain)], key=lambda end: -end.count("/"))
        for index, names in ((self._by_path, paths), (self._by_end, ends)):
            for key in chain(
                ((True, name) for name in names),
                ((False, name) for name in names),
                ((False, _without_suffix(name)) for name in names),
            ):
                found = index.get(key, [])
                if len(found) > 1:
                    raise NoMatchError(f"{len(found)} images have this name ({found[0]}, {found[1]}, ...)")
                if found:
                    return found[0]
        raise NoMatchError("no image of this name is in the folder")


def _to_ends(parts: Sequence[str]) -> Iterator[str]:
    """Yield the ends of a path, the longest first."""
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _composed(name: str) -> str:
    """Return a name in the one form of those that look alike: some systems write an accent as a letter of its own."""
    return unicodedata.normalize("NFC", name)


def _to_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a path as Windows or others write it.

    >>> _to_parts("C:\\\\photos\\\\a.jpg"), _to_parts("../b/a.jpg")
    (('photos', 'a.jpg'), ('..', 'b', 'a.jpg'))
    """
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return tuple(part for part in path.parts if part not in (path.anchor, "."))


def _without_suffix(end: str) -> str:
    """Return a path without the suffix of an image; one of another kind, as in ``clip.0001``, is part of the name.

    >>> _without_suffix("a/b.JPG"), _without_suffix("a/b.heic"), _without_suffix("clip.0001")
    ('a/b', 'a/b', 'clip.0001')
    """
    folder, slash, name = end.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    is_image = f"{dot}{suffix.lower()}" in SUFFIXES | OTHER_SUFFIXES
    return f"{folder}{slash}{stem}" if stem and is_image else end


def shorten(name: str) -> str:
    """Return a name of a file so that a report can hold it."""
    return in_one_line(name, longest=120)
