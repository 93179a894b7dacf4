"""The checks: the one place that spells their names, and says what each finds. Measures nothing.

Every score is 0..1 and higher means: look here first. None: not computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from labels.errors import LabelingError

BLURRY: Final = "blurry"
DARK: Final = "dark"
BRIGHT: Final = "bright"
LOW_CONTRAST: Final = "low_contrast"
LOW_RESOLUTION: Final = "low_resolution"
ODD_ASPECT: Final = "odd_aspect"
UNIFORM: Final = "uniform"
CORRUPT: Final = "corrupt"
GRAYSCALE: Final = "grayscale"
EXIF_TURNED: Final = "exif_turned"
AESTHETIC: Final = "aesthetic"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: ``threshold`` is the score from which it speaks for trash, None: by default it never does."""

    name: str
    label: str
    about: str
    threshold: float | None

    @property
    def field(self) -> str:
        """The sample field that holds its score.

        >>> CHECKS["blurry"].field
        'quality_blurry'
        """
        return f"quality_{self.name}"


def _by_name(*checks: Check) -> dict[str, Check]:
    return {check.name: check for check in checks}


CHECKS: Final[Mapping[str, Check]] = _by_name(
    Check(BLURRY, "blurry", "how little is lost when the picture is blurred once more", 0.6),
    Check(DARK, "dark", "how far its brightest parts are from white", 0.7),
    Check(BRIGHT, "bright", "how far its darker parts are from black", 0.75),
    Check(LOW_CONTRAST, "low contrast", "how little of the grey scale it uses", 0.8),
    Check(LOW_RESOLUTION, "low resolution", "how small it is beside 1000 x 1000 pixels", 0.85),
    Check(ODD_ASPECT, "odd aspect", "how much longer one side is than the other", 0.8),
    Check(UNIFORM, "near-uniform", "the part of the picture that has one colour", 0.95),
    Check(CORRUPT, "corrupt", "1: cannot be read; 0.5: damaged, and shown nevertheless; 0: sound", 0.5),
    Check(GRAYSCALE, "grayscale", "how little colour it has", None),
    Check(EXIF_TURNED, "turned by EXIF", "1: its file holds it turned or mirrored; what ignores EXIF sees it so", None),
)
"""What is measured from the file, in the order of forms."""

AESTHETIC_CHECK: Final = Check(AESTHETIC, "unattractive", "1 - the expected AVA rating on its scale of 1 to 10", None)
"""Computed from embeddings by a head that was trained: apart from the others, which need nothing."""

ALL_CHECKS: Final[Mapping[str, Check]] = {**CHECKS, AESTHETIC: AESTHETIC_CHECK}
FIELDS: Final = tuple(check.field for check in ALL_CHECKS.values())


def find_check(name: str) -> Check:
    """Return a check by its name.

    Raises:
        LabelingError: there is none of that name.
    """
    if name not in ALL_CHECKS:
        raise LabelingError(f"check {name!r} is not known (known: {', '.join(ALL_CHECKS)})")
    return ALL_CHECKS[name]


def default_thresholds(names: Iterable[str] = CHECKS) -> dict[str, float]:
    """Return the threshold of each check that speaks for trash unless told otherwise.

    >>> default_thresholds(["blurry", "grayscale"])
    {'blurry': 0.6}
    """
    found = ((name, find_check(name).threshold) for name in names)
    return {name: threshold for name, threshold in found if threshold is not None}
