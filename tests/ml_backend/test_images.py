import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from labels.errors import ItemError
from labels.geometry import ImageSize
from ml_backend import images as images_module
from ml_backend.fetching import Fetcher
from ml_backend.images import ImageReader, decode_image

TURNED_CLOCKWISE = 6  # EXIF: the camera was turned, show it turned by 90 degrees clockwise


def encode(image: PillowImage.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decode(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return decode_image(content, item="task 41")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "media" / "images").mkdir(parents=True)
    return tmp_path / "media"


@pytest.fixture
def reader(root: Path) -> ImageReader:
    fetcher = Fetcher(label_studio_url="http://127.0.0.1:1", token=None, max_bytes=10_000)
    return ImageReader(media_root=root, fetcher=fetcher, max_bytes=10_000)


@pytest.fixture
def photo() -> bytes:
    return encode(PillowImage.new("RGB", (30, 20), "blue"))


@pytest.mark.parametrize(
    "url",
    [
        "/data/local-files/?d=images/a%20b/p%26q.png",
        "http://127.0.0.1:1/data/local-files/?d=images/a%20b/p%26q.png",
    ],
)
def test_a_local_files_address_is_read_from_the_shared_file_system(
    root: Path, reader: ImageReader, photo: bytes, url: str
) -> None:
    (root / "images" / "a b").mkdir()
    (root / "images" / "a b" / "p&q.png").write_bytes(photo)

    image = reader.read_image(url, item="task 41")

    assert image.size == ImageSize(30, 20)
    assert image.sha256 == hashlib.sha256(photo).hexdigest()


def test_a_linked_folder_inside_the_media_root_is_followed(
    root: Path, reader: ImageReader, photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "p.png").write_bytes(photo)
    (root / "images" / "mine-1a2b").symlink_to(tmp_path / "mine")

    assert reader.read_image("/data/local-files/?d=images/mine-1a2b/p.png", item="task 41").size == ImageSize(30, 20)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "images/../../secret.png",
        "%2e%2e/secret.png",
        "{secret}",
        "images/%00",
        "",
        ".",
        "../media-2/p.png",
    ],
)
def test_no_path_leads_out_of_the_media_root(
    root: Path, reader: ImageReader, photo: bytes, path: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(photo)
    (tmp_path / "media-2").mkdir()
    (tmp_path / "media-2" / "p.png").write_bytes(photo)

    with pytest.raises(ItemError, match=r"task 41: .*(outside of the media root|empty or broken)"):
        reader.read_image(f"/data/local-files/?d={path}".format(secret=tmp_path / "secret.png"), item="task 41")


def test_a_message_does_not_tell_where_the_media_root_is(root: Path, reader: ImageReader) -> None:
    with pytest.raises(ItemError) as caught:
        reader.read_image("/data/local-files/?d=images/absent.png", item="task 41")

    assert str(root) not in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_clear_error(root: Path, reader: ImageReader) -> None:
    # A process's memory is a file whose first byte cannot be read, even by root.
    (root / "images" / "p.png").symlink_to("/proc/self/mem")

    with pytest.raises(ItemError, match="cannot be read"):
        reader.read_image("/data/local-files/?d=images/p.png", item="task 41")


def test_a_file_above_the_limit_is_refused(root: Path, reader: ImageReader) -> None:
    (root / "images" / "p.png").write_bytes(b"x" * 10_001)

    with pytest.raises(ItemError, match="larger than 10000 bytes"):
        reader.read_image("/data/local-files/?d=images/p.png", item="task 41")


@pytest.mark.parametrize(
    "url",
    ["data:image/png;base64,aGk=", "file:///etc/passwd", "s3://bucket/p.png", "ftp://127.0.0.1/p.png", "http://[bad/"],
)
def test_only_http_addresses_are_followed(reader: ImageReader, url: str) -> None:
    with pytest.raises(ItemError, match="not an http or https address"):
        reader.read_image(url, item="task 41")


def test_a_relative_address_without_label_studio_says_what_is_missing(root: Path) -> None:
    fetcher = Fetcher(label_studio_url=None, token=None, max_bytes=10_000)
    reader = ImageReader(media_root=root, fetcher=fetcher, max_bytes=10_000)

    with pytest.raises(ItemError, match="LABEL_STUDIO_URL"):
        reader.read_image("/data/upload/3/p.png", item="task 41")


def test_an_image_is_turned_as_its_exif_says() -> None:
    image = PillowImage.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 40, 5))  # the top edge, which a clockwise turn brings to the right
    exif = image.getexif()
    exif[0x0112] = TURNED_CLOCKWISE

    pixels = decode(encode(image, exif=exif))

    assert pixels.shape == (40, 20, 3)
    assert pixels[:, 15:].min() == 255
    assert pixels[:, :15].max() == 0


