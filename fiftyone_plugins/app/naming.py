"""Names of files and folders that belong to a dataset."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import quote

MOST_LETTERS: Final = 120
"""A name may have 255, an end such as ``.jsonl`` among them; other alphabets take six or nine for each letter."""


def to_file_name(dataset: str) -> str:
    """Return the name of a dataset as one of a file or folder that no two datasets share and that leads nowhere else.

    >>> to_file_name("a/b"), to_file_name("..")
    ('a%2Fb', '%2E%2E')
    >>> to_file_name("照片" * 20)
    '%E7%85%A7%E7%89%87%E7%85%A7%E7%89%87%E7%85%A7%E7%89%87%E7%85-d784d470'
    """
    name = quote(dataset, safe=" ").replace(".", "%2E")
    if len(name) <= MOST_LETTERS:
        return name
    return f"{name[: MOST_LETTERS // 2]}-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}"
