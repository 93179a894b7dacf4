"""EfficientDet finds what the library finds; a network that was never trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from labels.errors import LabelingError
from ml_backend.detectors import DetectorOptions
from ml_backend.models.building import build_detector
from tests.ml_backend.models import assert_same, read_rgb

effdet = pytest.importorskip("effdet")


def test_boxes_are_those_of_the_library(tmp_path: Path, photos: Path) -> None:
    from effdet.data.transforms import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, ResizePad

    torch.manual_seed(0)
    bench: Any = effdet.create_model(
        "tf_efficientdet_d0", bench_task="predict", num_classes=3, pretrained_backbone=False
    )
    with torch.no_grad():
        bench.model.class_net.predict.conv_pw.weight.mul_(30)
    path = tmp_path / "best.pth"
    torch.save(bench.model.state_dict(), path)
    card = {"adapter": "effdet", "model": "tf_efficientdet_d0", "names": ["cat", "dog", "cow"]}
    path.with_suffix(".json").write_text(json.dumps(card))
    image = read_rgb(photos / "zidane.jpg", step=4)
    detector = build_detector(path, device="cpu")
    with pytest.raises(LabelingError, match=r"LABELLOOP_NMS_IOU=0\.6: .* cannot be told"):
        build_detector(path, device="cpu", options=DetectorOptions(nms_iou=0.6))

    (ours,) = detector.detect([image], score_floor=0.01)

    # The library's own evaluation: its transform, its normalization, its choosing and scaling of boxes.
    grey = tuple(round(255 * value) for value in IMAGENET_DEFAULT_MEAN)
    canvas, note = ResizePad(512, fill_color=grey)(PillowImage.fromarray(image), {})
    mean, std = (torch.tensor(one).view(3, 1, 1) * 255 for one in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    pixels = (torch.from_numpy(np.array(canvas)).permute(2, 0, 1).float() - mean) / std
    height, width = image.shape[:2]
    info = {
        "img_scale": torch.tensor([note["img_scale"]]),
        "img_size": torch.tensor([[width, height]], dtype=torch.float32) / note["img_scale"],
    }
    with torch.inference_mode():
        rows = bench.eval()(pixels[None], info)[0].numpy()
    rows = rows[rows[:, 4] > 0.01]
    assert len(rows) > 3
    assert_same(ours, rows[:, :4].clip(0, [width, height, width, height]), rows[:, 4], rows[:, 5])
    assert dict(detector.names) == {1: "cat", 2: "dog", 3: "cow"}
