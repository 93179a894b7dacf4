"""Which file a name in a label file means. Names are compared, never opened: ``../../x.jpg`` leads nowhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from sync.imports.reading import in_one_line


class NoMatchError(ValueError):
    """A name means no file, or several; the text says which."""


class FileIndex:
    """The files of a folder, to be found by a path, a part of one, a name, or their content."""

    def __init__(self, folder: Path, files: Iterable[Path], sums: Mapping[Path, str] | None = None) -> None:
        self._by_end: dict[str, list[Path]] = defaultdict(list)
        self._by_sum: dict[str, list[Path]] = defaultdict(list)
        for file in files:
            parts = file.relative_to(folder).parts
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                self._by_end[end].append(file)
                # Label files of some formats leave the suffix out, or have that of another copy.
                self._by_end[_without_suffix(end)].append(file)
            self._by_end[str(file)].append(file)
        for file, sha256 in (sums or {}).items():
            self._by_sum[sha256].append(file)

    def find(self, name: str, sha256: str | None = None) -> Path:
        """Return the file that is meant: the one of that content, else of the longest end of that name.

        Raises:
            NoMatchError: there is none, or there are several.
        """
        if sha256 is not None and len(self._by_sum.get(sha256, ())) == 1:
            return self._by_sum[sha256][0]
        parts = _to_parts(name)
        ends = [name, *("/".join(parts[start:]) for start in range(len(parts)))]
        for end in (*ends, *map(_without_suffix, ends)):
            found = self._by_end.get(end, [])
            if len(found) == 1:
                return found[0]
            if found:
                raise NoMatchError(f"{len(found)} images have this name ({found[0]}, {found[1]}, ...)")
        raise NoMatchError("no image of this name is in the folder")


def _to_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a path as Windows or others write it.

    >>> _to_parts("C:\\\\photos\\\\a.jpg"), _to_parts("../b/a.jpg")
    (('photos', 'a.jpg'), ('..', 'b', 'a.jpg'))
    """
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return tuple(part for part in path.parts if part not in (path.anchor, "."))


def _without_suffix(end: str) -> str:
    folder, slash, name = end.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else end


def shorten(name: str) -> str:
    """Return a name of a file so that a report can hold it."""
    return in_one_line(name, longest=120)
