"""What the ML backend is told by its environment, read once at start; a bad value is an error that names it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from labels.errors import LabelingError
from labels.limits import MAX_IMAGE_BYTES
from ml_backend.answers.label_plans import parse_class_thresholds
from ml_backend.answers.uncertainty import SCORE_NAMES
from ml_backend.detectors import FUSIONS, PRECISIONS, RUNTIMES, DetectorOptions
from ml_backend.environment import Environment

DEFAULT_HOME: Final = ".labelloop"
MEGABYTE: Final = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """Where to listen, which model to serve and how, who may ask, and where images may come from.

    ``allowed_hosts`` are hosts beside Label Studio's own: ``name`` stands for its ports 80 and 443, ``name:port`` for
    that port. ``password`` None: whoever reaches the port may ask. ``readers`` 0: as many as fit the device. The last
    fields are limits that have no environment variable.
    """

    models_dir: Path
    media_root: Path
    host: str = "127.0.0.1"
    port: int = 9090
    password: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    model: str = "yolo11n"
    segmenter: str | None = None
    options: DetectorOptions = field(default_factory=DetectorOptions)
    device: str = "auto"
    is_offline: bool = False
    score_threshold: float = 0.2
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    served_score: str = "u_mean"
    label_studio_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    api_key_file: Path | None = None
    console_url: str | None = None
    console_token_file: Path | None = None
    allowed_hosts: frozenset[str] = frozenset()
    batch_size: int = 8
    readers: int = 0
    cache_bytes: int = 64 * MEGABYTE
    is_reducing: bool = False
    load_wait_s: float = 10.0
    max_tasks: int = 10_000
    max_requests: int = 32
    max_batch_jobs: int = 8
    max_body_bytes: int = 128 * MEGABYTE
    max_image_bytes: int = MAX_IMAGE_BYTES

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings of an environment; an empty value counts as not set.

        Raises:
            LabelingError: a value that cannot be used; key, value and what was expected are named.

        >>> Settings.from_environment({"LABELLOOP_PORT": "9999"}).port
        9999
        """
        read = Environment(environment)
        home = read.path("LABELLOOP_HOME") or Path(DEFAULT_HOME)
        models_dir = read.path("LABELLOOP_MODELS_DIR") or home / "models"
        settings = cls(
            models_dir=models_dir,
            media_root=(read.path("LABELLOOP_MEDIA_ROOT") or home / "media").absolute(),
            host=read.text("LABELLOOP_HOST", cls.host),
            port=read.integer("LABELLOOP_PORT", cls.port, lowest=1, highest=65_535),
            password=read.secret("LABELLOOP_ML_BACKEND_PASSWORD"),
            webhook_secret=read.secret("LABELLOOP_WEBHOOK_SECRET"),
            model=read.text("LABELLOOP_MODEL", cls.model),
            segmenter=read.text("LABELLOOP_SEGMENTER") or None,
            options=_read_options(read, models_dir),
            device=read.device("LABELLOOP_DEVICE", cls.device),
            is_offline=read.flag("LABELLOOP_OFFLINE"),
            score_threshold=read.fraction("LABELLOOP_SCORE_THRESHOLD", cls.score_threshold),
            class_thresholds=read.parsed("LABELLOOP_CLASS_THRESHOLDS", parse_class_thresholds),
            served_score=read.choice("LABELLOOP_SERVED_SCORE", cls.served_score, SCORE_NAMES),
            label_studio_url=read.url("LABEL_STUDIO_URL"),
            api_key=read.text("LABEL_STUDIO_API_KEY") or None,
            api_key_file=read.path("LABEL_STUDIO_API_KEY_FILE"),
            console_url=(read.url("LABELLOOP_CONSOLE_URL") or "").rstrip("/") or None,
            console_token_file=read.path("LABELLOOP_CONSOLE_TOKEN_FILE"),
            allowed_hosts=read.hosts("LABELLOOP_ALLOWED_HOSTS"),
            batch_size=read.integer("LABELLOOP_BATCH_SIZE", cls.batch_size, lowest=1, highest=512),
            readers=read.integer("LABELLOOP_READERS", cls.readers, lowest=0, highest=256),
            cache_bytes=read.integer("LABELLOOP_CACHE_MB", cls.cache_bytes // MEGABYTE, lowest=0, highest=1_000_000)
            * MEGABYTE,
            is_reducing=read.flag("LABELLOOP_REDUCED_JPEG"),
        )
        if settings.password is None and not _is_loopback(settings.host):
            raise LabelingError(
                f"LABELLOOP_HOST={settings.host!r}: others can reach this address, so set a password for them"
                " (LABELLOOP_ML_BACKEND_PASSWORD or LABELLOOP_ML_BACKEND_PASSWORD_FILE)"
            )
        return settings


def _read_options(read: Environment, models_dir: Path) -> DetectorOptions:
    usual = DetectorOptions()
    return DetectorOptions(
        is_trusted=read.flag("LABELLOOP_TRUST_WEIGHTS"),
        runtime=read.choice("LABELLOOP_RUNTIME", "auto", RUNTIMES),
        precision=read.choice("LABELLOOP_PRECISION", usual.precision, PRECISIONS),
        is_torch_compiled=read.flag("LABELLOOP_TORCH_COMPILE"),
        nms_iou=read.fraction_or_none("LABELLOOP_NMS_IOU"),
        is_nms_free=read.flag("LABELLOOP_NMS_FREE"),
        cache_dir=models_dir / "compiled",
        fusion=read.choice("LABELLOOP_FUSION", usual.fusion, FUSIONS),
        fusion_iou=read.fraction("LABELLOOP_FUSION_IOU", usual.fusion_iou),
        member_weights=read.numbers("LABELLOOP_MEMBER_WEIGHTS"),
        min_votes=read.integer_or_none("LABELLOOP_MIN_VOTES", lowest=1, highest=100),
        views=read.parsed("LABELLOOP_VIEWS", _parse_views),
    )


def _parse_views(text: str) -> tuple[str, ...]:
    views = tuple(part.strip() for part in text.split(",") if part.strip())
    if any(view != "flip" and not (view.isascii() and view.isdigit() and 32 <= int(view) <= 4096) for view in views):
        raise ValueError("expected flip or longer sides from 32 to 4096 pixels, separated by commas")
    return views


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
