"""Images of FiftyOne's dataset zoo, for those who have a network and want more than the demo's photos."""

from __future__ import annotations

import os
from pathlib import Path

from labels.errors import LabelingError


def fetch_zoo_images(name: str, database_uri: str) -> Path:
    """Download a zoo dataset's images, unless they are there, and return their folder.

    Raises:
        LabelingError: no such dataset, or no network.
    """
    # FiftyOne connects to its database when it is first imported.
    os.environ["FIFTYONE_DATABASE_URI"] = database_uri
    import fiftyone.zoo as foz

    if name not in foz.list_zoo_datasets():
        raise LabelingError(f"zoo dataset {name!r} is not known (for example: quickstart)")
    try:
        _, folder = foz.download_zoo_dataset(name)
    except (OSError, ValueError) as error:
        raise LabelingError(f"zoo dataset {name!r} cannot be downloaded ({error})") from error
    return Path(folder)
