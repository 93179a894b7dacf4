"""Images a second of one detector in every form, JPEG in, boxes out, in one run on this machine.

    uv run python tests/benchmarks/detectors.py yolov8n.pt --images FOLDER

Each form runs the same files in turn, after a warm-up; Ultralytics' own ``predict`` is the first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

from ml_backend.detectors import DetectorOptions, Image
from ml_backend.models.building import build_detector

FLOOR = 0.25


def read(path: Path) -> Image:
    return np.asarray(simplejpeg.decode_jpeg(path.read_bytes(), colorspace="RGB"), np.uint8)


def measure(name: str, run: Callable[[list[Path]], object], paths: list[Path], *, batch: int) -> None:
    batches = list(split(paths, batch))
    run(batches[0])
    start, cpu = time.perf_counter(), time.process_time()
    for one in batches:
        run(one)
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    sys.stdout.write(
        f"{name:34} batch {batch:2}  {len(paths) / wall:6.1f} images/s  {1000 * used / len(paths):6.1f} ms CPU/image\n"
    )


def split(paths: list[Path], size: int) -> Iterable[list[Path]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = sorted(options.images.glob("*.jpg"))[: options.count]
    sys.stdout.write(f"{options.weights.name}, {len(paths)} images, {options.threads} threads\n")

    from ultralytics import YOLO

    model: Any = YOLO(str(options.weights))
    quiet = {"conf": FLOOR, "device": "cpu", "verbose": False}
    measure(
        "Ultralytics predict, paths", lambda one: model.predict([str(path) for path in one], **quiet), paths, batch=4
    )
    measure(
        "Ultralytics predict, arrays",
        lambda one: [model.predict(np.ascontiguousarray(read(path)[..., ::-1]), **quiet) for path in one],
        paths,
        batch=1,
    )
    # Ultralytics lowers torch's threads by itself.
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as cache:
        forms = (("torch", "float32"), ("onnx", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))
        for runtime, precision in forms:
            chosen = DetectorOptions(runtime=runtime, precision=precision, cache_dir=Path(cache))
            detector = build_detector(options.weights, device="cpu", options=chosen)
            for batch in (1, 4):
                measure(
                    f"labelloop, {runtime} {precision}",
                    lambda one, detector=detector: detector.detect([read(path) for path in one], score_floor=FLOOR),
                    paths,
                    batch=batch,
                )


if __name__ == "__main__":
    main()
