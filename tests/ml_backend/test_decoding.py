"""Images as annotators see them; Pillow is the judge, and known colours are."""

import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageOps

from labels.errors import ItemError
from labels.geometry import ImageSize
from ml_backend.imaging import decoding
from ml_backend.imaging.decoding import decode_image

TURNED_CLOCKWISE = 6  # EXIF: the camera was turned, show it turned by 90 degrees clockwise
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def encode(image: PillowImage.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decode(content: bytes) -> Pixels:
    return decode_image(content, item="task 41").pixels


def decode_with_pillow(content: bytes) -> Pixels:
    with PillowImage.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def make_photo(width: int, height: int) -> PillowImage.Image:
    """Return something with edges and colours, the same every time."""
    noise = np.random.default_rng(0).integers(0, 256, (math.ceil(height / 7), math.ceil(width / 7), 3), np.uint8)
    return PillowImage.fromarray(noise.repeat(7, axis=0).repeat(7, axis=1)[:height, :width])


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("is_progressive", [False, True])
@pytest.mark.parametrize("size", [(64, 48), (61, 33), (1, 7)])
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(
    size: tuple[int, int], is_progressive: bool, subsampling: str
) -> None:
    content = encode(make_photo(*size), "JPEG", quality=80, subsampling=subsampling, progressive=is_progressive)

    np.testing.assert_array_equal(decode(content), decode_with_pillow(content))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_of_another_mode_has_the_pixels_that_pillow_gives_it(mode: str) -> None:
    content = encode(make_photo(61, 33).convert(mode), "JPEG")

    np.testing.assert_array_equal(decode(content), decode_with_pillow(content))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int, image_format: str) -> None:
    photo = make_photo(61, 33)
    exif = photo.getexif()
    exif[0x0112] = orientation
    content = encode(photo, image_format, exif=exif)

    decoded = decode_image(content, item="task 41")

    np.testing.assert_array_equal(decoded.pixels, decode_with_pillow(content))
    assert decoded.size == (ImageSize(33, 61) if orientation in {5, 6, 7, 8} else ImageSize(61, 33))
    assert decoded.scale == (1.0, 1.0)


def test_the_photos_of_a_known_package_have_the_pixels_that_pillow_gives_them(photos: Path) -> None:
    for path in sorted(photos.glob("*.jpg")):
        np.testing.assert_array_equal(decode(path.read_bytes()), decode_with_pillow(path.read_bytes()))


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((800, 600), 100, (200, 150)),
        ((800, 600), 99, (200, 150)),
        ((802, 602), 200, (401, 301)),
        ((399, 100), 100, None),
    ],
)
def test_a_large_jpeg_is_reduced_by_halves_where_that_is_asked_for(
    size: tuple[int, int], side: int, expected: tuple[int, int] | None
) -> None:
    decoded = decode_image(encode(make_photo(*size), "JPEG"), item="task 41", model_side=side)

    height, width = decoded.pixels.shape[:2]
    assert (width, height) == (expected or size)
    assert decoded.size == ImageSize(*size)
    assert decoded.scale == (size[0] / width, size[1] / height)


def test_a_large_png_is_never_reduced() -> None:
    assert decode_image(encode(make_photo(800, 600)), item="task 41", model_side=100).scale == (1.0, 1.0)


def test_a_reduced_jpeg_is_turned_too() -> None:
    photo = make_photo(800, 600)
    exif = photo.getexif()
    exif[0x0112] = TURNED_CLOCKWISE

    decoded = decode_image(encode(photo, "JPEG", exif=exif), item="task 41", model_side=100)

    assert decoded.pixels.shape == (200, 150, 3)
    assert decoded.size == ImageSize(600, 800)


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


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "1"])
def test_an_image_made_in_strips_has_the_pixels_it_has_as_a_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = make_photo(61, 50)
    photo.putalpha(PillowImage.linear_gradient("L").resize((61, 50)))
    image = photo if mode == "RGBA" else photo.convert("LA") if mode == "LA" else photo.convert("RGB").convert(mode)
    options = {"transparency": 3} if mode == "P" else {}
    content = encode(image, "TIFF" if mode == "PA" else "PNG", **options)
    whole = decode(content)

    monkeypatch.setattr(decoding, "STRIP_PIXELS", 7 * 61)

    np.testing.assert_array_equal(decode(content), whole)
    if mode == "RGBA":
        white = PillowImage.new("RGBA", image.size, "white")
        np.testing.assert_array_equal(whole, np.asarray(PillowImage.alpha_composite(white, image).convert("RGB")))


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
    monkeypatch.setattr(decoding, "MAX_PIXELS", 599)

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


DATA = Path(os.environ.get("LABELLOOP_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
WILD = [
    path
    for name in ("pdq_images", "imagededup_examples")
    for path in sorted((DATA / name).rglob("*"))
    if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
]


@pytest.mark.skipif(not WILD, reason=f"no odd images in {DATA} (LABELLOOP_TEST_DATA names their folder)")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_images_from_the_wild_are_read_or_refused() -> None:
    read = refused = 0
    for path in WILD:
        try:
            decoded = decode_image(path.read_bytes(), item=path.name)
        except ItemError:
            refused += 1
            continue
        read += 1
        assert decoded.pixels.shape == (decoded.size.height, decoded.size.width, 3)
    assert read > refused
