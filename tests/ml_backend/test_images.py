from pathlib import Path

import pytest

from labels.errors import ItemError
from ml_backend.imaging.fetching import Fetcher
from ml_backend.imaging.images import ImageReader

PHOTO = b"what a file holds is nothing to its reader"


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
    return PHOTO


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

    assert reader.read_content(url, item="task 41") == PHOTO


def test_a_linked_folder_inside_the_media_root_is_followed(
    root: Path, reader: ImageReader, photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "p.png").write_bytes(photo)
    (root / "images" / "mine-1a2b").symlink_to(tmp_path / "mine")

    assert reader.read_content("/data/local-files/?d=images/mine-1a2b/p.png", item="task 41") == PHOTO


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
        reader.read_content(f"/data/local-files/?d={path}".format(secret=tmp_path / "secret.png"), item="task 41")


def test_a_message_does_not_tell_where_the_media_root_is(root: Path, reader: ImageReader) -> None:
    with pytest.raises(ItemError) as caught:
        reader.read_content("/data/local-files/?d=images/absent.png", item="task 41")

    assert str(root) not in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_clear_error(root: Path, reader: ImageReader) -> None:
    # A process's memory is a file whose first byte cannot be read, even by root.
    (root / "images" / "mine-1a2b").symlink_to("/proc/self")

    with pytest.raises(ItemError, match="cannot be read"):
        reader.read_content("/data/local-files/?d=images/mine-1a2b/mem", item="task 41")


@pytest.mark.parametrize("place", ["images/p.png", "images/mine-1a2b/p.png", "images/mine-1a2b/deeper/p.png"])
def test_a_link_that_came_with_the_images_leads_nowhere_else(
    root: Path, reader: ImageReader, tmp_path: Path, place: str
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "p.png").write_bytes(PHOTO)
    (tmp_path / "mine" / "deeper").mkdir(parents=True)
    (root / "images" / "mine-1a2b").symlink_to(tmp_path / "mine")
    (root / place).symlink_to(tmp_path / "private" / "p.png")

    with pytest.raises(ItemError, match="a link that leads outside"):
        reader.read_content(f"/data/local-files/?d={place}", item="task 41")


def test_an_address_that_is_encoded_twice_is_decoded_once(root: Path, reader: ImageReader) -> None:
    (root / "images" / "%2e%2e").mkdir()
    (root / "images" / "%2e%2e" / "p.png").write_bytes(PHOTO)

    assert reader.read_content("/data/local-files/?d=images/%252e%252e/p.png", item="task 41") == PHOTO


@pytest.mark.parametrize(
    "url",
    [
        "http://name:s3cret@images.example.org/p.png?X-Amz-Signature=s3cret#s3cret",
        "/data/upload/p.png?token=s3cret",
        "/data/local-files/?d=images/absent.png&token=s3cret",
        "http://[bad/p.png?s3cret",
    ],
)
def test_a_message_has_no_part_of_an_address_that_could_be_a_secret(reader: ImageReader, url: str) -> None:
    with pytest.raises(ItemError) as caught:
        reader.read_content(url, item="task 41")

    assert "s3cret" not in str(caught.value)


def test_a_file_above_the_limit_is_refused(root: Path, reader: ImageReader) -> None:
    (root / "images" / "p.png").write_bytes(b"x" * 10_001)

    with pytest.raises(ItemError, match="larger than 10000 bytes"):
        reader.read_content("/data/local-files/?d=images/p.png", item="task 41")


@pytest.mark.parametrize(
    "url",
    ["data:image/png;base64,aGk=", "file:///etc/passwd", "s3://bucket/p.png", "ftp://127.0.0.1/p.png", "http://[bad/"],
)
def test_only_http_addresses_are_followed(reader: ImageReader, url: str) -> None:
    with pytest.raises(ItemError, match="not an http or https address"):
        reader.read_content(url, item="task 41")


def test_a_relative_address_without_label_studio_says_what_is_missing(root: Path) -> None:
    fetcher = Fetcher(label_studio_url=None, token=None, max_bytes=10_000)
    reader = ImageReader(media_root=root, fetcher=fetcher, max_bytes=10_000)

    with pytest.raises(ItemError, match="LABEL_STUDIO_URL"):
        reader.read_content("/data/upload/3/p.png", item="task 41")


def test_a_file_name_breaks_no_line_of_the_log(reader: ImageReader) -> None:
    with pytest.raises(ItemError) as caught:
        reader.read_content("/data/local-files/?d=images/a%0AERROR%1b[31mb.png", item="task 41")

    assert str(caught.value).isprintable()
