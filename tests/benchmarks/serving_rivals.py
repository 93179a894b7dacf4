"""The servers that the benchmark of serving compares with, each a program of its own.

``official`` does what Label Studio's own YOLO example does; ``simulated`` is our server with a model that sleeps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml_backend.detectors import Detections, Image
from ml_backend.settings import Settings

FIXED_S: Final = 0.006
IMAGE_S: Final = 0.0006
OFFICIAL_THREADS: Final = 8


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["official", "simulated"])
    parser.add_argument("--weights", default="yolo11n")
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    serve(parser.parse_args())


class SimulatedDetector:
    """Takes as long as an accelerator does, and nothing of the processor."""

    names: Mapping[int, str] = {0: "person"}
    task = "detect"
    licence = "none"

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Find the same two boxes in every image."""
        time.sleep(FIXED_S + IMAGE_S * len(images))
        boxes = np.array([[10, 10, 90, 90], [20, 30, 60, 80]], np.float32)
        return [Detections(boxes, np.array([0.9, 0.5], np.float32), np.zeros(2, np.int64)) for _ in images]


def serve(options: argparse.Namespace) -> None:
    """Run one of the servers we compare with."""
    import waitress

    from ml_backend.serving.process import keep_answering

    app = make_official(options) if options.server == "official" else make_simulated(options)
    threads = OFFICIAL_THREADS if options.server == "official" else 44
    with keep_answering() if options.server == "simulated" else nullcontext():
        waitress.serve(app, host="127.0.0.1", port=options.port, threads=threads)


def make_simulated(options: argparse.Namespace) -> Any:
    from ml_backend.models.building import import_libraries
    from ml_backend.serving.app import create_app
    from ml_backend.serving.engine import Engine
    from ml_backend.serving.holding import ModelHolder
    from ml_backend.serving.metrics import Metrics
    from ml_backend.serving.served import ServedModel

    import_libraries("yolo11n")  # none is used, but they are what a server has in memory
    settings = Settings(options.media.parent / "models", options.media, batch_size=options.batch_size, cache_bytes=0)
    metrics = Metrics()
    holder = ModelHolder(
        lambda name, announce: ServedModel(settings, SimulatedDetector(), version="simulated-1", source="path"),
        metrics=metrics,
    )
    holder.start_loading("simulated")
    holder.wait()
    return create_app(Engine(settings, holder, metrics=metrics))


def make_official(options: argparse.Namespace) -> Any:
    """Return an app that does what Label Studio's YOLO example does for each task, and nothing besides."""
    from flask import Flask, jsonify, request
    from ultralytics.models import YOLO

    from labels.config import LabelConfig
    from ml_backend.models.weights import resolve_weights

    weights = resolve_weights(options.weights, models_dir=options.media.parent / "models", is_offline=True)
    model: Any = YOLO(str(weights.path), task="detect")
    app = Flask(__name__)

    @app.get("/ready")
    def ready() -> Any:
        return jsonify(state="ready")

    @app.post("/predict")
    def predict() -> Any:
        body = request.get_json()
        LabelConfig.from_xml(body["label_config"])
        return jsonify(results=[predict_one(task) for task in body["tasks"]])

    def predict_one(task: Mapping[str, Any]) -> dict[str, Any]:
        path = options.media / task["data"]["image"].partition("?d=")[2]
        (found,) = model.predict(str(path), verbose=False, save=False)
        regions = []
        for xywhn, score, class_id in zip(found.boxes.xywhn, found.boxes.conf, found.boxes.cls, strict=True):
            x, y, width, height = (float(value) * 100 for value in xywhn)
            value = {"x": x - width / 2, "y": y - height / 2, "width": width, "height": height, "rotation": 0}
            value["rectanglelabels"] = [found.names[int(class_id)]]  # type: ignore[assignment]
            kind = {"type": "rectanglelabels", "from_name": "label", "to_name": "image"}
            regions.append({**kind, "value": value, "score": float(score)})
        scores = [float(score) for score in found.boxes.conf]
        return {"result": regions, "score": sum(scores) / max(len(scores), 1), "model_version": "yolo"}

    return app


if __name__ == "__main__":
    main()
