from pathlib import Path

import pytest

from labels.errors import LabelingError
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


def test_the_token_is_not_in_what_is_printed_of_the_settings() -> None:
    assert "s3cret" not in repr(Settings.from_environment({"LABEL_STUDIO_API_KEY": "s3cret"}))
