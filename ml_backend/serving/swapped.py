"""Which model was loaded in place of the configured one, kept beside the weights so that a restart goes on with it.

It counts as long as the configured model stays the same; whoever configures another one, or asks for one, starts anew.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

FILE_NAME: Final = "swapped.json"


def read_swapped(models_dir: Path, configured: str) -> str | None:
    """Return the model that was loaded in place of this configured one; None where there is none, or it cannot be told.

    >>> read_swapped(Path("/nowhere"), "yolo11n") is None
    True
    """
    try:
        values = json.loads((models_dir / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or values.get("configured") != configured:
        return None
    model = values.get("model")
    return model if isinstance(model, str) and model else None


def record_swapped(models_dir: Path, configured: str, model: str) -> None:
    """Remember that a model is served in place of the configured one; that one itself is nothing to remember.

    A folder that cannot be written keeps nothing, with a warning: the model is served all the same.
    """
    if model == configured:
        forget_swapped(models_dir)
        return
    target = models_dir / FILE_NAME
    part = target.with_suffix(".part")
    try:
        part.write_text(json.dumps({"configured": configured, "model": model}) + "\n", encoding="utf-8")
        part.replace(target)
    except OSError as error:
        logger.warning("after a restart %s is served again, not %s (%s)", configured, model, error.strerror)


def forget_swapped(models_dir: Path) -> None:
    """Have the next start serve the configured model."""
    try:
        (models_dir / FILE_NAME).unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the model of the last change is served after a restart (%s)", error.strerror)
