"""Small files that would keep a decoder for minutes are refused; what usual encoders write is not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from labels import image_parts
from labels.errors import ItemError
from ml_backend.imaging.decoding import decode_image

SCAN = b"\xff\xda"
EXIF = b"Exif\0\0"


def encode(image_format: str, **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (41, 63, 3), np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(noise).save(buffer, image_format, **options)
    return buffer.getvalue()


def repeat_last_scan(jpeg: bytes, times: int) -> bytes:
    """Return a JPEG whose last scan comes so many times more. In what is between two scans 0xFF 0xDA never occurs."""
    last = jpeg[jpeg.rindex(SCAN) : -2]
    return jpeg[:-2] + last * times + jpeg[-2:]


def add_segment(jpeg: bytes, marker: int, content: bytes = b"") -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


def make_chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def make_tiled(width: int, height: int, tile: tuple[int, int]) -> bytes:
    """Return a grey TIFF of one tile, packed."""
    pixels = zlib.compress(bytes(tile[0] * tile[1]))
    entries = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile[0]), (323, tile[1])]
    entries += [(324, 8 + 2 + 12 * 10 + 4), (325, len(pixels))]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + pixels


def decode(content: bytes) -> tuple[int, ...]:
    return decode_image(content, item="task 41").pixels.shape


def refuse(content: bytes) -> str:
    with pytest.raises(ItemError, match="task 41") as caught:
        decode(content)
    return caught.value.problem


def test_a_jpeg_that_repeats_its_last_scan_is_refused() -> None:
    bomb = repeat_last_scan(encode("JPEG", progressive=True), 100)

    assert refuse(bomb) == "the JPEG has more than 100 scans (save it anew)"


def test_one_that_stays_below_the_limit_is_read() -> None:
    content = encode("JPEG", progressive=True)
    scans = content.count(SCAN)

    assert 6 <= scans <= 20
    assert decode(repeat_last_scan(content, 100 - scans)) == (41, 63, 3)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "keep"])
@pytest.mark.parametrize("is_progressive", [False, True])
@pytest.mark.parametrize("restarts", [0, 1])
def test_what_an_encoder_writes_is_read(subsampling: str, is_progressive: bool, restarts: int) -> None:
    options = {} if subsampling == "keep" else {"subsampling": subsampling}

    assert decode(encode("JPEG", progressive=is_progressive, restart_marker_blocks=restarts, **options)) == (41, 63, 3)


def test_a_thumbnail_in_the_exif_is_no_scan_of_the_image() -> None:
    content = encode("JPEG", progressive=True)

    assert decode(add_segment(content, 0xE1, EXIF + (SCAN + b"\0\x08") * 5_000)) == (41, 63, 3)
    assert decode(add_segment(content, 0xFE, content * 8)) == (41, 63, 3)
    # Also between two scans, where a decoder passes over it.
    second = content.rindex(SCAN)
    segment = b"\xff\xfe" + struct.pack(">H", 2 + 4 * 5_000) + (SCAN + b"\0\x08") * 5_000
    assert decode(content[:second] + segment + content[second:]) == (41, 63, 3)


def test_what_comes_after_the_end_of_a_jpeg_is_not_looked_at() -> None:
    content = encode("JPEG", progressive=True)

    assert decode(content + content * 50) == (41, 63, 3)


def test_a_plain_jpeg_in_three_scans_may_not_repeat_them_either() -> None:
    # One scan of the brightness alone makes a decoder keep all of them and look for more.
    content = bytearray(encode("JPEG"))
    start = content.index(SCAN)
    content[start + 2 : start + 14] = struct.pack(">HB", 8, 1) + bytes([1, 0, 0, 63, 0])
    bomb = repeat_last_scan(bytes(content), 100)

    assert refuse(bomb) == "the JPEG has more than 100 scans (save it anew)"


def test_scans_are_counted_across_the_places_where_the_search_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    content = repeat_last_scan(encode("JPEG", progressive=True), 95)
    whole = list(image_parts._walk_jpeg(content))
    assert whole.count(0xDA) > 100

    for window in range(2, 40):
        monkeypatch.setattr(image_parts, "WINDOW_BYTES", window)
        assert list(image_parts._walk_jpeg(content)) == whole


def test_a_file_of_countless_parts_is_refused() -> None:
    png, gif, jpeg = encode("PNG"), encode("GIF"), encode("JPEG")
    frame = gif.index(b",", 13 + 3 * 256)
    bombs = [
        png[:33] + make_chunk(b"teSt") * 100_001 + png[33:],
        png[:-12] + make_chunk(b"teSt") * 100_001 + png[-12:],
        gif[:frame] + b"!\xfe" + b"\x01x" * 100_001 + b"\0" + gif[frame:],
        jpeg[:2] + b"\xff\xec\0\x02" * 100_001 + jpeg[2:],
    ]

    assert {refuse(bomb) for bomb in bombs} == {"the file has more than 100000 parts (save it anew)"}


def test_a_file_of_many_parts_is_read() -> None:
    png, gif = encode("PNG"), encode("GIF")
    frame = gif.index(b",", 13 + 3 * 256)

    assert decode(png[:33] + make_chunk(b"teSt", b"," * 9) * 1_000 + png[33:]) == (41, 63, 3)
    assert decode(gif[:frame] + b"!\xfe" + b"\x03,!;" * 1_000 + b"\0" + gif[frame:]) == (41, 63, 3)


def test_a_gif_of_many_frames_costs_no_more_than_its_first() -> None:
    frames = [PillowImage.new("P", (9, 7), colour) for colour in range(1, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])

    assert len(list(image_parts._walk_gif(buffer.getvalue()))) < 10


def test_a_tiff_with_a_tile_far_larger_than_itself_is_refused() -> None:
    assert decode(make_tiled(30, 20, (48, 32))) == (20, 30, 3)
    assert refuse(make_tiled(30, 20, (4096, 4112))) == "the TIFF has tiles of 4096 x 4112 pixels (save it anew)"


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 20, 100, 700])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF"])
def test_a_file_that_ends_anywhere_is_walked_to_its_end(image_format: str, cut: int) -> None:
    image_parts.check_parts(encode(image_format)[:cut], item="task 41")


def test_the_photos_of_a_known_package_are_read(photos: Path) -> None:
    for path in photos.glob("*.jpg"):
        image_parts.check_parts(path.read_bytes(), item=path.name)
