from pathlib import Path

import pytest

from labels.errors import LabelingError
from ml_backend.detectors import DetectorOptions
from ml_backend.settings import Settings


def test_an_empty_environment_gives_a_server_on_this_machine_alone() -> None:
    settings = Settings.from_environment({})

    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 9090, "yolo11n")
    assert settings.models_dir == Path(".labelloop/models")
    assert settings.media_root == Path(".labelloop/media").absolute()
    assert (settings.label_studio_url, settings.api_key, settings.is_offline) == (None, None, False)


def test_every_variable_is_read() -> None:
    settings = Settings.from_environment(
        {
            "LABELLOOP_HOME": "/srv/loop",
            "LABELLOOP_HOST": "0.0.0.0",
            "LABELLOOP_PORT": "80",
            "LABELLOOP_MODEL": "/models/best.pt",
            "LABELLOOP_MODELS_DIR": "/models",
            "LABELLOOP_MEDIA_ROOT": "/media",
            "LABELLOOP_ALLOWED_HOSTS": "Images.example.org, 10.0.0.5:9000,",
            "LABELLOOP_SCORE_THRESHOLD": "0",
            "LABELLOOP_BATCH_SIZE": "1",
            "LABELLOOP_DEVICE": "cuda:1",
            "LABELLOOP_OFFLINE": "1",
            "LABELLOOP_ML_BACKEND_PASSWORD": "one",
            "LABELLOOP_WEBHOOK_SECRET": "two",
            "LABELLOOP_SEGMENTER": "mobile_sam",
            "LABELLOOP_TRUST_WEIGHTS": "1",
            "LABELLOOP_RUNTIME": "onnx",
            "LABELLOOP_PRECISION": "bfloat16",
            "LABELLOOP_TORCH_COMPILE": "1",
            "LABELLOOP_NMS_IOU": "0.5",
            "LABELLOOP_NMS_FREE": "1",
            "LABELLOOP_FUSION": "nms",
            "LABELLOOP_FUSION_IOU": "0.6",
            "LABELLOOP_MEMBER_WEIGHTS": "2, 1.5",
            "LABELLOOP_MIN_VOTES": "2",
            "LABELLOOP_VIEWS": "flip, 832",
            "LABELLOOP_CLASS_THRESHOLDS": "Car=0.4",
            "LABELLOOP_SERVED_SCORE": "u_sum",
            "LABELLOOP_READERS": "3",
            "LABELLOOP_CACHE_MB": "0",
            "LABELLOOP_REDUCED_JPEG": "1",
            "LABEL_STUDIO_URL": "http://127.0.0.1:8080/",
            "LABEL_STUDIO_API_KEY": "a.b.c",
            "LABEL_STUDIO_API_KEY_FILE": "/run/secrets/token",
        }
    )

    assert settings == Settings(
        models_dir=Path("/models"),
        media_root=Path("/media"),
        host="0.0.0.0",
        port=80,
        model="/models/best.pt",
        label_studio_url="http://127.0.0.1:8080",
        api_key="a.b.c",
        api_key_file=Path("/run/secrets/token"),
        allowed_hosts=frozenset({"images.example.org", "10.0.0.5:9000"}),
        score_threshold=0.0,
        batch_size=1,
        device="cuda:1",
        is_offline=True,
        password="one",
        webhook_secret="two",
        segmenter="mobile_sam",
        options=DetectorOptions(
            is_trusted=True,
            runtime="onnx",
            precision="bfloat16",
            is_torch_compiled=True,
            nms_iou=0.5,
            is_nms_free=True,
            cache_dir=Path("/models/compiled"),
            fusion="nms",
            fusion_iou=0.6,
            member_weights=(2.0, 1.5),
            min_votes=2,
            views=("flip", "832"),
        ),
        class_thresholds={"car": 0.4},
        served_score="u_sum",
        readers=3,
        cache_bytes=0,
        is_reducing=True,
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("LABELLOOP_PORT", "0"),
        ("LABELLOOP_PORT", "http"),
        ("LABELLOOP_PORT", "70000"),
        ("LABELLOOP_BATCH_SIZE", "0"),
        ("LABELLOOP_BATCH_SIZE", "1_0"),
        ("LABELLOOP_SCORE_THRESHOLD", "1.5"),
        ("LABELLOOP_SCORE_THRESHOLD", "nan"),
        ("LABELLOOP_SCORE_THRESHOLD", "low"),
        ("LABELLOOP_DEVICE", "gpu"),
        ("LABELLOOP_OFFLINE", "maybe"),
        ("LABELLOOP_RUNTIME", "tensorrt"),
        ("LABELLOOP_MEMBER_WEIGHTS", "1,-1"),
        ("LABELLOOP_MEMBER_WEIGHTS", "1,inf"),
        ("LABELLOOP_MIN_VOTES", "0"),
        ("LABELLOOP_VIEWS", "flip,17"),
        ("LABELLOOP_CLASS_THRESHOLDS", "car"),
        ("LABELLOOP_SERVED_SCORE", "entropy"),
        ("LABELLOOP_HOST", "0.0.0.0"),
        ("LABEL_STUDIO_URL", "localhost:8080"),
        ("LABEL_STUDIO_URL", "http://host:port"),
        ("LABELLOOP_ALLOWED_HOSTS", "http://images.example.org/"),
    ],
)
def test_a_bad_value_is_an_error_that_names_key_and_value(key: str, value: str) -> None:
    with pytest.raises(LabelingError) as caught:
        Settings.from_environment({key: value})

    assert key in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("key", ["LABEL_STUDIO_API_KEY", "LABELLOOP_ML_BACKEND_PASSWORD", "LABELLOOP_WEBHOOK_SECRET"])
def test_no_secret_is_in_what_is_printed_of_the_settings(key: str) -> None:
    assert "s3cret" not in repr(Settings.from_environment({key: "s3cret"}))


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    settings = Settings.from_environment({"LABELLOOP_ML_BACKEND_PASSWORD_FILE": str(tmp_path / "password")})

    assert settings.password == "s3cret"


@pytest.mark.parametrize("content", [None, ""])
def test_a_secret_that_is_named_and_not_there_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "password").write_text(content)

    with pytest.raises(LabelingError, match="LABELLOOP_ML_BACKEND_PASSWORD_FILE"):
        Settings.from_environment({"LABELLOOP_ML_BACKEND_PASSWORD_FILE": str(tmp_path / "password")})
