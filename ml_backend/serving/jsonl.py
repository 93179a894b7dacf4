"""What was found in many images as JSON lines, one an image, so that a run that was stopped can go on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from labels.errors import LabelingError
from labels.geometry import ImageSize
from ml_backend.answers.label_plans import Thresholds
from ml_backend.answers.predictions import to_meta
from ml_backend.answers.regions import to_polygon
from ml_backend.answers.uncertainty import (
    CANDIDATE_FLOOR,
    DEFAULT_SCORE,
    Candidate,
    compute_disagreement,
    compute_uncertainties,
)
from ml_backend.detectors import Detections, to_box
from ml_backend.serving.offline import FileAnswer

# How each line begins: a last line that begins in another way is somebody else's, and is never cut off.
LINE_START: Final = b'{"path": '


def to_line(
    answer: FileAnswer, names: Mapping[int, str], *, model_version: str, thresholds: Thresholds, is_calibrated: bool
) -> dict[str, Any]:
    """Return the line of one image: its detections at or above the thresholds and its uncertainties, or the problem.

    Coordinates are pixels of the upright image; a turned box has its four corners, a mask its outline.
    """
    line: dict[str, Any] = {"path": str(answer.path), "model_version": model_version, **_to_said(thresholds)}
    if answer.found is None or answer.size is None:
        return line | {"problem": answer.problem or "no answer"}
    found, size = answer.found, answer.size
    line |= {"sha256": answer.sha256, "width": size.width, "height": size.height}
    if found.image_probabilities is not None:
        probabilities = found.image_probabilities
        order = [int(one) for one in np.argsort(-probabilities, kind="stable")]
        said = [(names.get(one, str(one)), round(float(probabilities[one]), 6)) for one in order]
        candidates = [
            Candidate(name, score, score >= thresholds.of_class(name))
            for name, score in said
            if score > CANDIDATE_FLOOR
        ]
        line["classes"] = [
            {"label": name, "score": score} for name, score in said if score >= thresholds.of_class(name)
        ]
    else:
        shown = find_shown(found, names, thresholds)
        scored = zip(found.class_ids, found.scores, shown, strict=True)
        candidates = [
            Candidate(names.get(int(one), str(one)), min(float(score), 1.0), bool(is_shown))
            for one, score, is_shown in scored
        ]
        rows = np.flatnonzero(shown)
        line["detections"] = [_to_dict(found, int(row), names, size) for row in rows]
    by_class = {number: thresholds.of_class(name) for number, name in names.items()}
    disagreement = compute_disagreement(found.views or (), thresholds=by_class, shown_floor=thresholds.default)
    scores = compute_uncertainties(candidates, disagreement=disagreement)
    return line | {"uncertainty": to_meta(scores, served_score=DEFAULT_SCORE, is_calibrated=is_calibrated)}


def find_shown(found: Detections, names: Mapping[int, str], thresholds: Thresholds) -> npt.NDArray[np.bool_]:
    """Return for each row whether it is at or above the threshold of its class."""
    classes = [names.get(int(one), str(one)) for one in found.class_ids]
    return found.scores >= np.array([thresholds.of_class(name) for name in classes], np.float32)


def _to_said(thresholds: Thresholds) -> dict[str, Any]:
    """Return what a line says of its thresholds."""
    said: dict[str, Any] = {"threshold": thresholds.default}
    return said | {"class_thresholds": dict(thresholds.by_label)} if thresholds.by_label else said


def _to_dict(found: Detections, row: int, names: Mapping[int, str], size: ImageSize) -> dict[str, Any]:
    class_id = int(found.class_ids[row])
    box = to_box(found, row)
    said: dict[str, Any] = {
        "label": names.get(class_id, str(class_id)),
        "score": round(float(found.scores[row]), 6),
        "xyxy": [round(value, 2) for value in box.to_xyxy()],
    }
    if box.rotation_deg:
        said["corners"] = [[round(x, 2), round(y, 2)] for x, y in box.corners()]
    if found.masks is not None:
        outline = to_polygon(found.masks[row], size)
        said["polygon"] = [] if outline is None else [[round(x, 2), round(y, 2)] for x, y in outline.points]
    if found.keypoints is not None:
        said["keypoints"] = [[round(float(value), 2) for value in point] for point in found.keypoints[row]]
    if found.votes is not None:
        said["votes"] = int(found.votes[row])
    return said


def read_done(path: Path, *, model_version: str, thresholds: Thresholds) -> set[str]:
    """Return the paths of the images a file has already, and cut off a last line that was broken off.

    Images that could not be looked at are left in the file and tried again.

    Raises:
        LabelingError: the file has something else in it, or another model's or threshold's lines.
    """
    if not path.exists():
        return set()
    done: set[str] = set()
    kept = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n") and (raw.startswith(LINE_START) or LINE_START.startswith(raw)):
                break
            kept += len(raw)
            try:
                line = json.loads(raw)
                version, name = line["model_version"], line["path"]
                said = {key: line[key] for key in ("threshold", "class_thresholds") if key in line}
            except (ValueError, LookupError, TypeError) as error:
                raise LabelingError(f"{path}, line {number}: is no line of labelloop predict") from error
            if (version, said) != (model_version, _to_said(thresholds)):
                raise LabelingError(
                    f"{path}: has predictions of {version} from {_in_words(said)} on (expected {model_version} from"
                    f" {_in_words(_to_said(thresholds))}); choose another file"
                )
            if "problem" not in line:
                done.add(str(name))
    if kept < path.stat().st_size:
        with path.open("rb+") as file:
            file.truncate(kept)
    return done


def _in_words(said: Mapping[str, Any]) -> str:
    by_label = "".join(f", {label} {number}" for label, number in said.get("class_thresholds", {}).items())
    return f"{said.get('threshold')}{by_label}"