def test_broken_exif_leaves_the_image_as_it_lies() -> None:
    content = encode(PillowImage.new("RGB", (40, 20), "white"), "JPEG", exif=b"Exif\0\0broken beyond repair")

    assert decode(content).shape == (20, 40, 3)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("P", 7, (7, 7, 7)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
    ],
)
def test_every_mode_of_a_png_becomes_rgb(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    image = PillowImage.new(mode, (3, 2), colour)  # type: ignore[arg-type]
    if mode == "P":
        image.putpalette([value for grey in range(256) for value in (grey, grey, grey)])

    pixels = decode(encode(image))

    assert (pixels.shape, pixels.flags["C_CONTIGUOUS"]) == ((2, 3, 3), True)
    assert pixels.dtype == np.dtype(np.uint8)
    assert tuple(int(value) for value in pixels[1, 2]) == expected


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("CMYK", (0, 0, 0, 255), 0), ("F", 0.5, 127), ("I", 257 * 80, 80), ("I;16", 257, 1)],
)
def test_every_mode_of_a_tiff_becomes_rgb(mode: str, colour: object, expected: int) -> None:
    pixels = decode(encode(PillowImage.new(mode, (3, 2), colour), "TIFF"))  # type: ignore[arg-type]

    assert pixels.shape == (2, 3, 3)
    assert pixels.min() == pixels.max() == expected


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_is_read(image_format: str) -> None:
    assert decode(encode(PillowImage.new("RGB", (30, 20), "blue"), image_format)).shape == (20, 30, 3)


def test_an_animated_image_is_its_first_frame() -> None:
    frames = [PillowImage.new("RGB", (30, 20), colour) for colour in ("blue", "red")]

    pixels = decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    assert tuple(int(value) for value in pixels[0, 0]) == (0, 0, 255)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_image_is_an_error_and_never_half_an_image(image_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    content = encode(PillowImage.fromarray(noise), image_format)

    with pytest.raises(ItemError, match="task 41"):
        decode(content[: len(content) // 2])


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg></svg>"])
def test_what_is_no_photo_is_refused(content: bytes) -> None:
    with pytest.raises(ItemError, match="not an image that can be read"):
        decode(content)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "MAX_PIXELS", 599)

    with pytest.raises(ItemError, match="30 x 20 pixels"):
        decode(encode(PillowImage.new("RGB", (30, 20))))


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_decompression_bomb_is_refused(side: int) -> None:
    content = encode(PillowImage.new("1", (side, side)), "PNG", optimize=False)

    with pytest.raises(ItemError, match="pixels"):
        decode(content)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damage that it can live with
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_the_bytes_are_it_is_an_image_or_an_item_error(data: st.DataObject) -> None:
    image_format = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]))
    content = bytearray(encode(PillowImage.new("RGB", (9, 7), "blue"), image_format))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]

    try:
        pixels = decode(bytes(content))
    except ItemError:
        return
    assert pixels.shape[2:] == (3,)
    assert pixels.dtype == np.dtype(np.uint8)
